"""Modes that generative adversarial networks and denoisers find on a ring and a grid of Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from psiphi import zoo
from psiphi.basis.noise import Noise, forked
from psiphi.data.toys import Mixture, grid, ring
from psiphi.evaluation import modes
from psiphi.networks import Maxout
from psiphi.parts import adam
from psiphi.repro._recipe import Job, Recipe, Row
from psiphi.training import fit
from psiphi.training.schedules import cosine

BEST = "relativistic, R1 + R2"


def generator() -> nn.Module:
    """z of two numbers, four layers of 400 rectified units with batch normalisation, an affine map to the plane."""
    layers: list[nn.Module] = []
    for width in (2, 400, 400, 400):
        layers += [nn.Linear(width, 400), nn.BatchNorm1d(400), nn.ReLU()]
    return small(nn.Sequential(*layers, nn.Linear(400, 2)))


def critic(pack: int) -> nn.Module:
    """m points, three layers of 200 maxout units of five pieces, an affine map to the score."""
    return small(nn.Sequential(Maxout(2 * pack, 200), Maxout(200, 200), Maxout(200, 200), nn.Linear(200, 1)))


def small(network: nn.Module) -> nn.Module:
    """Initial weights from N(0, 0.02²), biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return network


@dataclass(frozen=True)
class Training:
    """Networks of a packing (`zoo.gan`'s arguments), the optimiser of both sides, and the generator's average."""

    networks: Callable[[int], dict[str, Any]]
    optimizer: adam
    ema: float | None = None


SOURCE = Training(
    lambda pack: dict(generator=generator(), critic=critic(pack)), adam(1e-4, betas=(0.8, 0.999))
)
OURS = Training(
    lambda pack: dict(hidden=(256, 256, 256)), adam(1e-3, betas=(0.0, 0.99), schedule=cosine(0.02)), ema=0.999
)


@dataclass(frozen=True)
class Game:
    """What is played, and how it is trained; pack: samples judged together; steps: of the critic, a generator step."""

    name: str
    training: Training
    game: str = "non-saturating"
    lipschitz: str = "none"
    pack: int = 1
    steps: int = 1

    def begin(self, setting: Setting, seed: int) -> tuple[Any, dict[str, Any]]:
        """The model, and how `fit` trains it."""
        training = self.training
        with forked(seed, "networks"):
            networks = training.networks(self.pack)
        model = zoo.gan(
            2, 2, game=self.game, lipschitz=self.lipschitz, pack=self.pack, steps=self.steps, ema=training.ema,
            seed=seed, **networks,
        )  # fmt: skip
        steps = setting.source_steps if training is SOURCE else setting.our_steps
        return model, dict(
            steps=steps // self.steps, batch_size=setting.batch_size, optimizer=training.optimizer
        )


@dataclass(frozen=True)
class Denoising:
    """A denoiser of the zoo, as it comes, with a cosine schedule of the learning rate."""

    name: str
    build: Callable[..., Any]

    def begin(self, setting: Setting, seed: int) -> tuple[Any, dict[str, Any]]:
        fitted = dict(steps=setting.denoiser_steps, batch_size=512, optimizer=adam(1e-3, schedule=cosine()))
        return self.build(2, seed=seed), fitted


METHODS = (
    Game("GAN", SOURCE),
    Game("packed by 4", SOURCE, pack=4),
    Game("WGAN", SOURCE, "wasserstein", "clip:0.1", steps=5),
    Game("WGAN-GP", OURS, "wasserstein", "gp:0.1", steps=5),
    Game(BEST, OURS, "relativistic", "r1+r2:0.2>0.0005"),
    Denoising("DDPM", zoo.ddpm),
    Denoising("score model", zoo.score_model),
)
MODES, SHARE = "modes found, {target}, {method}", "samples within 3σ, {target}, {method}"
ALL = "trials that found all modes, {target}, {method}"
LINES = (MODES, SHARE, ALL)


