"""Runs the engines in turn on a case and checks that they find the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median

from vseam_lib.bench.cases import SWEEP, TASKS, Case, Every, describe
from vseam_lib.bench.engines import Engine, Ours, Plain, run
from vseam_lib.bench.measure import MALLOC, counted, peak_mib, seconds, version
from vseam_lib.bench.tools import Lens, NNsight

ENGINES: tuple[type[Engine], ...] = (Ours, Plain, NNsight, Lens)
AGREE = dict(zip(TASKS, (1e-4, 1e-3), strict=True))  # probability, logit
MEMORY_OF_ONE_FORWARD = 1.5


def compare(
    case: Case, *, repeats: int, device: str, weigh: Callable[[str], dict], say=print
) -> tuple[dict, list[dict]]:
    """Time every engine on both tasks of a case, in turn.

    Args:
        weigh: memory and work of an engine by its label, see :func:`weigh`.

    Returns:
        sizes: of the model.
        rows: one per task and engine.

    Raises:
        RuntimeError: engines that disagree.
    """
    engines, missing = {}, {}
    for kind in ENGINES:
        try:
            engines[kind.label] = ready(kind, case)
        except Unavailable as reason:
            missing[kind.label] = str(reason)
    say(f"{case.name}: memory and work")
    weights = {label: weigh(label) for label in engines}
    adapter = engines[Ours.label].adapter
    rows = []
    for task in TASKS:
        say(f"{case.name}, {task}")
        found = _in_turn(case, task, engines, repeats, device)
        for kind in ENGINES:
            row = {"model": case.name, "task": task, "engine": kind.label, "how": kind.how}
            if kind.label in missing:
                rows.append(row | {"missing": missing[kind.label]})
                continue
            rows.append(row | found[kind.label] | weights[kind.label][task])
            say(f"  {kind.label:20s}{rows[-1]['seconds']:9.2f} s")
    return describe(case, adapter), rows


class Unavailable(Exception):
    """Why an engine cannot be run."""


def ready(kind: type[Engine], case: Case) -> Engine:
    """An engine on its own copy of the model, warmed up by one intervention of each task.

    Raises:
        Unavailable: its package is missing, or it does not take this model.
    """
    if kind.package and not version(kind.package):
        raise Unavailable("not installed")
    try:
        engine = kind(case.build())
        for task in TASKS:
            run(engine, case, task, case.sites(engine.adapter, task)[:1])
    except Exception as error:
        if kind.package is None:
            raise
        raise Unavailable(f"cannot run this model: {type(error).__name__}: {error}") from error
    return engine


def _share(kind: str, case: Case, task: str) -> Every:
    return Every() if kind == Ours.label else case.every[task]


def _in_turn(case: Case, task: str, engines: dict[str, Engine], repeats: int, device: str) -> dict:
    """A B A B ... : median seconds, scaled to all sites, and differences from plain forwards."""
    times: dict[str, list[float]] = {label: [] for label in engines}
    values, sites = {}, {}
    everything = case.sites(engines[Ours.label].adapter, task)
    for label, engine in engines.items():
        sites[label] = case.sites(engine.adapter, task, _share(label, case, task))
    for _ in range(repeats):
        for label, engine in engines.items():
            some = sites[label]
            took, values[label] = seconds(lambda e=engine, s=some: run(e, case, task, s), device)
            if len(some) < len(everything):
                once, _ = seconds(lambda e=engine: run(e, case, task, []), device)
                took = once + (took - once) * len(everything) / len(some)
            times[label].append(took)
    out = {}
    for label in engines:
        common = sites[Plain.label]
        mine = values[label][:, [sites[label].index(s) for s in common]]
        difference = float((mine - values[Plain.label]).abs().max())
        if difference > AGREE[task]:
            raise RuntimeError(
                f"{case.name}, {task}: expected the numbers of one forward per intervention to "
                f"{AGREE[task]:g}, got a difference of {difference:.1e} from {label}; do not "
                "compare times of different results"
            )
        ours = times[Ours.label]
        out[label] = {
            "seconds": median(times[label]),
            "each": times[label],
            "measured share": len(sites[label]) / len(everything),
            "ratio": median(t / o for t, o in zip(times[label], ours, strict=True)),
            "difference": difference,
            "spread": float(values[label].max() - values[label].min()),
        }
    return out


def weigh(kind: type[Engine], case: Case, device: str) -> dict:
    """Peak memory and work of an engine on both tasks; run it in a process of its own.

    Engines other than ours are weighed on one module or layer and the work is scaled.
    """
    engine, out = ready(kind, case), {}
    for task in TASKS:
        everything = case.sites(engine.adapter, task)
        some = everything if kind is Ours else _one_batch(case, engine, task)
        with counted(engine.adapter) as work:
            mib = peak_mib(lambda t=task, s=some: run(engine, case, t, s), device)
        if len(some) < len(everything):
            with counted(engine.adapter) as once:
                run(engine, case, task, [])
            work = work.scaled(once, len(everything) / len(some))
        out[task] = {"rows": work.rows, "images": round(work.images), "peak MiB": mib}
    return out


def _one_batch(case: Case, engine: Engine, task: str) -> list:
    """The heads of the first layer, or the cells of the first module, that are timed."""
    some = case.sites(engine.adapter, task, case.every[task])
    alike = lambda s: (s.layer, getattr(s, "site", None))  # noqa: E731
    return [s for s in some if alike(s) == alike(some[0])]


def weigh_apart(label: str, case: Case, data: str, device: str) -> dict:
    """:func:`weigh` in a process of its own.

    Raises:
        RuntimeError: with the process's last words.
    """
    command = [sys.executable, "-m", "vseam_lib.bench", "--weigh", label, "--case", case.name]
    done = subprocess.run(
        [*command, "--data", data, "--device", device],
        capture_output=True,
        text=True,
        env=os.environ | MALLOC,
    )
    if done.returncode:
        raise RuntimeError(f"weighing {label} on {case.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def targets(cases: Sequence[Case], rows: Sequence[dict], budget_mib: float) -> list[dict]:
    """What we want of the engine, and what was measured within its default memory budget."""
    at = {(r["model"], r["task"], r["engine"]): r for r in rows if "missing" not in r}
    out = []
    for case in cases:
        for task in TASKS:
            ours = at[case.name, task, Ours.label]
            for kind in ENGINES[1:]:
                row = at.get((case.name, task, kind.label))
                want = case.wanted.get(task, 1) if kind is Plain else 1
                if row is None:
                    continue
                out.append(
                    {
                        "model": case.name,
                        "what": f"{task}: faster than {kind.label}, times",
                        "wanted": want,
                        "measured": row["ratio"],
                        "met": row["ratio"] >= want,
                    }
                )
            one = at[case.name, task, Plain.label]["peak MiB"]
            if task == SWEEP and ours["peak MiB"] is not None and one is not None:
                allowed = MEMORY_OF_ONE_FORWARD * one + budget_mib
                out.append(
                    {
                        "model": case.name,
                        "what": f"{task}: peak memory, MiB; at most {MEMORY_OF_ONE_FORWARD:g} x "
                        f"one forward ({one:.0f}) + the budget ({budget_mib})",
                        "wanted": allowed,
                        "measured": ours["peak MiB"],
                        "met": ours["peak MiB"] <= allowed,
                    }
                )
    return out
