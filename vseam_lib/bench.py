"""Times the head sweep against one plain forward pass per head: ``python -m vseam_lib.bench``.

Both run in this process on the same model and questions, in turn, and must give the same numbers.
Prints a table and writes it to ``build/bench.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from vseam_lib.causal.heads import mask_every_head
from vseam_lib.causal.trace import record
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import sample
from vseam_lib.vlm.adapter import Adapter, open_image
from vseam_lib.vlm.load import load


@torch.no_grad()
def one_forward_per_head(adapter: Adapter, triple) -> torch.Tensor:
    """P(answer) under each single-head mask, ``(n_layers, n_heads)``, the obvious way."""
    batch = adapter.processor(
        images=[open_image(triple.image)], text=[adapter.text(triple.question)], return_tensors="pt"
    )
    gold, H = adapter.answer_id(triple.answer), adapter.n_heads
    out = torch.zeros(adapter.n_layers, H)
    for layer in range(adapter.n_layers):
        for head in range(H):

            def mask(module, args, head=head):
                a = args[0].unflatten(-1, (H, -1)).clone()
                others = [h for h in range(H) if h != head]
                a[..., head, :] = a[..., others, :].mean(-2)
                return (a.flatten(-2),)

            hook = adapter.layers[layer].self_attn.o_proj.register_forward_pre_hook(mask)
            logits = adapter.model(**batch, use_cache=False, logits_to_keep=1).logits[0, -1]
            hook.remove()
            out[layer, head] = logits.float().softmax(-1)[gold]
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny-llava")
    parser.add_argument("--data", default="build/world/gqa")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args()
    adapter = load(args.model)
    triples = sample(read_gqa(args.data, "analysis"), None, 0)
    images = list(dict.fromkeys(t.image_id for t in triples))[: args.images]
    seconds = {"this engine": 0.0, "one forward per head": 0.0}
    worst, count = 0.0, 0
    for image in images:
        group = [t for t in triples if t.image_id == image]
        start = time.perf_counter()
        encoded = adapter.encode(
            group[0].image, [t.question for t in group], [t.answer for t in group]
        )
        ours = mask_every_head(adapter, record(adapter, encoded))
        seconds["this engine"] += time.perf_counter() - start
        start = time.perf_counter()
        plain = torch.stack([one_forward_per_head(adapter, t) for t in group])
        seconds["one forward per head"] += time.perf_counter() - start
        worst = max(worst, float((ours - plain).abs().max()))
        count += len(group)
    result = {
        "model": args.model,
        "questions": count,
        "images": len(images),
        "heads": len(adapter.heads),
        "seconds": seconds,
        "ratio": seconds["one forward per head"] / seconds["this engine"],
        "largest difference": worst,
        "machine": {"processor": platform.processor(), "threads": torch.get_num_threads()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in seconds.items():
        print(f"{name:24s}{value:10.2f} s for {count} questions and {len(adapter.heads)} heads")
    print(f"ratio {result['ratio']:.1f}, largest difference of P(answer) {worst:.1e}")


if __name__ == "__main__":
    main()
