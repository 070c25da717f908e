"""Ink masks (255 = ink) to normalised pixels, plain or as print and paper look."""

import torch

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def normalise(pixels):
    """(..., 3, height, width) from 0 to 1."""
    return (pixels - MEAN) / STD


def plain(ink):
    """Black on white: (tiles, side, side) bytes to (tiles, 3, side, side)."""
    return normalise((1 - ink.float() / 255)[:, None].expand(-1, 3, -1, -1))


def printed(ink):
    """Random colours of ink and paper, faint print, noise: (pictures, tiles, side, side) bytes to (pictures * tiles, 3, side, side)."""
    count, tiles, side, _ = ink.shape
    paper, print_ = torch.ones(count, 3), torch.zeros(count, 3)
    kind = torch.rand(count)
    tinted = (kind > 0.4) & (kind < 0.8)
    paper[tinted] = (1 - 0.25 * torch.rand(count, 3))[tinted]
    print_[tinted] = (0.45 * torch.rand(count, 1) + 0.15 * torch.rand(count, 3))[tinted]
    reversed_ = kind > 0.86
    paper[reversed_] = (0.35 * torch.rand(count, 3))[reversed_]
    print_[reversed_] = (1 - 0.3 * torch.rand(count, 3))[reversed_]
    faint = torch.rand(count) < 0.12
    print_[faint] = (paper + (print_ - paper) * (0.2 + 0.35 * torch.rand(count, 1)))[faint]
    x = paper[:, None, :, None, None] + (ink.float() / 255)[:, :, None] * (print_ - paper)[:, None, :, None, None]
    strong = (torch.rand(count) < 0.3) * torch.rand(count) * 0.12
    weak = (torch.rand(count) < 0.3) * torch.rand(count) * 0.03
    noise = torch.where(faint, weak, strong)
    noisy = noise > 0
    if noisy.any():
        x[noisy] += torch.randn(int(noisy.sum()), tiles, 1, side, side) * noise[noisy][:, None, None, None, None]
    return normalise(x.clamp(0, 1).reshape(count * tiles, 3, side, side))
