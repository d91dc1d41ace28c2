import numpy as np
import pandas as pd
import pytest

from vseam_lib.store import Store

KEY = {"analysis": "head sweep", "model": "abc", "mask": "mean"}


def rows(sample, *values):
    sites = [f"L0.H{k}" for k in range(len(values))]
    return pd.DataFrame({"id": sample, "site": sites, "edit": "mean", "value": values})


def test_what_was_written_is_read_again(tmp_path):
    store = Store(tmp_path, KEY)
    first, second = rows("a", 0.1, -1e-17), rows("b", 1 / 3, 2.0)
    store.append(first)
    store.append(second)
    read = Store(tmp_path, KEY).read().sort_values(["id", "site"], ignore_index=True)
    pd.testing.assert_frame_equal(read, pd.concat([first, second], ignore_index=True))
    assert store.done() == {"a", "b"}


def test_only_the_samples_asked_for_are_read(tmp_path):
    store = Store(tmp_path, KEY)
    store.append(pd.concat([rows("a", 1.0), rows("b", 2.0)]))
    assert store.read(["b", "never computed"])["value"].tolist() == [2.0]


def test_an_empty_store_has_no_rows_and_nothing_done(tmp_path):
    store = Store(tmp_path, KEY)
    assert store.read().empty and store.done() == set()
    assert list(store.read().columns) == ["id", "site", "edit", "value"]


@pytest.mark.parametrize(
    "other",
    [{**KEY, "mask": "zero"}, {**KEY, "model": "abd"}, {**KEY, "n": None}, {"mask": "mean"}],
)
def test_different_keys_never_share(tmp_path, other):
    Store(tmp_path, KEY).append(rows("a", 1.0))
    store = Store(tmp_path, other)
    assert store.path != Store(tmp_path, KEY).path
    assert store.done() == set()


def test_the_order_of_a_key_does_not_matter(tmp_path):
    assert Store(tmp_path, KEY).path == Store(tmp_path, dict(reversed(KEY.items()))).path


def test_a_directory_of_another_key_is_refused(tmp_path):
    path = Store(tmp_path, KEY).path
    (path / "key.json").write_text('{"analysis": "another"}')
    with pytest.raises(ValueError, match="another computation. Remove it"):
        Store(tmp_path, KEY)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_nothing_is_stored(tmp_path, value):
    store = Store(tmp_path, KEY)
    with pytest.raises(ValueError, match="1 values are not finite, first sample b at L0.H1"):
        store.append(pd.concat([rows("a", 1.0, 2.0), rows("b", 1.0, value)]))
    assert store.read().empty and not list(store.path.glob("*.part*"))


@pytest.mark.parametrize(
    "table",
    [rows("a", 1.0).drop(columns="edit"), rows("a", 1.0)[["site", "id", "edit", "value"]]],
    ids=["missing", "order"],
)
def test_wrong_columns_are_refused(tmp_path, table):
    with pytest.raises(ValueError, match="expected the columns"):
        Store(tmp_path, KEY).append(table)


def test_a_part_that_was_never_finished_is_ignored(tmp_path):
    store = Store(tmp_path, KEY)
    store.append(rows("a", 1.0))
    whole = next(store.path.glob("*.parquet")).read_bytes()
    (store.path / "123-abc.part").write_bytes(whole[: len(whole) // 2])
    assert store.done() == {"a"} and len(store.read()) == 1


def test_a_sample_that_two_writers_computed_counts_once(tmp_path):
    Store(tmp_path, KEY).append(rows("a", 1.0, 2.0))
    Store(tmp_path, KEY).append(rows("a", 1.0, 2.0))
    assert len(Store(tmp_path, KEY).read()) == 2


def test_writers_leave_nothing_temporary(tmp_path):
    store = Store(tmp_path, KEY)
    store.append(rows("a", 1.0))
    assert sorted(p.suffix for p in store.path.iterdir()) == [".json", ".parquet"]
