"""The tour: learn the digits three ways, judge, attack, defend, check the laws, and write it all in one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psiphi import attacks, evaluation, zoo
from psiphi.access import white_box
from psiphi.app import fields, report
from psiphi.app._attacked import Curves
from psiphi.app._judge import Questions, Share, accuracy, defend, judge, question, robust
from psiphi.app._open import SPEC, held_out
from psiphi.app._story import Assault, Downhill, Story
from psiphi.app.commands._verify import run_law
from psiphi.app.modes_map import ModesMap, modes_map
from psiphi.basis.threads import one_thread
from psiphi.data import load
from psiphi.data.toys import ring
from psiphi.models import save
from psiphi.training import fit

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How long the tour takes, and how closely it looks."""

    epochs: int = 60
    classifier_epochs: int = 30
    hidden: int = 512
    latent_dim: int = 8
    draws: int = 2000
    generated: int = 2000
    rows: int | None = None
    eps: float = 0.2
    steps: int = 40
    radii: tuple[float, ...] = (0.0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
    lengths: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
    laws: bool = True
    quick: bool = False
    ring_steps: int = 1500
    denoiser_steps: int = 1000


FULL = Settings()
QUICK = replace(
    FULL,
    epochs=12,
    classifier_epochs=12,
    ring_steps=500,
    denoiser_steps=300,
    draws=200,
    radii=(0.0, 0.1, 0.2, 0.3),
    quick=True,
)
DATA = "digits"


class _Watch:
    """Says what is happening, and remembers how long it took."""

    def __init__(self, say: Say):
        self.say, self.timings = say, list[tuple[str, float]]()

    @contextmanager
    def step(self, what: str, why: str) -> Iterator[None]:
        self.say(f"{what}. {why}")
        began = time.perf_counter()
        yield
        self.timings.append((what, time.perf_counter() - began))


def run(folder: Path, settings: Settings = FULL, *, seed: int = 0, say: Say = print) -> dict[str, Any]:
    """Take the tour; write report, runs and pictures under `folder`, and return the numbers."""
    with one_thread():
        return _run(folder, settings, seed, say)


def _run(folder: Path, settings: Settings, seed: int, say: Say) -> dict[str, Any]:
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)  # a full or forbidden place is found out before the work
    watch = _Watch(say)
    story = _tell(settings, seed, watch)
    with watch.step("Writing the runs and the report", "Every number in it says how to get it again."):
        for name, model in story.models.items():
            model.provenance[SPEC] = DATA
            save(model, folder / "runs" / name)
        story.assault.result.save(folder / "runs" / "attack")
        page = report.write(folder, story)
    record = report.numbers(story)
    total = time.perf_counter() - began
    say(f"Done in {total:.0f} s. Open {page}")
    return {"report": str(page), "runs": str(folder / "runs"), "seconds": round(total, 1), **record}


def _tell(settings: Settings, seed: int, watch: _Watch) -> Story:
    size, hidden = settings.latent_dim, (settings.hidden,)
    with watch.step(
        "Loading the digits", "1797 handwritten digits of 8 × 8 pixels, embedded, split once with a seed."
    ):
        data = load(DATA)
        x, y = held_out(data, settings.rows)
        assert y is not None
    models = {
        "pca": zoo.pca(data.shape, size, seed=seed),
        "ae": zoo.ae(data.shape, size, hidden=hidden, seed=seed),
        "vae": zoo.vae(data.shape, size, likelihood="gaussian", hidden=hidden, seed=seed),
        "classifier": zoo.classifier(data.shape, len(data.classes), hidden=(256,), seed=seed),
    }
    epochs = {"ae": settings.epochs, "vae": settings.epochs, "classifier": settings.classifier_epochs}
    told = {
        "pca": (
            f"Fitting PCA with {size} components",
            "The best straight-line code: what every model here must beat.",
        ),
        "ae": ("Training an autoencoder", f"The same {size} numbers, but the way in and out may bend."),
        "vae": (
            "Training a variational autoencoder",
            "A code with a distribution, so that it can be sampled and gives densities.",
        ),
        "classifier": ("Training a classifier", "It is the one to be fooled."),
    }
    histories = {}
    for name, model in models.items():
        with watch.step(*told[name]):
            histories[name] = fit(model, data, epochs=epochs.get(name), seed=seed, quiet=True)
    pca, ae, vae, classifier = models.values()
    with watch.step(
        "Judging them on the test split",
        "Reconstruction and likelihood, with errors, on digits that no model has seen.",
    ):
        asked = Questions(y, data.train)
        judged = [
            question(judge(each, x, settings.draws, seed), each, x, asked, settings.draws, seed)
            for each in (pca, ae, vae)
        ]
        samples = evaluation.samples(vae, classifier, y, n=settings.generated, seed=seed)
        codes = judged[-1].latents
        assert codes is not None
        assert codes.neighbours is not None
    with watch.step(
        f"Attacking the classifier within ±{settings.eps:g} a pixel",
        "Projected gradient descent; then the same images purified by the VAE, and an attacker who knows about it.",
    ):
        assault = _assault(settings, seed, classifier, vae, x, y)
    with watch.step(
        "Training two generators on a ring of eight modes",
        "One without a penalty on its critic, one with two: which modes do they reach?",
    ):
        maps = _maps(settings, seed)
    with watch.step(
        "Training two denoisers, of a spiral and of the digits",
        "Told how noisy a point is, where was it before? A network that knows draws samples from noise alone.",
    ):
        downhill = _downhill(settings, seed, data)
    outcomes, skipped = _laws(settings, watch)
    return Story(
        data,
        DATA,
        seed,
        x,
        y,
        models,
        histories,
        judged,
        samples,
        codes.neighbours,
        assault,
        outcomes,
        skipped,
        epochs,
        settings.draws,
        watch.timings,
        settings.quick,
        maps,
        settings.ring_steps,
        downhill,
    )


