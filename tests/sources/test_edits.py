import pytest
from PIL import Image

from vseam_lib.sources.edits import find_edits


def test_edits_are_found_by_triple_id_in_any_format(tmp_path, triples):
    one, two, three = triples[:3]
    Image.new("RGB", (4, 4)).save(tmp_path / f"{one.id}.png")
    Image.new("RGB", (4, 4)).save(tmp_path / f"{two.id}.jpg")
    found = find_edits(tmp_path, [one, two, three])
    assert found == {one.id: tmp_path / f"{one.id}.png", two.id: tmp_path / f"{two.id}.jpg"}


def test_a_folder_without_edits_is_an_error(tmp_path, triples):
    with pytest.raises(FileNotFoundError, match=f"such as {triples[0].id}.png"):
        find_edits(tmp_path, triples)
    with pytest.raises(FileNotFoundError, match="expected a folder of edited images"):
        find_edits(tmp_path / "none", triples)


def test_the_world_comes_with_the_counterfactual_picture_of_every_question(edited, triples):
    assert set(edited) == {t.id for t in triples}
    for triple in triples[:10]:
        with Image.open(edited[triple.id]) as one, Image.open(triple.image) as two:
            assert one.size == two.size
            assert one.convert("RGB").tobytes() != two.convert("RGB").tobytes()
