from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib.causal import lens as ll
from vseam_lib.causal.trace import record
from vseam_lib.figures import lens as drawn
from vseam_lib.sources.gqa_files import scene_graphs
from vseam_lib.stats import Band
from vseam_lib.vlm.instructblip import InstructBlipAdapter
from vseam_lib.vlm.words import KINDS, Cues, Vocabulary, content_words, find_cues
from vseam_lib.world import models

KEEP = ("attn", "mlp")


@pytest.fixture(scope="module")
def vocabulary(adapter):
    return Vocabulary(adapter)


@pytest.fixture(scope="module")
def blip():
    torch.manual_seed(0)
    model = models.instructblip(layers=2, heads=3, d_head=4, d_mlp=16).eval().requires_grad_(False)
    return InstructBlipAdapter(
        model=model.double(), processor=models.instructblip_processor(), revision="blip"
    )


@torch.no_grad()
def plain_lens(adapter, triple):
    """The genuine model on the genuine processor's output: logits ``(L, vocab)`` per site at the
    last token, by hooks on the modules and by ``output_hidden_states``.
    """
    model, seen = adapter.model, {"attn": [], "mlp": []}
    batch = adapter.processor(
        images=[Image.open(triple.image).convert("RGB")],
        text=[adapter.text(triple.question)],
        return_tensors="pt",
    )
    batch = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in batch.items()}
    hooks = []
    for layer in adapter.layers:
        hooks.append(layer.mlp.register_forward_hook(lambda m, a, out: seen["mlp"].append(out)))
        hooks.append(
            layer.self_attn.register_forward_hook(lambda m, a, out: seen["attn"].append(out[0]))
        )
    out = model(**batch, output_hidden_states=True, use_cache=False)
    for hook in hooks:
        hook.remove()
    states = getattr(out, "hidden_states", None) or out.language_model_outputs.hidden_states
    head, norm = model.get_output_embeddings(), model.get_decoder().norm
    lens = {k: torch.stack([head(norm(x[0, -1])) for x in v]) for k, v in seen.items()}
    # transformers' last hidden state has been through the final norm, the others have not.
    block = [head(norm(x[0, -1])) for x in states[1:-1]] + [head(states[-1][0, -1])]
    return lens | {"block": torch.stack(block)}, out.logits[0, -1]


def sweep(adapter, triples, store, **options):
    return ll.sweep(adapter, triples, store, {t.id: find_cues(t) for t in triples}, **options)


def recorded(adapter, triples, group_of):
    return record(adapter, group_of(adapter, triples), keep=KEEP)


def test_the_lens_of_the_last_residual_stream_is_the_models_own_answer(
    adapter, one_image, group_of, plain
):
    recording = recorded(adapter, one_image, group_of)
    lens = ll.project(adapter, recording, "block")
    assert lens.shape == (adapter.n_layers, len(one_image), len(recording.logits[0]))
    assert (lens[-1] - recording.logits).abs().max() <= 1e-12
    assert (lens[-1] - plain(adapter, one_image)).abs().max() <= 1e-12


@pytest.mark.parametrize("site", ll.SITES)
def test_a_packed_group_shows_what_single_questions_show_in_a_hooked_forward(
    adapter, one_image, group_of, site
):
    lens = ll.project(adapter, recorded(adapter, one_image, group_of), site)
    twins = torch.stack([plain_lens(adapter, t)[0][site] for t in one_image], 1)
    assert len(one_image) > 1
    assert (lens - twins).abs().max() <= 1e-12


def test_the_lens_in_float32(adapter32, one_image, group_of):
    recording = recorded(adapter32, one_image, group_of)
    for site in ll.SITES:
        twins = torch.stack([plain_lens(adapter32, t)[0][site] for t in one_image], 1)
        assert (ll.project(adapter32, recording, site) - twins).abs().max() <= 1e-4
        p = ll.project(adapter32, recording, site).softmax(-1)
        assert (p - twins.softmax(-1)).abs().max() <= 1e-5


def test_instructblip_has_the_same_lens_one_question_at_a_time(blip, triples, tmp_path):
    some = triples[:4]
    for t in some[:2]:
        group = blip.encode(t.image, [t.question], [t.answer])
        twins, logits = plain_lens(blip, t)
        for site in ll.SITES:
            lens = ll.project(blip, record(blip, group, keep=KEEP), site)[:, 0]
            assert (lens - twins[site]).abs().max() <= 1e-12
        assert (lens[-1] - logits).abs().max() <= 1e-12
    found = sweep(blip, some, tmp_path)
    assert found.p.shape == (4, 3, 2) and found.ids == [t.id for t in some]


