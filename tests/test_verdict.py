import json

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from vseam_lib.paper import claims
from vseam_lib.verdict import RECORD, Judgement, Verdict, judge

ROW = """
- id: sky-is-blue
  claim: The sky is <b>blue</b>
  where: section 5.2, Figure 3
  paper: "480 nm"
  chapter: 05_heads
  conditions:
    by_day: it is blue at noon & after
    by_night: it is blue at midnight
- id: beyond-us
  claim: Somebody said so
  where: appendix I
  paper: stated
  untestable: nobody wrote it down
"""


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Two claims in place of the paper's."""
    (tmp_path / "claims.yml").write_text(ROW)
    known = claims.read_claims(tmp_path / "claims.yml")
    monkeypatch.setattr(claims, "claims", lambda: known)


@pytest.mark.parametrize(
    ("met", "verdict"),
    [
        ([True, True], Verdict.HOLDS),
        ([True, False], Verdict.PARTLY),
        ([False, False], Verdict.FAILS),
        ([], Verdict.UNTESTED),
        ([None, None], Verdict.UNTESTED),
        ([True, None], Verdict.HOLDS),
        ([False, None], Verdict.FAILS),
        ([True, False, None], Verdict.PARTLY),
    ],
)
def test_the_decided_conditions_alone_decide(met, verdict):
    conditions = {f"condition {k}": ok for k, ok in enumerate(met)}
    assert Judgement("a claim", conditions).verdict is verdict


def test_a_judgement_has_the_words_of_its_row_and_the_numbers_of_both():
    found = judge("sky-is-blue", {"by_night": False, "by_day": np.True_}, ours="473 nm")
    assert found.verdict is Verdict.PARTLY
    assert list(found.conditions) == ["it is blue at noon & after", "it is blue at midnight"]
    assert "480 nm" in found._repr_html_() and "473 nm" in found._repr_html_()
    assert "section 5.2, Figure 3" in found._repr_html_() and "section 5.2" in repr(found)


def test_text_is_escaped_on_the_page():
    page = judge("sky-is-blue", {"by_day": True, "by_night": None}, ours="<script>")._repr_html_()
    assert "<script>" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page and "&amp; after" in page


def test_the_page_can_be_linked_to_and_says_what_is_open():
    page = judge("sky-is-blue", {"by_day": True, "by_night": None}, ours="473 nm")._repr_html_()
    assert 'id="claim-sky-is-blue"' in page and "cannot be decided here" in page


def test_a_notebook_keeps_a_record_that_json_can_hold():
    found = judge("sky-is-blue", {"by_day": np.bool_(True), "by_night": None}, ours=" 473 nm ")
    data, metadata = DisplayFormatter().format(found)
    assert data["text/html"] == found._repr_html_() and data["text/plain"] == repr(found)
    assert json.loads(json.dumps(metadata[RECORD])) == {
        "id": "sky-is-blue",
        "verdict": "holds",
        "ours": "473 nm",
        "met": {"by_day": True, "by_night": None},
    }


def test_a_claim_without_a_row_leaves_no_record():
    data, metadata = DisplayFormatter().format(Judgement("a claim", {"a condition": True}))
    assert RECORD not in metadata and "id=" not in data["text/html"]


def test_a_claim_needs_words():
    with pytest.raises(ValueError, match="in words"):
        Judgement(" ", {"condition": True})
    with pytest.raises(ValueError, match="in words"):
        Judgement("claim", {"": True})


@pytest.mark.parametrize("wrong", ["yes", 1.0, float("nan"), 1])
def test_a_condition_is_met_or_not_or_open_and_nothing_else(wrong):
    with pytest.raises(TypeError, match="expected True, False or None"):
        judge("sky-is-blue", {"by_day": wrong, "by_night": None}, ours="473 nm")


def test_an_unknown_claim_names_similar_ones():
    with pytest.raises(KeyError, match="did you mean sky-is-blue"):
        judge("sky-is-blu", {}, ours="473 nm")


def test_conditions_must_be_those_of_the_row():
    with pytest.raises(ValueError, match="missing: by_night; unknown: at_dusk"):
        judge("sky-is-blue", {"by_day": True, "at_dusk": True}, ours="473 nm")


@pytest.mark.parametrize("ours", ["", "  ", 4.7])
def test_a_result_is_in_words(ours):
    with pytest.raises(ValueError, match="result in words"):
        judge("sky-is-blue", {"by_day": True, "by_night": True}, ours=ours)


def test_what_is_marked_untestable_is_not_judged():
    with pytest.raises(ValueError, match="nobody wrote it down"):
        judge("beyond-us", {}, ours="473 nm")
