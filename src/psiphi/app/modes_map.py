"""Modes on a map: samples of a model in the plane over the modes that it should reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from psiphi.app.plots import Draw, Palette

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.evaluation import Modes

POINTS = 2500
SHOWN = 600  # dots of a figure on a page, which holds each as text


@dataclass(frozen=True)
class ModesMap:
    """Points (n, 2), the means (K, 2) and σ of the modes, and what `evaluation.modes` makes of them."""

    name: str
    x: Tensor
    means: Tensor
    sigma: float
    found: Modes


def modes_map(model: Any, target: Any, name: str, n: int = POINTS, seed: int = 0) -> ModesMap:
    """A model's draws over the modes of a mixture in the plane."""
    from psiphi.evaluation import modes
    from psiphi.evaluation._modes import mixture_of, points_of

    means, sigma = mixture_of(target)
    x = points_of(model, means.shape[1], n, seed)
    return ModesMap(name, x, means, sigma, modes(x, target))


def in_the_plane(target: Any) -> bool:
    """Whether these modes can be drawn."""
    from psiphi.evaluation._modes import is_mixture, mixture_of

    return is_mixture(target) and mixture_of(target)[0].shape[1] == 2


def draw(each: ModesMap, shown: int = POINTS) -> Draw:
    """The first samples as dots, found modes as open circles, missed ones as crosses; the window shows every mode."""

    def drawn(ax: Any, c: Palette) -> None:
        ax.scatter(*zip(*each.x[:shown].tolist()), s=5, color=c["vae"], alpha=0.45, linewidths=0)
        lost = set(each.found.missed)
        found = [mean for k, mean in enumerate(each.means.tolist()) if k not in lost]
        missed = [each.means[k].tolist() for k in each.found.missed]
        for means, mark, colour in ((found, "o", "classifier"), (missed, "x", "bare")):
            if means:
                face = {"facecolors": "none"} if mark == "o" else {}
                edge = {"edgecolors": c[colour]} if mark == "o" else {"color": c[colour]}
                ax.scatter(*zip(*means), s=110, marker=mark, linewidths=1.6, zorder=3, **face, **edge)
        _window(ax, each.means)
        f = each.found
        ax.set_title(f"{each.name}: {f.found} of {f.modes} modes", color=c["ink"], fontsize=10.5)
        ax.set_xlabel(f"{f.quality.value:.1%} within 3σ (ceiling {f.ceiling:.1%}); ○ found, × missed")
        ax.set(xticks=[], yticks=[])
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)

    return drawn


def side_by_side(maps: Sequence[ModesMap], shown: int = POINTS, columns: int | None = None) -> Draw:
    """Several models' maps in one figure, `columns` of them in a row, all unless given."""
    columns = columns or len(maps)
    rows = ceil(len(maps) / columns)

    def drawn(ax: Any, c: Palette) -> None:
        ax.axis("off")
        width, height = 1 / columns, 1 / rows
        for i, each in enumerate(maps):
            left, low = i % columns * width, 1 - (i // columns + 1) * height
            draw(each, shown)(ax.inset_axes((left, low + 0.08 * height, 0.96 * width, 0.84 * height)), c)

    return drawn


def _window(ax: Any, means: Tensor) -> None:
    low, high = means.amin(0), means.amax(0)
    room = 0.15 * float((high - low).amax()) or 1.0
    ax.set_xlim(float(low[0]) - room, float(high[0]) + room)
    ax.set_ylim(float(low[1]) - room, float(high[1]) + room)
    ax.set_aspect("equal", "box")


def words(each: ModesMap) -> str:
    """The map for those who do not see it."""
    missed = ", ".join(str(k) for k in each.found.missed)
    said = f"; missed: {missed}" if missed else ""
    return (
        f"Samples of {each.name} over {each.found.modes} modes, of which {each.found.found} are found{said}"
    )
