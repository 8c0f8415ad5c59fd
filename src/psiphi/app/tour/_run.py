"""The tour: learn the digits nine ways, judge, draw, attack, defend, check the laws, and write it all in one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from psiphi import zoo
from psiphi.app._open import SPEC, held_out
from psiphi.app.tour import _attacks as tour_attacks
from psiphi.app.tour import _defences as tour_defences
from psiphi.app.tour import _laws as laws
from psiphi.app.tour import _map as tour_map
from psiphi.app.tour import _models as tour_models
from psiphi.app.tour import _plane as tour_plane
from psiphi.app.tour import report
from psiphi.app.tour._story import Story, Timing
from psiphi.basis.threads import one_thread
from psiphi.data import load
from psiphi.models import save
from psiphi.training import fit

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How long the tour takes, and how closely it looks.

    shortened: arguments of builders and of `fit`, by name, in the place of the families' own; draws: of importance
    sampling; generated: most samples a model is judged by; rows: of the test split, all unless given.
    """

    shortened: dict[str, Any] = field(default_factory=dict)
    classifier: dict[str, Any] = field(default_factory=lambda: {"hidden": (256,), "epochs": 30})
    draws: int = 2000
    generated: int = 1258
    rows: int | None = None
    attacks: tour_attacks.Settings = tour_attacks.FULL
    defences: tour_defences.Settings = tour_defences.FULL
    laws: bool = True
    quick: bool = False


FULL = Settings()
QUICK = replace(
    FULL,
    shortened={"epochs": 12, "steps": 150},
    classifier={"hidden": (256,), "epochs": 12},
    draws=200,
    generated=359,
    attacks=tour_attacks.QUICK,
    defences=tour_defences.QUICK,
    laws=False,
    quick=True,
)
DATA = "digits"


class Watch:
    """Says what is happening, and remembers how long it took."""

    def __init__(self, say: Say):
        self.say, self.timings, self.began = say, list[Timing](), time.perf_counter()

    @contextmanager
    def step(self, what: str, why: str) -> Iterator[None]:
        began, spent = time.perf_counter(), time.process_time()
        passed = round(began - self.began)
        self.say(f"{passed // 60}:{passed % 60:02} {what}. {why}")
        yield
        self.timings.append(Timing(what, time.perf_counter() - began, time.process_time() - spent))


def run(folder: Path, settings: Settings = FULL, *, seed: int = 0, say: Say = print) -> dict[str, Any]:
    """Take the tour; write report, runs and pictures under `folder`, and return the numbers."""
    with one_thread():
        return _run(folder, settings, seed, say)


def _run(folder: Path, settings: Settings, seed: int, say: Say) -> dict[str, Any]:
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)  # a full or forbidden place is found out before the work
    watch = Watch(say)
    with laws.beside() if settings.laws else nullcontext() as measuring:
        story = _tell(settings, seed, watch)
        if measuring is not None:
            story = _with_laws(story, measuring, watch)
    with watch.step("Writing the runs and the report", "Every number in it says how to get it again."):
        for name, model in runs(story).items():
            model.provenance[SPEC] = DATA
            save(model, folder / "runs" / name)
        page = report.write(folder, story)
    record = report.numbers(story)
    total = time.perf_counter() - began
    say(f"Done in {total:.0f} s. Open {page}")
    return {"report": str(page), "runs": str(folder / "runs"), "seconds": round(total, 1), **record}


def runs(story: Story) -> dict[str, Any]:
    """The models of the digits, by the names of their folders."""
    named = {each.name: each.model for each in story.models.found}
    own = {"classifier": story.classifier, story.map.family.name: story.map.model}
    return named | own | dict(story.defences.models)


def _tell(settings: Settings, seed: int, watch: Watch) -> Story:
    with watch.step(
        "Loading the digits", "1797 handwritten digits of 8 × 8 pixels, embedded, split once with a seed."
    ):
        data = load(DATA)
        x, y = held_out(data, settings.rows)
        assert y is not None
    with watch.step("Training a classifier", "It will judge the samples, and then be fooled."):
        told = dict(settings.classifier)
        epochs = told.pop("epochs")
        classifier = zoo.classifier(data.shape, len(data.classes), **told, seed=seed)
        history = fit(classifier, data, epochs=epochs, seed=seed, quiet=True)
    found = tour_models.train(data, settings.shortened, seed, watch.step)
    with watch.step(
        "Judging the nine models on the test split",
        "Reconstruction, likelihood, samples, codes and mirrored digits, on digits that no model has seen.",
    ):
        models = tour_models.judge(
            found, data, x, y, classifier, draws=settings.draws, n=settings.generated, seed=seed
        )
        samples = models["vae"].classes
        assert samples is not None
    map_ = tour_map.measure(classifier, data, x, y, settings.shortened, seed, watch.step)
    ring = tour_plane.generators(settings.shortened, seed, watch.step)
    spiral = tour_plane.denoisers(settings.shortened, models["diffusion"].model, seed, watch.step)
    attacked = tour_attacks.measure(classifier, data, x, y, settings.attacks, seed, watch.step)
    named = {each.name: each.model for each in models.found}
    defended = tour_defences.measure(classifier, named, data, x, y, settings.defences, seed, watch.step)
    return Story(
        data=data,
        spec=DATA,
        seed=seed,
        x=x,
        y=y,
        classifier=classifier,
        training=settings.classifier,
        histories={"vae": models["vae"].history, "classifier": history},
        models=models,
        samples=samples,
        draws=settings.draws,
        map=map_,
        ring=ring,
        spiral=spiral,
        attacks=attacked,
        defences=defended,
        timings=watch.timings,
        quick=settings.quick,
    )


def _with_laws(story: Story, measuring: Any, watch: Watch) -> Story:
    with watch.step(
        "Waiting for the laws",
        "Measurements whose answer is known, made meanwhile by a process of their own: a failure would show.",
    ):
        outcomes, skipped = measuring.outcomes()
    return replace(story, laws=outcomes, skipped=skipped)
