"""Found on one classifier, judged on another: the table source × target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from psiphi.access import Access, white_box
from psiphi.access._refusal import answering
from psiphi.attacks import _rows
from psiphi.attacks._attack import Attack
from psiphi.attacks._battery import Battery
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise, mix
from psiphi.basis.provenance import provenance
from psiphi.formulas import goals
from psiphi.formulas.intervals import normal, wilson

CONTROLS = ("clean", "noise")


@dataclass(frozen=True, repr=False)
class Transfer:
    """What points found on S sources do to T targets.

    sources   names of the rows: "clean", the data as they are; "noise", random points of the threat; the S sources
    targets   names of the columns
    right     of each cell the share of draws that classify each of the n rows rightly, 0 or 1 of a deterministic
              classifier, (S + 2, T, n); a tie is wrong
    fooled    whether the label is another one than that of the clean row, (S + 2, T, n)
    distance  of the points from the data, in the threat's norm, (S + 2, n)
    forwards, backwards  rows that each search sent through its source, and back, (S + 2,)
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    right: Tensor
    fooled: Tensor
    distance: Tensor
    forwards: Tensor
    backwards: Tensor
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> Tensor:
        """(S + 2, T)"""
        return self.right.double().mean(2)

    @property
    def fooling(self) -> Tensor:
        """The share of rows whose label is another one than before, (S + 2, T)."""
        return self.fooled.double().mean(2)

    @property
    def accuracy_intervals(self) -> Tensor:
        """95 %, by Wilson, of a random target's by the normal, (S + 2, T, 2); NaN without rows."""
        return _intervals(self.right)

    @property
    def fooling_intervals(self) -> Tensor:
        """95 %, by Wilson, (S + 2, T, 2); NaN without rows."""
        return _intervals(self.fooled.double())

    def as_dict(self) -> dict[str, Any]:
        """source → target → its numbers, for JSON."""
        names = ("accuracy", "accuracy_intervals", "fooling", "fooling_intervals")
        cells = {name: getattr(self, name).tolist() for name in names}
        table = {
            source: {
                target: {name: cells[name][i][j] for name in names} for j, target in enumerate(self.targets)
            }
            for i, source in enumerate(self.sources)
        }
        far = dict(zip(self.sources, self.distance.double().mean(1).tolist()))
        spent = {
            name: dict(zip(self.sources, getattr(self, name).tolist())) for name in ("forwards", "backwards")
        }
        return {
            "rows": self.right.shape[2],
            "table": table,
            "mean distance": far,
            **spent,
            "provenance": self.provenance,
        }

    def __str__(self) -> str:
        """Accuracies, and in brackets the shares fooled; a line a source."""
        cells = [["found on \\ judged by", *self.targets]]
        for name, accuracy, fooling in zip(self.sources, self.accuracy.tolist(), self.fooling.tolist()):
            cells.append([name, *(f"{a:.1%} ({f:.1%})" for a, f in zip(accuracy, fooling))])
        widths = [max(map(len, column)) for column in zip(*cells)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)

    def __repr__(self) -> str:
        what = f"{self.provenance.get('attack', 'attack')}, {self.right.shape[2]} rows"
        return f"Transfer of {what}: accuracy (share fooled)\n{self}"


