import pytest

from vseam_lib.verdict import Judgement, Verdict


@pytest.mark.parametrize(
    ("met", "verdict"),
    [
        ([True, True], Verdict.HOLDS),
        ([True, False], Verdict.PARTLY),
        ([False, False], Verdict.FAILS),
        ([], Verdict.UNTESTED),
    ],
)
def test_the_conditions_alone_decide(met, verdict):
    conditions = {f"condition {k}": ok for k, ok in enumerate(met)}
    assert Judgement("a claim", conditions).verdict is verdict


def test_text_is_escaped_on_the_page():
    page = Judgement("<b>claim</b>", {"<script>": True})._repr_html_()
    assert "<script>" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page


def test_a_claim_needs_words():
    with pytest.raises(ValueError, match="in words"):
        Judgement(" ", {"condition": True})
    with pytest.raises(ValueError, match="in words"):
        Judgement("claim", {"": True})
