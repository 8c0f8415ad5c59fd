"""Figures of attacks: how far the nearest mistakes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psiphi.app.plots import Draw, Palette

BINS = 24


def distances(series: Sequence[tuple[str, Sequence[float], str]], x: str) -> Draw:
    """Histograms of distances, one above the other, with the median as a line: (name, distances, colour)."""
    top = max((max(values) for _, values, _ in series if len(values)), default=1.0)

    def draw(ax: Any, c: Palette) -> None:
        edges = [top * k / BINS for k in range(BINS + 1)]
        for name, values, colour in series:
            ax.hist(values, bins=edges, color=c[colour], alpha=0.3)
            ax.hist(values, bins=edges, color=c[colour], histtype="step", linewidth=1.4, label=name)
            if len(values):
                middle = sorted(values)[len(values) // 2]
                ax.axvline(middle, color=c[colour], linewidth=1.2, linestyle=(0, (3, 2)))
        ax.set_title("digits; dashed: the median", color=c["soft"], fontsize=10.5)
        ax.set_xlabel(x)
        ax.set_xlim(0, top)
        ax.grid(axis="y", color=c["grid"], linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.legend(frameon=False, loc="upper right", handlelength=1.2, fontsize=9.5)

    return draw
