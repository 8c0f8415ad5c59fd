"""What the loop is fed, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import psiphi as pp
from helpers.training import Bowl, weights
from psiphi.basis.errors import ArgumentError, DataError, LaunchError, ShapeError
from psiphi.basis.noise import Noise, generator
from psiphi.data.streams import as_source
from psiphi.parts import adam
from psiphi.training._feed import Feed
from scripts.train import build, data, train


def test_global_random_state_device_and_gradients_are_left_alone():
    state = torch.get_rng_state()
    model = build()
    expected = torch.get_rng_state()
    train(model, epochs=1)
    assert torch.equal(expected, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    torch.set_rng_state(state)


def test_seed_decides_the_run():
    runs = []
    for seed in (0, 0, 1):
        model = build()
        train(model, epochs=1, seed=seed)
        runs.append(weights(model))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_sources_that_hold_the_same_rows_train_the_same(tmp_path):
    x = data()
    np.save(tmp_path / "x.npy", x.numpy())
    results = []
    for source in (x, x.numpy(), np.load(tmp_path / "x.npy", mmap_mode="r"), TensorDataset(x)):
        model = build()
        pp.fit(model, source, epochs=2, batch_size=16, quiet=True)
        results.append(weights(model))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_loader_and_sampler_sources():
    model = build()
    history = pp.fit(model, DataLoader(TensorDataset(data()), batch_size=35), epochs=3, quiet=True)
    assert history["step"] == [2, 4, 6]

    def gaussian(n: int, noise: Noise):
        return 3 + noise.normal((1,))

    bowl = Bowl(optimizer=adam(0.05))
    pp.fit(bowl, gaussian, steps=400, batch_size=64, quiet=True)
    assert float(bowl.theta) == pytest.approx(3, abs=0.1)
    again = Bowl(optimizer=adam(0.05))
    pp.fit(again, gaussian, steps=400, batch_size=64, quiet=True)
    assert float(again.theta) == float(bowl.theta)


def test_a_loader_cannot_be_shared_by_processes():
    loader = as_source(DataLoader(TensorDataset(data()), batch_size=35))
    two = SimpleNamespace(size=2, rank=0, device=torch.device("cpu"))
    with pytest.raises(ArgumentError, match="2 processes cannot share"):
        Feed(loader, 16, 0, two, torch.float32)


def test_uint8_is_k_over_255():
    pixels = torch.randint(0, 256, (40, 12), dtype=torch.uint8, generator=generator(0))
    results = []
    for x in (pixels, pixels.float() / 255):
        model = pp.zoo.vae(12, latent_dim=2, hidden=(8,))
        pp.fit(model, x, epochs=2, batch_size=16, quiet=True)
        results.append(weights(model))
    torch.testing.assert_close(*results)


def test_history_is_a_table_and_a_csv(tmp_path):
    history = train(build(), tmp_path)
    assert history["step"] == [5, 10, 15, 20]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert "validation_nll" in history.columns
    assert "(4 rows, done)" in repr(history)
    with pytest.raises(KeyError, match="it has step, epoch, loss"):
        history["accuracy"]
    assert history.provenance["seed"] == 5
    assert len(history.provenance["data"]) == 64


def test_nothing_is_written_without_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(build(), epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_data_sets_own_validation_split_is_used():
    digits = pp.data.load("digits")
    history = pp.fit(pp.zoo.pca(digits.shape, 2), digits, quiet=True)
    assert 0 < history.last["explained"] < 1
    history = pp.fit(pp.zoo.ae(digits.shape, 2, hidden=(4,)), digits, steps=2, quiet=True)
    assert "validation_loss" in history.columns


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (dict(epochs=1, steps=2), ArgumentError, "epochs or steps, not both"),
        (dict(epochs=0), ArgumentError, "epochs must be a whole number of at least 1"),
        (dict(batch_size=-3), ArgumentError, "batch_size"),
        (dict(lr=-1.0), ArgumentError, "lr must be a positive number"),
        (dict(x=torch.full((9, 12), math.nan)), DataError, "finite|NaN"),
        (dict(x=torch.rand(9, 11)), ShapeError, r"\(11\).*built for \(12\)"),
        (dict(x=torch.rand(0, 12)), DataError, "0"),
        (dict(x=torch.rand(1, 12)), DataError, "1 row|one row|single"),
        (dict(precision="8"), ArgumentError, "bf16-mixed"),
        (dict(devices=0), ArgumentError, "devices"),
        (dict(device="abacus"), ArgumentError, "no device 'abacus' here; use cpu"),
        (dict(devices=2), LaunchError, "torchrun --nproc-per-node 2"),
    ],
)
def test_bad_calls_get_a_sentence(change, error, sentence):
    arguments = dict(x=torch.rand(9, 12), epochs=1, quiet=True) | change
    if "steps" in change and "epochs" not in change:
        arguments.pop("epochs")
    with pytest.raises(error, match=sentence):
        pp.fit(build(), **arguments)


def test_nan_rows_are_counted():
    x = data()
    x[3, 2], x[7, 0] = math.nan, math.inf
    with pytest.raises(DataError, match=r"2 of 70 rows \(rows 3, 7\)"):
        pp.fit(build(), x, epochs=1, quiet=True)


def test_bernoulli_refuses_what_is_not_in_the_unit_interval():
    model = pp.zoo.vae(12, latent_dim=2, likelihood="bernoulli")
    with pytest.raises(DataError, match=r"Bernoulli likelihood needs values in \[0, 1\].*255.*gaussian"):
        pp.fit(model, 255 * data().round(), epochs=1, quiet=True)


def test_a_classifier_needs_labels_in_range():
    model = pp.zoo.classifier(12, classes=3, hidden=(4,))
    with pytest.raises(DataError, match="needs labels"):
        pp.fit(model, data(), epochs=1, quiet=True)
    with pytest.raises(DataError, match="classes=4"):
        pp.fit(model, data(), torch.full((70,), 3), epochs=1, quiet=True)


def test_unknown_labels_do_not_count():
    x = data()
    y = (x[:, 0] > 0.5).long()
    full, part = (pp.zoo.classifier(12, classes=2, hidden=(4,)) for _ in range(2))
    pp.fit(full, x[:35], y[:35], steps=3, batch_size=35, quiet=True)
    unknown = torch.cat([y[:35], torch.full((35,), -1)])
    history = pp.fit(part, x, unknown, steps=3, batch_size=70, quiet=True)
    assert math.isfinite(history.last["loss"])


def test_other_models_are_refused_with_a_way_out():
    with pytest.raises(ArgumentError, match=r"pp\.zoo\.classifier"):
        pp.fit(torch.nn.Linear(2, 2), torch.rand(4, 2))
