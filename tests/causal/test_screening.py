from dataclasses import replace
from itertools import product

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from vseam_lib.causal import screening
from vseam_lib.causal.heads import sweep
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import Scores, causal_scores
from vseam_lib.causal.replay import replay
from vseam_lib.causal.screening import (
    agreement,
    block_evaluations,
    first_order,
    log_odds,
    screen,
)
from vseam_lib.causal.trace import record
from vseam_lib.figures.screening import estimated_effects, recall_by_share

EPS = 2e-3


def difference(f):
    """Derivative of ``f`` at 0, to fourth order."""
    return (8 * (f(EPS) - f(-EPS)) - (f(2 * EPS) - f(-2 * EPS))) / (12 * EPS)


def plain_slopes(adapter, triples, plain, change_head, mask, start):
    """One plain forward per head and step: masked a little, from position ``start`` on."""
    gold = torch.tensor([adapter.answer_id(t.answer) for t in triples])
    out = torch.empty(len(triples), adapter.n_layers, adapter.n_heads, dtype=torch.float64)
    for layer, h in product(range(adapter.n_layers), range(adapter.n_heads)):

        def moved(step, layer=layer, h=h):
            def toward(own, others):
                to = sum(others) / len(others) if mask == "mean" else 0
                return own + step * (to - own)

            def edit(z):
                return torch.cat(
                    [z[:, :start], change_head(adapter.n_heads, h, toward)(z)[:, start:]], 1
                )

            return log_odds(plain(adapter, triples, {layer: edit}), gold)

        out[:, layer, h] = difference(moved)
    return out


@pytest.mark.parametrize(
    "mask, positions", [("mean", "all"), ("zero", "all"), ("mean", "question")]
)
def test_first_order_is_the_derivative_of_masking_in_float64(
    adapter, one_image, plain, change_head, group_of, mask, positions
):
    triples = one_image[:3]
    group = group_of(adapter, triples)
    start = 0 if positions == "all" else int((group.segments == 0).sum())
    logits, changes = first_order(adapter, group, mask=mask, positions=positions)
    slopes = plain_slopes(adapter, triples, plain, change_head, mask, start)
    assert (changes - slopes).abs().max() < 1e-8
    assert slopes.abs().max() > 1e-2
    assert (logits - plain(adapter, triples)).abs().max() < 1e-10


@pytest.mark.parametrize("positions", ["all", "question"])
def test_first_order_holds_for_instructblip(blip, triples, group_of, positions):
    group = group_of(blip, triples[:1])
    L, H = blip.n_layers, blip.n_heads
    _, changes = first_order(blip, group, positions=positions)
    start = 0 if positions == "all" else group.image[1]

    def moved(step):
        edits = HeadEdits.none(L, H, L * H)
        for v, (layer, h) in enumerate(product(range(L), range(H))):
            edits.scale[v, layer, h], edits.mix[v, layer, h] = 1 - step, step
        if not start:
            logits = replay(blip, record(blip, group), edits)[:, 0]
        else:
            logits = torch.cat([behind(blip, group, start, edits[v : v + 1]) for v in range(L * H)])
        return log_odds(logits, group.gold.expand(len(logits)))

    assert (changes.flatten() - difference(moved)).abs().max() < 1e-8
    assert changes.abs().max() > 1e-4


def behind(adapter, group, start, edits):
    """A plain decoder pass with heads edited from a position on."""

    def edit(layer):
        def change(module, args):
            z = args[0]
            return (torch.cat([z[:, :start], edits.apply(layer, z)[:, start:]], 1),)

        return change

    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(edit(k))
        for k, layer in enumerate(adapter.layers)
    ]
    try:
        return record(adapter, group).logits
    finally:
        for hook in hooks:
            hook.remove()


def test_the_log_odds_are_those_of_the_softmax():
    logits, gold = torch.randn(5, 9, dtype=torch.float64), torch.tensor([0, 3, 8, 8, 1])
    p = logits.softmax(-1)[torch.arange(5), gold]
    assert (log_odds(logits, gold) - (p / (1 - p)).log()).abs().max() < 1e-12


@pytest.fixture
def linear(adapter, monkeypatch):
    """A model in which the log-odds of "Yes" are linear in the head outputs: constant attention,
    no MLP, no norm, and no other answer that depends on the input.
    """
    for module in adapter.decoder.modules():
        if isinstance(module, LlamaRMSNorm):
            monkeypatch.setattr(module, "forward", lambda x: x)
    with torch.no_grad():
        changed = [p for layer in adapter.layers for p in layer.mlp.parameters()]
        changed += [layer.self_attn.q_proj.weight for layer in adapter.layers]
        head = adapter.model.get_output_embeddings().weight
        before = [p.clone() for p in [*changed, head]]
        for p in changed:
            p.zero_()
        kept = head[adapter.answer_id("Yes")].clone()
        head.zero_()
        head[adapter.answer_id("Yes")] = kept
    yield replace(adapter, revision="linear")
    with torch.no_grad():
        for p, old in zip([*changed, head], before, strict=True):
            p.copy_(old)


