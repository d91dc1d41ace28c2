import numpy as np
import pytest

from vseam_lib.paper import granularity


def slowly(printed, n):
    """Try every number of right answers."""
    shares = [100 * k / n for k in range(n + 1)]
    if any(abs(share - printed) <= 0.005 + 1e-9 for share in shares):
        return "rounded"
    return (
        "truncated" if any(int(share * 100 + 1e-9) / 100 == printed for share in shares) else "none"
    )


@pytest.mark.parametrize("n", [7, 100, 1070, 1300, 2995])
def test_whole_answers_are_those_that_trying_every_number_finds(n):
    rng = np.random.default_rng(0)
    values = [round(float(v), 2) for v in [*rng.uniform(0, 100, 60), 0, 100, 50, 33.33, 78.84]]
    assert [granularity.whole_answers(v, n) for v in values] == [slowly(v, n) for v in values]


def test_every_real_share_is_whole():
    for n in (1300, 1740):
        assert all(
            granularity.whole_answers(round(100 * k / n, 2), n) == "rounded"
            for k in range(0, n + 1, 7)
        )


@pytest.mark.parametrize("printed, n", [(-1, 10), (101, 10), (50, 0)])
def test_what_is_no_share_is_refused(printed, n):
    with pytest.raises(ValueError, match="expected 0 to 100 % of at least one question"):
        granularity.whole_answers(printed, n)


def test_chance_is_the_share_of_numbers_that_are_whole():
    hits = sum(granularity.whole_answers(v / 100, 1300) == "rounded" for v in range(10_001))
    assert granularity.chance_of_whole(1300) == pytest.approx(hits / 10_001, abs=2e-4)
    assert granularity.chance_of_whole(100_000) == 1


def test_table_17_is_whole_but_for_three_cells():
    cells = granularity.accuracies()
    assert len(cells) == 70
    odd = cells[cells["whole"] != "rounded"].set_index(["model", "edit", "category"])["whole"]
    assert odd.to_dict() == {
        ("LLaVA", "original", "material"): "truncated",
        ("InstructBLIP", "rescaling", "material"): "truncated",
        ("InstructBLIP", "random remove", "action"): "none",
    }


def test_averages_of_ten_runs_are_the_cells_between_initial_and_full():
    cells = granularity.run_averages()
    assert len(cells) == 2 * 7 * 4 and set(cells["share"]) == {"10", "20", "30", "50"}
    found = granularity.summary(cells)
    assert found["rounded"] == 53 and found["expected"] == pytest.approx(10.1, abs=0.05)
    assert found["p"] < 1e-9
    saturated = cells[cells["as_full"]].groupby(["model", "category"]).size()
    assert saturated.to_dict() == {
        ("InstructBLIP", "animal"): 2,
        ("InstructBLIP", "vehicle"): 1,
        ("LLaVA", "action"): 1,
        ("LLaVA", "animal"): 3,
        ("LLaVA", "indoor"): 1,
        ("LLaVA", "vehicle"): 1,
    }


def test_the_chance_of_many_hits_is_that_of_drawing_them():
    chances = np.array([0.1, 0.3, 0.5, 0.2])
    rng = np.random.default_rng(0)
    drawn = (rng.uniform(size=(100_000, 4)) < chances).sum(1)
    for count in range(6):
        assert granularity.at_least(count, chances) == pytest.approx(
            (drawn >= count).mean(), abs=0.006
        )
    assert granularity.at_least(0, chances) == pytest.approx(1)


def test_averages_drawn_from_ten_runs_look_like_chance():
    rng = np.random.default_rng(1)
    n, hits = 1300, 0
    for _ in range(400):
        average = rng.integers(900, 1100, size=10).mean()
        hits += granularity.whole_answers(round(100 * average / n, 2), n) == "rounded"
    assert hits / 400 == pytest.approx(granularity.chance_of_whole(n), abs=0.05)
