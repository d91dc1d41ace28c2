"""The claims, their rows, and the notebooks that judge them."""

import ast
from collections import Counter
from pathlib import Path

import jupytext
import pytest

from vseam_lib.paper import claims

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.py"))}
ROW = {
    "id": "a-claim",
    "claim": "Something is so",
    "where": "section 6, Table 3",
    "paper": "5 %",
    "chapter": "06_rescaling",
    "conditions": {"more": "it is more"},
}


def judged_in(path: Path) -> list[str | None]:
    """Claims that a notebook judges; None for a call whose claim is not written out."""
    source = "\n".join(c.source for c in jupytext.read(path).cells if c.cell_type == "code")
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "judge"
    ]
    return [c.args[0].value if isinstance(c.args[0], ast.Constant) else None for c in calls]


def test_every_claim_is_judged_in_its_chapter_or_says_why_it_cannot_be():
    judged = {name: set(judged_in(path)) for name, path in NOTEBOOKS.items()}
    open_ones = [
        f"{claim.id}: {claim.chapter}"
        for claim in claims.claims().values()
        if not claim.untestable and claim.id not in judged.get(claim.chapter, set())
    ]
    assert not open_ones, "no judge(...) call in the chapter that the row names"


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_chapter_judges_its_own_claims_once_by_name(path):
    found = judged_in(path)
    assert None not in found, "write the claim's id out in the call"
    assert not [name for name, n in Counter(found).items() if n > 1]
    known = claims.claims()
    assert {name: known[name].chapter for name in found} == dict.fromkeys(found, path.stem)
    assert "Judgement(" not in path.read_text(), "judge claims by their row in claims.yml"


def test_every_part_of_the_paper_with_claims_is_in_the_file():
    sections = {claim.section for claim in claims.claims().values()}
    wanted = {"abstract", "section 1", "section 4.1", "section 5.1", "section 5.2", "section 6"}
    wanted |= {f"appendix {letter}" for letter in "BCDEFGHI"}
    assert wanted <= sections


@pytest.fixture
def write(tmp_path):
    """Write rows and read them back as claims."""

    def read(text):
        path = tmp_path / "claims.yml"
        path.write_text(text)
        return claims.read_claims(path)

    return read


def as_yaml(**changes):
    """One row as YAML, with fields changed, or left out where the value is None."""
    fields = {k: v for k, v in (ROW | changes).items() if v is not None}
    lines = [f"{key}: {value!r}" for key, value in fields.items()]
    return "- " + "\n  ".join(lines) + "\n"


def test_rows_become_claims(write):
    known = write(as_yaml() + as_yaml(id="other", chapter=None, conditions=None, untestable="why"))
    assert list(known) == ["a-claim", "other"]
    assert known["a-claim"].section == "section 6" and known["other"].untestable == "why"


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1", "expected a list of claims"),
        ("- just words", "expected a list of claims"),
        (as_yaml() + as_yaml(), r"claim 2 \(a-claim\): the id is there twice"),
        (as_yaml(id="Not an id"), "expected an id"),
        (as_yaml(claim=""), "expected claim in words"),
        (as_yaml(paper=" "), "expected paper in words"),
        (as_yaml(paper=5), "expected paper in words"),
        (as_yaml(where="Table 3"), "expected where to begin with abstract, section N"),
        (as_yaml(where=None), r"missing fields \['where'\]"),
        (as_yaml(wear="section 6"), r"unknown fields \['wear'\]"),
        (as_yaml(chapter="six"), "expected a chapter such as 06_rescaling, got 'six'"),
        (as_yaml(chapter=None), "expected a chapter such as"),
        (as_yaml(conditions={}), "expected conditions by key"),
        (as_yaml(conditions=["it is more"]), "expected conditions by key"),
        (as_yaml(conditions={"more": ""}), "expected condition more in words, got ''"),
        (as_yaml(conditions={"So much": "it is"}), "expected a key of a-z"),
        (as_yaml(untestable="why"), "either chapter and conditions or untestable, got both"),
        (as_yaml(chapter=None, conditions=None), "got neither"),
        ("- id: a\n  id: b\n", "given twice: id"),
        (as_yaml(conditions=None) + "  conditions: {a: one, a: two}\n", "given twice: a"),
    ],
)
def test_a_row_that_says_too_little_or_too_much_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        write(text)
