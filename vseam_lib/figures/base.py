"""What all figures share: colours, and one look."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from vseam_lib.triples import Level

LEVEL_COLOR = {Level.ATTRIBUTE: "#b35900", Level.OBJECT: "#2a6f97", Level.RELATION: "#5f4b8b"}

# Told apart without relying on hue alone: each also differs in lightness.
COLORS = ("#1b3a5c", "#c2571a", "#3a8f7b", "#8a6db1", "#7a7a7a", "#d4a017")


def use_style() -> None:
    """One look for all figures: white paper, readable sizes, no chart junk."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 120,
            "savefig.bbox": "tight",
            "font.family": "DejaVu Sans",
        }
    )


def closed(figure: Figure) -> Figure:
    """Take a figure out of pyplot's hands: a notebook then shows it once, where it is returned."""
    plt.close(figure)
    return figure
