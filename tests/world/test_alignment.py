import pytest
import torch
import torch.nn.functional as F

from vseam_lib.world import ontology as o
from vseam_lib.world.alignment import naming, words_of_patches
from vseam_lib.world.items import Text
from vseam_lib.world.pool import CLASS_ID, COLOR_ID, IGNORE, MATERIAL_ID, build


def test_the_words_of_a_patch_are_the_names_of_what_it_shows():
    pool, text = build(3, first=0, seed=0), Text()
    words = words_of_patches(pool, text)
    assert words.shape == (3, 64, 3)
    tables = (
        {k: c for c, k in CLASS_ID.items()},
        {k: c for c, k in COLOR_ID.items()},
        {k: m for m, k in MATERIAL_ID.items()},
    )
    for kind, table in enumerate(tables):
        labels = pool.patches[:, kind].flatten().tolist()
        for label, word in zip(labels, words[..., kind].flatten().tolist(), strict=True):
            expected = table.get(label)  # background and undefined labels have no word
            assert word == (IGNORE if expected is None else text.ids(expected)[0])
    assert {text.tok.decode(int(w)) for w in words[..., 0].unique() if w >= 0} <= set(o.CLASSES)


def test_naming_is_cross_entropy_over_all_words_where_there_is_a_word():
    torch.manual_seed(0)
    image, table = torch.randn(2, 64, 8), torch.randn(11, 8)
    words = torch.randint(-1, 11, (2, 64, 3))
    words[words < 0] = IGNORE

    def unit(x):
        return x / x.pow(2).mean(-1, keepdim=True).sqrt()

    losses = [
        F.cross_entropy((unit(table) @ unit(image[b, p]) / 8**0.5)[None], words[b, p, k][None])
        for b in range(2) for p in range(64) for k in range(3) if words[b, p, k] >= 0
    ]  # fmt: skip
    assert len(losses) < words.numel()
    assert naming(image, table, words).item() == pytest.approx(
        (sum(losses) / len(losses)).item(), abs=1e-5
    )