def test_where_the_model_is_linear_the_log_odds_estimate_is_exact(linear, triples, tmp_path):
    yes = [t for t in triples if t.answer == "Yes"][:6]
    exact = sweep(linear, yes, tmp_path)
    estimate = screen(linear, yes, tmp_path)
    assert np.abs(estimate.delta - exact.delta).max() < 1e-12
    assert np.abs(exact.delta).max() > 1e-3
    plain = screen(linear, yes, tmp_path, how="probability")
    assert np.abs(plain.delta - exact.delta).max() > 1e-6, "the probability is curved"


@pytest.mark.parametrize("positions", ["all", "question"])
def test_questions_in_a_group_do_not_touch_each_other(adapter, one_image, group_of, positions):
    logits, changes = first_order(adapter, group_of(adapter, one_image), positions=positions)
    for k, triple in enumerate(one_image):
        alone = first_order(adapter, group_of(adapter, [triple]), positions=positions)
        assert (logits[k] - alone[0][0]).abs().max() < 1e-10
        assert (changes[k] - alone[1][0]).abs().max() < 1e-10


def test_batches_of_rows_change_nothing(adapter, one_image, group_of):
    group = group_of(adapter, one_image)
    with torch.no_grad():
        whole = first_order(adapter, group)
        apart = first_order(adapter, group, budget_mib=1)  # one row at a time
    assert all((a - b).abs().max() < 1e-10 for a, b in zip(whole, apart, strict=True))


def test_screening_in_float32_agrees_with_float64(adapter, adapter32, triples, tmp_path):
    many, few = (screen(a, triples[:6], tmp_path) for a in (adapter, adapter32))
    assert np.abs(many.delta - few.delta).max() < 1e-5


@pytest.mark.parametrize("how", ["log-odds", "probability"])
def test_screened_effects_are_the_first_order_of_equation_6(
    adapter, triples, group_of, tmp_path, how
):
    effects = screen(adapter, triples[:1], tmp_path, how=how)
    group = group_of(adapter, triples[:1])
    logits, changes = first_order(adapter, group)
    p = logits.softmax(-1)[0, group.gold[0]]
    if how == "log-odds":
        expected = torch.sigmoid((p / (1 - p)).log() + changes[0]) - p
    else:
        expected = p * (1 - p) * changes[0]
    assert np.abs(effects.delta[0] - expected.numpy()).max() < 1e-12


def test_screened_and_exact_effects_describe_the_same_answers(adapter, triples, tmp_path):
    some = triples[7::-1]
    exact, estimate = sweep(adapter, some, tmp_path), screen(adapter, some, tmp_path)
    assert estimate.ids == exact.ids == [t.id for t in some]
    assert np.abs(estimate.p - exact.p).max() < 1e-10
    assert np.array_equal(estimate.right, exact.right)
    assert estimate.delta.shape == exact.delta.shape
    rho = np.corrcoef(estimate.delta.ravel(), exact.delta.ravel())[0, 1]
    assert 0.9 < rho < 0.9999, "an estimate, kept apart from the exact sweep in the same store"


def test_a_second_screening_computes_only_what_is_missing(adapter, triples, tmp_path, monkeypatch):
    first = screen(adapter, triples[:5], tmp_path)
    seen = []
    real = screening.first_order

    def spy(adapter, group, **options):
        seen.extend(group.gold.tolist())
        return real(adapter, group, **options)

    monkeypatch.setattr(screening, "first_order", spy)
    again = screen(adapter, triples[:5], tmp_path)
    screen(adapter, triples[:5], tmp_path, how="probability")
    assert not seen and np.array_equal(first.delta, again.delta)
    screen(adapter, triples[:7], tmp_path)
    assert len(seen) == 2
    screen(adapter, triples[:2], tmp_path, positions="question")
    screen(adapter, triples[:2], tmp_path, mask="zero")
    assert len(seen) == 6, "other options, other stores"


def test_a_plain_pass_counts_every_layer_once_per_token(adapter, one_image, group_of):
    group = group_of(adapter, one_image)
    with block_evaluations(adapter) as count:
        record(adapter, group)
    assert count.blocks == pytest.approx(adapter.n_layers * group.embeds.shape[1], rel=1e-12)
    record(adapter, group)
    assert count.blocks == pytest.approx(adapter.n_layers * group.embeds.shape[1], rel=1e-12)


def test_a_backward_pass_counts_as_two_forwards(adapter, one_image, group_of):
    group = group_of(adapter, one_image[:1])
    S, first = group.embeds.shape[1], adapter.layers[0]
    with block_evaluations(adapter) as count:
        first_order(adapter, group)
    attention = first.self_attn
    inputs = sum(m.weight.numel() for m in (attention.q_proj, attention.k_proj, attention.v_proj))
    weights = sum(m.weight.numel() for m in first.modules() if isinstance(m, nn.Linear))
    # Of the first layer's queries, keys and values no gradient is asked.
    assert count.blocks == pytest.approx(S * (3 * adapter.n_layers - 2 * inputs / weights))


