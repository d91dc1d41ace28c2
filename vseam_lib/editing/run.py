"""Makes the edited pictures of a run: ``python -m vseam_lib.editing.run --profile tiny-llava``.

Chapters make what they miss themselves; this does it beforehand, in several processes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from vseam_lib.editing.pipeline import edit_triples
from vseam_lib.editing.settings import EditSettings
from vseam_lib.editing.tools import load_tools
from vseam_lib.profiles import load_profile
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import sample


def work(rank: int, processes: int, values: dict[str, Any]) -> None:
    """Edit every ``processes``-th triple of a run."""
    torch.set_num_threads(1)
    triples = sample(
        read_gqa(
            values["data"],
            values["split"],
            categories=values["categories"],
            on_missing_box="keep",
            clip_boxes=True,
        ),
        values["n"] or None,
        values["seed"],
    )
    settings = EditSettings.of(values["editing"])
    tools = load_tools(
        settings,
        values["data"],
        values["split"],
        device=values["device"],
    )
    edit_triples(
        triples,
        settings,
        tools,
        values["edits"],
        shard=(rank, processes),
        progress=rank == 0,
    )


def main() -> None:
    """Edit from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", required=True, help="a profile's name or file")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, help="marker file, written at the end")
    args = parser.parse_args()
    values = load_profile(args.profile, Path("profiles")).common
    torch.multiprocessing.spawn(work, (args.processes, values), nprocs=args.processes)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"profile": args.profile, "edits": values["edits"]}))


if __name__ == "__main__":
    main()
