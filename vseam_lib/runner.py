"""Execute one chapter for one profile, and refuse what papermill would let pass.

1. Read ``notebooks/{chapter}.py`` with jupytext and the declared parameters with papermill.
2. Take values from ``profiles/{profile}.yml`` (``common``, then the chapter's own), then ``-p``.
3. Refuse a name that no parameter cell declares and a value of another type than declared.
4. Put the run's name into labels (``{run}``), insert the "This run" card, execute, rename.

::

    python -m vseam_lib.runner 05_heads --profile tiny-llava -o out.ipynb -p k 5
"""

from __future__ import annotations

import argparse
import html
import importlib.metadata
import math
import os
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill as pm
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from vseam_lib.profiles import (
    Parameter,
    Profile,
    RunnerError,
    load_profile,
    read_chapter,
    resolve,
)

KERNEL_QUIET = "--IPKernelApp.log_level=40"  # errors only: it warns of using TCP at every start
VERSIONS = ("torch", "transformers", "numpy")


def prepare(nb: NotebookNode, run: str, values: dict[str, Any]) -> NotebookNode:
    """Return the notebook with values injected, ``{run}`` filled in and parameter cells hidden.

    ``{run}`` is replaced in cell metadata (figure names, captions) and in Markdown, where a role
    of that name (``{run}`` before a backtick) is left alone.
    """
    nb = load_notebook_node(nbformat.from_dict(fill(nb, run)))
    nb = parameterize_notebook(nb, values)
    for cell in nb.cells:
        tags = cell.metadata.get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags) and "remove-cell" not in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]
    return nb


def fill(node: Any, run: str, verbatim: bool = False) -> Any:
    """Replace ``{run}`` in every text of a notebook except code and outputs."""
    if isinstance(node, dict):
        code = node.get("cell_type") == "code"
        return {
            key: fill(value, run, verbatim or key == "outputs" or (code and key == "source"))
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [fill(item, run, verbatim) for item in node]
    return re.sub(r"\{run\}(?!`)", run, node) if isinstance(node, str) and not verbatim else node


def card(
    known: dict[str, Parameter],
    values: dict[str, Any],
    *,
    title: str,
    command: str,
    source: str,
    executed: str,
    facts: str,
) -> str:
    """Return the "This run" card: parameters, default or set, the command, source and versions.

    Every value is escaped, so that none can end the table or start markup or mathematics.
    """
    shown = {name: values.get(name, parameter.default) for name, parameter in known.items()}
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(name)}</code></th>"
        f"<td><code>{escape(repr(shown[name]))}</code></td>"
        f"<td>{'default' if shown[name] == parameter.default else 'set'}</td>"
        f"<td>{escape(parameter.help)}</td></tr>"
        for name, parameter in known.items()
    )
    return (
        f"<details class='this-run'><summary>This run: {escape(title)}</summary>"
        "<div class='this-run-table'><table class='dataframe'><thead><tr><th>parameter</th>"
        f"<th>value</th><th>from</th><th>meaning</th></tr></thead><tbody>{rows}</tbody></table>"
        f"</div><p>Repeat it: <code>{escape(command)}</code></p><p>{escape(facts)}</p></details>"
        f"\n\nSource: {{download}}`{Path(source).name} <{source}>`, "
        f"executed: {{download}}`{executed} <{executed}>`."
    )


def run_chapter(
    chapter: str,
    profile: Profile,
    output: Path,
    *,
    notebooks: Path = Path("notebooks"),
    typed: dict[str, str] | None = None,
    command: str = "",
) -> Path:
    """Execute one chapter in the current directory and write ``output`` when all of it succeeded.

    Raises:
        RunnerError: before anything runs, if names or values do not fit.
        PapermillExecutionError: if a cell fails; the partly executed notebook is kept beside
            ``output`` as ``*.failed.ipynb``, and an earlier ``output`` is left as it was.
    """
    known, values = resolve(profile, chapter, notebooks, typed or {})
    nb = prepare(read_chapter(chapter, notebooks), profile.name, values)
    output.parent.mkdir(parents=True, exist_ok=True)
    source = os.path.relpath(notebooks / f"{chapter}.py", output.parent)

    def this_run(facts: str) -> str:
        return card(
            known,
            values,
            title=profile.title,
            command=command,
            source=Path(source).as_posix(),
            executed=output.name,
            facts=facts,
        )

    place = 1 + next(
        i for i, c in enumerate(nb.cells) if "injected-parameters" in c.metadata.get("tags", [])
    )
    nb.cells.insert(place, nbformat.v4.new_markdown_cell(this_run("Not finished.")))
    part = output.with_name(f".{output.stem}.{os.getpid()}.part.ipynb")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    try:
        done = pm.execute_notebook(
            nb, part, progress_bar=sys.stderr.isatty(), extra_arguments=[KERNEL_QUIET]
        )
        done.cells[place].source = this_run(describe(done))
        nbformat.write(done, part)
        os.replace(part, output)
        failed.unlink(missing_ok=True)
    except PapermillExecutionError:
        os.replace(part, failed)
        raise
    finally:
        part.unlink(missing_ok=True)
    return output


def describe(nb: NotebookNode) -> str:
    """Return when, how long and on what an executed notebook ran."""
    versions = ", ".join(f"{name} {installed(name)}" for name in VERSIONS if installed(name))
    seconds = nb.metadata.papermill.get("duration") or math.nan
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{day}, {seconds:.0f} s on {os.cpu_count()} CPU cores; Python {python}, {versions}."


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def escape(text: str) -> str:
    """Escape HTML, Markdown and mathematics: what is shown is what was given."""
    return re.sub(r"[`$\\{}*_|\n\[\]]", lambda m: f"&#{ord(m[0])};", html.escape(text))


def main(argv: list[str] | None = None) -> int:
    """Command line: 0 done, 1 a cell failed, 2 asked for something that cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m vseam_lib.runner", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("chapter", help="a notebook of the notebooks folder, without .py")
    parser.add_argument("--profile", required=True, help="a profile's name, or a .yml file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="executed notebook")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[])
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"))
    parser.add_argument("--profiles", type=Path, default=Path("profiles"))
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    try:
        profile = load_profile(args.profile, args.profiles)
        print(f"{args.chapter}: running for {profile.name}", file=sys.stderr, flush=True)
        run_chapter(
            args.chapter,
            profile,
            args.output,
            notebooks=args.notebooks,
            typed=dict(args.parameter),
            command=shlex.join(["python", "-m", "vseam_lib.runner", *argv]),
        )
    except RunnerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PapermillExecutionError as error:
        kept = args.output.with_name(f"{args.output.stem}.failed.ipynb")
        print(
            f"{error}\nerror: cell {error.cell_index} of {args.chapter} failed with {error.ename}: "
            f"{error.evalue}\nWhat ran up to there is kept in {kept}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
