"""The book's figures, one function each. Each returns a matplotlib figure."""

from vseam_lib.figures.answers import EDIT_STYLE, accuracy_bars, edit_changes
from vseam_lib.figures.attention import attention_example, overlap_points
from vseam_lib.figures.base import LEVEL_COLOR, use_style
from vseam_lib.figures.heads import (
    head_maps,
    overlap_maps,
    ranked_effects,
    stability_curves,
)
from vseam_lib.figures.pictures import gallery
from vseam_lib.figures.screening import estimated_effects, recall_by_share

__all__ = [
    "EDIT_STYLE",
    "LEVEL_COLOR",
    "accuracy_bars",
    "attention_example",
    "edit_changes",
    "estimated_effects",
    "gallery",
    "head_maps",
    "overlap_maps",
    "overlap_points",
    "ranked_effects",
    "recall_by_share",
    "stability_curves",
    "use_style",
]