RING = {"without a penalty": {"lipschitz": "none", "ema": None}, "R1 and R2, averaged weights": {}}


def _maps(settings: Settings, seed: int) -> list[ModesMap]:
    """Samples of generators on the ring of eight, the same but for what bounds the critic's slope."""
    toy, found = ring(), []
    for name, given in RING.items():
        model = zoo.gan(2, 2, hidden=(64, 64), lr=1e-3, seed=seed, **given)
        fit(model, toy, steps=settings.ring_steps, seed=seed, quiet=True)
        found.append(modes_map(model, toy, name, seed=seed))
    return found


def _downhill(settings: Settings, seed: int, data: Any) -> Downhill:
    """Diffusion on a spiral in the plane, and on the digits."""
    steps, roll = settings.denoiser_steps, load("swiss_roll:n=2000")
    plane = zoo.edm(2, hidden=(128, 128), seed=seed)
    fit(plane, roll.train.x, steps=steps, batch_size=256, seed=seed, quiet=True)
    images = zoo.edm(data.shape, seed=seed)
    fit(images, data.train.x, steps=steps, seed=seed, quiet=True)
    field = fields.field(plane, roll.train.x, fine=56)
    return Downhill(
        field,
        fields.paths(plane, 60, "dpm_solver:40", seed=seed),
        fields.paths(images, 4, "dpm_solver:20", seed=seed),
        steps,
    )


def _assault(settings: Settings, seed: int, classifier: Any, vae: Any, x: Any, y: Any) -> Assault:
    def at(eps: float) -> tuple[Any, Any, Any]:
        attack = attacks.pgd(attacks.Linf(eps), steps=settings.steps)
        result = attack(classifier, x, y, seed=seed)
        return attack, result, defend(attack, classifier, vae, x, y, result, access=white_box, seed=seed)

    attack, result, defended = at(settings.eps)
    sweep: dict[str, list[Share]] = {"bare": [], "gray": [], "white": []}
    for eps in settings.radii:
        _, found, safe = at(eps) if eps != settings.eps else (attack, result, defended)
        for name, share in (("bare", robust(found)), ("gray", safe.gray), ("white", safe.white)):
            sweep[name].append(share)
    clean = accuracy(classifier, x, y)
    euclidean = attacks.pgd(attacks.L2(settings.lengths[-1]), steps=settings.steps)
    curve = euclidean.curve(classifier, x, y, eps=settings.lengths, seed=seed)
    curves = Curves(curve, curve, "L2", 1 / int(y.max() + 1))
    radii = list(settings.radii)
    return Assault(attack, settings.eps, clean, robust(result), result, defended, sweep, radii, curves)


def _laws(settings: Settings, watch: _Watch) -> tuple[list[Any], list[str]]:
    if not settings.laws:
        return [], []
    from psiphi.laws import LAWS

    with watch.step(
        "Running the laws", "Measurements whose answer is known: if one failed, the page would say so."
    ):
        outcomes = [run_law(law) for law in LAWS if not law.slow]
    outcomes.sort(key=lambda law: _place(law.number))
    return outcomes, [f"{law.number} {law.title}" for law in LAWS if law.slow]


def _place(number: str) -> tuple[int, str]:
    """7a after 2 and before 22."""
    digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits) if digits.isdigit() else 0, number
