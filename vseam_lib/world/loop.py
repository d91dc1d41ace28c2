"""What every training stage shares: optimiser, schedule, log and checkpoints."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


def average_gradients(params: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if not dist.is_initialized():
        return
    flat = torch.cat([p.grad.flatten() for p in params])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for p in params:
        p.grad.copy_(flat[start : start + p.numel()].view_as(p))
        start += p.numel()


def optimiser(params, lr: float) -> torch.optim.AdamW:
    """AdamW as all stages use it."""
    return torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.98), weight_decay=0.03)


def schedule(step: int, steps: int, lr: float) -> float:
    """Linear warm-up over 2 %, then cosine to 2 % of the peak."""
    warm = max(1, steps // 50)
    if step < warm:
        return lr * (step + 1) / warm
    return lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))))


class Run:
    """Where a training writes: ``log.jsonl`` and the latest checkpoint of each stage."""

    def __init__(self, out: Path, rank: int) -> None:
        self.out, self.rank, self.start = out, rank, time.time()
        out.mkdir(parents=True, exist_ok=True)

    def log(self, **row) -> None:
        if self.rank == 0:
            row = {"seconds": round(time.time() - self.start), **row}
            with open(self.out / "log.jsonl", "a") as f:
                f.write(json.dumps(row) + "\n")

    def save(self, stage: str, step: int, module: nn.Module, opt: torch.optim.Optimizer) -> None:
        if self.rank == 0:
            part = self.out / f"{stage}.part"
            torch.save({"step": step, "model": module.state_dict(), "opt": opt.state_dict()}, part)
            part.replace(self.out / f"{stage}.pt")

    def resume(self, stage: str, module: nn.Module, opt: torch.optim.Optimizer) -> int:
        path = self.out / f"{stage}.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        module.load_state_dict(state["model"])
        opt.load_state_dict(state["opt"])
        return state["step"]
