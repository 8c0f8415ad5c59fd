"""A distribution with ln p and draws, whatever library it is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise, forked, mix
from psiphi.basis.shapes import check_finite, show
from psiphi.data.toys import Gaussian
from psiphi.formulas.distributions import DiagonalNormal, FullNormal, StandardNormal
from psiphi.formulas.mixtures import NormalMixture

_PART = 4096  # draws at a time of records that know rows of noise only


@dataclass(frozen=True)
class Density:
    """A distribution with ln p and draws, whatever library it is of.

    draw: (n, key) -> (n, D), flat; log_prob: (n, *shape) -> (n,), −inf off the support, None for a sampler without
    one; gaussian: mean and covariance in float64, where it is one; bounds: the finite ends of a support on the line;
    log_table: ln p_k, (K,), of one of K numbers or codes of torch, in float64; like: a tensor of its type and device;
    source: what was given.
    """

    source: Any
    shape: tuple[int, ...]
    draw: Callable[[int, int], Tensor]
    log_prob: Callable[[Tensor], Tensor] | None
    like: Tensor
    discrete: bool = False
    gaussian: tuple[Tensor, Tensor] | None = None
    bounds: tuple[float, ...] = ()
    log_table: Tensor | None = None

    @property
    def dimension(self) -> int:
        return prod(self.shape)

    @property
    def name(self) -> str:
        return type(self.source).__name__

    def draws(self, n: int, seed: int, side: str) -> Tensor:
        x = self.draw(n, mix(seed, "divergence", side))
        check_finite(x, f"draws of {side} ({self.name})")
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """ln p of flat rows (n, D), float64 on the CPU."""
        assert self.log_prob
        value = self.log_prob(x.to(self.like).reshape(len(x), *self.shape)).detach().cpu().double()
        if value.shape != (len(x),) or bool(value.isnan().any()):
            raise DataError(
                f"log_prob of {self.name} gave {show(value.shape)} values, {int(value.isnan().sum())} of them NaN, "
                f"for {len(x)} points: one number a point is needed, −inf where there is no density."
            )
        return value


@torch.no_grad()
def density(given: Any, side: str) -> Density:
    """A torch distribution, one of `psiphi.formulas.distributions`, a toy, or another sampler (n, noise) -> rows."""
    if isinstance(given, nn.Module):
        raise ArgumentError(
            f"{side} is a model ({type(given).__name__}); give samples of it, model.sample(n), or a distribution."
        )
    if isinstance(given, torch.distributions.Distribution):
        return _of_torch(given, side)
    if hasattr(given, "log_prob") and hasattr(given, "rsample"):
        return _of_ours(given, side)
    if callable(given) and not isinstance(given, type):
        return _of_sampler(given)
    raise ArgumentError(
        f"{side} is a {type(given).__name__}, which can be no density here; give a torch distribution, one of "
        "psiphi's, a toy, or samples (n, d)."
    )


def _of_torch(given: torch.distributions.Distribution, side: str) -> Density:
    if given.batch_shape.numel() != 1:
        raise ArgumentError(
            f"{side} is a batch of {given.batch_shape.numel()} distributions, {show(given.batch_shape)}: one is "
            "needed, e.g. torch.distributions.Independent(it, 1) for independent coordinates."
        )
    if given.batch_shape:
        given = torch.distributions.Independent(given, len(given.batch_shape))
    shape = tuple(given.event_shape)
    table = _table(given)

    def draw(n: int, key: int) -> Tensor:
        with forked(key):
            return given.sample((n,)).flatten(1) if shape else given.sample((n,))[:, None]

    def known(x: Tensor) -> Tensor:
        if table is None:
            return given.log_prob(x).cpu().double()
        rows = x.reshape(len(x), -1).cpu()
        return table[rows[:, 0].long() if rows.shape[1] == 1 else rows.argmax(1)]

    def log_prob(x: Tensor) -> Tensor:
        # With validation on, torch raises outside the support instead of answering −inf.
        try:
            inside = given.support.check(x)  # pyright: ignore
        except (NotImplementedError, AttributeError):
            return known(x)
        value = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        if bool(inside.any()):
            value[inside.cpu()] = known(x[inside])
        return value

    support = getattr(given, "support", None)
    ends = [getattr(support, name, torch.nan) for name in ("lower_bound", "upper_bound")] if not shape else []
    return Density(
        given, shape, draw, log_prob, draw(1, 0), bool(getattr(support, "is_discrete", False)),
        _torch_gaussian(given), tuple(float(end) for end in ends if isfinite(float(end))), table,
    )  # fmt: skip


def _table(given: torch.distributions.Distribution) -> Tensor | None:
    """ln p_k, −inf where p_k = 0: torch's own logits hold the machine's epsilon there."""
    while isinstance(given, torch.distributions.Independent):
        given = given.base_dist
    if isinstance(given, torch.distributions.Categorical | torch.distributions.OneHotCategorical):
        return given.probs.cpu().double().flatten().log()
    return None


def _torch_gaussian(given: torch.distributions.Distribution) -> tuple[Tensor, Tensor] | None:
    base = given
    while isinstance(base, torch.distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch.distributions.Normal):
        return base.loc.double().reshape(-1), base.scale.double().reshape(-1).square().diag()
    full = torch.distributions.MultivariateNormal, torch.distributions.LowRankMultivariateNormal
    if isinstance(base, full) and base.loc.ndim == 1:
        return base.loc.double(), base.covariance_matrix.double()
    return None


def _of_ours(given: Any, side: str) -> Density:
    measure = getattr(given, "measure", "continuous")
    if measure == "loss-only":
        raise ArgumentError(f"{side} is a {type(given).__name__}, which is no density; give samples.")
    record = given if isinstance(given, NormalMixture) else _one(given, side)
    field = next((name for name in ("means", "logits", "mean") if name in record.__dataclass_fields__), None)
    if field is None:  # a flow: its noise is by rows, and one row of it is what there is
        x = record.rsample(Noise.of(0, 1), 1)[0, 0]

        def draw(n: int, key: int) -> Tensor:
            parts = [
                record.rsample(Noise.of(key, 1, x.device).at(start), min(_PART, n - start))
                for start in range(0, n, _PART)
            ]
            return torch.cat(parts).reshape(n, -1)

        return Density(given, tuple(x.shape), draw, lambda z: record.log_prob(z[:, None])[:, 0], x)

    at = getattr(record, field)
    shape = (at.shape[1],) if field == "means" else tuple(at.shape)

    def draw(n: int, key: int) -> Tensor:
        rows = record if field == "means" else replace(record, **{field: at.expand(n, *shape)})
        return rows.rsample(Noise.of(key, n, at.device, at.dtype), 1)[0].reshape(n, -1)

    gaussian = None
    if isinstance(record, FullNormal):
        gaussian = record.mean.double(), record.tril.double() @ record.tril.double().T
    elif isinstance(record, DiagonalNormal | StandardNormal):
        spread = (2 * record.log_scale.double()).exp()
        gaussian = record.mean.double().reshape(-1), spread.expand(shape).reshape(-1).diag()
    return Density(given, shape, draw, record.log_prob, at, measure == "discrete", gaussian)


def _one(record: Any, side: str) -> Any:
    """The record without its batch axes, which may hold one distribution only."""
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    if "mean" not in fields and "logits" not in fields:
        return record
    name = "mean" if "mean" in fields else "logits"
    at, event = fields[name], record.event
    batch = at.shape[: at.ndim - event]
    if prod(batch) != 1:
        raise ArgumentError(
            f"{side} is a batch of {prod(batch)} distributions, {show(batch)}: one is needed; take one row of its "
            f"{name}, or raise `event`."
        )
    shape = at.shape[at.ndim - event :]
    change = {name: at.reshape(shape)}
    if "log_scale" in fields:
        change["log_scale"] = record.log_scale.expand_as(at).reshape(shape)
    if "tril" in fields:
        change["tril"] = record.tril.reshape(record.tril.shape[-2:])
    return replace(record, **change)


def _of_sampler(given: Any) -> Density:
    gaussian = (given.mean.double(), given.covariance.double()) if isinstance(given, Gaussian) else None

    def draw(n: int, key: int) -> Tensor:
        return given(n, Noise.of(key, n, dtype=torch.float64)).flatten(1)

    like = given(1, Noise.of(0, 1, dtype=torch.float64))
    log_prob = getattr(given, "log_prob", None)
    return Density(given, tuple(like.shape[1:]), draw, log_prob, like, gaussian=gaussian)
