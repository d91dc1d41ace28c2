"""Counting, timing and weighing, the same way for every engine."""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from vseam_lib.causal.screening import block_evaluations
from vseam_lib.vlm.adapter import Adapter

# Keeps freed memory out of the resident set, so that its peak follows the tensors alive.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
PACKAGES = ("torch", "transformers", "nnsight", "transformer-lens")


@dataclass
class Work:
    """What a model did.

    Attributes:
        rows: token rows through one decoder layer, summed over layers; a row that passes through
            some of the layer's weights counts as that share of a row.
        images: pictures that the vision tower encoded.
        flops: multiply-adds of the decoder's linear layers, times two.
    """

    rows: float = 0
    images: float = 0
    flops: float = 0

    def scaled(self, once: Work, by: float) -> Work:
        """The work with everything multiplied but what is needed ``once``."""
        return Work(*(o + (w - o) * by for w, o in zip(astuple(self), astuple(once), strict=True)))


@contextmanager
def counted(adapter: Adapter) -> Iterator[Work]:
    """Count what the decoder layers and the vision tower do; the work is there afterwards."""
    work = Work()

    def see(module, args, out):
        work.images += len(out.last_hidden_state)

    hook = adapter.model.get_encoder(modality="image").register_forward_hook(see)
    try:
        with block_evaluations(adapter) as count:
            yield work
    finally:
        hook.remove()
    work.rows, work.flops = count.blocks, 2 * count.blocks * count.per_layer


def seconds(job: Callable[[], object], device: str = "cpu") -> tuple[float, object]:
    """Wall seconds of a job, and what it returned."""
    gc.collect()
    _synchronise(device)
    start = time.perf_counter()
    found = job()
    _synchronise(device)
    return time.perf_counter() - start, found


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_mib(job: Callable[[], object], device: str = "cpu") -> float | None:
    """Peak memory of a job beyond what was in use before, in MiB; ``None`` if it cannot be read.

    On a GPU that of the tensors, on the CPU that of the process (Linux only).
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        before = _resident("VmRSS")
    except OSError:
        return None
    job()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    """A line of the process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def version(package: str) -> str | None:
    """Installed version of a package, ``None`` if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(device: str) -> dict:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
