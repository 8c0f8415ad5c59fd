"""`psiphi train classifier` on attacks and on noise: what is saved, what is said, and bad input."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import psiphi as pp

TINY = ("--epochs", 2, "--hidden", 16, "--lr", 0.01, "--quiet")


@pytest.fixture(scope="module")
def hard(psiphi: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("hardened") / "hard"
    options = (
        "--attack",
        "pgd",
        "--threat",
        "linf:0.1",
        "--attack-steps",
        2,
        "--attack-warm-up",
        1,
        "--clean",
        0.25,
    )
    return folder, psiphi.ask("train", "classifier", *TINY, *options, "--out", folder)


def test_the_weights_are_those_of_python(hard: tuple[Path, Any]) -> None:
    digits = pp.data.load("digits")
    net = pp.zoo.classifier(digits.shape, 10, hidden=(16,), seed=0)
    attack = pp.attacks.pgd(pp.attacks.Linf(0.1), steps=2)
    trained = pp.defenses.adversarial_training(net, attack, warmup=1, clean=0.25)
    monitor = pp.defenses.robust_accuracy(attack)
    history = pp.fit(trained, digits, epochs=2, lr=0.01, seed=0, quiet=True, monitor=monitor)
    x = digits.test.x[:20]
    torch.testing.assert_close(pp.load(hard[0])(x), net(x), atol=1e-6, rtol=1e-5)
    assert history.best is not None
    chosen = hard[1]["best"]["validation_robust_accuracy"]
    assert chosen == pytest.approx(history.best["validation_robust_accuracy"], abs=1e-6)


def test_its_record_is_of_the_validation_rows(hard: tuple[Path, Any]) -> None:
    folder, record = hard
    told = record["hardening"]
    digits, model = pp.data.load("digits"), pp.load(folder)
    x, y = digits.validation.x, torch.as_tensor(digits.validation.y)
    attack = pp.attacks.pgd(pp.attacks.Linf(0.1), steps=2)
    assert told["clean"]["hits"] == int((model.predict(x) == y).sum())
    assert told["robust"]["hits"] == int(attack(model, x, y).robust.sum())
    assert told["robust"]["hits"] < told["clean"]["hits"]
    assert told["trained_on"] == {"adversarial_training": repr(attack), "warmup": 1.0, "clean": 0.25}


def test_attack_opens_it(psiphi: Any, hard: tuple[Path, Any]) -> None:
    record = psiphi.ask("attack", hard[0], "--attack", "fgsm", "--limit", 8, "--quiet")
    assert record["rows"] == 8
    assert pp.load(hard[0]).can == ("predict",)


def test_trades_and_noise(psiphi: Any, tmp_path: Path) -> None:
    one, few = ("train", "classifier", "--steps", 3, "--hidden", 8, "--quiet"), ("--attack-steps", 2)
    said = psiphi.call(*one, "--attack", "pgd", "--trades", 3, *few, "--out", tmp_path / "trades").stdout
    assert "Trained on pgd Linf(0.1), 2 steps, TRADES with β = 3." in said
    assert "validation rows, which chose the weights" in said
    assert "--attack auto --threat linf:0.1" in said
    recipe = pp.load(tmp_path / "trades").provenance["model"]["training"]
    assert recipe["beta"] == 3.0
    assert "goal='kl'" in recipe["trades"]
    said = psiphi.call(*one, "--noise", 0.25, "--no-validation", "--out", tmp_path / "noisy").stdout
    assert "Trained on noise of σ = 0.25." in said
    assert "validation rows" not in said
    assert f"psiphi defend {tmp_path / 'noisy'} --smooth 0.25" in said
    assert pp.load(tmp_path / "noisy").provenance["model"]["training"] == {"noise": 0.25}


def test_patience_waits_for_the_accuracy_under_attack(psiphi: Any, tmp_path: Path) -> None:
    record = psiphi.ask(
        "train", "classifier", "--attack", "fgsm", "--threat", "linf:0.05", "--hidden", 8, "--lr", 0.05, "--epochs",
        15, "--batch-size", 512, "--patience", 1, "--quiet", "--out", tmp_path / "run",
    )  # fmt: skip
    assert record["stopped"] == "no better validation_robust_accuracy for 1 rows"
    with (tmp_path / "run" / "log.csv").open() as log:
        seen = [float(row["validation_robust_accuracy"]) for row in csv.DictReader(log)]
    assert len(seen) == record["rows"] > 2
    assert all(later > earlier for earlier, later in pairwise(seen[:-1]))
    assert seen[-1] <= seen[-2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vae", "--attack", "pgd"), "--attack trains a classifier, and vae has no classes"),
        (("vae", "--noise", 0.25), "--noise trains a classifier"),
        (("pca", "--threat", "linf:0.1"), "--threat is of training on attacks: name one"),
        (("classifier", "--attack-warm-up", 3), "--attack-warm-up is of training on attacks"),
        (("classifier", "--attack", "pgd", "--noise", 0.1), "choose one of the two"),
        (("classifier", "--attack", "pgd", "--trades", 6, "--clean", 0.5), "leave --clean out"),
        (("classifier", "--attack", "fgsm", "--trades", 6), "fgsm has a goal of its own"),
        (("classifier", "--attack", "pgd", "--trades", -1), "beta is a finite weight"),
        (("classifier", "--attack", "ddn", "--threat", "l2"), "within one radius"),
        (("classifier", "--attack", "pgd", "--clean", 1), "clean is a share"),
        (("classifier", "--data", "moons", "--attack", "pgd"), "takes data in [0, 1], and moons reaches"),
        (("classifier", "--noise", 0), "sigma is a finite noise level above 0"),
    ],
)
def test_bad_input_is_a_sentence(psiphi: Any, tmp_path: Path, words: tuple[Any, ...], said: str) -> None:
    answer = psiphi.call("train", *words, "--steps", 1, "--quiet", "--out", tmp_path / "run", code=2)
    assert said in " ".join(answer.stderr.split())
    assert answer.stdout == ""
    assert not (tmp_path / "run").exists()
