"""Sphinx extension: shows ``bench.json``, written by ``make bench``, as tables.

The directive ``bench`` takes the name of a part: times, targets, engines, models, machine or
full-size. Cells are text; nothing in the file becomes markup.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from vseam_lib.bench.report import PARTS, Table


def table_node(table: Table) -> nodes.table:
    """Return a table as docutils nodes."""
    group = nodes.tgroup(cols=len(table.header))
    group += [nodes.colspec(colwidth=1) for _ in table.header]
    group += nodes.thead("", _row(table.header))
    group += nodes.tbody("", *map(_row, table.rows))
    return nodes.table("", nodes.title("", table.caption), group, classes=["bench"])


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


class Bench(SphinxDirective):
    """One part of the measured numbers."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the part's tables.

        Raises:
            docutils.utils.SystemMessagePropagation: an unknown part, or no measured numbers.
        """
        part, file = self.arguments[0], Path(self.env.srcdir, "bench.json")
        if part not in PARTS:
            raise self.error(f"expected one of {', '.join(PARTS)}, got {part!r}")
        if not file.is_file():
            raise self.error(f"{file} does not exist; measure with `make bench`")
        self.env.note_dependency(str(file))
        return [table_node(t) for t in PARTS[part](json.loads(file.read_text("utf-8")))]


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directive."""
    app.add_directive("bench", Bench)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
