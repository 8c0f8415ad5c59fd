"""What the tour's page claims, decided by what was measured: never by what it should have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as console

if TYPE_CHECKING:
    from psiphi.app.tour._models import Found, Models
    from psiphi.app.tour._story import Story

WORDS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def facts(story: Story) -> dict[str, Any]:
    """Numbers and sentences that the text leans on."""
    from psiphi.data import describe

    models = story.models
    pca, vae = models["pca"], models["vae"]
    size = vae.model.latent_dim
    assert pca.reconstruction is not None
    assert vae.reconstruction is not None
    gain = 1 - vae.reconstruction.squared_error / pca.reconstruction.squared_error
    return {
        "described": describe(story.data),
        "gain": gain,
        "reasons": Reasons.of(models),
        "said_codes": _codes(models),
        "said_likelihood": _likelihood(models),
        "said_samples": _samples(models),
        "said_probes": _probes(models),
        "said_odd": _odd(models),
        "said_modes": _modes(story),
        "holding": sum(each.holds for each in story.laws),
        "seconds": sum(each.seconds for each in story.timings),
        "processor": sum(each.processor for each in story.timings),
        "longest": max((each.seconds for each in story.timings), default=1.0),
        "latent_dim": size,
        "count": WORDS[size] if size < len(WORDS) else str(size),
        "law_seconds": sum(each.cpu for each in story.laws),
    }


@dataclass(frozen=True)
class Reasons:
    """Why a cell is empty: each reason once, numbered in the order of the table."""

    listed: list[str]

    @classmethod
    def of(cls, models: Models) -> Reasons:
        listed = (
            reason for name in MEASURES for each in models.found if (reason := each.why.get(name)) is not None
        )
        return cls(list(dict.fromkeys(listed)))

    def number(self, found: Found, what: str) -> int:
        """Of the reason why this model has no such number."""
        return self.listed.index(found.why[what]) + 1


MEASURES = ("reconstruction", "probe", "drawn", "likelihood", "ranking")


def _codes(models: Models) -> str:
    """Reconstruction at the same code size, against PCA, where two standard errors of each leave no doubt."""
    pca = models["pca"].reconstruction
    size = models["pca"].family.code
    assert pca is not None
    same = [each for each in models.found if each.family.code == size and each.reconstruction is not None]
    better, worse, level = [], [], []
    for each in same:
        one = each.reconstruction
        if each.name == "pca" or one is None:
            continue
        off = one.squared_error - pca.squared_error
        room = 2 * (one.standard_error + pca.standard_error)
        (better if off < -room else worse if off > room else level).append(each.family.short)
    said = [
        f"{_list(names)} {'has' if len(names) == 1 else 'have'} {how}"
        for names, how in (
            (better, "less squared error than PCA"),
            (worse, "more squared error than PCA"),
            (level, "as much as PCA, within two standard errors of each"),
        )
        if names
    ]
    return f"At the same {size} numbers a digit, {'; '.join(said)}."


def _likelihood(models: Models) -> str:
    """PCA beside the VAE: the two whose numbers are of one measure."""
    pca, vae = models["pca"].likelihood, models["vae"].likelihood
    if pca is None or vae is None or pca.measure != vae.measure:
        return "No two models here have likelihoods of the same measure, so none may be compared."
    off = vae.mean - pca.mean
    more = "more" if off > 0 else "less"
    doubt = "" if abs(off) > 2 * (pca.spread + vae.spread) else ", which is within their errors"
    return (
        f"Of one measure are PCA’s and the VAE’s: the VAE gives a test digit {console.number(abs(off), 3)} nats "
        f"{more} than PCA{doubt}. The other column is a density too, but of blurred digits: it may not be compared."
    )


def _samples(models: Models) -> str:
    """Who comes nearest to the floor, and whether anybody reaches it."""
    best = models.best("frechet")
    assert best.frechet is not None
    floor = models.floor.value
    ranked = sorted(
        (each for each in models.found if each.frechet is not None), key=lambda each: float(each.frechet or 0)
    )
    worst = ranked[-1]
    assert worst.frechet is not None
    reached = " which is as near as real digits are" if best.frechet.value <= floor else ""
    return (
        f"The nearest to the test digits are the samples of {best.family.short}, at "
        f"{console.number(best.frechet.value, 3)}{reached}, where training digits are at {console.number(floor, 3)}; "
        f"the farthest are those of {worst.family.short}, at {console.number(worst.frechet.value, 3)}."
    )


def _probes(models: Models) -> str:
    best, pca = models.best("probe", low=False), models["pca"].probe
    assert best.probe is not None
    assert pca is not None
    clear = best.probe.interval[0] > pca.interval[1]
    beside = "" if best.name == "pca" else f", PCA’s of {console.percent(pca.value)}"
    doubt = "" if clear or best.name == "pca" else "; their intervals overlap"
    return (
        f"A straight line through the codes of {best.family.short} ({best.family.code} numbers) tells the class of "
        f"{console.percent(best.probe.value)} of the test digits{beside}{doubt}."
    )


def _odd(models: Models) -> str:
    having = [each for each in models.found if each.ranking is not None]
    best = models.best("ranking", low=False)
    worst = models.best("ranking")
    assert best.ranking is not None
    assert worst.ranking is not None
    apart = best.ranking.auroc_interval[0] > worst.ranking.auroc_interval[1]
    doubt = "" if apart else " Their intervals overlap, so which is better is open."
    return (
        f"Of the {WORDS[len(having)]} models with a score, {best.family.short} ranks best "
        f"({console.percent(best.ranking.auroc)}) and {worst.family.short} worst "
        f"({console.percent(worst.ranking.auroc)}).{doubt}"
    )


def _modes(story: Story) -> str:
    maps = story.ring.maps
    best = max(maps, key=lambda each: each.found.quality.value)
    lost = [each for each in maps if each.found.missed]
    said = f"The most samples on a mode has {best.name}: {console.percent(best.found.quality.value)} of them"
    told = [f"{each.name} misses {len(each.found.missed)} of {each.found.modes}" for each in lost]
    return f"{said}. {'; '.join(told)}." if told else f"{said}. No generator misses a mode."


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
