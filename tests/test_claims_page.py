"""The claims ledger on a page, built over two small runs."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from vseam_lib.paper import claims
from vseam_lib.verdict import RECORD, judge

ROOT = Path(__file__).parents[1]
ROWS = """
- id: sky-is-blue
  claim: The sky is <b>blue</b>
  where: section 5.2, Figure 3
  paper: "480 nm"
  chapter: 05_heads
  conditions:
    by_day: it is blue at noon & after
    by_night: it is blue at midnight
- id: grass-is-green
  claim: Grass is green
  where: abstract and section 6
  paper: stated
  chapter: 06_rescaling
  conditions:
    green: it is green
- id: beyond-us
  claim: Somebody said so
  where: appendix I
  paper: stated
  untestable: nobody wrote <it> down
"""
TOC = """
format: jb-book
root: index
chapters:
- file: runs/one/05_heads
- file: runs/one/06_rescaling
- file: runs/two/05_heads
"""
INDEX = """# Claims

There are {claims}`all`; run one judged {claims}`one judged`, of which {claims}`one partly` partly.

```{claims-summary}
```

```{claims-ledger}
```
"""


def chapter(path, *judgements):
    """An executed notebook with some judgements among its outputs."""
    cells = [nbformat.v4.new_markdown_cell(f"# Chapter {path.stem}")]
    for found in judgements:
        data, metadata = found if isinstance(found, tuple) else found._repr_mimebundle_()
        output = nbformat.v4.new_output("display_data", data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell("judge()", outputs=[output], execution_count=1))
    cells.append(
        nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="1")])
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def recorded(claim, met):
    """Data and metadata of an output of another version of the claims."""
    record = {"id": claim, "verdict": "holds", "ours": "a", "met": met}
    return {"text/plain": "a"}, {RECORD: record}


def write_book(folder, monkeypatch):
    """Write a book of two runs, with three claims in place of the paper's."""
    rows = folder / "claims.yml"
    rows.write_text(ROWS)
    known = claims.read_claims(rows)
    monkeypatch.setattr(claims, "FILE", rows)
    monkeypatch.setattr(claims, "claims", lambda: known)
    monkeypatch.setattr(claims, "read_claims", lambda: known)
    monkeypatch.syspath_prepend(str(ROOT / "book/_ext"))
    source = folder / "book"
    blue = judge("sky-is-blue", {"by_day": True, "by_night": False}, ours="473 <nm>")
    chapter(source / "runs/one/05_heads.ipynb", blue)
    chapter(
        source / "runs/one/06_rescaling.ipynb",
        judge("grass-is-green", {"green": True}, ours="530 nm"),
    )
    chapter(
        source / "runs/two/05_heads.ipynb",
        judge("sky-is-blue", {"by_day": False, "by_night": None}, ours="black"),
    )
    (source / "_toc.yml").write_text(TOC)
    (source / "index.md").write_text(INDEX)
    (source / "conf.py").write_text("")
    return source


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Folder of the book's sources, for what goes wrong."""
    return write_book(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """HTML of the ledger's page as it should be, its warnings, and the folder of all pages."""
    folder = tmp_path_factory.mktemp("ledger")
    with pytest.MonkeyPatch.context() as monkeypatch:
        html, warnings = build(write_book(folder, monkeypatch))
    return html, warnings, folder / "out"


def build(source: Path) -> tuple[str, str]:
    """HTML of the ledger's page, and warnings."""
    warnings = io.StringIO()
    options = {
        "extensions": ["myst_nb", "sphinx_external_toc", "vseam_claims"],
        "nb_execution_mode": "off",
    }
    out = source.parent / "out"
    app = Sphinx(
        source, source, out, source.parent / "trees", "html", options, status=None, warning=warnings
    )
    app.build()
    return (out / "index.html").read_text(), warnings.getvalue()


def cells_of(html: str, claim: str) -> list[str]:
    """Text of the cells of a claim's row."""
    row = re.search(rf'<tr id="claim-{claim}">.*?</tr>', html, re.DOTALL)[0]
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row)]


def test_the_ledger_shows_results_and_verdicts_of_every_run(built):
    html, warnings, _ = built
    # A second application in one process registers docutils' nodes and roles anew, and says so.
    assert not [w for w in warnings.splitlines() if "is already registered" not in w]
    assert cells_of(html, "sky-is-blue") == [
        "480 nm", "partly 473 &lt;nm&gt;", "does not hold black",
    ]  # fmt: skip
    assert cells_of(html, "grass-is-green") == ["stated", "holds 530 nm", "–"]
    assert "it is blue at midnight <em>(one: no, two: open)</em>" in html
    assert "nobody wrote &lt;it&gt; down" in html