def test_the_lens_at_other_positions_is_that_of_a_shorter_prompt(adapter, one_image, group_of):
    """Nothing after a position changes it."""
    recording = recorded(adapter, one_image[:1], group_of)
    group = recording.group
    for at in (0, group.image[0], len(group.ids) - 2):
        cut = slice(0, at + 1)
        short = group._replace(
            embeds=group.embeds[:, cut], segments=group.segments[cut], last=torch.tensor([at])
        )
        for site in ll.SITES:
            here = ll.project(adapter, recording, site, [at])
            twin = ll.project(adapter, record(adapter, short, keep=KEEP), site)
            assert (here - twin).abs().max() <= 1e-12


def test_rank_one_is_the_argmax_also_among_equal_logits():
    torch.manual_seed(0)
    logits = torch.randint(0, 4, (50, 3, 9)).double()
    token = torch.randint(0, 9, (3,))
    rank = ll.rank_of(logits, token)
    assert torch.equal(rank == 1, logits.argmax(-1) == token)
    every = torch.stack([ll.rank_of(logits, torch.tensor(k)) for k in range(9)], -1)
    assert torch.equal(every.sort(-1).values, torch.arange(1, 10).expand_as(every))
    top = ll.top_tokens(logits, 9)
    by_rank = every.gather(-1, top.tokens)
    assert torch.equal(by_rank, torch.arange(1, 10).expand_as(every))
    assert torch.equal(top.logits, logits.gather(-1, top.tokens))


@pytest.mark.parametrize("k", [0, 10])
def test_more_tokens_than_there_are_is_an_error(k):
    with pytest.raises(ValueError, match=f"1-9 top tokens, got {k}"):
        ll.top_tokens(torch.zeros(2, 9), k)


def test_an_unknown_site_or_position_is_an_error(adapter, one_image, group_of):
    recording = recorded(adapter, one_image, group_of)
    S = len(recording.group.ids)
    with pytest.raises(ValueError, match="attn.*mlp.*block.*got 'heads'"):
        ll.project(adapter, recording, "heads")
    for at in ([S], [-1], []):
        with pytest.raises(ValueError, match=f"positions in 0-{S - 1}"):
            ll.project(adapter, recording, "attn", at)
    with pytest.raises(KeyError, match="did not keep 'mlp'"):
        ll.project(adapter, record(adapter, recording.group), "mlp")


def test_scores_that_are_not_finite_are_rejected(adapter, one_image, group_of):
    recording = recorded(adapter, one_image, group_of)
    recording.outputs["mlp"][1][0, recording.group.last[0]] = torch.nan
    with pytest.raises(ValueError, match="lens of mlp in layer 1 is not finite.*float32"):
        ll.project(adapter, recording, "mlp")


def test_the_sweep_is_the_lens_of_each_question_alone(adapter, triples, vocabulary, tmp_path):
    some = triples[:12]
    lens = sweep(adapter, some, tmp_path, top=3)
    assert lens.ids == [t.id for t in some]
    assert len({t.image_id for t in some}) < len(some), "some must share an image"
    for n, t in enumerate(some):
        twins, own = plain_lens(adapter, t)
        gold = adapter.answer_id(t.answer)
        kinds = vocabulary.kinds(find_cues(t))
        assert lens.right[n] == (int(own.argmax()) == gold)
        for k, site in enumerate(ll.SITES):
            p = twins[site].softmax(-1).numpy()
            assert np.abs(lens.p[n, k] - p[:, gold]).max() <= 1e-12
            assert lens.rank[n, k].tolist() == [1 + (row > row[gold]).sum() for row in p]
            assert lens.top[n, k].tolist() == np.argsort(-p, kind="stable")[:, :3].tolist()
            for j in range(len(KINDS)):
                assert np.abs(lens.mass[n, k, :, j] - p[:, kinds == j].sum(-1)).max() <= 1e-12
    assert np.abs(lens.mass.sum(-1) - 1).max() <= 1e-12
    assert 0 < lens.right.sum() < len(some), "the tiny model must be right and wrong"


def test_a_second_sweep_computes_nothing_and_an_interrupted_one_goes_on(
    adapter, triples, tmp_path, monkeypatch
):
    first = sweep(adapter, triples[:8], tmp_path)
    seen = []
    monkeypatch.setattr(
        ll, "record", lambda a, group, **k: seen.append(len(group.gold)) or record(a, group, **k)
    )
    again = sweep(adapter, triples[:8][::-1], tmp_path)
    for name in ("p", "rank", "mass", "top"):
        assert np.array_equal(getattr(first, name)[::-1], getattr(again, name))
    assert seen == []
    more = sweep(adapter, triples[:11], tmp_path)
    assert sum(seen) == 3 and np.array_equal(more.p[:8], first.p)


