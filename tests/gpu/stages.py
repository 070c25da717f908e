#!/usr/bin/env python3
"""Whole models of true shape on the card, seeded weights: each stage beside what the card can do at best, measured first (run.sh bench starts this).

    python3 tests/gpu/stages.py BUILD [--out FILE] [--peers peers.json] [--commit HASH] [--dry]

BUILD holds bench/model_stages and tests/gpu/kernels_bench. Work is that of tests/gpu/shapes/*/work.json; for decode the bytes of decoder, head and the keys and values
of 2,048 tokens, against the bytes that a copy inside the card's memory reads and writes. `seconds` and all rates are of median runs. --dry: the tiny shape
on the emulation, to see that it runs.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

SHAPES = pathlib.Path(__file__).parent / "shapes"
STAGES = ["vision", "connector", "prefill", "decode", "answer"]
# What decoding alone shall reach in bf16, and how many times faster than transformers an answer shall be.
DECODE_GOALS = {"h2ovl-0.8b": 0.50, "h2ovl-2b": 0.65}
ANSWER_GOAL = 3


def lines(command):
    with subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def measured(line, shape, precision, work, ceilings, peer):
    stage = line["stage"]
    of = next(k for k in ("tiles", "tokens", "batch") if k in line)
    seconds = statistics.median(line["seconds"])
    row = {"shape": shape, "precision": precision, "stage": stage, of: line[of], "seconds": seconds, "best_seconds": min(line["seconds"]), "runs": len(line["seconds"])}
    if stage == "answer":
        if peer and shape == peer["shape"]:
            row |= {"transformers_seconds": peer["seconds"], "times_as_fast": peer["seconds"] / seconds}
            if precision == "bf16":
                row |= {"goal": ANSWER_GOAL, "reached": row["times_as_fast"] >= ANSWER_GOAL}
        return row
    if stage == "decode":
        step = seconds / line["steps"]
        done, best = work[f"decode {line['batch']} {precision}"], ceilings["copy_gbs"]
        row |= {"seconds_a_step": step, "tokens_per_second": line["batch"] / step, "bytes": done}
    else:
        step, done, best = seconds, work[f"{stage} {line[of]}"], ceilings["gemm_bf16_gflops"]
        row |= {"operations": done}
    row |= {"giga_per_second": done / step * 1e-9, "ceiling_giga_per_second": best, "ratio": done / step * 1e-9 / best}
    if stage == "decode" and line["batch"] == 1 and precision == "bf16" and shape in DECODE_GOALS:
        row |= {"goal": DECODE_GOALS[shape], "reached": row["ratio"] >= DECODE_GOALS[shape]}
    return row


def shown(row):
    of = next(k for k in ("tiles", "tokens", "batch") if k in row)
    text = f"{row['shape']:10} {row['precision']:5} {row['stage'] + ', ' + of + ' ' + str(row[of]):20} {row.get('seconds_a_step', row['seconds']) * 1e3:9.3f} ms"
    if "ratio" in row:
        text += f" {row['giga_per_second']:10.1f} of {row['ceiling_giga_per_second']:.1f} {'GB/s' if 'bytes' in row else 'GFLOP/s'} = {row['ratio']:.1%}"
    if "times_as_fast" in row:
        text += f" transformers {row['transformers_seconds'] * 1e3:.1f} ms = {row['times_as_fast']:.2f} times as fast"
    if "goal" in row:
        text += f", goal {row['goal']} {'reached' if row['reached'] else 'MISSED'}"
    return text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--out")
    parser.add_argument("--peers")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    small = ["--small"] if options.dry else []
    peer = None
    if options.peers and os.path.exists(options.peers):
        peer = next((r for r in json.load(open(options.peers))["results"] if r["what"] == "end to end" and "seconds" in r), None)
    ceilings, = lines([options.build / "tests/gpu/kernels_bench", *small, "--ceilings"])
    print(json.dumps(ceilings), flush=True)
    rows, devices, failed = [], [], False
    for shape in ["tiny"] if options.dry else list(DECODE_GOALS):
        work = json.load(open(SHAPES / shape / "work.json"))
        for precision in ("bf16", "int8"):
            texts = [SHAPES / shape / name for name in ("spec.txt", f"limits-{precision}.txt", "manifest.txt")]
            try:
                for line in lines([options.build / "bench/model_stages", *small, "emu" if options.dry else "cuda:0", *texts, *STAGES]):
                    if "stage" not in line:
                        devices.append({"shape": shape, "precision": precision, **line})
                        print(f"{shape:10} {precision:5} opened in {line['open_seconds']:.1f} s, {line['plan_bytes'] >> 20} MiB planned", flush=True)
                        continue
                    rows.append(measured(line, shape, precision, work, ceilings, peer))
                    print(shown(rows[-1]), flush=True)
            except subprocess.CalledProcessError as e:  # one model that does not run must not hide the others
                failed = True
                print(f"{shape} {precision}: model_stages ended with status {e.returncode}", flush=True)
    report = {"date": datetime.date.today().isoformat(), "commit": options.commit, "ceilings": ceilings, "models": devices, "stages": rows}
    if options.out:
        json.dump(report, open(options.out, "w"), indent=1)
    return failed or not rows


if __name__ == "__main__":
    sys.exit(main())
