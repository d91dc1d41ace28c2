"""Sphinx extension of the book: checks before the build, glue as dependency, offline mathematics.

* Every executed notebook of the table of contents must exist; otherwise the build stops and says
  which chapter is missing and the command that runs it.
* A page that shows a number glued from a notebook depends on that notebook, so that re-running the
  notebook renders the page again.
* Named values in a docstring's Returns section become a list.
* MathJax comes from the installed package, never from another host.
* The variable ``VSEAM_RUN`` (``a`` or ``a,b``) shows other runs in place of those of the table of
  contents, in its order.
"""

from __future__ import annotations

import importlib.util
import os
import re
from enum import Enum
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset

GLUE = re.compile(r"\{glue[^}]*\}`([^`:]+\.ipynb)::")
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def toc_runs(toc: Path) -> list[str]:
    """Return the executed notebooks (``runs/{run}/{chapter}``) of a table of contents, in order."""
    return re.findall(r"^[^#\n]*file:\s*(runs/\S+)", toc.read_text(encoding="utf-8"), re.MULTILINE)


def swap_runs(text: str, swaps: dict[str, str]) -> str:
    """Return a page or table of contents that shows each run ``new`` in place of ``old``.

    Paths (``runs/old/...``) and labels of figures and tables (``old-fig-...``) change.
    """
    for old, new in swaps.items():
        text = text.replace(f"runs/{old}/", f"runs/{new}/")
        text = re.sub(rf"(?<![\w-]){re.escape(old)}-(?=(fig|tbl)-)", f"{new}-", text)
    return text


def choose_run(app: Sphinx, config: Config) -> None:
    """Swap the runs of the table of contents for ``VSEAM_RUN`` and check the notebooks."""
    toc = Path(app.srcdir, config.external_toc_path)
    shown = toc_runs(toc)
    runs = list(dict.fromkeys(entry.split("/")[1] for entry in shown))
    wanted = [run for run in os.environ.get("VSEAM_RUN", "").split(",") if run]
    config.vseam_swap = {old: new for old, new in zip(runs, wanted, strict=False) if old != new}
    if config.vseam_swap:
        other = Path(app.doctreedir, "_toc.yml")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text(swap_runs(toc.read_text(encoding="utf-8"), config.vseam_swap))
        config.external_toc_path = str(other)
        shown = toc_runs(other)
    missing = [entry for entry in shown if not Path(app.srcdir, f"{entry}.ipynb").is_file()]
    if missing:
        targets = " ".join(f"book/{entry}.ipynb" for entry in missing)
        raise ExtensionError(
            f"the table of contents shows executed notebooks that do not exist: {targets}\n"
            f"run them from the repository root:  snakemake -c2 {targets}"
        )


def read_source(app: Sphinx, docname: str, content: list[str]) -> None:
    """Swap the run in a prose page and note the notebooks that its glued values come from."""
    if docname.startswith("runs/"):
        return
    if app.config.vseam_swap:
        content[0] = swap_runs(content[0], app.config.vseam_swap)
    for path in GLUE.findall(content[0]):
        source = Path(app.srcdir, docname).parent / path
        if not source.is_file():
            raise ExtensionError(
                f"{docname}: a value is glued from {path}, which does not exist; "
                f"run it from the repository root:  snakemake -c2 book/{path}"
            )
        app.env.note_dependency(str(source))


def list_named_returns(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn ``name: meaning`` entries of a Returns section into a list, which napoleon does not."""
    start = next((i for i, line in enumerate(lines) if line.strip() == "Returns:"), None)
    if start is None:
        return
    entry = re.compile(r"( +)(\w+): ")
    first = entry.match(lines[start + 1]) if start + 1 < len(lines) else None
    if first is None:
        return
    indent = first[1]
    for i in range(start + 1, len(lines)):
        if lines[i].strip() and not lines[i].startswith(indent):
            break
        named = entry.match(lines[i])
        if named and named[1] == indent:
            lines[i] = f"{indent}* **{named[2]}**: {lines[i][named.end() :]}"
        elif lines[i].strip():
            lines[i] = f"{indent}  {lines[i].strip()}"
    lines[start : start + 1] = [":returns:", ""]


def short_enum_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, args: str, returns: str
) -> tuple[str, str] | None:
    """Show an enumeration without the constructor that Python gives it."""
    return ("", "") if isinstance(obj, type) and issubclass(obj, Enum) else None


def skip_bare_field(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out the fields of named tuples, which the class describes."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put the one MathJax bundle that the pages load, and its fonts, into the output."""
    if error or app.builder.format != "html":
        return
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("MathJax is missing: pip install sphinx-mathjax-offline")
    source = Path(package.origin).parent / "static" / "mathjax"
    for name in MATHJAX:
        target = Path(app.outdir, "_static", "mathjax", name)
        copy_asset(str(source / name), str(target if (source / name).is_dir() else target.parent))


def setup(app: Sphinx) -> dict[str, object]:
    """Register the extension."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_config_value("vseam_swap", {}, "env")
    app.add_config_value("comments_config", {}, "env")  # Jupyter Book sets it for sphinx_comments
    app.connect("config-inited", choose_run, priority=100)
    app.connect("source-read", read_source)
    app.connect("autodoc-process-docstring", list_named_returns, priority=100)
    app.connect("autodoc-process-signature", short_enum_signature)
    app.connect("autodoc-skip-member", skip_bare_field)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