def test_nothing_in_a_row_becomes_markup(built):
    html, _, _ = built
    assert "<b>blue</b>" not in html and "<nm>" not in html and "<it>" not in html
    assert "The sky is &lt;b&gt;blue&lt;/b&gt;" in html and "noon &amp; after" in html


def test_a_verdict_links_to_the_cell_that_decides_it(built):
    html, _, pages = built
    links = re.findall(r'href="(runs/\w+/\w+\.html)#(claim-[\w-]+)"', html)
    assert len(links) == 3
    for page, anchor in links:
        assert (pages / page).read_text().count(f'id="{anchor}"') == 1


def test_claims_stand_in_the_order_of_the_paper(built):
    html, _, _ = built
    assert re.findall(r"<h2>([^<]+)<", html) == ["Abstract", "Section 5.2", "Appendix I"]


def test_the_summary_and_the_role_count_verdicts(built):
    html, _, _ = built
    table = re.search(r'<table class="table claims-summary">.*?</table>', html, re.DOTALL)[0]
    rows = [re.findall(r"<t[hd]\b[^>]*>([^<]*)<", row) for row in table.split("</tr>")[:-1]]
    assert rows[0] == ["run", "holds", "partly", "does not hold", "not testable here", "judged"]
    assert rows[1] == ["one", "1", "1", "0", "0", "2"] and rows[2] == [
        "two",
        "0",
        "0",
        "1",
        "0",
        "1",
    ]
    assert "There are 3; run one judged 2, of which 1 partly." in html
    assert "3 claims; 1 of them cannot be tested here at all" in html


def test_the_role_counts_the_run_that_is_shown_in_place_of_another(book):
    import vseam_claims

    noted = []
    env = SimpleNamespace(
        srcdir=book,
        config=SimpleNamespace(external_toc_path="_toc.yml", vseam_swap={"tiny": "one"}),
        note_dependency=noted.append,
    )
    inliner = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))
    (text,), messages = vseam_claims.claims_role("claims", "", "tiny holds", 1, inliner)
    assert str(text) == "1" and not messages
    assert str(book / "runs/two/05_heads.ipynb") in noted and len(noted) == 4


def test_a_role_that_asks_for_something_else_says_what_there_is(book):
    (book / "index.md").write_text("# Title\n\n{claims}`three holds`\n")
    _, warnings = build(book)
    assert (
        "expected &#39;all&#39;" in warnings or "expected 'all', or a run of one, two" in warnings
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda b: chapter(b / "runs/one/06_rescaling.ipynb"),
            r"no shown run decides these claims of claims.yml: grass-is-green "
            r"\(chapter 06_rescaling\)",
        ),
        (
            lambda b: chapter(
                b / "runs/two/05_heads.ipynb",
                judge("grass-is-green", {"green": True}, ours="530 nm"),
            ),
            "runs/two/05_heads.ipynb judges the claim 'grass-is-green', which chapter 06_rescaling",
        ),
        (
            lambda b: chapter(
                b / "runs/two/05_heads.ipynb",
                *[judge("sky-is-blue", {"by_day": True, "by_night": True}, ours="a")] * 2,
            ),
            "judges the claim 'sky-is-blue' twice",
        ),
        (
            lambda b: chapter(
                b / "runs/two/05_heads.ipynb",
                recorded("moon", {}),
            ),
            "judges the claim 'moon', which claims.yml does not have.*snakemake -c2 --forcerun",
        ),
        (
            lambda b: chapter(
                b / "runs/two/05_heads.ipynb",
                recorded("sky-is-blue", {"dusk": True}),
            ),
            r"by \['dusk'\], but its conditions are \['by_day', 'by_night'\]",
        ),
    ],
    ids=["undecided", "other chapter", "twice", "unknown", "other conditions"],
)  # fmt: skip
def test_a_judgement_that_does_not_fit_stops_the_build(book, change, message):
    change(book)
    with pytest.raises(ExtensionError, match=message):
        build(book)


def test_a_file_of_claims_that_cannot_be_read_stops_the_build(book, monkeypatch):
    def broken():
        raise ValueError("claims.yml, claim 2: the id is there twice")

    monkeypatch.setattr(claims, "read_claims", broken)
    with pytest.raises(ExtensionError, match="claim 2: the id is there twice"):
        build(book)