def transfer(
    attack: Attack | Battery,
    sources: Mapping[str, Any],
    x: Any,
    y: Any = None,
    *,
    targets: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Transfer:
    """Attack each source on every row, in full, and put the points to every target.

    `sources` and `targets`, by default the sources, are classifiers by name, bare or behind an access; a target may
    show labels only. `y` are by default the first source's own answers. The search takes all its steps
    (`stop_early=False`), since a point just across one boundary is seldom across another; a minimum-norm attack ends
    there by its nature, unless it has a `confidence`. The row "noise" is the control: random points of the threat;
    where it has no radius, as far as the farthest point that was found. Raises what the attack and the accesses do.
    """
    began = time.perf_counter()
    judges = sources if targets is None else targets
    for name, given in (("sources", sources), ("targets", judges)):
        if not isinstance(given, Mapping) or not given:
            raise ArgumentError(
                f"{name} are classifiers by name, e.g. {{'cnn': cnn, 'mlp': mlp}}; got {given!r}."
            )
    if taken := set(CONTROLS) & set(sources):
        raise ArgumentError(
            f"{', '.join(sorted(taken))} is the name of a control: give that source another one."
        )
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "stop_early": False}
    x, y = _rows.gathered(x, y)
    results = []
    for turn, classifier in enumerate(sources.values()):
        move = None if on_progress is None else _moved(on_progress, turn, len(sources))
        results.append(attack(classifier, x, y, on_progress=move, **how))
        y = results[0].label
    first = white_box(next(iter(sources.values())))
    clean = first.points(x)
    noise, far = _noise(attack, first, clean, results, seed)
    points = [clean, noise, *(result.x for result in results)]
    distance = torch.stack(
        [torch.zeros_like(far), far, *(result.distance.to(far) for result in results)]
    ).cpu()
    size = results[0].provenance["batch_size"]
    columns = [_judged(white_box(target), points, y, seed, size) for target in judges.values()]
    spent = {
        name: torch.tensor([0, 0, *(int(getattr(result, name).sum()) for result in results)])
        for name in ("forwards", "backwards")
    }
    told = provenance(
        attack=repr(attack), seed=seed, rows=len(x), targets={name: repr(white_box(t)) for name, t in judges.items()},
        sources={name: result.provenance["access"] for name, result in zip(sources, results)},
        seconds=round(time.perf_counter() - began, 3),
    )  # fmt: skip
    right, fooled = (torch.stack(parts, 1) for parts in zip(*columns))
    return Transfer((*CONTROLS, *sources), tuple(judges), right, fooled, distance, **spent, provenance=told)


def _noise(
    attack: Any, access: Access, x: Tensor, results: Sequence[Any], seed: int
) -> tuple[Tensor, Tensor]:
    """Random points of the threat, and their distances."""
    threat = attack.threat.expand(x)
    if not threat.eps.isfinite().all():
        found = torch.stack([result.distance.to(x) for result in results]).amax(0)
        threat = type(threat)(torch.where(threat.eps.isfinite(), threat.eps, found))
    origin, walls = threat.origin(x), threat.walls(access.box, x)
    u = threat.start(origin, walls, Noise.of(seed, len(x), x.device, x.dtype).split("transfer"))
    return (threat.decode(u, x, access.box) if threat.charted else u), threat.distance(u, origin)


def _judged(
    access: Access, points: Sequence[Tensor], y: Tensor, seed: int, size: int
) -> tuple[Tensor, Tensor]:
    """Share of draws in which each row of each part is right, and whether its label is not that of the first part."""
    shares, labels = [], []
    for part in points:
        here = access.points(part)
        rows, truth = torch.arange(len(here), device=here.device), y.to(here.device)
        access = answering(access, truth)
        with access.session(here, mix(seed, "transfer")):
            some = zip(here.split(size), rows.split(size))
            said = torch.cat([access.verdict(each, mine).said for each, mine in some], 1)
        labels.append(said.mode(0).values if said.ndim == 2 else said.mean(0).argmax(1))
        if said.ndim == 2:
            right = said == truth
        else:
            flat = goals.standing(said.flatten(0, 1), truth.repeat(len(said)))
            right = (flat == 0).unflatten(0, (len(said), len(truth)))
        shares.append(right.double().mean(0).cpu())
    return torch.stack(shares), torch.stack([label != labels[0] for label in labels]).cpu()


def _intervals(values: Tensor) -> Tensor:
    """Of the means over the last place; of zeros and ones by Wilson."""
    sources, targets, n = values.shape
    if not n:
        return values.new_full((sources, targets, 2), torch.nan)
    one = [_interval(cell, n) for cell in values.flatten(0, 1)]
    return torch.tensor(one, dtype=torch.float64).unflatten(0, (sources, targets))


def _interval(cell: Tensor, n: int) -> tuple[float, float]:
    sure = ((cell == 0) | (cell == 1)).all()
    return wilson(int(cell.sum()), n) if sure else normal(cell)


def _moved(on_progress: Callable[[int, int], None], turn: int, turns: int) -> Callable[[int, int], None]:
    return lambda done, of: on_progress(turn * of + done, turns * of)
