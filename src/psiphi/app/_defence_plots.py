"""Figures of defences that say no: certified accuracy against the radius, and the curve of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psiphi.app.plots import Draw, Palette

TICKS = [0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"]


def certified(told: Mapping[str, Any]) -> Draw:
    """Certified accuracy with the band of its intervals; at some radii the share that is not wrong under attack."""
    curve, levels = told["curve"], told["levels"]

    def draw(ax: Any, c: Palette) -> None:
        ax.fill_between(curve["radius"], *zip(*curve["intervals"]), color=c["white"], alpha=0.16, linewidth=0)
        ax.plot(curve["radius"], curve["accuracy"], color=c["white"], label="certified")
        at = [each["radius"] for each in levels]
        kept = [1 - each["attacked"]["wrong"]["value"] for each in levels]
        spans = [each["attacked"]["wrong"]["interval"] for each in levels]
        bars = [
            [k - (1 - high) for k, (_, high) in zip(kept, spans)],
            [(1 - low) - k for k, (low, _) in zip(kept, spans)],
        ]
        ax.errorbar(
            at, kept, bars, fmt="o", color=c["bare"], markersize=4, elinewidth=1, clip_on=False,
            label="not wrong under attack",
        )  # fmt: skip
        _framed(ax, c, "L2 radius, in the data's units", f"share of rows, σ = {told['sigma']:g}")
        ax.set_xlim(0, 1.04 * max(*curve["radius"], *at))
        ax.legend(frameon=False, loc="lower left", handlelength=1.4, fontsize=9.5)

    return draw


def roc(curves: Sequence[tuple[str, Sequence[Sequence[float]], tuple[float, float], str]]) -> Draw:
    """Odd rows flagged against normal rows flagged, with the threshold that is set as a dot: (name, (normal, odd),
    (x, y) of the threshold, colour)."""

    def draw(ax: Any, c: Palette) -> None:
        ax.plot([0, 1], [0, 1], color=c["soft"], linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        for name, (normal, odd), place, colour in curves:
            ax.plot(normal, odd, color=c[colour], label=name)
            ax.plot(*place, "o", color=c[colour], markersize=5, clip_on=False)
        _framed(
            ax,
            c,
            "share flagged of normal rows; the dots: the threshold",
            "share flagged of the rows that fool the classifier",
        )
        ax.set_xlim(-0.02, 1.02)
        ax.set_xticks(*TICKS)
        ax.legend(frameon=False, loc="lower right", handlelength=1.4, fontsize=9.5)

    return draw


def drops(rows: Sequence[tuple[str, float, float | None, float, tuple[float, float]]]) -> Draw:
    """What each defence keeps, a line each: untouched, gray-box and lowest accuracy: (name, clean, gray, lowest, its
    interval)."""

    def draw(ax: Any, c: Palette) -> None:
        for i, (name, clean, gray, lowest, (low, high)) in enumerate(rows):
            y = len(rows) - 1 - i
            ax.plot([0, 1], [y, y], color=c["grid"], linewidth=0.8, zorder=0)
            ax.plot([low, high], [y, y], color=c["bare"], linewidth=5, alpha=0.3, solid_capstyle="butt")
            ax.plot([lowest, clean], [y, y], color=c["soft"], linewidth=1, zorder=1)
            marks = [(clean, "o", "classifier"), (gray, "D", "gray"), (lowest, "s", "bare")]
            for value, mark, colour in marks:
                if value is not None:
                    ax.plot([value], [y], mark, color=c[colour], markersize=6.5)
            ax.text(0, y + 0.3, name, color=c["ink"], va="center")
        ends = [("untouched", "o", "classifier"), ("gray-box", "D", "gray"), ("lowest", "s", "bare")]
        for name, mark, colour in ends:
            ax.plot([], [], mark, color=c[colour], label=name)
        above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3}
        ax.legend(frameon=False, handlelength=1, borderaxespad=0, fontsize=9.5, **above)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.5, len(rows) - 0.4), yticks=[], xlabel="accuracy")
        ax.set_xticks(*TICKS)
        ax.spines["left"].set_visible(False)

    return draw


def _framed(ax: Any, c: Palette, x: str, y: str) -> None:
    """Axes of shares, quiet as those of the other figures."""
    ax.set_title(y, color=c["soft"], fontsize=10.5)
    ax.set_xlabel(x)
    ax.set_ylim(-0.03, 1.03)
    ax.set_yticks(*TICKS)
    ax.grid(axis="y", color=c["grid"], linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
