"""Objectives: weighted sums of named terms that read a trace. `nll + 4.0 * rate` is its own repr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.formulas.distributions import kl, twice_normal_kl
from psiphi.parts.clock import Clock, Weight, at
from psiphi.parts.trace import LatentTrace


class _Summable:
    def __add__(self, other: Term | Objective) -> Objective:
        return Objective(_parts(self) + _parts(other))

    def __mul__(self, weight: Weight) -> Objective:
        return Objective(tuple((_times(weight, old, each), each) for old, each in _parts(self)))

    __rmul__ = __mul__


@dataclass(frozen=True, repr=False)
class Term(_Summable):
    """A named quantity of a trace, in nats: (B,), or () where `batch` is set.

    gradient: it differentiates the code with respect to `x_in`.
    """

    name: str
    value: Callable[[Any], Tensor]
    batch: bool = False
    gradient: bool = False

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class Objective(_Summable):
    """Σ weight · term; a weight is a number or a function of the clock."""

    parts: tuple[tuple[Weight, Term], ...]

    def __post_init__(self) -> None:
        names = [each.name for _, each in self.parts]
        if len(set(names)) < len(names):
            raise ArgumentError(f"an objective needs terms of different names; got {', '.join(names)}.")

    @property
    def gradient(self) -> bool:
        """Whether a term differentiates with respect to the encoder's input."""
        return any(each.gradient for _, each in self.parts)

    def __call__(self, trace: Any, clock: Clock) -> dict[str, Tensor]:
        """The weighted total as `loss`, and each part unweighted; the mean over rows is taken here."""
        values = {each.name: each.value(trace) for _, each in self.parts}
        weighted = [
            values[each.name] if weight == 1.0 else at(weight, clock) * values[each.name]
            for weight, each in self.parts
        ]
        total = reduce(add, weighted)
        return {"loss": total.mean(), **{name: value.detach().mean() for name, value in values.items()}}

    def __repr__(self) -> str:
        return " + ".join(f"{each}" if weight == 1.0 else f"{weight} * {each}" for weight, each in self.parts)


def _times(weight: Weight, old: Weight, each: Term) -> Weight:
    if weight == 1.0 or old == 1.0:
        return old if weight == 1.0 else weight
    if callable(weight) or callable(old):
        raise ArgumentError(f"{each} has the weight {old} already; give each term one weight.")
    return weight * old


def _parts(value: Any) -> tuple[tuple[Weight, Term], ...]:
    if isinstance(value, Objective):
        return value.parts
    if isinstance(value, Term):
        return ((1.0, value),)
    raise ArgumentError(f"{value!r} is no term of an objective.")


def term(value: Callable[[Any], Tensor]) -> Term:
    """Make a function trace -> (B,) a term of its name."""
    return Term(value.__name__, value)


def batch_term(value: Callable[[Any], Tensor]) -> Term:
    """Make a function trace -> () a term of its name."""
    return Term(value.__name__, value, batch=True)


def over_samples(value: Tensor) -> Tensor:
    """Mean over the sample axis, (K, B) -> (B,)."""
    return value.squeeze(0) if len(value) == 1 else value.mean(0)


@term
def nll(trace: LatentTrace) -> Tensor:
    """−ln p(x|z), mean over the K samples: the reconstruction part."""
    return -over_samples(trace.p.log_prob(trace.x, trace.where))


@term
def rate(trace: LatentTrace) -> Tensor:
    """KL(q(z|x) ‖ p(z)), what the code costs; without a closed form the mean of ln q − ln p over the samples."""
    if trace.log_q is None:
        return kl(trace.q, trace.prior)
    return over_samples(trace.log_q - trace.prior.log_prob(trace.z))


def free_bits(nats: float) -> Term:
    """Σ_j max(λ, E_batch KL_j): no pressure on a latent coordinate below λ nats.

    Source: Kingma et al., "Improving variational inference with inverse autoregressive flow", 2016, eq. 15.
    """

    def free(trace: LatentTrace) -> Tensor:
        return (twice_normal_kl(trace.q, trace.prior) / 2).mean(0).clamp(min=nats).sum()  # pyright: ignore[reportArgumentType]

    return Term(f"free_bits({nats})", free, batch=True)
