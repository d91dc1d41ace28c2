"""What every training stage shares: optimiser, schedule, log and checkpoints."""

from __future__ import annotations

import argparse
import json
import math
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import yaml
from torch import nn

from vseam_lib.vlm.load import WEIGHTS


def command_line(description: str, recipe: Path) -> tuple[dict, Path, Path]:
    """The recipe, where a training writes, and where its weights go, from the command line.

    Args:
        recipe: the default, whose name is also that of the model.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--recipe", type=Path, default=recipe)
    parser.add_argument("--out", type=Path, default=Path("build/training") / recipe.stem)
    parser.add_argument("--to", type=Path, default=WEIGHTS / recipe.stem)
    args = parser.parse_args()
    return yaml.safe_load(args.recipe.read_text()), args.out, args.to


def spawn(work: Callable, processes: int, *args: object) -> None:
    """Run ``work(rank, *args, port)`` in some processes, which then :func:`join` each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, (*args, port), nprocs=processes)


def join(rank: int, processes: int, port: int) -> None:
    """Meet the other processes, if there are any."""
    if processes > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


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

    def __init__(self, out: Path, rank: int, seed: int = 0) -> None:
        self.out, self.rank, self.seed, self.start = out, rank, seed, time.time()
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


def train(
    run: Run,
    stage: str,
    module: nn.Module,
    groups: Sequence[tuple[Iterable[nn.Parameter], float]],
    recipe: dict,
    loss_of: Callable[[int, np.random.Generator], tuple[torch.Tensor, dict]],
    *,
    log_every: int = 25,
    save_every: int = 100,
) -> None:
    """Minimise ``loss_of(step, rng)`` over ``recipe["steps"]`` steps, from the latest checkpoint.

    Every step has random numbers of its own, so a resumed training goes on as if uninterrupted.

    Args:
        module: what a checkpoint holds.
        groups: parameters with their share of ``recipe["lr"]``.
        loss_of: loss of a step, and numbers to log, which are averaged over ``log_every`` steps.
    """
    groups = [(list(params), share) for params, share in groups]
    params = [p for group, _ in groups for p in group]
    opt = optimiser([{"params": group} for group, _ in groups], recipe["lr"])
    first, steps = run.resume(stage, module, opt), recipe["steps"]
    shown: dict[str, list] = {}
    for step in range(first, steps):
        own = [run.seed, run.rank, *stage.encode(), step]
        torch.manual_seed(int(np.random.SeedSequence(own).generate_state(1)[0]))
        loss, numbers = loss_of(step, np.random.default_rng(own))
        for name, value in numbers.items():
            shown.setdefault(name, []).append(value)
        for p in params:
            p.grad = torch.zeros_like(p)
        loss.backward()
        average_gradients(params)
        nn.utils.clip_grad_norm_(params, 1.0)
        for group, (_, share) in zip(opt.param_groups, groups, strict=True):
            group["lr"] = share * schedule(step, steps, recipe["lr"])
        opt.step()
        if step % log_every == log_every - 1:
            mean = {k: np.nanmean(v, 0).round(3).tolist() for k, v in shown.items()}
            run.log(stage=stage, step=step + 1, **mean)
            shown = {}
        if step % save_every == save_every - 1 or step + 1 == steps:
            run.save(stage, step + 1, module, opt)
