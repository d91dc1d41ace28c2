"""Tiny untrained PowerPaint checkpoints, in every genuine layout, and pictures to edit."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib.editing.powerpaint import load_inpainter


@pytest.fixture(scope="session")
def layouts():
    """The module ``layouts.py`` beside this file."""
    path = Path(__file__).with_name("layouts.py")
    spec = importlib.util.spec_from_file_location("editing_layouts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoints(layouts, tmp_path_factory):
    """Directories by layout; not to be changed."""
    root = tmp_path_factory.mktemp("powerpaint")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SimpleNamespace(
            base=layouts.write_base(root / "base"),
            merged=layouts.write_merged(root / "merged"),
            overlay=layouts.write_overlay(root / "overlay"),
            older=layouts.write_overlay(root / "older", older=True),
            v2=layouts.write_v2(root / "v2"),
        )


@pytest.fixture(scope="session")
def merged(checkpoints):
    return load_inpainter(checkpoints.merged)


@pytest.fixture(scope="session")
def v2(checkpoints):
    return load_inpainter(checkpoints.v2)


@pytest.fixture(scope="session")
def inpainters(checkpoints, merged, v2):
    """One of each layout."""
    base = checkpoints.base
    return {
        "merged": merged,
        "overlay": load_inpainter(checkpoints.overlay, base=base),
        "older": load_inpainter(checkpoints.older, base=base),
        "v2": v2,
    }


@pytest.fixture
def job():
    """Three pictures of 16 pixels with masks, prompts and seeds, for ``edit``."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    masks = np.zeros((3, 16, 16), bool)
    for k in range(3):
        masks[k, 3 + k : 11, 4 : 12 - k] = True
    return {
        "images": [Image.fromarray(p) for p in pixels],
        "masks": list(masks),
        "prompts": ["a red car", "a green car", "is the car green?"],
        "seeds": [3, 4, 5],
    }