@dataclass(frozen=True)
class Setting:
    """Steps of the critic, as the source trains and as we do, and of denoisers; trials of each method, by name."""

    source_steps: int
    our_steps: int
    trials: int
    targets: tuple[str, ...] = ("ring", "grid")
    methods: tuple[str, ...] = tuple(each.name for each in METHODS)
    points: int = 100_000
    batch_size: int = 100
    samples: int = 2500
    denoiser_steps: int = 3000


def measure(setting: Setting, job: Job) -> dict[str, float]:
    """Modes found and share of samples within 3σ, means over trials."""
    found: dict[str, float] = {}
    for name in setting.targets:
        target = {"ring": ring, "grid": grid}[name]()
        for method in METHODS:
            if method.name not in setting.methods:
                continue
            trials = [trial(setting, method, target, job.seed + i, job) for i in range(setting.trials)]
            for what, values in zip(LINES, zip(*trials, strict=True), strict=True):
                found[what.format(target=name, method=method.name)] = sum(values) / len(values)
            job.log(f"{name}, {method.name}: " + ", ".join(f"{m:g} modes {s:.1f} %" for m, s, _ in trials))
    return found


def trial(
    setting: Setting, method: Game | Denoising, target: Mixture, seed: int, job: Job
) -> tuple[float, float, float]:
    """Modes found, % of samples within 3σ of one, and 100 if all were found."""
    model, fitted = method.begin(setting, seed)
    x = target(setting.points, Noise.of(seed, setting.points)).float()
    fit(model, x, seed=seed, quiet=job.quiet, **fitted)
    seen = modes(model, target, setting.samples, seed)
    return float(seen.found), 100 * seen.quality.value, 100.0 * (seen.found == len(target.means))


def rows() -> tuple[Row, ...]:
    """Three lines a method and data set; judged are the packed, the best game and the denoisers on the grid."""
    judged = {
        (MODES, "grid", "GAN"): dict(published=17.3),
        (MODES, "grid", "packed by 4"): dict(published=24.8),
        (SHARE, "grid", "packed by 4"): dict(published=93.6),
        (MODES, "grid", BEST): dict(quick=24.0, full=24.8),
        (SHARE, "grid", BEST): dict(quick=50.0, full=80.0),
        (ALL, "grid", BEST): dict(full=80.0),
        (ALL, "grid", "WGAN-GP"): dict(full=80.0),
        (MODES, "grid", "DDPM"): dict(quick=25.0, full=25.0),
        (SHARE, "grid", "DDPM"): dict(quick=90.0, full=95.0),
        (MODES, "grid", "score model"): dict(full=25.0),
        (SHARE, "grid", "score model"): dict(full=95.0),
    }
    return tuple(
        Row(line.format(target=target, method=method.name), unit="" if line == MODES else "%", higher=True,
            **judged.get((line, target, method.name), {}))
        for target in ("ring", "grid") for method in METHODS for line in LINES
    )  # fmt: skip


RECIPE = Recipe(
    name="pacgan2018",
    reference='Lin, Khetan, Fanti, Oh, "PacGAN: the power of two samples in generative adversarial networks", 2018.',
    what="Modes found on a ring of 8 and a grid of 25 Gaussians, and the share of samples within 3σ, mean of trials.",
    rows=rows(),
    quick=Setting(
        source_steps=3000,
        our_steps=6000,
        trials=1,
        targets=("grid",),
        methods=("GAN", "packed by 4", BEST, "DDPM"),
        denoiser_steps=2000,
    ),
    full=Setting(source_steps=400_000, our_steps=10_000, trials=10),
    measure=measure,
    differs="networks see standardised points. GAN and its packing are otherwise trained as in the source's section "
    "4.1, WGAN with the same networks and weights clipped to ±0.1. WGAN-GP with weight 0.1, and relativistic pairing "
    "with R1 + R2, γ falling from 0.2 to 0.0005, have three layers of 256 units in both networks, Adam with a cosine "
    "schedule and an average of the generator's weights. The denoisers are the zoo's, with 3 x 256 units.",
)
