"""What is certain of rows, one by one, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.attacks import _files, _rows
from psiphi.basis.errors import ArgumentError, FileError
from psiphi.formulas.intervals import Share, wilson

_FORMAT = "psiphi certificate 1"
_SETTING = ("sigma", "alpha", "n0", "n")


@dataclass(frozen=True, repr=False)
class Certificate:
    """Answers of a smoothed classifier that hold within a radius, each row with probability 1 − `alpha` at least.

    prediction   the class, (b,); −1 where it abstains
    radius       R: the smoothed classifier answers the same at every x + δ with ‖δ‖₂ < R, (b,); 0 where it abstains
    p_lower      the lower bound of the chosen class's probability under noise, (b,)
    counts       of the `n` draws, how many each class has, (b, K)
    row          the number of each row in the whole batch, of which this may be a part
    sigma, alpha, n0, n   the noise, the failure rate a row, the draws that chose the class and those that counted it
    """

    prediction: Tensor
    radius: Tensor
    p_lower: Tensor
    counts: Tensor
    row: Tensor
    sigma: float
    alpha: float
    n0: int
    n: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prediction)

    @property
    def abstained(self) -> Tensor:
        """Rows without an answer, (b,)."""
        return self.prediction == -1

    def certified(self, y: Any, radius: float = 0.0) -> Tensor:
        """Rows whose label is answered, for certain within the closed ball of this radius, (b,).

        Raises `DataError` for labels that are missing, `ShapeError` for another number of them.
        """
        y = checks.as_labels(y, len(self)).to(self.prediction.device)
        return (self.prediction == y) & (self.radius > radius)

    def accuracy(self, y: Any, radius: float = 0.0) -> Share:
        """Certified accuracy: how many rows are `certified` at this radius, of all; the interval is of the rows drawn,
        while each row fails with probability `alpha` besides."""
        return Share(int(self.certified(y, radius).sum()), len(self))

    def curve(self, y: Any, radii: Sequence[float] | Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Radii (m,), by default 0 and where a row is lost; certified accuracy at each (m,); intervals (m, 2), 95 % by
        Wilson."""
        right = self.certified(y)
        if radii is None:
            radii = torch.cat([self.radius.new_zeros(1), self.radius[right]]).unique()
        radii = torch.as_tensor(radii, dtype=torch.float64)
        hits = (self.radius[right].cpu() > radii.cpu()[:, None]).sum(1).tolist()
        n = len(self)
        spans = [wilson(count, n) if n else (torch.nan, torch.nan) for count in hits]
        shares = torch.tensor([count / n if n else torch.nan for count in hits], dtype=torch.float64)
        return radii, shares, torch.tensor(spans, dtype=torch.float64).view(-1, 2)

    @staticmethod
    def cat(parts: Sequence[Certificate]) -> Certificate:
        """Parts of one certificate, in the order of their rows.

        Raises `ArgumentError` for a row in two parts, and for parts of different settings.
        """
        if not parts:
            raise ArgumentError("there are no parts to join: one certificate at least is needed.")
        if len(parts) == 1:
            return parts[0]
        for name in _SETTING:
            if len({getattr(part, name) for part in parts}) > 1:
                raise ArgumentError(
                    f"the parts differ in `{name}`: these are not the parts of one certificate."
                )
        order = _rows.in_order([part.row for part in parts], "certificate")
        filled = [part for part in parts if len(part)] or parts[:1]  # no rows, no classes to count
        joined = {name: torch.cat([getattr(part, name) for part in filled])[order] for name in _tensors()}
        told = {**parts[0].provenance, "rows": len(order), "parts": len(parts)}
        told["seconds"] = round(sum(part.provenance.get("seconds", 0.0) for part in parts), 3)
        told["data_sha256"] = [part.provenance.get("data_sha256") for part in parts]
        return replace(parts[0], **joined, provenance=told)

    def summary(self, y: Any = None) -> str:
        """A few lines for people."""
        if not len(self):
            return "no rows were certified"
        kept = self.radius[~self.abstained]
        lines = [
            f"{self.provenance.get('classifier', 'smoothed classifier')} on {len(self)} rows, α = {self.alpha:g} a row",
            f"  abstained        {int(self.abstained.sum())}",
            f"  median radius    {kept.median():.4g} of those answered"
            if len(kept)
            else "  no row is answered",
        ]
        if y is not None:
            radii = [self.sigma * each for each in (0.0, 0.5, 1.0, 1.5, 2.0)]
            lines += [f"  certain at {each:<6.3g}{self.accuracy(y, each)}" for each in radii]
        return "\n".join(lines)

    def __repr__(self) -> str:
        radius = f", median radius {self.radius.median():.3g}" if len(self) else ""
        return (
            f"Certificate({len(self)} rows, {int(self.abstained.sum())} abstained{radius}, σ={self.sigma:g}, "
            f"α={self.alpha:g}, n={self.n})"
        )

    def save(self, path: str | Path) -> None:
        """Write `path`.npz, then `path`.json, which names the SHA-256 of the former."""
        rest = {name: getattr(self, name) for name in (*_SETTING, "provenance")}
        _files.save(path, {name: getattr(self, name) for name in _tensors()}, {"format": _FORMAT, **rest})

    @staticmethod
    def load(path: str | Path) -> Certificate:
        """Read what `save` wrote; nothing is unpickled. Raises `FileError`."""
        tensors, record = _files.load(path, "certificate", _FORMAT, _tensors())
        try:
            return Certificate(**tensors, **{name: record[name] for name in (*_SETTING, "provenance")})
        except KeyError as error:
            raise FileError(f"{path} is no certificate: it lacks {error}.") from None


def _tensors() -> list[str]:
    return [f.name for f in fields(Certificate) if f.name not in (*_SETTING, "provenance")]
