"""The measured numbers as tables: on the terminal and, from the JSON file, in the book."""

from __future__ import annotations

from typing import NamedTuple

NONE = "–"


class Table(NamedTuple):
    """A caption, column headings, and rows of text."""

    caption: str
    header: list[str]
    rows: list[list[str]]


def times_tables(result: dict) -> list[Table]:
    """One table per model and task."""
    keys = dict.fromkeys((row["model"], row["task"]) for row in result["rows"])
    return [_times(result, model, task) for model, task in keys]


def _times(result: dict, model: str, task: str) -> Table:
    header = [
        "engine",
        "seconds",
        "measured share",
        "times ours",
        "token rows (thousand)",
        "images encoded",
        "peak memory (MiB)",
        "largest difference",
    ]
    rows = []
    for row in result["rows"]:
        if (row["model"], row["task"]) != (model, task):
            continue
        if "missing" in row:
            rows.append([row["engine"], row["missing"], *[NONE] * (len(header) - 2)])
            continue
        memory = row["peak MiB"]
        rows.append(
            [
                row["engine"],
                f"{row['seconds']:.2f}",
                f"{row['measured share']:.0%}".replace("%", " %"),
                f"{row['ratio']:.1f}",
                f"{row['rows'] / 1000:,.0f}",
                f"{row['images']:,}",
                NONE if memory is None else f"{memory:,.0f}",
                f"{row['difference']:.0e}",
            ]
        )
    sizes = result["models"][model]
    caption = (
        f"{task.capitalize()}, {model}: {sizes['layers']} layers, {sizes['heads']} heads, "
        f"{sizes['positions']} positions"
    )
    return Table(caption, header, rows)


def targets_table(result: dict) -> Table:
    """What was wanted, and whether it was met."""
    rows = [
        [
            t["model"],
            t["what"],
            f"{t['wanted']:,.2f}",
            f"{t['measured']:,.2f}",
            "yes" if t["met"] else "no",
        ]
        for t in result["targets"]
    ]
    return Table("Targets", ["model", "what", "wanted", "measured", "met"], rows)


def engines_table(result: dict) -> Table:
    """How each engine was used."""
    how = {row["engine"]: row["how"] for row in result["rows"]}
    return Table("Engines", ["engine", "how it was used"], [list(x) for x in how.items()])


def models_table(result: dict) -> Table:
    """Sizes of the models."""
    names = list(result["models"])
    keys = list(result["models"][names[0]])
    show = lambda x: x if isinstance(x, str) else f"{x:,}"  # noqa: E731
    rows = [[key, *(show(result["models"][name][key]) for name in names)] for key in keys]
    return Table("Models", ["size", *names], rows)


def machine_table(machine: dict) -> Table:
    """What the numbers were measured on."""
    rows = [
        [key, "not installed" if value is None else str(value)] for key, value in machine.items()
    ]
    return Table("Machine", ["what", "value"], rows)


def full_size_table(result: dict) -> Table:
    """The sweep of a random LLaVA-1.5-7B, if one was measured."""
    full = result.get("full size")
    if full is None:
        return Table("Full size", ["what", "value"], [["sweep", "not measured"]])
    numbers = {k: v for k, v in full.items() if k != "machine"}
    rows = [[k, f"{v:,.4g}" if isinstance(v, float) else str(v)] for k, v in numbers.items()]
    return Table("Full size", ["what", "value"], rows + machine_table(full["machine"]).rows)


def as_text(table: Table) -> str:
    """A table for the terminal."""
    lines = [table.header, *table.rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(table.header))]
    padded = ["  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(["", table.caption, *(line.rstrip() for line in padded)])


PARTS = {
    "times": times_tables,
    "targets": lambda result: [targets_table(result)],
    "engines": lambda result: [engines_table(result)],
    "models": lambda result: [models_table(result)],
    "machine": lambda result: [machine_table(result["machine"])],
    "full-size": lambda result: [full_size_table(result)],
}
