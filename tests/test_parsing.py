import numpy as np
import pytest

from vseam_lib import parsing
from vseam_lib.parsing import metric_changes, pope_metrics
from vseam_lib.stats import resampled_clusters


@pytest.mark.parametrize(
    "text, official, exact, strict",
    [
        ("Yes", "yes", "yes", "yes"),
        ("no", "no", "no", "no"),
        (" No ", "no", "no", "no"),
        ("No, there is none", "no", "unknown", "no"),
        ("There is not a dog", "no", "unknown", "unknown"),
        ("Yes. There is no cat.", "yes", "unknown", "unknown"),
        ("There is. No doubt", "yes", "unknown", "no"),
        ("NO", "yes", "no", "no"),  # POPE's own parser knows three spellings
        ("nothing", "yes", "unknown", "unknown"),
        ("a dog", "yes", "unknown", "unknown"),
        ("", "yes", "unknown", "unknown"),
        ("no,", "no", "unknown", "no"),
        ("yes or no", "no", "unknown", "unknown"),
        ("Yes!", "yes", "unknown", "yes"),
    ],
)
def test_what_each_parser_makes_of_an_answer(text, official, exact, strict):
    found = {name: parser(text) for name, parser in parsing.PARSERS.items()}
    assert found == {"official": official, "exact": exact, "strict": strict}


LABELS = ["yes"] * 4 + ["no"] * 4
SAID = ["yes", "yes", "yes", "no", "yes", "no", "no", "unknown"]


def test_metrics_by_hand():
    found = pope_metrics(LABELS, SAID)
    assert found.accuracy == 5 / 8 and found.recall == 3 / 4 and found.precision == 3 / 4
    assert found.f1 == pytest.approx(2 * 0.75 * 0.75 / 1.5)
    assert found.yes_rate == 4 / 8 and found.unknown == 1 / 8


def test_the_yes_rate_is_of_the_answers_not_of_the_labels():
    assert pope_metrics(LABELS, ["no"] * 8).yes_rate == 0
    assert pope_metrics(["yes"] * 8, SAID).yes_rate == 0.5


def test_undefined_metrics_are_nan_and_not_zero():
    never = pope_metrics(LABELS, ["no"] * 8)
    assert np.isnan(never.precision) and np.isnan(never.f1) and never.recall == 0
    assert np.isnan(pope_metrics(["no"] * 2, ["yes", "no"]).recall)
    wrong = pope_metrics(["yes", "no"], ["no", "yes"])
    assert wrong.precision == wrong.recall == wrong.f1 == 0


@pytest.mark.parametrize(
    "labels, said, message",
    [
        ([], [], "expected one answer per label"),
        (["yes"], ["yes", "no"], "got 2 for 1"),
        (["Yes"], ["yes"], "got 'Yes'"),
        (["yes"], ["a dog"], "parse the answers first"),
        (["unknown"], ["yes"], "got 'unknown'"),
    ],
)
def test_bad_answers_are_refused(labels, said, message):
    with pytest.raises(ValueError, match=message):
        pope_metrics(labels, said)


@pytest.fixture(scope="module")
def answers():
    """Labels, answers before and after an edit, and images of 12 questions each."""
    rng = np.random.default_rng(0)
    labels = np.tile(["yes", "no"], 60)
    before = np.where(rng.random(120) < 0.7, labels, "no")
    after = np.where(rng.random(120) < 0.8, labels, "yes")
    return labels, before, after, np.repeat([f"i{k}" for k in range(10)], 12)


def test_changes_are_those_of_resampling_whole_images_one_by_one(answers):
    labels, before, after, images = answers
    found = metric_changes(labels, before, after, images, draws=200, seed=3)
    drawn = []
    for weights in resampled_clusters(10, 200, 3):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(images == f"i{k}"), int(w)) for k, w in enumerate(weights)]
        )
        one, two = (pope_metrics(labels[rows], said[rows]) for said in (before, after))
        drawn.append(np.subtract(two, one))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    whole = np.subtract(pope_metrics(labels, after), pope_metrics(labels, before))
    for k, name in enumerate(parsing.PopeMetrics._fields):
        assert found[name] == pytest.approx((whole[k], low[k], high[k]), abs=1e-12), name


def test_no_change_has_an_interval_of_no_width(answers):
    labels, before, _, images = answers
    for interval in metric_changes(labels, before, before, images, draws=50).values():
        assert interval == (0, 0, 0)


def test_an_undefined_change_is_nan(answers):
    labels, _, after, images = answers
    found = metric_changes(labels, np.full(120, "no"), after, images, draws=50)
    assert np.isnan(found["precision"]).all() and np.isfinite(found["recall"]).all()


def test_a_single_image_or_missing_images_are_refused(answers):
    labels, before, after, images = answers
    with pytest.raises(ValueError, match="at least two images"):
        metric_changes(labels, before, after, ["one"] * 120)
    with pytest.raises(ValueError, match="got 12 for 120"):
        metric_changes(labels, before, after, images[:12])
