import numpy as np
import pytest

from vseam_lib.wups import WordNet, find_wordnet, wups

# entity > thing > animal > (dog, cat); entity > hue; dog has a second sense, a kind of thing.
# hound is above nothing and reaches animal by two ways, of 1 and 3 steps.
SYNSETS = {
    "00000010": ("entity", []),
    "00000020": ("thing", ["00000010"]),
    "00000030": ("animal", ["00000020"]),
    "00000040": ("dog", ["00000030"]),
    "00000050": ("cat", ["00000030"]),
    "00000060": ("hue", ["00000010"]),
    "00000070": ("dog", ["00000020"]),
    "00000080": ("hot_dog", ["00000070"]),
}


@pytest.fixture
def folder(tmp_path):
    """A database in WordNet's format, licence lines included."""
    licence = "  1 This software and database is being provided to you\n"
    data = "".join(
        f"{offset} 05 n 01 {word} 0 {len(up) + 1:03d} "
        + "".join(f"@ {u} n 0000 " for u in up)
        + f"~ 00000099 n 0000 | a {word} @ home  \n"
        for offset, (word, up) in SYNSETS.items()
    )
    senses = {}
    for offset, (word, _) in SYNSETS.items():
        senses.setdefault(word, []).append(offset)
    index = "".join(
        f"{w} n {len(s)} 2 @ ~ {len(s)} 1 {' '.join(s)}  \n" for w, s in sorted(senses.items())
    )
    (tmp_path / "data.noun").write_text(licence + data)
    (tmp_path / "index.noun").write_text(licence + index)
    return tmp_path


def test_similarity_is_that_of_wu_and_palmer_by_hand(folder):
    similarity = WordNet(folder).similarity
    assert similarity("dog", "cat") == pytest.approx(2 * 3 / (4 + 4))  # both below animal, depth 3
    assert similarity("cat", "dog") == similarity("dog", "cat")
    assert similarity("animal", "dog") == pytest.approx(2 * 3 / (3 + 4))  # one above the other
    assert similarity("cat", "hue") == pytest.approx(2 * 1 / (4 + 2))  # only the root
    assert similarity("hot dog", "thing") == pytest.approx(2 * 2 / (4 + 2))
    assert similarity("dog", "dog") == 1


def test_the_most_similar_senses_count(folder):
    # dog as an animal: 2 * 2 / (2 + 4); dog as a kind of thing: 2 * 2 / (2 + 3)
    assert WordNet(folder).similarity("thing", "dog") == pytest.approx(4 / 5)


def test_plurals_are_known_and_unknown_words_are_like_nothing(folder):
    wordnet = WordNet(folder)
    assert wordnet.senses("dogs") == wordnet.senses("Dog") == ["00000040", "00000070"]
    assert wordnet.senses("zebra") == [] and wordnet.similarity("zebra", "dog") == 0


def test_a_similarity_below_the_threshold_counts_a_tenth(folder):
    similarity = WordNet(folder).similarity
    said, gold = ["dog", "cat", "hue", "zebra"], ["dog", "dog", "dog", "dog"]
    plain = wups(said, gold, similarity, 0.0)
    assert plain == pytest.approx([1, 6 / 8, similarity("hue", "dog"), 0])
    strict = wups(said, gold, similarity, 0.7)
    assert strict == pytest.approx([1, 6 / 8, 0.1 * plain[2], 0])
    assert wups(said, gold, similarity, 0.9)[1] == pytest.approx(0.1 * 6 / 8)


def test_equal_answers_need_no_dictionary():
    def fail(a, b):
        raise AssertionError("asked")

    assert wups(["t-shirt"], ["t-shirt"], fail).tolist() == [1.0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="got 1 answers for 2"):
        wups(["a"], ["b", "c"], lambda a, b: 0.0)
    with pytest.raises(ValueError, match="threshold from 0 to 1"):
        wups(["a"], ["b"], lambda a, b: 0.0, 1.5)
    with pytest.raises(ValueError, match="similarity from 0 to 1, got 2.0 for 'a', 'b'"):
        wups(["a"], ["b"], lambda a, b: 2.0)


def test_a_directory_without_the_database_says_where_it_is(folder, tmp_path_factory):
    assert find_wordnet(folder) == folder
    (folder / "index.noun").unlink()
    with pytest.raises(FileNotFoundError, match="index.noun not found.*wordnet-base"):
        find_wordnet(folder)


def test_without_the_package_there_is_no_wordnet(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_wordnet() is None


def test_the_packaged_wordnet_orders_meanings_sensibly():
    similarity = WordNet(find_wordnet()).similarity
    scores = [similarity("dog", other) for other in ("puppy", "cat", "horse", "car")]
    assert np.all(np.diff(scores) < 0) and scores[0] > 0.85
