"""The book's figures, one function each. Each returns a matplotlib figure."""

from vseam_lib.figures.answers import EDIT_STYLE, accuracy_bars, edit_changes
from vseam_lib.figures.attention import attention_example, overlap_points
from vseam_lib.figures.base import LEVEL_COLOR, use_style
from vseam_lib.figures.heads import head_maps, overlap_maps, ranked_effects
from vseam_lib.figures.pictures import gallery

__all__ = [
    "EDIT_STYLE",
    "LEVEL_COLOR",
    "accuracy_bars",
    "attention_example",
    "edit_changes",
    "gallery",
    "head_maps",
    "overlap_maps",
    "overlap_points",
    "ranked_effects",
    "use_style",
]
