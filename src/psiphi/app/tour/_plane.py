"""The tour in the plane, where everything can be seen: generators on a ring of modes, and denoisers of a spiral."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psiphi import zoo
from psiphi.app import fields, modes_map, plots
from psiphi.app.tour._families import Family
from psiphi.data import load
from psiphi.data.toys import ring
from psiphi.training import fit

if TYPE_CHECKING:
    from psiphi.app.fields import Field, Paths
    from psiphi.app.modes_map import ModesMap

SPIRAL = "swiss_roll:n=2000"
DOTS = 500  # data that a figure on a page shows
RING = (
    Family(
        "gan", "gan", "a GAN with nothing to bound its critic", "GAN, no penalty", "", "",
        {"latent_dim": 2, "hidden": (64, 64), "lr": 0.001, "lipschitz": "none", "ema": None},
        {"steps": 1500},
    ),
    Family(
        "bounded", "gan", "the same GAN with a bound and averaged weights", "GAN, R1 + R2, averaged", "", "",
        {"latent_dim": 2, "hidden": (64, 64), "lr": 0.001},
        {"steps": 1500},
    ),
    Family(
        "ring_vae", "vae", "a VAE", "VAE", "", "",
        {"latent_dim": 2, "hidden": (64, 64)},
        {"steps": 1500},
    ),
    Family(
        "ring_diffusion", "edm", "a diffusion model", "Diffusion", "", "",
        {"hidden": (64, 64)},
        {"steps": 1500},
    ),
)  # fmt: skip
SPIRAL_DENOISING = Family(
    "spiral", "denoising_ae", "a denoising autoencoder of a spiral", "Denoising autoencoder", "", "",
    {"latent_dim": 64, "corruption": "gaussian:0.15", "hidden": (128,)},
    {"steps": 1500, "batch_size": 256},
)  # fmt: skip
SPIRAL_DIFFUSION = Family(
    "roll", "edm", "a diffusion model of the spiral", "Diffusion", "", "",
    {"hidden": (128, 128)},
    {"steps": 1000, "batch_size": 256},
)  # fmt: skip


@dataclass(frozen=True)
class Ring:
    """Samples of each generator over the eight modes."""

    families: list[Family]
    maps: list[ModesMap]


@dataclass(frozen=True)
class Spiral:
    """Where a denoiser at one level and one of every level move each point, their samples' paths, and digits'."""

    families: tuple[Family, Family]
    field: Field
    walk: Paths
    flow: Field
    paths: Paths
    images: Paths


def generators(shortened: dict[str, Any], seed: int, step: Callable[..., Any]) -> Ring:
    """The same budget of steps for each: which modes does it reach?"""
    toy, families, maps = ring(), [], []
    with step(
        "Training four generators on a ring of eight modes",
        "Where the modes are known, those left out can be counted.",
    ):
        for family in RING:
            family = family.shortened(shortened)
            model = family.build(zoo, 2, seed)
            fit(model, toy, seed=seed, quiet=True, **family.training)
            families.append(family)
            maps.append(modes_map.modes_map(model, toy, family.short, seed=seed))
    return Ring(families, maps)


def denoisers(shortened: dict[str, Any], diffusion: Any, seed: int, step: Callable[..., Any]) -> Spiral:
    """`diffusion`: the model of the digits, whose samples are shown on their way."""
    with step(
        "Training two denoisers of a spiral",
        "Told a noisy point, where was it before? The answers point to where data are dense.",
    ):
        x, made = load(SPIRAL).train.x, []
        families = tuple(each.shortened(shortened) for each in (SPIRAL_DENOISING, SPIRAL_DIFFUSION))
        for family in families:
            model = family.build(zoo, 2, seed)
            fit(model, x, seed=seed, quiet=True, **family.training)
            made.append(model)
        one, every = made
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a plan's own, said by `psiphi sample`
            return Spiral(
                (families[0], families[1]),
                fields.field(one, x, fine=56),
                fields.paths(one, 12, "langevin:200", seed=seed),
                fields.field(every, x, fine=56),
                fields.paths(every, 60, "dpm_solver:40", seed=seed),
                fields.paths(diffusion, 4, "dpm_solver:20", seed=seed),
            )


def modes_picture(found: Ring, shown: int = modes_map.POINTS) -> plots.Draw:
    """Two maps a row."""
    return modes_map.side_by_side(found.maps, shown, columns=2)


def pairs(found: Spiral, shown: int = fields.POINTS) -> list[tuple[str, plots.Draw, str]]:
    """Field and paths, of the denoiser at one level and of that at every level: name, figure, words."""
    return [
        (
            name,
            fields.side_by_side([fields.arrows(field, shown), fields.traces(paths, field.x[:shown])]),
            f"{fields.words(field)}. {fields.traces_words(paths)}",
        )
        for name, field, paths in (
            ("field", found.field, found.walk),
            ("flow", found.flow, found.paths),
        )
    ]


def numbers(found: Ring) -> dict[str, Any]:
    """What the page says of the modes, for machines."""
    return {each.name: each.found.as_dict() for each in found.maps}
