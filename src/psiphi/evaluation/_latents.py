"""What a model's codes are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import generator
from psiphi.evaluation import _manifold as manifold
from psiphi.evaluation import _probes as probes
from psiphi.evaluation._manifold import Cycle, Steadiness
from psiphi.evaluation._probes import Information
from psiphi.evaluation._rows import Rows, codes_of, rows_of
from psiphi.evaluation._share import Share
from psiphi.evaluation._units import Units, atoms_at, units

PARTS = ("units", "labels", "information", "trustworthiness", "atoms", "manifold", "corruption")
QUICK = ("units", "labels")
SEEN_ROWS, PAIR_ROWS = 10_000, 1000


@dataclass(frozen=True)
class Latents:
    """The codes of held-out rows, judged; what does not apply is None, and `why` says why.

    units: activity, usage, top-activating rows; probe, neighbours: shares of rows whose label logistic regression
    on the codes, and the label of the nearest code, gets right; information: of each unit about the labels, and
    MIG; trustworthiness: on at most 1000 rows; atoms: the decoder's response to each unit, (d, *shape); cycle:
    ‖φ(ψ(z)) − z‖; off_data: share of draws that decode off the data; steadiness: ‖φ(T(x)) − φ(x)‖.
    """

    rows: int
    latent_dim: int
    units: Units | None = None
    probe: Share | None = None
    neighbours: Share | None = None
    information: Information | None = None
    trustworthiness: float | None = None
    atoms: Tensor | None = None
    cycle: Cycle | None = None
    off_data: Share | None = None
    steadiness: Steadiness | None = None
    why: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values; atoms, which are as large as data, are left out."""
        return {
            "rows": self.rows,
            "latent_dim": self.latent_dim,
            "active_units": self.units.n_active if self.units else None,
            **{name: _plain(getattr(self, name)) for name in _SHOWN},
            "why": self.why,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.summary())

    def summary(self) -> list[tuple[str, str]]:
        """What was found, a line each: a name and the number in words."""
        found = list[tuple[str, str]]()
        if self.units:
            found.append(("active units", f"{self.units.n_active} of {self.latent_dim}"))
            if bool((self.units.usage < 1).any()):
                found.append(("mean usage", f"{float(self.units.usage.mean()):.1%} of rows"))
        for name, share in (("linear probe", self.probe), ("nearest code", self.neighbours)):
            if share:
                found.append((name, str(share)))
        if self.information and self.information.gap is not None:
            found.append(("mutual information gap", f"{self.information.gap:.3f}"))
            most = float(self.information.nats.max())
            found.append(("most informative unit", f"{most:.3f} nats, {self.information.bins} bins"))
        if self.trustworthiness is not None:
            found.append(("trustworthiness", f"{self.trustworthiness:.4f}"))
        if self.cycle:
            c = self.cycle
            found.append(
                (
                    "‖φ(ψ(z)) − z‖",
                    f"{c.at_codes:.3g} at codes, {c.at_draws:.3g} at draws; spread {c.spread:.3g}",
                )
            )
        if self.off_data:
            found.append(("draws off the data", str(self.off_data)))
        if self.steadiness:
            s = self.steadiness
            found.append(("‖φ(T(x)) − φ(x)‖", f"{s.shift:.3g}; spread {s.spread:.3g}"))
            if s.probe:
                found.append(("linear probe, corrupted", str(s.probe)))
        return found


_SHOWN = tuple(
    name for name in Latents.__dataclass_fields__ if name not in ("rows", "latent_dim", "atoms", "why")
)


