"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import logging
import os
from functools import partial
from pathlib import Path

from vseam_lib.bench import full_size, report
from vseam_lib.bench.cases import read_groups, the_cases
from vseam_lib.bench.compare import ENGINES, compare, targets, weigh, weigh_apart
from vseam_lib.bench.measure import machine
from vseam_lib.causal.budget import BUDGET_MIB


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser("python -m vseam_lib.bench", description="Time the engine.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", default="build/world/gqa", help="folder in GQA's layout")
    parser.add_argument("--repeats", type=int, default=3, help="of every measurement")
    parser.add_argument("--out", type=Path, default=Path("book/bench.json"))
    parser.add_argument(
        "--full-size", action="store_true", help="sweep a random LLaVA-1.5-7B instead (cuda)"
    )
    parser.add_argument("--samples", type=int, default=3, help="questions of the full-size sweep")
    parser.add_argument("--weigh", choices=[e.label for e in ENGINES], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark from the command line."""
    parser = arguments()
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if args.repeats < 1 or args.samples < 1:
        parser.error("expected at least one repeat and one sample")
    if args.full_size and not args.device.startswith("cuda"):
        parser.error("--full-size needs --device cuda: seven billion parameters in bfloat16")
    if args.weigh:
        kind = next(e for e in ENGINES if e.label == args.weigh)
        case = the_cases(args.data, args.device)[args.case]
        print(json.dumps(weigh(kind, case, args.device)))
        return
    result = json.loads(args.out.read_text()) if args.out.is_file() else {}
    if args.full_size:
        result["full size"] = _full_size(args)
        tables = report.PARTS["full-size"](result)
    else:
        result |= _compare(args)
        tables = [t for name in ("times", "targets") for t in report.PARTS[name](result)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for table in tables:
        print(report.as_text(table))


def _compare(args: argparse.Namespace) -> dict:
    budget = BUDGET_MIB[args.device.partition(":")[0]]
    result = {"machine": machine(args.device), "repeats": args.repeats, "budget MiB": budget}
    models, rows = {}, []
    cases = list(the_cases(args.data, args.device).values())
    for case in cases:
        apart = partial(weigh_apart, case=case, data=args.data, device=args.device)
        models[case.name], found = compare(
            case, repeats=args.repeats, device=args.device, weigh=apart
        )
        rows += found
    return result | {"models": models, "rows": rows, "targets": targets(cases, rows, budget)}


def _full_size(args: argparse.Namespace) -> dict:
    triples = [group[0] for group in read_groups(args.data)][: args.samples + 1]
    before = machine(args.device)
    adapter = full_size.llava_7b(args.device)
    return full_size.measure(adapter, triples, args.device) | {"machine": before}


if __name__ == "__main__":
    main()
