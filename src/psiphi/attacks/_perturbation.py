"""A change that was learnt for all inputs: what it does to others, and on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, white_box
from psiphi.access import _checks as checks
from psiphi.access._refusal import check_answers
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError, DataError, FileError, ShapeError
from psiphi.basis.noise import Noise, generator
from psiphi.basis.shapes import show
from psiphi.formulas.geometry import Box
from psiphi.formulas.intervals import Share
from psiphi.models._files import to_json
from psiphi.training import History

_FORMAT = "psiphi universal perturbation 1"
_CHUNK = 512
Place = tuple[int, int] | str | None
Classifier = Callable[[Tensor], Tensor] | Access


@dataclass(frozen=True, repr=False)
class Perturbation:
    """u(x): x + δ brought into the box, or x with δ in the place of a window.

    delta       δ, (*x) or (C, h, w)
    box         the walls of the data
    place       of a window: row and column of its upper left pixel, or "random"; None where δ is added
    target      the class that all inputs were to reach
    used        a number for each row that it was learnt on, (n,): rates leave such rows out
    history     of the ascent; not saved
    provenance  attack, access, seed, data, versions
    """

    delta: Tensor
    box: Box = Box()  # noqa: RUF009
    place: Place = None
    target: int | None = None
    used: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    history: History | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Any, seed: int = 0) -> Tensor:
        """Perturbed inputs (b, *x), where x is; `seed` draws random places, row by row."""
        x = checks.as_points(x)
        self._check(x)
        noise = Noise.of(seed, len(x), x.device, x.dtype)
        return applied(self.delta.to(x), x, self.box.like(x), self.place, noise)

    def fooling_rate(self, classifier: Classifier, x: Any, *, seed: int = 0) -> Share:
        """The share of inputs with f(u(x)) ≠ f(x), with Wilson's interval, of any classifier or access.

        Rows that δ was learnt on are left out: `n` says how many count. Raises `DataError` where none is left.
        """
        clean, moved = self._answers(classifier, x, None, seed)
        return _share(moved != clean)

    def error(self, classifier: Classifier, x: Any, y: Any, *, seed: int = 0) -> Share:
        """The share of inputs with f(u(x)) ≠ y; rows as in `fooling_rate`."""
        _, moved, y = self._answers(classifier, x, y, seed)
        return _share(moved != y)

    def hit_rate(self, classifier: Classifier, x: Any, *, seed: int = 0) -> Share:
        """The share with f(u(x)) = t, the target, of the inputs with f(x) ≠ t; rows as in `fooling_rate`."""
        if self.target is None:
            raise ArgumentError("this perturbation has no target: ask for its fooling_rate.")
        clean, moved = self._answers(classifier, x, None, seed)
        return _share(moved[clean != self.target] == self.target)

    def _answers(self, classifier: Classifier, x: Any, y: Any, seed: int) -> tuple[Tensor, ...]:
        """f(x), f(u(x)) and, where given, y of the rows that were not used."""
        access = white_box(classifier)
        check_answers(access, "a fooling rate")
        x = access.points(x)
        y = None if y is None else checks.as_labels(y, len(x)).to(x.device)
        fresh = (~torch.isin(keys(x), self.used)).to(x.device)
        if not fresh.any():
            raise DataError(
                f"all {len(x)} rows are among the {len(self.used)} that the perturbation was learnt on: rates are of "
                "inputs not used."
            )
        # The numbers of the rows are those of x, whatever is left out: random places stay with their rows.
        v, rows = self(x, seed)[fresh], torch.arange(int(fresh.sum()), device=x.device)
        x = x[fresh]
        with access.session(x, seed):
            clean, moved = (
                torch.cat(
                    [_label(access.verdict(*some).said) for some in zip(z.split(_CHUNK), rows.split(_CHUNK))]
                )
                for z in (x, v)
            )
        return (clean, moved) if y is None else (clean, moved, y[fresh])

    def _check(self, x: Tensor) -> None:
        wanted, given = tuple(self.delta.shape), tuple(x.shape[1:])
        fits = given == wanted if self.place is None else len(given) == 3 and given[0] == wanted[0]
        if fits and self.place is not None:
            top, left = (0, 0) if isinstance(self.place, str) else self.place
            fits = top + wanted[1] <= given[1] and left + wanted[2] <= given[2]
        if not fits:
            what = "" if self.place is None else f" at place {self.place!r}"
            raise ShapeError(
                f"x has rows of shape {show(given)}; the perturbation is of shape {show(wanted)}{what} and needs rows "
                "like those it was learnt on."
            )

    def __repr__(self) -> str:
        told = self.provenance.get("attack", "universal")
        return f"Perturbation({show(tuple(self.delta.shape))}, of {told}, learnt on {len(self.used)} rows)"

    def save(self, path: str | Path) -> None:
        """Write the folder `path`: perturbation.safetensors, and perturbation.json, which names its SHA-256."""
        low, high = (torch.as_tensor(wall, dtype=torch.double) for wall in self.box)
        tensors = {"delta": self.delta, "used": self.used, "low": low, "high": high}
        place = list(self.place) if isinstance(self.place, tuple) else self.place
        record = {"format": _FORMAT, "place": place, "target": self.target}
        files.write_bundle(path, "perturbation", tensors, {**record, "provenance": to_json(self.provenance)})

    @staticmethod
    def load(path: str | Path) -> Perturbation:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        record, tensors = files.read_bundle(path, "perturbation")
        if record.get("format") != _FORMAT:
            raise FileError(f"{path} holds no universal perturbation of this version ({_FORMAT}).")
        try:
            place = record["place"]
            box = Box(*(float(w) if w.ndim == 0 else w for w in (tensors["low"], tensors["high"])))
            return Perturbation(
                tensors["delta"], box, tuple(place) if isinstance(place, list) else place, record["target"],
                tensors["used"], None, record["provenance"],
            )  # fmt: skip
        except KeyError as error:
            raise FileError(f"{path} holds no universal perturbation: it lacks {error}.") from None


def applied(delta: Tensor, x: Tensor, box: Box, place: Place, noise: Noise) -> Tensor:
    """x + δ in the box; or δ (C, h, w) over x (b, C, H, W) at a place, "random" being any that fits, all alike."""
    if place is None:
        return box.clamp(x + delta)
    (h, w), (height, width) = delta.shape[-2:], x.shape[-2:]
    if isinstance(place, str):
        draw = noise.split("place")
        top, left = draw.at(0).integers(height - h + 1), draw.at(1).integers(width - w + 1)
    else:
        top, left = (torch.full((len(x),), i, device=x.device) for i in place)
    rows, channels = (torch.arange(n, device=x.device) for n in x.shape[:2])
    i = top[:, None, None, None] + torch.arange(h, device=x.device)[:, None]
    j = left[:, None, None, None] + torch.arange(w, device=x.device)
    where = (rows[:, None, None, None], channels[:, None, None], i, j)
    return x.index_put(where, delta.expand(len(x), *delta.shape))


def keys(x: Tensor) -> Tensor:
    """A 64-bit number for each row, (n,): equal rows have equal ones, others next to never."""
    bits = x.detach().flatten(1).float().cpu().add(0.0).view(torch.int32)
    factors = torch.randint(
        -(1 << 62), 1 << 62, (bits.shape[1],), generator=generator("rows of a perturbation")
    )
    parts = [(part.long() * (factors | 1)).sum(1) for part in bits.split(4096)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def _label(said: Tensor) -> Tensor:
    """Of logits (m, n, K) or labels (m, n)."""
    return said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1)


def _share(holds: Tensor) -> Share:
    return Share(int(holds.sum()), len(holds))
