import numpy as np
import pandas as pd
import pytest

from vseam_lib import paper
from vseam_lib.paper import folds


@pytest.fixture
def printed(monkeypatch):
    """Put other numbers in place of Table 18's."""

    def put(rows):
        frame = pd.DataFrame(rows, columns=["level", "against", "mean", "sd", "t", "p"])
        tables = {18: frame}
        monkeypatch.setattr(folds, "table", lambda n: tables[n] if n in tables else paper.table(n))

    return put


def drawn(d, seed):
    """Mean, SD and t of 1,000 folds of 100 questions with per-question differences ``d``."""
    rng = np.random.default_rng(seed)
    each = 100 * np.array([rng.choice(d, 100, replace=False).mean() for _ in range(1000)])
    return each.mean(), each.std(ddof=1), each.mean() / each.std(ddof=1) * np.sqrt(1000)


def test_folds_that_were_really_drawn_fit_everything(printed):
    accuracy = paper.table(17).set_index(["model", "edit"]).loc["LLaVA"]
    sizes = paper.table(1).set_index("category")["size"]
    d = []
    for category in ("animal", "vehicle", "indoor"):
        gain = accuracy.loc["rescaling", category] - accuracy.loc["original", category]
        right = round(gain * sizes[category] / 100)
        d += [1] * right + [0] * (sizes[category] - right)
    mean, sd, t = drawn(np.array(d), 0)
    printed([("object", "original", round(mean, 2), round(sd, 2), round(t, 2), "***")])
    assert folds.t_values()["agrees"].all()
    assert folds.means()["agrees"].all()
    assert folds.spreads()["agrees"].all()


def test_folds_of_other_questions_are_noticed(printed):
    d = np.repeat([1, 0], [120, 880])  # 12 points, more than any task gains
    mean, sd, t = drawn(d, 0)
    printed([("object", "original", round(mean, 2), round(sd / 2, 2), round(t, 2), "***")])
    assert not folds.t_values()["agrees"].any()
    assert not folds.means()["agrees"].any() and folds.means()["beyond"][0] > 5
    assert not folds.spreads()["agrees"].any()


def test_the_bound_is_the_smallest_spread_there_is():
    m, n = 0.03, 4902
    best = 100 * np.sqrt(m * (1 - m) / 100) * np.sqrt((n - 100) / (n - 1))
    rng = np.random.default_rng(0)
    for share_lost in (0, 0.02):  # answers that get worse only add spread
        worse = round(share_lost * n)
        d = np.repeat([1, -1, 0], [round(m * n) + worse, worse, n - round(m * n) - 2 * worse])
        sd = 100 * np.std([rng.choice(d, 100, replace=False).mean() for _ in range(2000)])
        assert sd >= best * 0.94
        assert share_lost or sd == pytest.approx(best, rel=0.06)


def test_table_18_as_it_is_printed():
    assert folds.t_values()["agrees"].all() and folds.t_values()["off"].max() < 0.05
    means = folds.means()
    assert len(means) == 12
    away = means[~means["agrees"]]
    assert list(away["level"]) == ["attribute"] * 4 + ["object"]
    assert (away["errors"] > 6).all()
    low = folds.spreads()
    low = low[~low["agrees"]]
    assert list(low["against"]) == ["original", "w/o negative"] and set(low["level"]) == {"object"}
    assert low["pool"].between(350, 500).all()
    assert not folds.overall()["agrees"].any() and len(folds.overall()) == 8


def test_the_pool_of_three_levels_is_recognised(printed):
    rng = np.random.default_rng(0)
    parts = {lv: rng.normal(m, 2, 1000) for lv, m in
             (("attribute", 3), ("object", 5), ("relation", 8))}  # fmt: skip
    parts["overall"] = np.concatenate(list(parts.values()))
    printed([(lv, "original", x.mean(), x.std(ddof=0), 1.0, "***") for lv, x in parts.items()])
    assert folds.overall()["agrees"].all()
