from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from vseam_lib.causal.interactions import KINDS, RANDOM
from vseam_lib.figures import pairs
from vseam_lib.stats import Interval

pytestmark = pytest.mark.usefixtures("closed_figures")
SIDES = {"L0.H1": "positive", "L0.H2": "negative", "L1.H0": "positive", "L2.H3": "negative"}


def table():
    rows = [
        (a, b, k - 2.0, 0.01 if k == 3 else 0.5) for k, (a, b) in enumerate(combinations(SIDES, 2))
    ]
    return pd.DataFrame(rows, columns=["first", "second", "interaction", "q"])


def test_the_matrix_is_symmetric_centred_at_zero_and_empty_on_its_diagonal():
    figure = pairs.interaction_matrix(table(), SIDES, label="interaction (points)")
    ax, bar = figure.axes
    (image,) = ax.images
    values = image.get_array()
    assert np.ma.getmaskarray(values).diagonal().all()
    assert (values == values.T).all()
    assert values[0, 1] == -2 and values[1, 3] == 2 and values[2, 3] == 3
    assert image.norm.vmin == -image.norm.vmax < 0
    assert bar.get_ylabel() == "interaction (points)"


def test_heads_are_signed_pairs_that_differ_dotted_and_layers_divided():
    ax = pairs.interaction_matrix(table(), SIDES, label="x").axes[0]
    for axis in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [t.get_text() for t in axis] == ["L0.H1 +", "L0.H2 −", "L1.H0 +", "L2.H3 −"]
        assert len({t.get_color() for t in axis}) == 2
    dots = [line for line in ax.lines if line.get_marker() == "."]
    assert [sorted(zip(*dot.get_data(), strict=True)) for dot in dots] == [[(1, 2), (2, 1)]]
    lines = [line for line in ax.lines if line not in dots]
    assert sorted({float(line.get_ydata()[0]) for line in lines} - {0.0}) == [1.5, 2.5]


def test_every_kind_shows_its_pairs_and_their_mean():
    kinds = [*KINDS, RANDOM]
    rows = pd.DataFrame({"kind": np.repeat(kinds, 5), "interaction": np.arange(20.0)})
    means = {kind: Interval(k, k - 1, k + 2) for k, kind in enumerate(kinds)}
    panels = {"points": (rows, means), "log-odds": (rows, {k: means[k] for k in kinds[:2]})}
    left, right = pairs.interaction_kinds(panels).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("points", "log-odds")
    clouds = [line for line in left.lines if len(line.get_ydata()) == 5]
    assert [line.get_ydata().tolist() for line in clouds] == rows["interaction"].to_numpy().reshape(
        4, 5
    ).tolist()
    for k, container in enumerate(left.containers):
        (mean, _, (bar,)) = container
        assert mean.get_ydata().tolist() == [k]
        assert bar.get_segments()[0].tolist() == [[k, k - 1], [k, k + 2]]
    assert len(right.containers) == 2, "a kind that does not occur has no place"


def test_joint_effects_stand_against_sums_by_kind():
    rows = pd.DataFrame(
        {
            "kind": [KINDS[0], KINDS[0], RANDOM],
            "first_alone": [-1, 1, 3],
            "second_alone": [2, 1, 0],
            "joint": [4, 5, 6],
        }
    )
    (ax,) = pairs.joint_against_sum(rows, unit="points").axes
    found = {line.get_label(): line.get_xydata().tolist() for line in ax.lines[:-1]}
    assert found == {f"{KINDS[0]} (2)": [[1, 4], [2, 5]], f"{RANDOM} (1)": [[3, 6]]}
    assert ax.lines[-1].get_slope() == 1 and "points" in ax.get_xlabel() + ax.get_ylabel()