def test_other_cues_or_another_number_of_tokens_are_computed_anew(adapter, triples, tmp_path):
    """What counts as a word of the picture changes with its scene graph."""
    t, picture = triples[0], KINDS.index("picture")
    some, none = Cues(frozenset(), frozenset({"grass"})), Cues(frozenset({"grass"}), frozenset())
    assert ll.sweep(adapter, [t], tmp_path, {t.id: some}).mass[..., picture].min() > 0
    assert ll.sweep(adapter, [t], tmp_path, {t.id: none}).mass[..., picture].max() == 0
    assert ll.sweep(adapter, [t], tmp_path, {t.id: none}, top=2).top.shape[-1] == 2


def test_cases_are_the_first_rightly_answered_by_id_yes_and_no_in_turn(triples):
    some = sorted(triples, key=lambda t: t.id)[:12]
    right = np.arange(12) % 3 > 0
    rank = np.where(right, 1, 2)[:, None, None] * np.ones((1, 3, 2), int)
    lens = ll.Lens([t.id for t in some], rank, rank, rank, rank)
    kept = [t for t, r in zip(some, right, strict=True) if r]
    yes, no = ([t for t in kept if t.answer == a] for a in ("Yes", "No"))
    assert yes and no
    chosen = ll.first_right(lens, some[::-1], 2)
    assert chosen == [yes[0], no[0]]
    assert ll.first_right(lens, some, 1) == [yes[0]]
    assert sorted(t.id for t in ll.first_right(lens, some, 99)) == [t.id for t in kept]
    assert ll.first_right(replace(lens, rank=rank * 2), some, 2) == []


def test_kinds_by_hand(vocabulary, triples):
    t = replace(
        triples[0],
        question="Is the chair to the left of the man made of wood?",
        full_answer="No, the chair is made of metal.",
    )
    graph = {"location": "street", "objects": {"1": {"name": "man", "attributes": ["blue"]}}}
    kinds = dict(zip(vocabulary.texts, vocabulary.kinds(find_cues(t, graph)), strict=True))
    named = {
        "answer": ["Yes", "No", "yes", "no"],
        "question": ["chair", "left", "wood", "man"],
        "picture": ["metal", "street", "blue"],
        "formatting": [".", "?", "<s>", "<image>", "<unk>", "-"],
        "other": ["the", "made", "dog", "right", "to", "many", "answer"],
    }
    for kind, words in named.items():
        assert [KINDS[kinds[w]] for w in words] == [kind] * len(words), kind


def test_a_stem_stands_for_its_word_and_a_short_or_function_word_does_not(vocabulary):
    known = {"hold": 0, "holding": 1, "ho": 2, "the": 3, "thermos": 4, "no": 5, "none": 6}
    voc = object.__new__(Vocabulary)
    voc._ids = {w: [i] for w, i in known.items()}
    assert voc.ids({"holding"}) == [0, 1]
    assert voc.ids({"thermos"}) == [4]
    assert voc.ids({"none"}) == [6]
    assert voc.ids(()) == []


def test_content_words_leave_out_answers_and_function_words():
    assert content_words("No, there is a Bird in this picture.") == {"bird"}
    assert content_words("Is the man to the left of the sofa?") == {"man", "left", "sofa"}
    assert content_words("Yes") == set()


def test_chance_takes_the_cues_of_other_questions(adapter, triples, vocabulary, tmp_path):
    some = triples[:4]
    lens = sweep(adapter, some, tmp_path)
    other = [find_cues(t) for t in some[1:] + some[:1]]
    kinds = lens.top_kinds(vocabulary, other)
    assert kinds.shape == lens.top.shape
    assert np.array_equal(kinds[2], vocabulary.kinds(other[2])[lens.top[2]])
    with pytest.raises(ValueError, match="cues of each of 4 rows, got 3"):
        lens.top_kinds(vocabulary, other[:3])


def test_cues_of_the_shipped_world_come_from_question_graph_and_full_answer(triples, world):
    graphs = scene_graphs(world, "analysis")
    t = next(t for t in triples if t.category == "action" and t.answer == "No")
    cues, objects = find_cues(t, graphs[t.image_id]), graphs[t.image_id]["objects"].values()
    assert cues.question == content_words(t.question)
    assert content_words(t.full_answer) <= cues.question | cues.picture
    assert {o["name"] for o in objects} <= cues.question | cues.picture
    assert {a for o in objects for a in o["attributes"]} <= cues.picture | cues.question
    assert not cues.question & cues.picture