@torch.no_grad()
def latents(
    model: Any,
    x: Any,
    y: Any = None,
    train: Any = None,
    seed: int = 0,
    *,
    parts: Sequence[str] = PARTS,
    bins: int | None = None,
    neighbours: int = 1,
    top: int = 8,
) -> Latents:
    """Judge the codes E[z|x] of rows x that the model has not seen.

    y: labels (n,), −1 unknown, or factors (n, f); train: a split or a pair (x, y) that probes are fitted on and
    distances taken to (its first 10 000 rows); without it a random half of x serves, and the rest is judged.
    parts: which of `PARTS` to measure; bins: of the information; neighbours: k of the nearest codes; top: rows
    listed a unit. Raises `MissingVerb` where the model has no codes, `DataError` where there are no rows.
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise ArgumentError(f"latents has no part {unknown[0]!r}; it has {', '.join(PARTS)}.")
    held = rows_of(x if y is None else (x, y), model.shape)
    seen = None if train is None else rows_of(train, model.shape, SEEN_ROWS, "train")
    if seen is None:
        seen, held = _halved(held, seed)
    z, known = codes_of(model, held.x), codes_of(model, seen.x)
    found = Latents(len(z), z.shape[1])
    if "units" in parts:
        found = replace(found, units=units(model, z, top))
    if "atoms" in parts:
        found = replace(found, atoms=atoms_at(model, known.mean(0), known.std(0, correction=0)))
    gaps = bool(held.x.isnan().any()) or bool(seen.x.isnan().any())
    if gaps:
        for name in sorted({"trustworthiness", "manifold"} & set(parts)):
            found = _missing(found, name, "rows with missing values have no distance")
        parts = tuple(name for name in parts if name not in found.why)
    if "trustworthiness" in parts:
        found = _trust(found, held.x, z)
    if "manifold" in parts:
        off = manifold.off_data(model, held.x[:PAIR_ROWS], seen.x, known, seed)
        found = replace(found, cycle=manifold.cycle(model, z, seed), off_data=off)
    return _labels(found, model, held, seen, z, known, seed, parts, bins, neighbours)


def _halved(held: Rows, seed: int) -> tuple[Rows, Rows]:
    order = torch.randperm(len(held.x), generator=generator(seed, "half"))
    halves = order.tensor_split(2)
    first, second = (Rows(held.x[i], None if held.y is None else held.y[i]) for i in halves)
    return first, second


def _trust(found: Latents, x: Tensor, z: Tensor) -> Latents:
    n = min(len(z), PAIR_ROWS)
    if n < 12:
        return _missing(found, "trustworthiness", f"it needs 12 rows, and there are {n}")
    return replace(found, trustworthiness=probes.trustworthiness(x[:n].cpu(), z[:n]))


def _labels(
    found: Latents, model: Any, held: Rows, seen: Rows, z: Tensor, known: Tensor, seed: int,
    parts: Sequence[str], bins: int | None, k: int,
) -> Latents:  # fmt: skip
    """Everything that reads labels, and the corruption, whose probe does."""
    fitted = None
    if held.y is not None and "information" in parts:
        keep = (
            (held.y >= 0) if held.y.ndim == 1 and not held.y.is_floating_point() else torch.ones(len(z)) > 0
        )
        if bool(keep.any()):
            found = replace(found, information=probes.information(z[keep], held.y[keep], bins))
    reason = _no_labels(held, seen)
    if reason is None and ({"labels", "corruption"} & set(parts)):
        assert held.y is not None
        assert seen.y is not None
        mine, theirs = held.y >= 0, seen.y >= 0
        y, taught = held.y[mine], seen.y[theirs]
        fitted = probes.linear_probe(known[theirs], taught)
        if "labels" in parts:
            near = probes.nearest(known[theirs], taught, z[mine], y, k)
            found = replace(found, probe=probes.right(fitted, z[mine], y), neighbours=near)
    elif "labels" in parts:
        found = _missing(found, "probe", reason or "")
    if "corruption" not in parts:
        return found
    if getattr(model, "corruption", None) is None:
        return _missing(found, "steadiness", "the model corrupts nothing")
    shift, corrupted = manifold.steadiness(model, held.x, z, seed)
    probe = None
    if fitted is not None and held.y is not None:
        probe = probes.right(fitted, corrupted[held.y >= 0], held.y[held.y >= 0])
    return replace(found, steadiness=Steadiness(shift, manifold.spread(z), probe))


def _no_labels(held: Rows, seen: Rows) -> str | None:
    if held.y is None or seen.y is None:
        return "there are no labels"
    if held.y.ndim != 1 or held.y.is_floating_point():
        return "a probe needs one label a row"
    if len(seen.y[seen.y >= 0].unique()) < 2 or not bool((held.y >= 0).any()):
        return "a probe needs known labels of at least two classes"
    return None


def _missing(found: Latents, name: str, reason: str) -> Latents:
    return replace(found, why={**found.why, name: reason})


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Share):
        return value.as_dict()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
