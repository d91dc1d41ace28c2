"""Training resumes from its checkpoints as if it had never stopped."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vseam_lib.world.loop import Run, optimiser, schedule, train


def step(module, opt, seed):
    x = torch.randn(8, 5, generator=torch.manual_seed(seed))
    loss = F.mse_loss(module(x), x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()


def new():
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 1)
    return module, optimiser(module.parameters(), 0.1)


def test_a_training_that_resumes_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, opt = new()
    for seed in range(4):
        step(whole, opt, seed)

    first, opt = new()
    step(first, opt, 0)
    step(first, opt, 1)
    Run(tmp_path, 0).save("decoder", 2, first, opt)
    (tmp_path / "decoder.part").write_bytes(b"a save that was killed")

    resumed, opt = new()
    with torch.no_grad():
        resumed.weight.zero_()
    assert Run(tmp_path, 0).resume("decoder", resumed, opt) == 2
    step(resumed, opt, 2)
    step(resumed, opt, 3)
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_a_training_without_checkpoint_starts_at_the_beginning(tmp_path):
    module, opt = new()
    before = module.weight.clone()
    assert Run(tmp_path, 0).resume("decoder", module, opt) == 0
    assert torch.equal(module.weight, before)


def test_stages_have_checkpoints_of_their_own(tmp_path):
    module, opt = new()
    Run(tmp_path, 0).save("vision", 7, module, opt)
    assert Run(tmp_path, 0).resume("decoder", module, opt) == 0
    assert Run(tmp_path, 0).resume("vision", module, opt) == 7


def test_only_the_first_process_writes(tmp_path):
    module, opt = new()
    run = Run(tmp_path, 1)
    run.save("vision", 7, module, opt)
    run.log(stage="vision")
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_warms_up_and_decays():
    rates = [schedule(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 20)
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(1.0) and peak <= 20
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.02 <= rates[-1] < 0.03


class Interrupted(Exception):
    pass


def trained(out, *, stop=None, seed=0, stage="decoder", width=5):
    """A small module with dropout after 12 steps; ``stop`` kills it before that step."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(width, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )

    def loss_of(step, rng):
        if step == stop:
            raise Interrupted
        x = torch.from_numpy(rng.normal(size=(16, width))).float()
        loss = F.mse_loss(module(x), x.sum(1, keepdim=True))
        return loss, {"loss": loss.item()}

    groups = [(module[0].parameters(), 1.0), (module[2].parameters(), 0.1)]
    recipe = {"steps": 12, "lr": 0.05}
    run = Run(out, 0, seed)
    train(run, stage, module, groups, recipe, loss_of, log_every=4, save_every=3)
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("stop", [3, 5, 11])
def test_a_stage_killed_at_any_step_ends_exactly_where_an_uninterrupted_one_does(tmp_path, stop):
    """Random numbers of NumPy and of torch's dropout, moments and learning rate included."""
    whole = trained(tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(tmp_path / "killed", stop=stop)
    torch.manual_seed(123)  # whatever ran in between must not matter
    assert torch.equal(trained(tmp_path / "killed"), whole)


def test_a_finished_stage_is_not_trained_again(tmp_path):
    whole = trained(tmp_path)
    assert torch.equal(trained(tmp_path, stop=0), whole)


def test_another_seed_or_stage_draws_other_numbers(tmp_path):
    runs = [
        trained(tmp_path / "a"),
        trained(tmp_path / "b", seed=1),
        trained(tmp_path / "c", stage="alignment"),
    ]
    assert not torch.allclose(runs[0], runs[1]) and not torch.allclose(runs[0], runs[2])


def test_a_group_learns_at_its_share_of_the_rate(tmp_path):
    """A share of 0 does not learn at all."""
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 1)
    before = module.weight.clone(), module.bias.clone()

    def loss_of(step, rng):
        return module(torch.ones(1, 5)).pow(2).sum(), {}

    groups = [([module.weight], 1.0), ([module.bias], 0.0)]
    train(Run(tmp_path, 0), "decoder", module, groups, {"steps": 3, "lr": 0.1}, loss_of)
    assert not torch.equal(module.weight, before[0]) and torch.equal(module.bias, before[1])


def test_the_log_holds_the_mean_of_the_steps_since_the_last_line(tmp_path):
    module = torch.nn.Linear(1, 1)

    def loss_of(step, rng):
        return module.weight.sum(), {"loss": step, "pair": (step, -step)}

    groups = [(module.parameters(), 1.0)]
    recipe = {"steps": 4, "lr": 0.1}
    train(Run(tmp_path, 0), "decoder", module, groups, recipe, loss_of, log_every=2)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["step"]) for row in rows] == [("decoder", 2), ("decoder", 4)]
    assert [row["loss"] for row in rows] == [0.5, 2.5]
    assert [row["pair"] for row in rows] == [[0.5, -0.5], [2.5, -2.5]]
