"""A sweep that is killed resumes, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys

import numpy as np
import torch

from vseam_lib.causal import groups, heads
from vseam_lib.causal.heads import sweep
from vseam_lib.store import Store
from vseam_lib.vlm.load import load

# One part per image; SIGKILL arrives while the fourth is complete under its temporary name.
KILLED = """
import functools, os, signal, sys
from pathlib import Path
from vseam_lib.causal import groups, heads
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.vlm.load import load

model, world, store = sys.argv[1:]
heads.resume = functools.partial(groups.resume, part=1)
rename, renamed = Path.replace, []

def killed(self, target):
    if Path(target).suffix == ".parquet":
        renamed.append(target)
        if len(renamed) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.replace = killed
heads.sweep(load(model), read_gqa(world, "analysis"), store)
"""


def test_a_sweep_killed_in_the_middle_resumes_to_the_same_result(
    adapter32, world, triples, tmp_path, monkeypatch
):
    model, store = tmp_path / "model", tmp_path / "store"
    adapter32.model.save_pretrained(model)
    adapter32.processor.save_pretrained(model)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(model), str(world), str(store)],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    written = {p.name: p.read_bytes() for p in store.glob("*/*.parquet")}
    assert len(written) == 3 and len(list(store.glob("*/*.part"))) == 1

    computed, record = [], heads.record

    def count(adapter, group):
        computed.append(group)
        return record(adapter, group)

    monkeypatch.setattr(heads, "record", count)
    adapter = load(str(model))
    resumed = sweep(adapter, triples, store)
    images = len({t.image_id for t in triples})
    assert len(computed) == images - 3, "finished images must not be computed again"
    for name, content in written.items():
        assert (next(store.glob(f"*/{name}"))).read_bytes() == content

    whole = sweep(adapter, triples, tmp_path / "uninterrupted")
    assert len(computed) == 2 * images - 3
    assert resumed.ids == whole.ids == [t.id for t in triples]
    assert np.array_equal(resumed.delta, whole.delta)
    assert np.array_equal(resumed.p, whole.p)
    assert np.array_equal(resumed.right, whole.right)


def test_a_computation_that_fails_keeps_its_finished_parts(adapter, triples, tmp_path, monkeypatch):
    store, record, calls = Store(tmp_path, {"analysis": "test"}), groups.record, []

    def fail(adapter, group, **kwargs):
        calls.append(group)
        if len(calls) == 3:
            raise MemoryError
        return record(adapter, group, **kwargs)

    def measure(recording):
        return {("p", "none"): recording.logits[:, 0]}

    monkeypatch.setattr(groups, "record", fail)
    try:
        groups.compute(adapter, triples, store, measure, what="test", part=1)
    except MemoryError:
        pass
    images = list(dict.fromkeys(t.image_id for t in triples))
    done = {i.split("@")[0] for i in store.done()}
    assert done == {t.id for t in triples if t.image_id in images[:2]}
    rows = groups.compute(adapter, triples, store, measure, what="test", part=1)
    assert set(rows["id"]) == {t.id for t in triples} and len(rows) == len(triples)
    assert len(calls) == 1 + len(images)