def test_screening_is_cheaper_than_the_sweep_and_cheapest_at_the_question(
    adapter, one_image, group_of, tmp_path
):
    def cost(run):
        with block_evaluations(adapter) as count:
            run()
        return count.blocks

    group = group_of(adapter, one_image[:1])
    exact = cost(lambda: sweep(adapter, one_image[:1], tmp_path))
    everywhere = cost(lambda: first_order(adapter, group))
    question = cost(lambda: first_order(adapter, group, positions="question"))
    assert exact > everywhere > question


def scores_of(correct, incorrect):
    return Scores(np.array(correct), np.array(incorrect), 3, 2)


def test_agreement_by_hand():
    exact = scores_of([[-0.4, -0.3], [0.1, 0.0]], [[0.1, 0.2], [0.3, 0.4]])
    estimate = scores_of([[-0.2, 0.3], [-0.1, 0.0]], [[0.2, 0.3], [0.4, 0.9]])
    found = agreement(exact, estimate, 2)
    assert found["positive"].recall == 0.5  # L0.H0 of L0.H0, L0.H1
    assert found["positive"].spearman == pytest.approx(1 - 6 * (0 + 4 + 4 + 0) / (4 * 15))
    assert found["negative"] == (pytest.approx(1), 1)


def test_exact_scores_agree_with_themselves(adapter, triples, tmp_path):
    scores = causal_scores(sweep(adapter, triples[:10], tmp_path))
    for found in agreement(scores, scores, 3).values():
        assert found == (pytest.approx(1), 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"how": "logit"}, "how in.*log-odds.*probability.*got 'logit'"),
        ({"mask": "median"}, "mask in.*mean.*zero.*got 'median'"),
        ({"positions": "image"}, "positions in.*all.*question.*got 'image'"),
    ],
)
def test_an_unknown_option_names_the_known_ones(adapter, triples, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        screen(adapter, triples[:1], tmp_path, **options)


def test_repeated_triple_ids_are_an_error(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="unique triple ids"):
        screen(adapter, [triples[0], triples[0]], tmp_path)


def test_a_budget_below_one_row_is_an_error(adapter, triples, group_of):
    with pytest.raises(ValueError, match="at least .* MiB for one variant"):
        first_order(adapter, group_of(adapter, triples[:1]), budget_mib=0.01)


@pytest.mark.parametrize("change", [{"caches": False}, {"replay_from": 2}])
def test_without_replay_the_question_cannot_be_screened_alone(adapter, triples, group_of, change):
    other, group = replace(adapter, **change), group_of(adapter, triples[:1])
    with pytest.raises(ValueError, match="keys and values.*use positions='all'"):
        first_order(other, group, positions="question")
    assert torch.equal(first_order(other, group)[1], first_order(adapter, group)[1])


def test_an_o_proj_that_is_not_called_is_an_error(adapter, triples, group_of, monkeypatch):
    group = group_of(adapter, triples[:1])
    attention = adapter.layers[1].self_attn
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **k: (hidden_states, None))
    with pytest.raises(RuntimeError, match="o_proj in each of 3 layers, saw 2"):
        first_order(adapter, group)
    monkeypatch.undo()
    assert not any(x.self_attn.o_proj._forward_pre_hooks for x in adapter.layers)


def test_layers_without_linear_maps_cannot_be_counted():
    class Odd:
        layers = nn.ModuleList([nn.LayerNorm(3)])

    with pytest.raises(RuntimeError, match=r"expected nn\.Linear.*found none"):
        with block_evaluations(Odd()):
            pass


def test_the_scatter_shows_every_head_of_every_category_beside_the_identity():
    rng = np.random.default_rng(0)
    pair = {c: (rng.normal(size=(3, 4)), rng.normal(size=(3, 4))) for c in ("color", "action")}
    figure = estimated_effects({"positive": pair, "negative": {"color": pair["color"]}})
    left, right = figure.axes
    assert [len(x.collections) for x in (left, right)] == [2, 1]
    for drawn, (exact, estimated) in zip(left.collections, pair.values(), strict=True):
        expected = np.c_[exact.ravel(), estimated.ravel()]
        np.testing.assert_allclose(drawn.get_offsets(), expected)
    assert left.lines[0].get_slope() == 1
    assert not plt.get_fignums()


def curves_of(*sides):
    columns = ["side", "share", "beta", "recall", "se", "error"]
    rows = [(s, x, b, x, x, x) for s in sides for b in ("0.0", "1.0", "fitted") for x in (0.1, 0.5)]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("sides", [("positive",), ("positive", "negative")])
def test_recall_by_share_has_a_curve_per_estimator_and_the_screening_alone(sides):
    figure = recall_by_share(curves_of(*sides), {"positive": 0.7, "negative": 0.6})
    assert len(figure.axes) == 2 * len(sides)
    top = figure.axes[0]
    assert [list(line.get_ydata()) for line in top.lines[:3]] == [[0.1, 0.5]] * 3
    assert list(top.lines[3].get_ydata()) == [0.7, 0.7]
    assert list(top.lines[0].get_xdata()) == [10, 50]
    assert not plt.get_fignums()


def test_curves_without_rows_are_an_error():
    with pytest.raises(ValueError, match="curves of a side.*at least two images"):
        recall_by_share(curves_of(), {})
