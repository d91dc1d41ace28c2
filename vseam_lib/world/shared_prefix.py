"""The decoder as training runs it: many questions share one image prefix.

Same weights and same numbers as the genuine forward pass of transformers, arranged so that the
picture is run once per image and all questions about it in one batch of matrix products.
Tests hold it against the processor path. Nothing outside training uses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of ``(B, H, S, d_head)``; cos and sin are ``(S, d_head)``."""
    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, P: int, n: int, T: int) -> Tensor:
    """Causal attention where each of ``n`` questions sees the prefix and itself.

    Args:
        q, k, v: ``(B, H, P + n*T, d_head)``.
        P, n, T: prefix length, questions per image, tokens per question.

    Returns:
        ``(B, H, P + n*T, d_head)``.
    """
    B, H, _, d = q.shape
    q = q * d**-0.5
    kp, vp = k[:, :, :P], v[:, :, :P]
    causal = torch.ones(P, P, dtype=torch.bool, device=q.device).tril()
    prefix = (q[:, :, :P] @ kp.transpose(-1, -2)).masked_fill(~causal, -1e4)
    prefix = prefix.float().softmax(-1).to(v.dtype) @ vp
    qs, ks, vs = (x[:, :, P:].reshape(B, H, n, T, d) for x in (q, k, v))
    to_prefix = q[:, :, P:] @ kp.transpose(-1, -2)  # (B, H, n*T, P)
    own = (qs @ ks.transpose(-1, -2)).masked_fill(~causal[:T, :T], -1e4)  # (B, H, n, T, T)
    weights = torch.cat([to_prefix, own.reshape(B, H, n * T, T)], -1).float().softmax(-1)
    weights = weights.to(v.dtype)
    out = weights[..., :P] @ vp
    out = out + (weights[..., P:].reshape(B, H, n, T, T) @ vs).reshape(B, H, n * T, d)
    return torch.cat([prefix, out], 2)


def block(
    x: Tensor, cos: Tensor, sin: Tensor, keep: Tensor, w: list[Tensor],
    H: int, P: int, n: int, T: int, eps: float,
) -> Tensor:  # fmt: skip
    """One Llama decoder layer on ``x`` ``(B, P + n*T, D)``.

    ``keep`` ``(B, H, P + n*T, 1)`` scales each head's output before ``o_proj`` (head dropout);
    ``w`` holds the layer's nine weights in the order of :func:`weights`.
    """
    norm_a, wq, wk, wv, wo, norm_m, gate, up, down = w
    B, S, D = x.shape
    h = F.rms_norm(x, (D,), norm_a, eps).to(wq.dtype)
    q, k, v = (F.linear(h, m).view(B, S, H, -1).transpose(1, 2) for m in (wq, wk, wv))
    z = attend(rotate(q, cos, sin), rotate(k, cos, sin), v, P, n, T) * keep
    x = x + F.linear(z.transpose(1, 2).reshape(B, S, -1), wo)
    h = F.rms_norm(x, (D,), norm_m, eps).to(wq.dtype)
    return x + F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down)


def weights(layer: nn.Module, dtype: torch.dtype) -> list[Tensor]:
    """A decoder layer's weights for :func:`block`; matrices in ``dtype``, norms as they are."""
    a, m = layer.self_attn, layer.mlp
    mats = [p.weight.to(dtype) for p in (a.q_proj, a.k_proj, a.v_proj, a.o_proj)]
    mlp = [p.weight.to(dtype) for p in (m.gate_proj, m.up_proj, m.down_proj)]
    return [layer.input_layernorm.weight, *mats, layer.post_attention_layernorm.weight, *mlp]


def answer_logits(
    model: nn.Module, features: Tensor, prefix: list[int], ids: Tensor, last: Tensor, *,
    rows: Tensor | None = None, drop: float = 0.0, dtype: torch.dtype = torch.bfloat16,
) -> Tensor:  # fmt: skip
    """Logits at each question's last token, or at any tokens.

    Args:
        features: vision features ``(B, 64, d_vision)``.
        prefix: token ids before the image.
        ids: ``(B*n, T)`` right-padded token ids after the image, grouped by image.
        last: ``(M,)`` index of a token in each row of ``rows``.
        rows: ``(M,)`` rows of ``ids``; all of them once by default.
        drop: probability of zeroing a head for a whole question (and for a whole prefix).

    Returns:
        ``(M, vocab)`` float32.
    """
    lm = model.model.language_model
    B, T = len(features), ids.shape[1]
    n = len(ids) // B
    H = lm.config.num_attention_heads
    image = model.model.multi_modal_projector(features.float())
    head = lm.embed_tokens(torch.tensor(prefix, device=ids.device)).expand(B, -1, -1)
    P = head.shape[1] + image.shape[1]
    x = torch.cat([head, image, lm.embed_tokens(ids).view(B, n * T, -1)], 1)
    positions = torch.cat([torch.arange(P), P + torch.arange(T).repeat(n)])[None]
    cos, sin = (t[0].to(dtype) for t in lm.rotary_emb(x, positions.to(x.device)))
    for layer in lm.layers:
        keep = torch.ones(B, H, P + n * T, 1, dtype=dtype)
        if drop:
            kept = (torch.rand(B, H, 1 + n, 1) >= drop).to(dtype) / (1 - drop)
            keep = torch.cat(
                [kept[:, :, :1].expand(-1, -1, P, -1), kept[:, :, 1:].repeat_interleave(T, 2)], 2
            )
        x = block(x, cos, sin, keep, weights(layer, dtype), H, P, n, T, lm.config.rms_norm_eps)
    rows = torch.arange(len(ids)) if rows is None else rows
    hidden = x[rows // n, P + rows % n * T + last]
    return model.lm_head(lm.norm(hidden)).float()
