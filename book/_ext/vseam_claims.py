"""Sphinx extension: the claims ledger, made of what the executed notebooks concluded.

* The directive ``claims-ledger`` shows every claim of ``vseam_lib/paper/claims.yml``, by section of
  the paper, with each shown run's result and verdict, linked to the cell that decides it.
* The directive ``claims-summary`` counts the verdicts per run.
* The role ``claims`` gives one number: ``{claims}`tiny-llava holds` ``, with ``holds``, ``partly``,
  ``fails``, ``untested`` or ``judged`` after a run's name, or ``{claims}`all` `` for the number of
  claims. ``VSEAM_RUN`` swaps runs here, too.

A claim that no shown run decides stops the build, unless its row says why nothing can; so does a
judgement that does not fit its row.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from vseam_book import toc_runs

from vseam_lib.paper import claims as paper_claims
from vseam_lib.paper.claims import Claim
from vseam_lib.verdict import RECORD, Verdict

MARKS = {True: "yes", False: "no", None: "open"}


@dataclass(frozen=True)
class Found:
    """One run's judgement of a claim: its record, and the page that shows it."""

    run: str
    chapter: str
    verdict: Verdict
    ours: str
    met: dict[str, bool | None]


class Ledger:
    """What the shown runs say about the paper's claims.

    Attributes:
        claims: all claims by id, in the order of the sections of the paper.
        runs: the shown runs, in the order of the table of contents.
        found: judgements by claim and run.

    Raises:
        ExtensionError: a judgement of a claim that is unknown, belongs to another chapter, has
            other conditions or is judged twice, or a claim that nothing decides.
    """

    def __init__(self, known: dict[str, Claim], notebooks: dict[tuple[str, str], Path]):
        order = {c.section: place(c.section) for c in known.values()}
        self.claims = dict(sorted(known.items(), key=lambda kv: order[kv[1].section]))
        self.runs = list(dict.fromkeys(run for run, _ in notebooks))
        self.found: dict[tuple[str, str], Found] = {}
        for (run, chapter), path in notebooks.items():
            for record in records(path):
                self._add(run, chapter, record)
        undecided = [
            f"{c.id} (chapter {c.chapter})"
            for c in self.claims.values()
            if not c.untestable and not any((c.id, run) in self.found for run in self.runs)
        ]
        if undecided:
            raise ExtensionError(
                f"no shown run decides these claims of {paper_claims.FILE.name}: "
                f"{', '.join(undecided)}; show a run of the chapter in _toc.yml, judge the claim "
                "there, or mark it untestable"
            )

    def _add(self, run: str, chapter: str, record: dict) -> None:
        cell = f"book/runs/{run}/{chapter}.ipynb"
        again = f"run the chapter again:  snakemake -c2 --forcerun {cell}"
        claim = self.claims.get(record["id"])
        if claim is None:
            raise ExtensionError(
                f"{cell} judges the claim {record['id']!r}, which {paper_claims.FILE.name} does "
                f"not have; add it, or {again}"
            )
        if claim.chapter != chapter:
            raise ExtensionError(
                f"{cell} judges the claim {claim.id!r}, which chapter "
                f"{claim.chapter or '(none: untestable)'} should decide; correct the chapter in "
                f"{paper_claims.FILE.name}, or move the judgement"
            )
        if set(record["met"]) != set(claim.conditions):
            raise ExtensionError(
                f"{cell} judged {claim.id!r} by {sorted(record['met'])}, but its conditions are "
                f"{sorted(claim.conditions)}; {again}"
            )
        if (claim.id, run) in self.found:
            raise ExtensionError(f"{cell} judges the claim {claim.id!r} twice; judge it once")
        verdict = Verdict.of(record["met"])
        self.found[claim.id, run] = Found(run, chapter, verdict, record["ours"], record["met"])

    def counts(self, run: str) -> dict[Verdict, int]:
        """How many claims of each verdict a run has."""
        own = [f.verdict for (_, r), f in self.found.items() if r == run]
        return {verdict: own.count(verdict) for verdict in Verdict}


def place(section: str) -> tuple[int, list[float], str]:
    """Order of a section within the paper: abstract, sections, limitations, appendices."""
    kind, _, name = section.partition(" ")
    rank = ("abstract", "section", "limitations", "appendix").index(kind)
    return rank, [float(part) for part in name.split(".")] if kind == "section" else [], name


def records(path: Path) -> list[dict]:
    """The judgements in an executed notebook's outputs, in its order."""
    return _records(path, path.stat().st_mtime_ns)


@cache
def _records(path: Path, written: int) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    metadata = [output.get("metadata", {}) for output in outputs]
    return [found[RECORD] for found in metadata if RECORD in found]


def read_ledger(env: BuildEnvironment) -> Ledger:
    """Read claims and notebooks, and note that the page depends on them.

    Raises:
        ExtensionError: as of :class:`Ledger`, or a file of claims that cannot be read.
    """
    source = Path(env.srcdir)
    entries = toc_runs(source / env.config.external_toc_path)
    shown = {tuple(entry.split("/")[1:]): source / f"{entry}.ipynb" for entry in entries}
    for path in (paper_claims.FILE, *shown.values()):
        env.note_dependency(str(path))
    try:
        known = paper_claims.read_claims()
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    return Ledger(known, shown)


