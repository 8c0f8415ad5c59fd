"""Purification: bring an input back to the model's manifold, then classify."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from operator import index
from typing import Any, cast

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError, MissingVerb
from psiphi.basis.noise import Noise
from psiphi.models import Model

_TOLD = ("seed", "y")  # the noise is `purify`'s own, and the label is what is to be found out
_DRAWN = 1 << 62


class Purified(nn.Module):
    """See `purify`. `how` are the options of the model's `project`; `seed` is None where each pass draws anew."""

    def __init__(
        self, classifier: nn.Module, model: nn.Module, seed: int | None = 0, how: dict[str, Any] | None = None
    ):
        super().__init__()
        takes, anything = _options(model)
        self.classifier, self.model = classifier, model
        self.seed, self.how, self.takes_noise = _seed(seed), dict(how or {}), "seed" in takes
        _check(model, self.how, None if anything else takes)

    @property
    def options(self) -> tuple[str, ...]:
        """What the model's `project` takes by name, but for its noise and labels."""
        return tuple(name for name in _options(self.model)[0] if name not in _TOLD)

    @property
    def random(self) -> bool:
        """Whether each pass draws anew: its projection takes noise, and no seed fixes it."""
        return self.takes_noise and self.seed is None

    def project(self, x: Tensor) -> Tensor:
        """Π(x), what the classifier sees: (B, *x) -> (B, *x), on the device and in the dtype of x."""
        told = {"seed": self._noise(len(x))} if self.takes_noise else {}
        return _projection(self.model)(x, **self.how, **told).to(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.project(x))

    def seeded(self, seed: int | None) -> Purified:
        """The same defence with another seed, or with None drawing anew in each pass; the modules are shared."""
        return Purified(self.classifier, self.model, seed, self.how).eval()

    def altered(self, **how: Any) -> Purified:
        """The same defence with other options of the projection; the modules are shared."""
        return Purified(self.classifier, self.model, self.seed, {**self.how, **how}).eval()

    def _noise(self, rows: int) -> Any:
        if self.seed is not None:
            return self.seed
        drawn = int(torch.randint(_DRAWN, ()))
        if not isinstance(self.model, Model):
            return drawn
        return Noise.of(drawn, rows, self.model.device, self.model.dtype)

    def __repr__(self) -> str:
        told = [*self.how.items(), *([("seed", self.seed)] if self.takes_noise else [])]
        names = [getattr(each, "title", type(each).__name__) for each in (self.classifier, self.model)]
        return f"purify({', '.join([*names, *(f'{name}={value!r}' for name, value in told)])})"


def purify(classifier: nn.Module, model: nn.Module, *, seed: int | None = 0, **how: Any) -> Purified:
    """A classifier that sees the projection of its input onto the manifold of `model`: x ↦ f(Π(x)).

    classifier: (B, *x) in the data's units to logits (B, K); model: of the zoo, or any module with `project(x)`; how:
    options of that model's `project`, e.g. sigma and steps of a diffusion, steps and restarts of a GAN, steps of a
    denoising autoencoder. seed: of the projection's noise, where it has any. A number: the same noise in every pass, a
    deterministic defence. None: fresh noise for every row of every pass, from torch's random state, which attacks seed
    and restore: attack it by `access.expectation(safe, draws=16)`. Differentiable, so that a white-box attack goes
    through the projection too; returned in eval mode.

    Raises `MissingVerb` for a model that cannot project, `ArgumentError` for options that its `project` does not take.

    Source: Samangouei, Kabkab, Chellappa, "Defense-GAN: protecting classifiers against adversarial
    attacks using generative models", 2018; Meng, Chen, "MagNet: a two-pronged defense", 2017; Nie et al., "Diffusion
    models for adversarial purification", 2022.
    """
    return Purified(classifier, model, seed, how).eval()


def _projection(model: nn.Module) -> Callable[..., Tensor]:
    """The model's verb; a model that lacks it raises `MissingVerb`, which says who has it."""
    try:
        return cast(Callable[..., Tensor], model.project)
    except MissingVerb:
        raise
    except AttributeError:
        reason = "it is no model of psiphi and has no method `project(x)`"
        raise MissingVerb(type(model).__name__, "project", reason) from None


def _options(model: nn.Module) -> tuple[list[str], bool]:
    """What `project` takes by name beside x, and whether it takes any other name too."""
    taken = inspect.signature(_projection(model)).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    named = [
        name for name, each in taken.items() if each.kind is each.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    return named[1:] + [name for name, each in taken.items() if each.kind is each.KEYWORD_ONLY], anything


def _check(model: nn.Module, how: dict[str, Any], takes: list[str] | None) -> None:
    """Options by name, and of a model of the zoo by a projection of the data's mean."""
    title = getattr(model, "title", type(model).__name__)
    free = None if takes is None else [name for name in takes if name not in _TOLD]
    for name in how:
        if name in _TOLD:
            raise ArgumentError(f"{name} is no option of a purifier: it has no labels to tell the model.")
        if free is not None and name not in free:
            near = get_close_matches(name, free, n=1)
            hint = f"did you mean {near[0]}? It takes" if near else "it takes"
            raise ArgumentError(
                f"{title} cannot project with {name}={how[name]!r}; {hint} {', '.join(free) or 'no options'}."
            )
    if how and isinstance(model, Model):
        try:
            with torch.no_grad():
                _projection(model)(model.statistics.mean[None], **how)
        except TypeError as error:
            raise ArgumentError(f"{title} cannot project with {how} ({error}).") from None
        except (DataError, MissingVerb):  # of the mean of a table's columns, which may be no row of the table
            return


def _seed(seed: Any) -> int | None:
    try:
        return None if seed is None else index(seed)
    except TypeError:
        raise ArgumentError(
            f"seed is a whole number, or None for noise that is drawn anew in each pass; got {seed!r}."
        ) from None
