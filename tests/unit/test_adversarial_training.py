"""Training on attacks: nothing added where nothing moves, the weights of the best robust accuracy, sentences."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.attacks import Battery, Linf, apgd, deepfool, pgd
from psiphi.basis.errors import AccessError, ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.defenses import adversarial_training, robust_accuracy, trades
from psiphi.defenses._adversarial_training import worst_of
from psiphi.parts import Batch
from psiphi.parts.clock import END
from psiphi.training import early_stopping


@pytest.fixture(scope="module")
def digits():
    return pp.data.load("digits")


def classifier(hidden: int = 32):
    return pp.zoo.classifier((1, 8, 8), 10, hidden=(hidden,), seed=0)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def batch(x: torch.Tensor, y: torch.Tensor) -> Batch:
    return Batch(x, y, Noise.of(0, len(x)))


def short(model, data, **how):
    return pp.fit(model, data.train.x[:256], data.train.y[:256], seed=0, quiet=True, **{"epochs": 2, **how})


def test_a_radius_of_zero_is_plain_training(digits):
    plain, hard, priced = classifier(), classifier(), classifier()
    short(plain, digits)
    short(adversarial_training(hard, pgd(Linf(0.0), steps=2)), digits)
    assert torch.equal(weights(hard), weights(plain))
    short(trades(priced, pgd(Linf(0.0), steps=2, goal="kl")), digits)
    assert_close(weights(priced), weights(plain), atol=1e-5, rtol=1e-4)


def test_it_makes_a_network_robust_and_says_so(digits):
    plain, attack = classifier(), pgd(Linf(0.1), steps=3)
    pp.fit(plain, digits.train, epochs=6, seed=0, quiet=True, lr=3e-3)
    judge = pgd(Linf(0.1), steps=20)
    bare = judge(plain, digits.test.x, digits.test.y).accuracy
    for make in (
        lambda net: adversarial_training(net, attack, warmup=2),
        lambda net: trades(net, pgd(Linf(0.1), steps=3, goal="kl"), warmup=2),
    ):
        net = classifier()
        history = pp.fit(make(net), digits.train, epochs=6, seed=0, quiet=True, lr=3e-3)
        assert judge(net, digits.test.x, digits.test.y).accuracy > bare + 0.05
        assert {"accuracy", "clean_accuracy"} <= set(history.columns)
        assert history["clean_accuracy"][-1] > history["accuracy"][-1]


def test_the_monitor_chooses_the_weights(digits):
    net, attack = classifier(), pgd(Linf(0.15), steps=5)
    hard, held = adversarial_training(net, attack), (digits.validation.x, digits.validation.y)
    seen = []
    history = short(
        hard, digits, epochs=5, lr=0.05, validation=held, monitor=robust_accuracy(attack),
        callbacks=[lambda moment: seen.append(weights(moment.model).clone())],
    )  # fmt: skip
    column = history["validation_robust_accuracy"]
    assert history.best is not None
    assert history.best["validation_robust_accuracy"] == max(column)
    assert_close(weights(net), seen[column.index(max(column))], atol=0, rtol=0)
    assert len(set(column)) > 1
    stop = early_stopping(patience=1, column="validation_robust_accuracy", higher=True)
    moment = type("Moment", (), {"history": history})()
    assert (stop(moment) is None) == (column[-1] == max(column) and column.index(max(column)) == 4)


def test_a_monitor_may_be_any_function(digits):
    calls = []

    def certainty(model, batch):
        calls.append(torch.is_grad_enabled())
        return model(batch.x).softmax(1).amax(1)

    history = short(
        classifier(), digits, validation=(digits.validation.x, digits.validation.y), monitor=certainty
    )
    assert 0.1 < history["validation_certainty"][0] < 1
    assert not any(calls)


def test_resumed_training_is_the_whole(digits, tmp_path):
    attack = pgd(Linf(0.1), steps=2)
    whole, parts = classifier(), classifier()
    how = {"validation": (digits.validation.x, digits.validation.y), "monitor": robust_accuracy(attack)}
    make = lambda net: adversarial_training(net, attack, warmup=3)  # noqa: E731
    one = short(make(whole), digits, epochs=4, **how)
    short(make(parts), digits, epochs=2, out=tmp_path / "run", checkpoint_every=0, **how)
    again = classifier()
    two = short(make(again), digits, epochs=4, out=tmp_path / "run", resume=True, **how)
    assert torch.equal(weights(again), weights(whole))
    assert two["validation_robust_accuracy"] == one["validation_robust_accuracy"]


def test_what_is_saved_is_a_classifier(digits, tmp_path):
    net = classifier()
    hard = adversarial_training(net, pgd(Linf(0.1), steps=2), warmup=1.5)
    short(hard, digits, epochs=1)
    pp.save(hard, tmp_path / "hard")
    loaded = pp.load(tmp_path / "hard")
    assert_close(loaded(digits.test.x[:5]), net(digits.test.x[:5]), atol=0, rtol=0)
    told = loaded.provenance["model"]["training"]
    assert told["adversarial_training"] == repr(pgd(Linf(0.1), steps=2))
    assert told["warmup"] == 1.5


def test_rows_without_a_label_are_left_out(digits):
    some, all_ = classifier(), classifier()
    x, y = digits.train.x[:64], digits.train.y[:64].clone()
    attack = pgd(Linf(0.0), steps=1)
    keep = torch.arange(64) % 2 == 0
    y[~keep] = -1
    pp.fit(adversarial_training(some, attack), x, y, epochs=1, batch_size=64, seed=0, quiet=True)
    pp.fit(all_, x, y, epochs=1, batch_size=64, seed=0, quiet=True)
    assert_close(weights(some), weights(all_), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda net: adversarial_training(net, pgd(Linf(0.0), steps=1)),
        lambda net: trades(net, pgd(Linf(0.0), steps=1, goal="kl")),
    ],
)
def test_a_batch_without_a_label_adds_nothing(digits, make):
    """Six labels in 24 batches of 4; without a radius the weights are those of plain training."""
    some, all_ = classifier(), classifier()
    x, y = digits.train.x[:96], torch.where(torch.arange(96) < 6, digits.train.y[:96], -1)
    history = pp.fit(make(some), x, y, epochs=1, batch_size=4, seed=0, quiet=True)
    pp.fit(all_, x, y, epochs=1, batch_size=4, seed=0, quiet=True)
    assert_close(weights(some), weights(all_), atol=1e-5, rtol=1e-4)
    assert {"loss", "accuracy", "clean_accuracy"} <= set(history.columns)


def test_a_monitor_s_mean_is_over_the_rows_that_it_judges(digits):
    """Seven labels in eight batches of 4: the share of right rows is that of the seven."""
    net, x = classifier(), digits.validation.x[:32]
    y = torch.where(torch.arange(32) % 5 == 0, digits.validation.y[:32], -1)
    monitor = robust_accuracy(pgd(Linf(0.0), steps=1))
    history = short(net, digits, epochs=1, batch_size=4, validation=(x, y), monitor=monitor)
    right = (net.predict(x) == y)[y >= 0].double().mean()
    assert 0 < right < 1
    assert history["validation_robust_accuracy"][-1] == pytest.approx(float(right))
    with pytest.raises(DataError, match="robust_accuracy judged none of the validation rows"):
        short(classifier(), digits, epochs=1, validation=(x, torch.full_like(y, -1)), monitor=monitor)


def test_bounds_are_those_of_the_data(digits, tmp_path):
    """x in [0, 1] and 2x − 1 in [−1, 1], with twice the radius, train the same network."""
    x, y, scale = digits.train.x[:128].double(), digits.train.y[:128], {0.1: (0.0, 1.0), 0.2: (-1.0, 1.0)}
    nets = []
    for eps, bounds in scale.items():
        net = classifier().double()
        given = x if eps == 0.1 else 2 * x - 1
        hard = adversarial_training(net, pgd(Linf(eps), steps=2), bounds=bounds)
        monitor = robust_accuracy(pgd(Linf(eps), steps=2), bounds=bounds)
        pp.fit(hard, given, y, steps=4, seed=0, quiet=True, validation=(given, y), monitor=monitor)
        moved = worst_of(hard, pgd(Linf(eps), steps=2), batch(given, y), END, bounds=bounds)[1].x
        assert (moved.min(), moved.max()) == bounds
        nets.append(net)
    assert_close(nets[1](2 * x - 1), nets[0](x), atol=1e-6, rtol=1e-6)
    with pytest.raises(AccessError, match="outside the bounds"):
        pp.fit(adversarial_training(classifier(), pgd(Linf(0.1))), 2 * x - 1, y, steps=1, quiet=True)
    pp.save(hard, tmp_path / "hard")
    told = pp.load(tmp_path / "hard").provenance["model"]["training"]
    assert told["bounds"] == [-1.0, 1.0]


def test_a_battery_and_dropout_train_without_a_word(digits, recwarn):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
    wrapped = pp.zoo.classifier((1, 8, 8), 10, network=net)
    attack = Battery([apgd(Linf(0.1), steps=3), pgd(Linf(0.1), steps=2)])
    short(adversarial_training(wrapped, attack), digits, steps=2, epochs=None)
    assert not [w for w in recwarn if "train mode" in str(w.message)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: adversarial_training(nn.Linear(2, 2), pgd(Linf(0.1))), "wrap it"),
        (lambda: adversarial_training(classifier(), deepfool()), "within one radius"),
        (
            lambda: adversarial_training(classifier(), pgd(Linf(torch.tensor([0.1, 0.2])))),
            "within one radius",
        ),
        (lambda: adversarial_training(classifier(), "pgd"), "one of ours"),
        (lambda: adversarial_training(classifier(), pgd(Linf(0.1)), warmup=-1), "warmup"),
        (lambda: adversarial_training(classifier(), pgd(Linf(0.1)), clean=1.0), "share"),
        (lambda: trades(classifier(), pgd(Linf(0.1))), "goal='kl'"),
        (lambda: trades(classifier(), pgd(Linf(0.1), goal="kl"), beta=-1.0), "beta"),
        (lambda: trades(classifier(), Battery([pgd(Linf(0.1), goal="kl")])), "one attack, not several"),
        (lambda: trades(classifier(), pgd(Linf(0.1), goal="kl"), beta=None), "beta"),
        (lambda: adversarial_training(classifier(), pgd(Linf(0.1)), warmup="1"), "warmup"),
        (lambda: adversarial_training(classifier(), pgd(Linf(0.1)), clean="1"), "share"),
        (lambda: adversarial_training(classifier(), pgd(Linf(0.1)), bounds=(1.0, 0.0)), "lower first"),
    ],
)
def test_sentences(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()


def test_labels_and_validation_are_asked_for(digits):
    with pytest.raises(DataError, match="needs labels"):
        pp.fit(adversarial_training(classifier(), pgd(Linf(0.1))), digits.train.x[:64], steps=1, quiet=True)
    with pytest.raises(ArgumentError, match="validation="):
        short(classifier(), digits, monitor=robust_accuracy(pgd(Linf(0.1))))
