"""The head sweep on a random LLaVA-1.5-7B: samples per hour, and the share of the matmul peak."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vseam_lib.bench.cases import clip, random_llava
from vseam_lib.bench.engines import Plain
from vseam_lib.bench.measure import counted, peak_mib, seconds
from vseam_lib.causal.heads import mask_every_head
from vseam_lib.causal.trace import record
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter, Head

# LLaVA-1.5-7B (Liu et al., 2024): Vicuna-7B and CLIP ViT-L/14 at 336 pixels.
LLAVA_7B = {"layers": 32, "heads": 32, "d_head": 128, "d_mlp": 11008, "vocab": 32064}
CLIP_L = {"width": 1024, "layers": 24, "heads": 16}
BUDGET_MIB = 8192


def llava_7b(device: str) -> Adapter:
    """LLaVA-1.5-7B's architecture with random weights in bfloat16."""
    return random_llava(**LLAVA_7B, vision=clip(**CLIP_L), dtype=torch.bfloat16, device=device)


@torch.no_grad()
def sweep(adapter: Adapter, triple: VQATriple, budget_mib: float) -> Tensor:
    """P(answer) of one question under every single-head mask, ``(n_layers, n_heads)``."""
    recording = record(adapter, adapter.encode(triple.image, [triple.question], [triple.answer]))
    return mask_every_head(adapter, recording, budget_mib=budget_mib)[0]


@torch.no_grad()
def matmul_peak(device: str, dtype: torch.dtype, size: int = 8192, repeats: int = 20) -> float:
    """FLOP per second of the fastest of several products of two square matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = [seconds(lambda: a @ b, device)[0] for _ in range(repeats)]
    return 2 * size**3 / min(times)


def measure(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    device: str,
    *,
    budget_mib: float = BUDGET_MIB,
    matmul_size: int = 8192,
) -> dict:
    """Sweep each question on its own, after one to warm up.

    The share of the peak counts the decoder's linear layers only, so it is a lower bound.

    Raises:
        ValueError: fewer than two questions.
    """
    if len(triples) < 2:
        raise ValueError(f"expected one question to warm up and one or more, got {len(triples)}")
    peak = matmul_peak(device, adapter.model.dtype, matmul_size)
    memory = peak_mib(lambda: sweep(adapter, triples[0], budget_mib), device)
    times = []
    with counted(adapter) as work:
        for triple in triples[1:]:
            took, found = seconds(lambda t=triple: sweep(adapter, t, budget_mib), device)
            times.append(took)
    some = [Head(0, 0), Head(adapter.n_layers // 2, 1), Head(adapter.n_layers - 1, 0)]
    with torch.no_grad():
        plain = Plain(adapter).sweep(triples[-1:], some)[0]
    mine = torch.stack([found[h.layer, h.head] for h in some]).float().cpu()
    each = sum(times) / len(times)
    return {
        "samples": len(times),
        "seconds per sample": each,
        "samples per hour": 3600 / each,
        "heads": len(adapter.heads),
        "TFLOP/s": work.flops / sum(times) / 1e12,
        "matmul peak, TFLOP/s": peak / 1e12,
        "share of the peak": work.flops / sum(times) / peak,
        "peak memory beyond the weights, MiB": memory,
        "budget, MiB": budget_mib,
        "dtype": str(adapter.model.dtype).removeprefix("torch."),
        "largest difference from plain forwards": float((mine - plain).abs().max()),
        "spread of P(answer)": float(found.max() - found.min()),
    }
