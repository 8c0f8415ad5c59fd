"""What purifiers are worth: each of them under five attackers, from one who does not know it to one who does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from psiphi import zoo
from psiphi.attacks import Linf, pgd
from psiphi.basis.shapes import as_float
from psiphi.data import load
from psiphi.defenses import purify, tuned
from psiphi.evaluation import Adaptive, adaptive
from psiphi.repro._mnist import Rows, mnist
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit

ALONE, CLEAN, LOWEST, FALL = "attacked, alone", "clean", "lowest of all", "gray-box less the lowest"
SHOWN = ("gray-box", "bpda", "exact gradient", "fixed noise", "expectation")


@dataclass(frozen=True)
class Setting:
    """What is trained on and attacked; epochs: of the digits, MNIST's are a fifth; needs: the folder of the data."""

    data: tuple[str, ...] = ("digits",)
    needs: str = ""
    rows: int = 100
    validation: int = 200
    epochs: int = 100
    steps: int = 20
    draws: int = 8
    verify: int = 100
    search: int = 30


@dataclass(frozen=True)
class Purifier:
    """A model of the zoo that projects, how it is built and trained, and how the defence draws its noise."""

    build: Callable[..., Any]
    arguments: dict[str, Any]
    epochs: float = 1.0
    seed: int | None = 0
    tune: bool = False


PURIFIERS = {
    "autoencoder": Purifier(zoo.ae, dict(latent_dim=12, hidden=(256,))),
    "vae": Purifier(zoo.vae, dict(latent_dim=12, hidden=(256,))),
    "denoising autoencoder": Purifier(
        zoo.denoising_ae, dict(latent_dim=64, hidden=(256,), corruption="gaussian:0.3")
    ),
    "gan": Purifier(zoo.wgan_gp, dict(latent_dim=12, hidden=(256,)), 2.0),
    "score model": Purifier(zoo.score_model, dict(hidden=(256, 256)), 4.0, tune=True),
    "diffusion": Purifier(zoo.ddpm, dict(hidden=(256, 256), parametrisation="velocity"), 4.0, tune=True),
    "diffusion, fresh noise": Purifier(
        zoo.ddpm, dict(hidden=(256, 256), parametrisation="velocity"), 4.0, None, tune=True
    ),
}
EPS = {"digits": 0.15, "mnist": 0.2}
PUBLISHED = {"mnist, gan: bpda": 55.0}


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """% of the test rows that are classified rightly, a number each purifier and level."""
    found: dict[str, float] = {}
    for name in setting.data:
        for who, table in tables(name, setting, job):
            found |= numbers(f"{name}, {who}", table)
            job.log(f"{name}, {who}:\n{table}")
    return found


def tables(name: str, setting: Setting, job: Job):
    """(name, table) of each purifier of a data set, in front of one classifier."""
    train, held, test = rows(name, setting, job)
    shape, epochs = tuple(train.x.shape[1:]), setting.epochs if name == "digits" else -(-setting.epochs // 5)
    net: dict[str, Any] = dict(hidden=(128,)) if name == "digits" else dict(net="conv", hidden=(16, 32))
    classifier = zoo.classifier(shape, int(train.y.max()) + 1, seed=job.seed, **net)
    fit(classifier, train.x, train.y, epochs=max(1, epochs // 2), seed=job.seed, quiet=job.quiet)
    classifier.eval()
    attack = pgd(Linf(EPS[name]), steps=setting.steps)
    models: dict[Any, Any] = {}
    for who, each in PURIFIERS.items():
        key = (each.build, str(each.arguments))
        if key not in models:
            models[key] = each.build(shape, seed=job.seed, **each.arguments)
            many = max(1, round(epochs * each.epochs))
            fit(models[key], train.x, epochs=many, seed=job.seed, quiet=job.quiet)
        how = dict(steps=setting.search, restarts=2) if who == "gan" else {}
        safe = purify(classifier, models[key], seed=each.seed, **how)
        if each.tune:
            chosen = tuned(safe, held.x, held.y, attack, seed=job.seed)
            job.log(f"{name}, {who}:\n{chosen}")
            safe = chosen.safe
        yield (
            who,
            adaptive(safe, test.x, test.y, attack, draws=setting.draws, verify=setting.verify, seed=job.seed),
        )


def rows(name: str, setting: Setting, job: Job) -> tuple[Rows, Rows, Rows]:
    """Rows to train on, to choose the noise on, and to judge on."""
    if name == "mnist":
        train, test = mnist(job)
        some = slice(0, setting.validation)
        held, train = (
            Rows(train.x[some], train.y[some]),
            Rows(train.x[setting.validation :], train.y[setting.validation :]),
        )
    else:
        data = load(name)
        parts = (data.train, data.validation, data.test)
        train, held, test = (Rows(as_float(torch.as_tensor(p.x)), torch.as_tensor(p.y)) for p in parts)
        held = Rows(held.x[: setting.validation], held.y[: setting.validation])
    return train, held, Rows(test.x[: setting.rows], test.y[: setting.rows])


def numbers(what: str, table: Adaptive) -> dict[str, float]:
    """The table in percent; a level that could not be run is left out."""
    shares = {ALONE: table.bare.value, CLEAN: table.clean.value, LOWEST: table.worst[1]}
    shares |= {name: table.levels[name].value for name in SHOWN if table.levels[name].right is not None}
    shares[FALL] = shares["gray-box"] - shares[LOWEST]
    return {f"{what}: {name}": 100 * value for name, value in shares.items()}


def lines() -> tuple[Row, ...]:
    """Of each data set and purifier, a line a number; the fall is judged, that of the digits in minutes too."""
    found = []
    for data in EPS:
        for who in PURIFIERS:
            for name in (ALONE, CLEAN, *SHOWN, LOWEST):
                what = f"{data}, {who}: {name}"
                found.append(Row(what, PUBLISHED.get(what), unit="%"))
            limits = (5.0 if data == "digits" else None, 5.0)
            found.append(Row(f"{data}, {who}: {FALL}", None, *limits, unit="points", higher=True))
    return tuple(found)


RECIPE = Recipe(
    name="purification",
    reference='Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", 2018.',
    what="Purifiers in front of a classifier: the accuracy left by attackers who know less and more of them.",
    rows=lines(),
    quick=Setting(),
    full=Setting(
        data=("digits", "mnist"),
        needs="mnist",
        rows=500,
        validation=500,
        epochs=200,
        steps=100,
        draws=16,
        search=100,
    ),
    measure=measure,
    differs="the source has one of these cells, Defense-GAN on MNIST, at an L2 distance of 0.005 in place of our L∞ "
    "radius of 0.2, and with networks of its own; the rest is ours. What is judged: each purifier is seen to lose 5 "
    "points between the attacker who does not know it and the best of those who do.",
)
