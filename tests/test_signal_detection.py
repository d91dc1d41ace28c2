import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, norm

from vseam_lib.signal_detection import Detection, detection, from_draws, image_weights
from vseam_lib.yes_bias import best_offset, matched_accuracy, matched_offset, read_answers


def questions(n=40, *, apart=1.0, ties=False, seed=0):
    """Margins and right answers of questions that share images."""
    rng = np.random.default_rng(seed)
    gold = rng.random(n) < 0.5
    margin = rng.normal(np.where(gold, apart, -apart) / 2 + 0.3, 1)
    images = [f"i{k}" for k in rng.integers(n // 3, size=n)]
    return np.round(margin * 2) / 2 if ties else margin, gold, images


def repeated(values, counts):
    """A draw written out: every question as often as it counts."""
    return np.repeat(values, counts.astype(int))


def test_d_prime_and_criterion_by_hand():
    """Of 9 Yes questions 7 are answered Yes, of 4 No questions 1."""
    margin = np.r_[np.ones(7), -np.ones(2), 1, -np.ones(3)]
    gold = np.r_[np.ones(9), np.zeros(4)].astype(bool)
    found = detection(margin, gold)
    hit, alarm = norm.ppf(7.5 / 10), norm.ppf(1.5 / 5)
    assert found.d_prime == pytest.approx(hit - alarm)
    assert found.criterion == pytest.approx(-(hit + alarm) / 2)
    assert found.on_yes == pytest.approx(700 / 9) and found.on_no == pytest.approx(75)
    assert found.balanced == pytest.approx((700 / 9 + 75) / 2)
    assert found.accuracy == pytest.approx(1000 / 13) and found.yes_rate == pytest.approx(800 / 13)


@pytest.mark.parametrize("ties", [False, True])
def test_the_auc_is_that_of_mann_whitney(ties):
    margin, gold, _ = questions(ties=ties)
    u = mannwhitneyu(margin[gold], margin[~gold]).statistic
    assert detection(margin, gold).auc == pytest.approx(u / gold.sum() / (~gold).sum())


@pytest.mark.parametrize("ties", [False, True])
def test_every_draw_is_the_statistic_of_its_questions_written_out(ties):
    margin, gold, images = questions(ties=ties)
    weights = image_weights(images, draws=12, seed=3)
    found = detection(margin, gold, weights)
    after = -margin + 0.5
    matched = matched_accuracy(margin, after, gold, weights)
    for k, counts in enumerate(weights):
        alone = detection(repeated(margin, counts), repeated(gold, counts))
        for name, values in found._asdict().items():
            assert values[k] == pytest.approx(getattr(alone, name)[0]), name
        (again,) = matched_accuracy(*(repeated(x, counts) for x in (margin, after, gold)))
        assert matched[k] == pytest.approx(again)


def test_weights_are_the_sample_and_then_whole_images():
    weights = image_weights(["a", "b", "a", "c"], draws=50, seed=1)
    assert weights.shape == (51, 4) and (weights[0] == 1).all()
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert (weights[1:, [0, 1, 3]].sum(1) == 3).all()
    assert np.array_equal(weights, image_weights(["a", "b", "a", "c"], draws=50, seed=1))


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_answers_have_finite_sensitivity(right):
    gold = np.arange(20) < 10
    found = detection(np.where(gold == right, 1.0, -1.0), gold)
    assert all(np.isfinite(values).all() for values in found)
    assert (found.d_prime > 3) if right else (found.d_prime < -3)
    assert found.criterion == pytest.approx(0) and found.accuracy == (100 if right else 0)
    assert found.auc == right


@pytest.mark.parametrize("offset", [-2.0, 0.7, 30.0])
def test_an_offset_moves_the_threshold_and_leaves_the_auc(offset):
    margin, gold, _ = questions(400)
    before, after = detection(margin, gold), detection(margin + offset, gold)
    assert after.auc == pytest.approx(before.auc)
    change = after.minus(before)
    assert np.sign(change.criterion) == -np.sign(offset) == -np.sign(change.yes_rate)


def test_a_shift_of_normal_evidence_changes_the_criterion_and_not_d_prime():
    rng = np.random.default_rng(0)
    gold = np.arange(200_000) % 2 == 0
    margin = rng.normal(np.where(gold, 0.75, -0.75), 1)
    before, after = detection(margin, gold), detection(margin + 0.5, gold)
    assert before.d_prime == pytest.approx(1.5, abs=0.02)
    assert after.minus(before).d_prime == pytest.approx(0, abs=0.03)
    assert after.minus(before).criterion == pytest.approx(-0.5, abs=0.02)


def test_intervals_cover_the_truth_only_if_whole_images_are_resampled():
    """All four questions about an image have the same answer and share some evidence."""
    rng, truth, covered = np.random.default_rng(2), 1.2, {"image": 0, "question": 0}
    gold = np.arange(60).repeat(4) % 2 == 0
    for trial in range(100):
        shared = rng.normal(0, 0.95, 60).repeat(4)
        margin = np.where(gold, truth, -truth) / 2 + shared + rng.normal(0, 0.3, 240)
        for of, clusters in (("image", np.arange(60).repeat(4)), ("question", np.arange(240))):
            weights = image_weights([str(k) for k in clusters], draws=300, seed=trial)
            found = from_draws(detection(margin, gold, weights).d_prime)
            covered[of] += found.low <= truth <= found.high
    assert 88 <= covered["image"] <= 99
    assert covered["question"] < 82


def test_draws_of_one_kind_do_not_count():
    margin, gold = np.array([1.0, -1.0, 2.0]), np.array([True, False, True])
    weights = np.array([[1, 1, 1], [1, 0, 2], [2, 1, 0], [0, 3, 0]])
    values = detection(margin, gold, weights).d_prime
    assert np.isfinite(values).tolist() == [True, False, True, False]
    assert from_draws(values).low == from_draws(values).high == values[2]
    nothing = from_draws(np.array([0.4, np.nan, np.nan]))
    assert nothing.mean == 0.4 and np.isnan(nothing.low) and np.isnan(nothing.high)


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_of_question_tells_nothing_apart(kind):
    with pytest.raises(ValueError, match=f"got 3 with {'Yes' if kind else 'No'} only"):
        detection([1.0, -1.0, 2.0], [kind] * 3)


@pytest.mark.parametrize(
    "use",
    [
        lambda m, g: detection(m, g),
        lambda m, g: best_offset(m, g),
        lambda m, g: matched_offset(m, [1.0] * len(m)),
        lambda m, g: matched_offset([1.0] * len(m), m),
        lambda m, g: matched_accuracy([1.0] * len(m), m, g),
    ],
)
def test_margins_that_are_not_finite_are_refused(use):
    with pytest.raises(ValueError, match="finite margins, got 2 others of 3"):
        use([1.0, np.nan, np.inf], [True, False, True])


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="got 3 margins, 2 answers and 3 weights"):
        detection([1.0, 2.0, 3.0], [True, False])
    with pytest.raises(ValueError, match="got 2 margins, 2 answers and 3 weights"):
        detection([1.0, 2.0], [True, False], np.ones((4, 3)))
    with pytest.raises(ValueError, match="at least two images to resample, got 1"):
        image_weights(["a", "a"])


# Offsets of the logit of Yes


@pytest.mark.parametrize("wanted", range(0, 13))
def test_the_matched_offset_gives_the_edited_models_yes_rate(wanted):
    margin = np.random.default_rng(wanted).normal(0.4, 1, 12)
    edited = np.where(np.arange(12) < wanted, 1.0, -1.0)
    offset = matched_offset(margin, edited)
    assert offset.at_tie == 0
    assert ((margin + offset.value) > 0).sum() == wanted
    if (margin > 0).sum() == wanted:
        assert offset.value == 0


def test_where_equal_margins_leave_no_offset_lots_are_drawn_among_them():
    margin, gold = np.array([2.0, 1.0, 1.0, 1.0, 0.0]), np.array([1, 1, 1, 0, 0], bool)
    edited = np.array([1.0, 1.0, -1.0, -1.0, -1.0])  # two Yes: 2.0 and one of the three at 1.0
    assert matched_offset(margin, edited) == (-1.0, pytest.approx(1 / 3))
    # Right: 2.0; of those at 1.0, two thirds of a Yes and two thirds of a No; 0.0.
    assert matched_accuracy(margin, edited, gold) == pytest.approx(
        100 * (1 + 2 * 1 / 3 + 2 / 3 + 1) / 5
    )


def test_the_matched_accuracy_is_that_of_the_matched_offset():
    for seed in range(8):
        margin, gold, _ = questions(seed=seed)
        edited = margin + np.random.default_rng(seed).normal(0.5, 1, len(margin))
        offset = matched_offset(margin, edited).value
        twin = 100 * ((margin + offset > 0) == gold).mean()
        assert matched_accuracy(margin, edited, gold) == pytest.approx(twin)


def test_an_edit_that_is_an_offset_does_not_beat_the_matched_one():
    margin, gold, images = questions(120)
    weights = image_weights(images, draws=50)
    edited = margin + 0.8
    after = detection(edited, gold, weights).accuracy
    assert np.allclose(after, matched_accuracy(margin, edited, gold, weights))


def test_an_edit_that_tells_apart_better_beats_the_matched_offset():
    margin, gold, _ = questions(400, apart=0.5)
    edited = margin + np.where(gold, 1.0, -1.0)
    assert detection(edited, gold).accuracy > matched_accuracy(margin, edited, gold) + 10


@pytest.mark.parametrize("ties", [False, True])
def test_no_offset_answers_more_questions_than_the_best(ties):
    for seed in range(6):
        margin, gold, _ = questions(seed=seed, ties=ties)
        best = best_offset(margin, gold)
        rights = [((margin + b > 0) == gold).sum() for b in np.linspace(-5, 5, 4001)]
        assert ((margin + best > 0) == gold).sum() == max(rights)


def test_the_best_offset_is_the_nearest_to_none():
    assert best_offset([3.0, -2.0], [True, False]) == 0
    assert best_offset([3.0, 1.0, -2.0], [True, False, False]) == -2
    assert best_offset([1.0, 2.0], [False, False]) == -2
    assert -1 + best_offset([-1.0, -0.5], [True, True]) > 0


def test_an_offset_needs_questions():
    with pytest.raises(ValueError, match="got none"):
        best_offset([], [])
    with pytest.raises(ValueError, match="got none"):
        matched_offset([], [])


# Tables of answers


def table(rows=60, seed=0):
    """Answers of two categories, one of them without the edit."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(rows):
        category, gold = ("color", "animal")[k % 2], "Yes" if rng.random() < 0.5 else "No"
        for edit in ("original", "rescaling")[: 1 + (k % 2 == 0)]:
            found.append((f"q{k}", f"i{k // 3}", category, gold, edit, rng.normal()))
    columns = ["id", "image_id", "category", "gold", "edit", "margin"]
    return pd.DataFrame(found, columns=columns).sample(frac=1, random_state=seed)


def test_answers_of_a_category_are_its_own_and_draws_are_shared():
    rows = table()
    found = read_answers(rows, draws=20, seed=4)
    assert found["color"].margins.keys() == {"original", "rescaling"}
    assert found["animal"].margins.keys() == {"original"}
    for category, own in found.items():
        part = rows[(rows["category"] == category) & (rows["edit"] == "original")].sort_values("id")
        assert own.margins["original"].tolist() == part["margin"].tolist()
        assert own.gold_yes.tolist() == (part["gold"] == "Yes").tolist()
        every = rows[rows["edit"] == "original"].sort_values("id")
        weights = image_weights(every["image_id"].tolist(), draws=20, seed=4)
        assert np.array_equal(own.weights, weights[:, (every["category"] == category).to_numpy()])


def test_accuracy_counts_one_kind_of_question_or_both():
    own = read_answers(table(), draws=5)["color"]
    found = own.detection("rescaling")
    assert isinstance(found, Detection)
    for gold, name in (("", "accuracy"), ("Yes", "on_yes"), ("No", "on_no")):
        assert own.accuracy("rescaling", gold=gold) == pytest.approx(getattr(found, name))
    shifted = detection(own.margins["original"] + 0.4, own.gold_yes, own.weights)
    assert own.accuracy("original", offset=0.4) == pytest.approx(shifted.accuracy)
    twin = matched_accuracy(
        own.margins["original"], own.margins["rescaling"], own.gold_yes, own.weights
    )
    assert np.array_equal(own.matched_accuracy("rescaling"), twin)


def test_on_questions_whose_answer_is_yes_accuracy_is_the_yes_rate():
    rows = table()
    own = read_answers(rows[rows["gold"] == "Yes"], draws=5)["color"]
    says_yes = own.weights @ (own.margins["rescaling"] > 0) / own.weights.sum(1)
    assert own.accuracy("rescaling") == pytest.approx(100 * says_yes)
    assert own.accuracy("rescaling", offset=99.0) == pytest.approx(100)


def test_a_margin_that_is_not_finite_is_named():
    rows = table()
    rows.loc[rows.index[5], "margin"] = np.nan
    with pytest.raises(ValueError, match=f"1 others, first of the question {rows['id'].iloc[5]}"):
        read_answers(rows)