def test_a_case_shows_the_top_tokens_of_the_plain_forward(adapter, one_image, vocabulary):
    t = one_image[0]
    case, twins = ll.read_case(adapter, t, vocabulary, top=4), plain_lens(adapter, t)[0]
    assert case.gold == t.answer
    for site in ll.SITES:
        best = twins[site].topk(4)
        words = [[vocabulary.texts[i] for i in row] for row in best.indices.tolist()]
        assert case.words[site][:, 0].tolist() == words
        assert np.abs(case.logits[site][:, 0] - best.values.numpy()).max() <= 1e-12


@pytest.mark.parametrize("which", ["adapter", "blip"])
def test_a_case_at_every_token_names_the_question_and_ends_at_the_last(which, triples, request):
    adapter, t = request.getfixturevalue(which), triples[0]
    vocabulary = Vocabulary(adapter)
    case = ll.read_case(adapter, t, vocabulary, every_token=True)
    at_end = ll.read_case(adapter, t, vocabulary)
    assert "".join(case.tokens[:-1]) == t.question.replace(" ", "")
    assert case.tokens[-1:] == at_end.tokens
    assert np.array_equal(case.words["mlp"][:, -1:], at_end.words["mlp"])


def test_a_question_without_a_known_form_shows_all_tokens_after_the_image(adapter, triples):
    t = replace(triples[0], question="Does it?")
    group = adapter.encode(t.image, [t.question], [t.answer])
    case = ll.read_case(adapter, t, Vocabulary(adapter), every_token=True)
    assert len(case.tokens) == len(group.ids) - group.image[1]


def case_of(triple, words, layers=32):
    grid = np.array([[words] * 2] * layers, dtype=object)
    values = np.arange(grid.size, dtype=float).reshape(grid.shape)
    sites = ("attn", "mlp", "block")
    return ll.Case(
        triple, "Yes", ["a", "$b$"], dict.fromkeys(sites, grid), dict.fromkeys(sites, values)
    )


@pytest.fixture
def texts_of(tmp_path):
    """All texts of a figure that was drawn, which fails where one cannot be."""

    def texts(figure):
        figure.savefig(tmp_path / "figure.png")
        return [t.get_text() for t in figure.findobj(plt.Text)]

    return texts


@pytest.mark.filterwarnings("error:Glyph")
def test_tokens_and_questions_are_drawn_as_they_are_written(triples, texts_of):
    words = ["$x$", r"\frac{", "漢字", "a" * 30, "Yes"]
    asked = replace(triples[0], question="Is the $car$ $?")
    texts = texts_of(drawn.lens_cases([case_of(asked, words)]))
    for seen in ("$x$", r"\frac{", "□□", "a" * 9 + "…", "Yes"):
        assert texts.count(seen) == 2 * 8, seen
    assert any("Is the $car$ $?" in t for t in texts)
    assert "$b$" in texts_of(drawn.lens_tokens(case_of(asked, words)))


@pytest.mark.parametrize(
    "layers, shown",
    [(8, list(range(8))), (2, [0, 1]), (32, list(range(3, 32, 4))), (12, [1, 3, 5, 7, 9, 11])],
)
def test_a_deep_model_shows_every_nth_layer_and_always_the_last(layers, shown, triples):
    assert drawn.layers_shown(layers) == shown
    figure = drawn.lens_cases([case_of(triples[0], ["a"], layers)] * 2)
    panels = [ax for ax in figure.axes if ax.get_ylabel() == "attention"]
    assert len(panels) == 2
    assert [int(t.get_text()) for t in panels[0].get_xticklabels()] == shown


def test_curves_have_a_line_per_site_and_ranks_have_the_top_above():
    band = Band(np.arange(1.0, 5), np.arange(1.0, 5), np.arange(1.0, 5))
    curves = {
        c: dict.fromkeys(ll.SITES, band) for c in ("color", "action", "indoor", "animal", "spatial")
    }
    figure = drawn.lens_curves(curves, label="rank", log=True)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == list(curves)
    assert all(len(ax.lines) == 3 and ax.yaxis_inverted() for ax in panels)
    assert not drawn.lens_curves(curves, label="p").axes[0].yaxis_inverted()


def test_bars_of_kinds_add_up_to_the_whole():
    values = np.full((4, len(KINDS)), 1 / len(KINDS))
    figure = drawn.lens_kinds(
        {"a": dict.fromkeys(ll.SITES, values), "b": dict.fromkeys(ll.SITES, values)}
    )
    assert len(figure.axes) == 6
    for ax in figure.axes:
        tops = [bar.get_y() + bar.get_height() for bar in ax.patches]
        assert len(tops) == 4 * len(KINDS) and max(tops) == pytest.approx(1)