def badge(verdict: Verdict) -> str:
    """The coloured word for a verdict."""
    return f'<span class="badge">{html.escape(verdict)}</span>'


def result(found: Found | None, uri: str) -> str:
    """A run's cell: result and verdict, linked to the cell of the notebook that decides."""
    if found is None:
        return '<span class="claim-absent">–</span>'
    return (
        f'<a class="verdict-{found.verdict.name.lower()}" href="{html.escape(uri)}">'
        f"{badge(found.verdict)}</a> <span>{html.escape(found.ours)}</span>"
    )


def criterion(claim: Claim, found: list[Found]) -> str:
    """The conditions in words, folded, and whether each run met them."""
    if claim.untestable:
        return f"<p>Not testable here: {html.escape(claim.untestable)}.</p>"
    rows = ""
    for key, text in claim.conditions.items():
        marks = ", ".join(f"{html.escape(f.run)}: {MARKS[f.met[key]]}" for f in found)
        rows += f"<li>{html.escape(text)} <em>({marks})</em></li>"
    return f"<details><summary>Decided by</summary><ul>{rows}</ul></details>"


def section_table(ledger: Ledger, members: list[Claim], uri) -> str:
    """The claims of a section as an HTML table that stacks on narrow screens."""
    heads = ["claim", "paper", *ledger.runs]
    rows = ""
    for claim in members:
        found = [ledger.found.get((claim.id, run)) for run in ledger.runs]
        first = (
            f'<th scope="row"><p>{html.escape(claim.claim)} '
            f'<span class="claim-where">{html.escape(claim.where)}</span></p>'
            f"{criterion(claim, [f for f in found if f])}</th>"
        )
        cells = [html.escape(claim.paper)]
        cells += [result(f, uri(f, claim) if f else "") for f in found]
        rows += f'<tr id="claim-{html.escape(claim.id)}">{first}' + "".join(
            f'<td data-label="{html.escape(head)}">{cell}</td>'
            for head, cell in zip(heads[1:], cells, strict=True)
        )
        rows += "</tr>"
    top = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
    return (
        f'<table class="claims-ledger"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'
    )


class ClaimsLedger(SphinxDirective):
    """All claims, by section of the paper."""

    def run(self) -> list[nodes.Node]:
        """Return a section of the page per section of the paper."""
        ledger = read_ledger(self.env)

        def uri(found: Found, claim: Claim) -> str:
            page = f"runs/{found.run}/{found.chapter}"
            target = self.env.app.builder.get_relative_uri(self.env.docname, page)
            return f"{target}#claim-{claim.id}"

        out: list[nodes.Node] = []
        for name in dict.fromkeys(c.section for c in ledger.claims.values()):
            members = [c for c in ledger.claims.values() if c.section == name]
            title = name[0].upper() + name[1:]
            label = nodes.make_id(f"claims {name}")
            section = nodes.section("", nodes.title("", title), ids=[label], names=[label])
            section += nodes.raw("", section_table(ledger, members, uri), format="html")
            self.state.document.note_explicit_target(section)
            out.append(section)
        return out


class ClaimsSummary(SphinxDirective):
    """Counts of verdicts per run."""

    def run(self) -> list[nodes.Node]:
        """Return one table, a row per run."""
        ledger = read_ledger(self.env)
        heads = ["run", *map(str, Verdict), "judged"]
        rows = ""
        for run in ledger.runs:
            counts = ledger.counts(run)
            numbers = [*counts.values(), sum(counts.values())]
            cells = "".join(f"<td>{n}</td>" for n in numbers)
            rows += f'<tr><th scope="row">{html.escape(run)}</th>{cells}</tr>'
        top = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
        untestable = sum(bool(c.untestable) for c in ledger.claims.values())
        table = (
            '<div class="pst-scrollable-table-container" tabindex="0"><table '
            f'class="table claims-summary"><thead><tr>{top}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
        note = (
            f"{len(ledger.claims)} claims; {untestable} of them cannot be tested here at all, for "
            "the reason that stands beside them."
        )
        return [nodes.raw("", table, format="html"), nodes.paragraph("", note)]


def claims_role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Inliner, options=None, content=None
):
    """The role ``claims``: a number of claims, of all or of a run's with one verdict."""
    env = inliner.document.settings.env
    ledger = read_ledger(env)
    words = text.split()
    kinds = [verdict.name.lower() for verdict in Verdict] + ["judged"]
    if words == ["all"]:
        return [nodes.Text(str(len(ledger.claims)))], []
    run = getattr(env.config, "vseam_swap", {}).get(words[0], words[0]) if words else ""
    if len(words) != 2 or words[1] not in kinds or run not in ledger.runs:
        message = inliner.reporter.error(
            f"claims: expected 'all', or a run of {', '.join(ledger.runs)} and one of "
            f"{', '.join(kinds)}, got {text!r}",
            line=lineno,
        )
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    counts = {verdict.name.lower(): n for verdict, n in ledger.counts(run).items()}
    counts["judged"] = sum(counts.values())
    return [nodes.Text(str(counts[words[1]]))], []


def setup(app: Sphinx) -> dict[str, object]:
    """Register directives, role and style."""
    app.add_directive("claims-ledger", ClaimsLedger)
    app.add_directive("claims-summary", ClaimsSummary)
    app.add_role("claims", claims_role)
    app.add_css_file("claims.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
