"""The tour's families of models: how each is made and trained, what it is in a sentence, and as an equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

FLAGS = ("latent_dim", "hidden", "net", "likelihood", "loss", "beta", "classes")  # options of `psiphi train`


@dataclass(frozen=True)
class Family:
    """A model of the zoo with the arguments of its builder and of `fit`; the equation is HTML."""

    name: str
    builder: str
    title: str
    short: str
    idea: str
    equation: str
    arguments: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def shortened(self, changes: Mapping[str, Any]) -> Family:
        """With these in the place of arguments that it has anyway."""
        now = [
            {key: changes.get(key, value) for key, value in each.items()}
            for each in (self.arguments, self.training)
        ]
        return replace(self, arguments=now[0], training=now[1])

    def build(self, zoo: Any, shape: Any, seed: int) -> Any:
        return getattr(zoo, self.builder)(shape, **self.arguments, seed=seed)

    @property
    def code(self) -> str:
        """How many numbers its code has."""
        size = self.arguments.get("latent_dim")
        kept = self.arguments.get("k")
        return "—" if size is None else f"{kept} of {size}" if kept else str(size)

    def command(self, spec: str, seed: int, to: str = "") -> str:
        """The line of the command line that trains the same."""
        words = ["psiphi train", self.builder, "--data", spec]
        for name, value in self.arguments.items():
            told = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [_option(name), told] if name in FLAGS else ["--set", f"{name}={told}"]
        for name, value in self.training.items():
            words += [_option(name), str(value)]
        return " ".join([*words, "--seed", str(seed), "--out", to or f"runs/{self.name}"])

    def lines(self, seed: int, data: str = "digits", shape: str = "digits.shape") -> str:
        """The same in Python."""
        told = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        how = "".join(f", {name}={value!r}" for name, value in self.training.items())
        made = f"{self.name} = pp.zoo.{self.builder}({shape}{told}, seed={seed})"
        return f"{made}\npp.fit({self.name}, {data}{how}, seed={seed})"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _norm(inside: str) -> str:
    return f"𝔼 ‖<i>x</i> − {inside}‖²"


FAMILIES: Sequence[Family] = (
    Family(
        "pca",
        "pca",
        "PCA",
        "PCA",
        "The best straight-line code, found in closed form: what the others must beat.",
        f"min<sub><i>U</i></sub> {_norm('<i>U</i><i>U</i>ᵀ<i>x</i>')}",
        {"latent_dim": 8},
    ),
    Family(
        "ae",
        "ae",
        "an autoencoder",
        "Autoencoder",
        "The same number of numbers, but the way in and the way out may bend.",
        f"min {_norm('ψ(φ(<i>x</i>))')}",
        {"latent_dim": 8, "hidden": (512,)},
        {"epochs": 60},
    ),
    Family(
        "k_sparse",
        "k_sparse_ae",
        "a k-sparse autoencoder",
        "k-sparse",
        "Many units, of which only the few that speak loudest may speak.",
        f"min {_norm('ψ(<i>h</i><sub><i>k</i></sub>)')}, &emsp; "
        "<i>h</i><sub><i>k</i></sub>: the <i>k</i> largest of φ(<i>x</i>)",
        {"latent_dim": 64, "k": 8, "tied": True},
        {"epochs": 60, "lr": 0.003},
    ),
    Family(
        "contractive",
        "contractive_ae",
        "a contractive autoencoder",
        "Contractive",
        "A code that holds still while the digit is shaken.",
        f"min {_norm('ψ(φ(<i>x</i>))')} + λ ‖∂φ/∂<i>x</i>‖²<sub>F</sub>",
        {"latent_dim": 8, "strength": 0.01, "tied": True, "activation": "sigmoid"},
        {"epochs": 40},
    ),
    Family(
        "vae",
        "vae",
        "a variational autoencoder",
        "VAE",
        "A code with a distribution, so that it can be drawn from and gives densities.",
        "min 𝔼<sub><i>q</i></sub>[−ln <i>p</i>(<i>x</i>|<i>z</i>)] + KL(<i>q</i>(<i>z</i>|<i>x</i>) ‖ 𝒩(0, <i>I</i>))",
        {"latent_dim": 8, "likelihood": "gaussian", "hidden": (512,)},
        {"epochs": 60},
    ),
    Family(
        "aae",
        "aae",
        "an adversarial autoencoder",
        "Adversarial",
        "A critic, in the place of a formula, pushes the codes towards the prior.",
        f"min {_norm('ψ(φ(<i>x</i>))')} + <i>D</i>(<i>q</i>(<i>z</i>), 𝒩(0, <i>I</i>)), &emsp; <i>D</i> by a critic",
        {"latent_dim": 8, "hidden": (256,)},
        {"epochs": 60},
    ),
    Family(
        "wgan_gp",
        "wgan_gp",
        "a Wasserstein GAN",
        "WGAN-GP",
        "No encoder: a generator goes downhill on a distance that a critic with a bounded slope measures.",
        "min<sub>ψ</sub> max<sub><i>f</i></sub> "
        "𝔼 <i>f</i>(<i>x</i>) − 𝔼 <i>f</i>(ψ(<i>z</i>)) − λ 𝔼 (‖∇<i>f</i>‖ − 1)²",
        {"latent_dim": 8, "hidden": (128, 128), "lr": 0.001, "ema": 0.99},
        {"steps": 500},
    ),
    Family(
        "denoising",
        "denoising_ae",
        "a denoising autoencoder",
        "Denoising",
        "Shown a noisy digit, it gives the clean one back; walking by its corrections draws samples.",
        f"min {_norm('<i>r</i>(<i>x</i> + σε)')}, &emsp; "
        "(<i>r</i>(<i>x</i>) − <i>x</i>)/σ² = ∇ ln <i>p</i><sub>σ</sub>(<i>x</i>)",
        {"latent_dim": 128, "corruption": "gaussian:0.3", "hidden": (256,)},
        {"epochs": 60},
    ),
    Family(
        "diffusion",
        "edm",
        "a diffusion model",
        "Diffusion",
        "The same at every level of noise at once, so that samples come out of noise alone.",
        f"min {_norm('<i>D</i>(<i>x</i> + σε, σ)')} &ensp;for every σ",
        {},
        {"steps": 1500},
    ),
)
