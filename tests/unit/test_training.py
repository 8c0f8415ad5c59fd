"""The loop: what it minimises, who plays, when it stops, what it measures."""

from __future__ import annotations

import math

import pytest
import torch

import psiphi as pp
from helpers.training import Bowl, sgd, weights
from psiphi.basis.errors import ArgumentError, DivergedError
from psiphi.basis.noise import Noise, generator
from psiphi.parts import Batch, Clock, Player, adam
from psiphi.training._adam import lean_step
from psiphi.training._turn import leaves
from scripts.train import build, data, train


def test_every_row_is_seen_once_an_epoch_in_the_seeds_order():
    model, x = Bowl(optimizer=sgd(0.1)), torch.arange(10.0)[:, None]
    pp.fit(model, x, epochs=2, batch_size=4, seed=3, quiet=True)
    first, second = torch.cat(model.seen[:3]), torch.cat(model.seen[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == x.flatten().tolist()
    assert first.tolist() == torch.randperm(10, generator=generator(3, "order", 0)).float().tolist()
    assert first.tolist() != second.tolist()
    assert [len(rows) for rows in model.seen] == [4, 4, 2] * 2


def test_gradient_steps_and_logged_losses_are_the_hand_computed_ones():
    model, x = Bowl(optimizer=sgd(0.5)), torch.arange(6.0)[:, None]
    history = pp.fit(model, x, epochs=2, batch_size=4, seed=1, quiet=True)
    theta, rows = 0.0, []
    for epoch in (model.seen[:2], model.seen[2:]):
        total = 0.0
        for batch in epoch:
            total += 0.5 * float((theta - batch).square().sum())
            theta -= 0.5 * (theta - float(batch.mean()))
        rows.append(total / 6)
    torch.testing.assert_close(model.theta.item(), theta)
    torch.testing.assert_close(history["loss"], rows)


def test_average_is_the_recursion():
    model = Bowl(optimizer=sgd(0.5), ema=0.5)
    path: list[float] = []
    model.player["after_step"] = lambda module: path.append(float(module.theta))
    pp.fit(model, torch.arange(8.0)[:, None], epochs=3, batch_size=4, seed=1, quiet=True)
    average = 0.0
    for n, theta in enumerate(path):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * theta
    torch.testing.assert_close(float(model.theta), average)


def test_clip_bounds_the_step():
    model = Bowl(optimizer=adam(1.0, clip=0.25))
    found = []
    model.player["after_step"] = lambda module: found.append(float(module.theta.grad))
    pp.fit(model, 100 + torch.rand(8, 1), steps=3, batch_size=8, quiet=True)
    assert max(abs(g) for g in found) <= 0.25 * (1 + 1e-5)


def test_the_lean_step_is_adams():
    """Bit for bit, with a schedule and after a step in which one parameter had no gradient."""
    paths = []
    for lean in (False, True):
        parameters = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 2))]
        optimizer = torch.optim.Adam(parameters, lr=0.1, fused=True)
        step = optimizer.step
        for i in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
            for number, parameter in enumerate(parameters):
                parameter.grad = None if (i, number) == (3, 1) else (i + 1) * parameter.detach() ** 2
            step()
            if lean and i == 0:
                step = lean_step(optimizer)
                assert step != optimizer.step
        paths.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.equal(*paths)
    decayed = torch.optim.Adam(parameters, weight_decay=0.1, fused=True)
    assert lean_step(decayed) == decayed.step


def test_schedule_is_followed():
    rates = []
    model = Bowl(optimizer=adam(0.1, schedule=lambda done: rates.append(done) or 1 - done))
    pp.fit(model, torch.rand(8, 1), steps=4, batch_size=8, quiet=True)
    assert rates == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (pp.training.cosine(), {0: 1, 0.5: 0.5, 1: 0}),
        (pp.training.cosine(warmup=0.2, floor=0.1), {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.55, 1: 0.1}),
        (pp.training.linear(floor=0.2), {0: 1, 0.5: 0.6, 1: 0.2}),
    ],
)
def test_schedules(schedule, values):
    for done, factor in values.items():
        assert schedule(done) == pytest.approx(factor)


def test_what_a_loss_closes_over_gets_no_gradient():
    """A lone player whose loss runs through another network: that one is neither moved nor given a gradient."""
    other = torch.nn.Linear(1, 1)
    model = Bowl(optimizer=sgd(0.1))
    loss = lambda module, batch, clock: {"loss": (other(module.theta[None]) - batch.x).square().mean()}  # noqa: E731
    model.players = lambda: [Player(model, loss, sgd(0.1))]
    pp.fit(model, torch.rand(8, 1), steps=3, quiet=True)
    assert model.theta.item() != 0
    assert all(p.grad is None for p in other.parameters())
    known = {id(p) for p in (model.theta, *other.parameters())}
    assert leaves(loss(model, Batch(torch.rand(8, 1), None, Noise.of(0, 8)), Clock())["loss"]) == known


