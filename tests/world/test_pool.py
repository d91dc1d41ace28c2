"""Training scenes in memory are what is drawn, and look as the processor shows them."""

import pytest
from PIL import Image

from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.models import llava_processor
from vseam_lib.world.pool import CLASS_ID, IGNORE, build, pixel_values


@pytest.fixture(scope="module")
def pool():
    return build(3, first=0, seed=0)


def test_training_pictures_look_as_the_processor_shows_them(pool):
    seen = llava_processor().image_processor(
        [Image.fromarray(x) for x in pool.images], return_tensors="pt"
    )
    assert (pixel_values(pool.images) - seen["pixel_values"]).abs().max() < 1e-5


def test_patch_labels_name_what_the_patch_shows(pool):
    for k, scene in enumerate(pool.scenes):
        _, owner = draw(scene)
        for cell in range(64):
            r, c = 12 * (cell // 8), 12 * (cell % 8)
            shown = owner[r : r + 12, c : c + 12]
            label, color = pool.patches[k][0, cell].item(), pool.patches[k][1, cell].item()
            if label == 0:
                assert (shown == -1).all()
            elif label != IGNORE:
                best = max(range(len(scene.objects)), key=lambda j, s=shown: (s == j).sum())
                assert CLASS_ID[scene.objects[best].name] == label
                assert list(o.COLORS).index(scene.objects[best].color) == color
