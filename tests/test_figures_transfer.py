import pandas as pd
import pytest

from vseam_lib.figures.transfer import change_map, changes_by

pytestmark = pytest.mark.usefixtures("closed_figures")

CHANGES = pd.DataFrame(
    [
        (kind, edit, measure, 1.0, low, high)
        for measure in ("accuracy", "yes-rate")
        for kind in ("random", "popular", "all")
        for edit, low, high in (("GQA heads", 0.5, 1.5), ("random heads", -1.0, 2.0))
    ],
    columns=["subset", "edit", "measure", "mean", "low", "high"],
)
ACCURACY = CHANGES[CHANGES["measure"] == "accuracy"]


def test_one_panel_per_measure_with_the_kinds_in_their_order():
    figure = changes_by(CHANGES, "subset", panels="measure", label="change of {} (points)")
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "change of accuracy (points)",
        "change of yes-rate (points)",
    ]
    for ax in figure.axes:
        assert [t.get_text() for t in ax.get_xticklabels()] == ["random", "popular", "all"]
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert set(legend) == {"GQA heads", "random heads (range of draws)"}


def test_an_edit_looks_the_same_in_every_panel_and_is_in_the_legend_once():
    other = CHANGES.assign(
        measure="yes-rate", edit=CHANGES["edit"].replace("GQA heads", "POPE heads")
    )  # fmt: skip
    both = pd.concat([CHANGES[CHANGES["measure"] == "accuracy"], other.drop_duplicates()])
    both = both.drop_duplicates(["subset", "edit", "measure"])
    figure = changes_by(both, "subset", panels="measure")
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert sorted(labels) == ["GQA heads", "POPE heads", "random heads (range of draws)"]
    one, two = (ax.containers[-1].lines[0].get_color() for ax in figure.axes)
    assert one != two


def test_random_heads_are_a_bar_from_the_lowest_to_the_highest_draw():
    bars = changes_by(ACCURACY, "subset").axes[0].patches
    assert [(b.get_y(), b.get_height()) for b in bars] == [(-1.0, 3.0)] * 3


def test_without_random_heads_there_is_no_bar():
    figure = changes_by(ACCURACY[ACCURACY["edit"] == "GQA heads"], "subset")
    assert not figure.axes[0].patches


def test_no_change_at_all_does_not_fill_the_panel():
    still = ACCURACY.assign(mean=0.0, low=0.0, high=0.0)
    low, high = changes_by(still, "subset").axes[0].get_ylim()
    assert low <= -1 and high >= 1


def test_cells_whose_interval_excludes_zero_are_marked():
    cells = pd.DataFrame(
        [("a", "x", 1.0, 0.5, 1.5), ("a", "y", -2.0, -3.0, 1.0), ("b", "x", -2.0, -3.0, -1.0)],
        columns=["heads_of", "questions", "mean", "low", "high"],
    )
    figure = change_map(cells, "heads_of", "questions", label="change (points)")
    ax = figure.axes[0]
    assert {t.get_text() for t in ax.texts} == {"+1.0*", "-2.0", "-2.0*"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("questions", "heads of")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert figure.axes[1].get_ylabel() == "change (points)"