def test_gradients_are_on_whatever_stands_around():
    models = [build(), build()]
    train(models[0], epochs=1)
    with torch.no_grad():
        train(models[1], epochs=1)
    assert torch.equal(weights(models[0]), weights(models[1]))
    with torch.inference_mode(), pytest.raises(ArgumentError, match="inference_mode"):
        train(build(), epochs=1)


def test_two_players_share_a_round_and_opponents_feel_nothing():
    """The critic takes three steps a round on three batches, the other one step on the first."""
    model = Bowl()
    model.other = torch.nn.Linear(1, 1, bias=False)
    start = float(model.other.weight.detach())
    seen = {"critic": 0, "actor": 0}

    def critic(module, batch, clock):
        seen["critic"] += 1
        return {"loss": (module.weight * batch.x - model.theta).square().mean()}

    class Theta(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = model.theta

    def actor(module, batch, clock):
        seen["actor"] += 1
        return {"loss": (module.theta - model.other.weight.mean()).square().mean()}

    model.players = lambda: [  # type: ignore[method-assign]
        Player(model.other, critic, sgd(0.0), steps=3, name="critic"),
        Player(Theta(), actor, sgd(0.1), name="actor"),
    ]
    history = pp.fit(model, torch.rand(12, 1), epochs=2, batch_size=2, quiet=True)
    assert seen == {"critic": 12, "actor": 4}
    assert float(model.other.weight.detach()) == start
    assert float(model.theta.detach()) != 0
    assert {"critic_loss", "actor_loss"} <= set(history.columns)
    assert history.last["step"] == 4


def test_best_weights_on_validation_are_kept():
    """The validation mean is passed on the way to the training mean: the best point lies in between."""
    model = Bowl(optimizer=sgd(0.02))
    held = torch.full((4, 1), 1.0)
    history = pp.fit(model, torch.full((8, 1), 3.0), epochs=60, batch_size=8, validation=held, quiet=True)
    values = history["validation_loss"]
    assert history.best is not None
    assert history.best["validation_loss"] == min(values) < values[-1]
    assert float(0.5 * (model.theta - 1).square()) == pytest.approx(min(values), abs=1e-6)


def test_early_stopping_waits_and_says_why():
    stop = pp.training.early_stopping(patience=5)
    model = Bowl(optimizer=sgd(0.02))
    held = torch.full((4, 1), 1.0)
    history = pp.fit(
        model,
        torch.full((8, 1), 3.0),
        epochs=200,
        batch_size=8,
        validation=held,
        callbacks=[stop],
        quiet=True,
    )
    best = history["validation_loss"].index(min(history["validation_loss"]))
    assert len(history) == best + 6
    assert "no better validation_loss for 5 rows" in history.stopped


def test_interrupt_leaves_a_usable_model(tmp_path):
    def interrupt(moment):
        if len(moment.history) == 2:
            raise KeyboardInterrupt

    model = build()
    history = train(model, tmp_path, callbacks=[interrupt])
    assert history.stopped == "interrupted"
    assert not model.training
    assert model.sample(3).shape == (3, 12)
    torch.testing.assert_close(weights(pp.load(tmp_path, into=build())), weights(model))


def test_divergence_names_the_term_and_goes_back_to_the_last_good_row():
    model = build()
    kept = []

    def poison(moment):
        kept.append({k: v.clone() for k, v in moment.model.state_dict().items()})
        if len(kept) == 2:
            with torch.no_grad():
                moment.model.encoder.network.layers[-1].bias[3:] = 1e4  # ln σ: the rate overflows first

    with pytest.raises(DivergedError, match=r"in .*rate.*weights of step 10.*learning rate") as error:
        pp.fit(model, data(), epochs=9, batch_size=16, quiet=True, callbacks=[poison])
    assert "rate = inf" in str(error.value) or "rate = nan" in str(error.value)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, kept[1][name])


def test_divergence_without_nan():
    with pytest.raises(DivergedError, match="loss"):
        pp.fit(Bowl(optimizer=sgd(10.0)), torch.rand(8, 1), epochs=30, batch_size=8, quiet=True)


def test_statistics_are_measured_once():
    model, x = build(), data()
    train(model, epochs=1)
    torch.testing.assert_close(model.statistics.mean, x.mean(0))
    torch.testing.assert_close(float(model.statistics.sigma), float((x - x.mean(0)).square().mean().sqrt()))
    pp.fit(model, x + 5, epochs=1, quiet=True)
    torch.testing.assert_close(model.statistics.mean, x.mean(0))


def test_half_precision_goes_through_fabric():
    model = build()
    history = pp.fit(model, data(), epochs=2, batch_size=16, precision="bf16-mixed", quiet=True)
    assert math.isfinite(history.last["loss"])
    assert weights(model).dtype == torch.float32
