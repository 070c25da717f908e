"""Writes vectors.txt beside it: the inverse frequencies that PyTorch makes on a CPU with AVX-512, as InternLM2 and Phi-3 ask for them.

A line: kind (plain, dynamic_ntk, long), head size, theta; dynamic_ntk: factor, limit; long: limit, short factors, long factors; then the sequence's
length and the bits of the head size/2 frequencies. Or `all`, head size, theta, factor, limit, n and the FNV-1a hash, a number at a time, of the bits
of dynamic_ntk at the n lengths beyond the limit.
"""
from pathlib import Path

import torch

SIZES = (64, 72, 80, 96, 128)
LENGTHS = 4000


def bits(size, base, factors=None):
    exponents = torch.arange(0, size, 2).float() / size
    frequencies = 1.0 / (base**exponents if factors is None else torch.tensor(factors, dtype=torch.float32) * base**exponents)
    return [b & 0xFFFFFFFF for b in frequencies.view(torch.int32).tolist()]


def stretched(size, theta, factor, limit, length):
    return theta * ((factor * length / limit) - (factor - 1)) ** (size / (size - 2)) if length > limit else theta


def line(kind, size, theta, numbers, length, words):
    return " ".join([kind, str(size), *map(repr, (theta, *numbers, length)), *(f"{w:08x}" for w in words)])


def lines():
    for size in SIZES:
        for theta in (1e4, 1e5, 1e6):
            yield line("plain", size, theta, (), 1000, bits(size, theta))
        for theta, factor, limit in ((1e6, 2.0, 1432), (1e6, 3.0, 32768), (1e4, 2.0, 2048)):
            for length in (limit, limit + 1, *(limit + k * k * limit // 27 + k for k in range(1, 10))):
                yield line("dynamic_ntk", size, theta, (factor, limit), length, bits(size, stretched(size, theta, factor, limit, length)))
            value = 0xCBF29CE484222325
            for length in range(limit + 1, limit + LENGTHS + 1):
                for word in bits(size, stretched(size, theta, factor, limit, length)):
                    value = (value ^ word) * 0x100000001B3 % 2**64
            yield f"all {size} {theta} {factor} {limit} {LENGTHS} {value:016x}"
        short, long = ([1 + step * i for i in range(size // 2)] for step in (0.02, 0.5))
        for length, factors in ((4096, short), (4097, long)):
            yield line("long", size, 1e4, (4096, *short, *long), length, bits(size, 1e4, factors))


assert torch.backends.cpu.get_cpu_capability() == "AVX512", "vectors are of a CPU with AVX-512"
(Path(__file__).parent / "vectors.txt").write_text("\n".join(lines()) + "\n")
