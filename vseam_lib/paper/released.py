"""The question files that the paper's authors released, beside what the paper says of its data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from vseam_lib.paper import table
from vseam_lib.sources.conflicts import label_conflict
from vseam_lib.sources.pope import SUBSETS, read_pope
from vseam_lib.sources.pope import table15 as pope_sizes
from vseam_lib.sources.release import read_release
from vseam_lib.triples import VQATriple, by_category


def questions(root: Path | str) -> pd.DataFrame:
    """What is in the released GQA files.

    Columns ``category, printed`` (size in Table 1), ``released, yes`` (per cent), ``repeated`` (the
    same question about the same image again), ``contradicted`` (labels that the full answer
    contradicts) and ``by_capitals`` (per cent right when all that is known of a question is whether
    a word other than its first is capitalised).

    Raises:
        FileNotFoundError: ``root`` is not the release.
    """
    printed = table(1).set_index("category")["size"]
    rows = []
    for category, members in by_category(read_release(root)).items():
        asked = Counter((t.image_id, t.question) for t in members)
        rows.append(
            {
                "category": str(category),
                "printed": int(printed[str(category)]),
                "released": len(members),
                "yes": 100 * sum(t.answer == "Yes" for t in members) / len(members),
                "repeated": len(members) - len(asked),
                "contradicted": sum(
                    label_conflict(category, t.question, t.answer, t.full_answer) is not None
                    for t in members
                ),
                "by_capitals": by_capitals(members),
            }
        )
    return pd.DataFrame(rows)


def by_capitals(triples: list[VQATriple]) -> float:
    """Per cent right of the best guess from capital letters alone."""
    answers: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for t in triples:
        capital = any(word[0].isupper() for word in t.question.split()[1:])
        answers[capital][t.answer] += 1
    best = sum(max(counts.values(), default=0) for counts in answers.values())
    return 100 * best / len(triples)


def pope(root: Path | str) -> pd.DataFrame | None:
    """What is in the released POPE files; None if the release has none.

    Columns ``subset, printed`` (size in Table 15), ``released, yes`` (per cent) and ``shared`` (per
    cent of the Yes-questions that all subsets have).
    """
    folder = next((p for p in (Path(root) / "POPE", Path(root) / "data/POPE") if p.is_dir()), None)
    if folder is None:
        return None
    found = pope_sizes(read_pope(folder, SUBSETS, check_images=False)).set_index("subset")
    printed = table(15).set_index("subset")["size"]
    return pd.DataFrame(
        {
            "subset": list(found.index),
            "printed": [int(printed[s]) for s in found.index],
            "released": found["size"].to_numpy(),
            "yes": 100 * found["yes_share"].to_numpy(),
            "shared": 100 * found["shared"].to_numpy(),
        }
    )
