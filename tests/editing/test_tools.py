from dataclasses import replace
from types import SimpleNamespace

import pytest

from vseam_lib.editing import tools
from vseam_lib.editing.settings import EditSettings
from vseam_lib.vlm.images import open_image


def edit_of(triple, after):
    return SimpleNamespace(
        triple=triple, before=open_image(triple.image), after=open_image(after), counterfactual=None
    )


def test_the_worlds_judge_is_refused_for_other_data(tmp_path):
    with pytest.raises(ValueError, match="knows the embedded world only"):
        tools.judge_for(EditSettings(), tmp_path)


def test_nobody_judges_if_nobody_is_named(world):
    assert tools.judge_for(EditSettings(judge=""), world) is None


def test_a_second_model_judges_if_it_is_named(world, triples, edited, adapter32, monkeypatch):
    monkeypatch.setattr(tools, "load", lambda name, **_: adapter32)
    judge = tools.judge_for(EditSettings(judge="another/model"), world)
    verdicts = [judge(edit_of(t, edited[t.id])) for t in triples]
    assert None in verdicts, "a model that is wrong on the original cannot tell"
    assert {v for v in verdicts if v is not None} <= {True, False}


def test_the_offline_rewriter_of_a_run_knows_the_pictures(world, triples):
    settings = EditSettings()
    one = tools.rewriter_for(settings, world, "analysis")
    assert one.name != tools.rewriter_for(replace(settings, seed=1), world, "analysis").name
    assert "world" in one.name and "present" in one.name
    assert len(one.rewrite(triples)) == len(triples)


def test_a_named_language_model_rewrites(world, tmp_path):
    settings = EditSettings(rewriter="some-model", base_url="http://127.0.0.1:9/v1")
    rewriter = tools.rewriter_for(settings, world, "analysis", cache=tmp_path)
    assert "some-model" in rewriter.name and "127.0.0.1:9" in rewriter.name
