"""Figures as inline SVG whose text and lines take the page's colours, and the same figures as PNG files.

A figure is drawn with a palette. On a page its colours are markers, which become `currentColor` and CSS variables;
in a file they are plain ones. Output is reproducible: fixed salt, no date.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psiphi.basis import files

NAMES = (
    "ink",
    "soft",
    "grid",
    "pca",
    "ae",
    "vae",
    "classifier",
    "bare",
    "gray",
    "white",
    *(f"k{i}" for i in range(10)),
)
MARKERS = {name: f"#0102{i + 3:02x}" for i, name in enumerate(NAMES)}
CLASSES = (
    "#b5482a",
    "#2f6ea5",
    "#4e8a3c",
    "#8a5aa8",
    "#b98a1d",
    "#2a8a86",
    "#c2557f",
    "#6b6f2b",
    "#5866c0",
    "#8a6248",
)
PLAIN = {
    "ink": "#222222",
    "soft": "#6b6b6b",
    "grid": "#e3e0d8",
    "pca": "#8a857b",
    "ae": "#b98a1d",
    "vae": "#2f6ea5",
    "classifier": "#4e8a3c",
    "bare": "#b5482a",
    "gray": "#b98a1d",
    "white": "#2f6ea5",
    **{f"k{i}": colour for i, colour in enumerate(CLASSES)},
}

Palette = Mapping[str, str]
Draw = Callable[[Any, Palette], None]
Size = tuple[float, float]

RC: dict[Any, Any] = {
    "svg.hashsalt": "psiphi",
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "axes.titlesize": 11,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
}


def _render(draw: Draw, size: Size, palette: Palette, paper: str, **how: Any) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    ink: dict[Any, Any] = dict.fromkeys(
        ("xtick.color", "ytick.color", "axes.edgecolor", "axes.labelcolor"), palette["soft"]
    )
    out = io.BytesIO()
    with matplotlib.rc_context({**RC, **ink, "text.color": palette["ink"], "axes.facecolor": "none"}):
        figure = Figure(figsize=size, layout="constrained", facecolor=paper)
        draw(figure.add_subplot(), palette)
        figure.savefig(out, **how)
    return out.getvalue()


def svg(draw: Draw, name: str, alt: str, size: Size = (4.6, 3.1)) -> str:
    """An `<svg>` for a page: scalable, described by `alt`, its ids begun with `name`."""
    drawn = _render(draw, size, MARKERS, "none", format="svg", metadata={"Date": None, "Creator": None})
    return _inline(drawn.decode(), name, alt)


def png(path: str | Path, draw: Draw, size: Size = (4.6, 3.1)) -> None:
    """The same figure as a PNG on white."""
    files.write(path, _render(draw, size, PLAIN, "white", format="png", dpi=160, metadata={"Software": None}))


def _inline(text: str, name: str, alt: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    text = re.sub(r"<svg[^>]*>", f'<svg viewBox="{box[1]}" role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for key, marker in MARKERS.items():
        text = text.replace(marker, "currentColor" if key == "ink" else f"var(--{key})")
    return re.sub(r"\s*\n\s*", "\n", text).strip()


# ------------------------------------------------------------------------------------------ figures


def curves(
    series: Sequence[tuple[str, Sequence[float], Sequence[float], str, bool]],
    x: str,
    y: str,
    *,
    room: float = 0.2,
) -> Draw:
    """Lines with their names at their right ends: (name, xs, ys, colour, dashed)."""

    def draw(ax: Any, c: Palette) -> None:
        ends = []
        for name, xs, ys, colour, dashed in series:
            ax.plot(
                xs,
                ys,
                color=c[colour],
                linestyle=(0, (3, 2)) if dashed else "-",
                linewidth=1.5 if dashed else 1.9,
            )
            if name and len(xs):
                ends.append((ys[-1], xs[-1], name, colour))
        _quiet(ax, c, x, y)
        _name_ends(ax, c, ends, room)

    return draw


def _name_ends(ax: Any, c: Palette, ends: list[tuple[float, float, str, str]], room: float) -> None:
    """Names beside the last points, moved apart where they would overlap."""
    if not ends:
        return
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if left <= tick <= right]
    ax.set_xlim(left, right + room * (right - left))
    ax.set_xticks(ticks)
    gap, last = 0.085 * (high - low), -float("inf")
    for y, x, name, colour in sorted(ends):
        last = max(y, last + gap)
        ax.annotate(
            name,
            (x, y),
            (x + 0.02 * (right - left), last),
            va="center",
            color=c[colour],
            annotation_clip=False,
        )


def _quiet(ax: Any, c: Palette, x: str, y: str) -> None:
    ax.set_title(y, color=c["soft"], fontsize=10.5)
    ax.set_xlabel(x)
    ax.grid(axis="y", color=c["grid"], linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def latent_map(points: Any, labels: Sequence[int], names: Sequence[str], x: str, y: str) -> Draw:
    """Codes in the plane, each drawn as the name of its class, so that colour is not needed to read it."""

    def draw(ax: Any, c: Palette) -> None:
        for k, name in enumerate(names):
            mine = [i for i, label in enumerate(labels) if label == k]
            if not mine:
                continue
            mark = f"${name}$" if len(name) == 1 and name.isalnum() else "o"
            xs, ys = [points[i][0] for i in mine], [points[i][1] for i in mine]
            ax.scatter(xs, ys, s=46, marker=mark, color=c[f"k{k % 10}"], linewidths=0)
        ax.set(xlabel=x, ylabel=y, xticks=[], yticks=[])
        ax.set_aspect("equal", "datalim")
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)

    return draw


def radii(
    eps: Sequence[float],
    series: Sequence[tuple[str, Sequence[float], Sequence[tuple[float, float]], str]],
    at: float | None,
) -> Draw:
    """Accuracy against the radius of the threat, with bands of their intervals: (name, values, intervals, colour)."""

    def draw(ax: Any, c: Palette) -> None:
        ends = []
        if at is not None:
            ax.axvline(at, color=c["soft"], linewidth=0.8, linestyle=(0, (1, 2)))
        for name, values, bands, colour in series:
            lows, highs = zip(*bands)
            ax.fill_between(eps, lows, highs, color=c[colour], alpha=0.16, linewidth=0)
            ax.plot(eps, values, color=c[colour], marker="o", markersize=3.2)
            ends.append((values[-1], eps[-1], name, colour))
        _quiet(ax, c, "radius ε of the L∞ ball, in the data's units", "accuracy")
        ax.set_ylim(-0.03, 1.03)
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        _name_ends(ax, c, ends, 0.3)

    return draw


def accuracy_curve(
    eps: Sequence[float],
    values: Sequence[float],
    bands: Sequence[tuple[float, float]],
    norm: str,
    chance: float | None = None,
) -> Draw:
    """Accuracy against the radius, from the clean one at 0, with the band of its intervals and the level of chance."""

    def draw(ax: Any, c: Palette) -> None:
        few = len(eps) <= 40
        lows, highs = zip(*bands)
        ax.fill_between(eps, lows, highs, color=c["bare"], alpha=0.16, linewidth=0)
        ax.plot(eps, values, color=c["bare"], marker="o" if few else "", markersize=3.2, clip_on=False)
        levels = [(values[0], f"clean {values[0]:.1%}", (0, (3, 2)), 1, "right")]
        levels += [] if chance is None else [(chance, f"chance {chance:.0%}", (0, (1, 2)), 0.01, "left")]
        for level, name, dashes, place, side in levels:
            ax.axhline(level, color=c["soft"], linewidth=0.8, linestyle=dashes, zorder=0)
            ax.annotate(
                name, (place, level), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha=side, va="bottom", color=c["soft"], fontsize=9.5,
            )  # fmt: skip
        _quiet(ax, c, f"radius ε of the {norm} ball, in the data's units", "accuracy under attack")
        ax.set_xlim(0, max(eps) or 1)
        ax.set_ylim(-0.03, 1.09)
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])

    return draw


def query_curve(
    queries: Sequence[int], shares: Sequence[float], bands: Sequence[tuple[float, float]]
) -> Draw:
    """Success of a black-box attack against the queries a sample, with the band of its intervals."""

    def draw(ax: Any, c: Palette) -> None:
        ax.fill_between(queries, *zip(*bands), step="post", color=c["bare"], alpha=0.16, linewidth=0)
        ax.step(queries, shares, where="post", color=c["bare"])
        _quiet(ax, c, "queries a sample", "share of rows broken")
        if max(queries) > 100 * max(1, min(queries)):
            ax.set_xscale("log")
        ax.set_ylim(-0.03, 1.03)
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])

    return draw


def paired_bars(
    names: Sequence[str], first: Sequence[float], second: Sequence[float], labels: tuple[str, str]
) -> Draw:
    """Two shares for each name, side by side."""

    def draw(ax: Any, c: Palette) -> None:
        places = range(len(names))
        ax.bar([i - 0.2 for i in places], first, 0.36, color=c["pca"], label=labels[0])
        ax.bar([i + 0.2 for i in places], second, 0.36, color=c["vae"], label=labels[1])
        _quiet(ax, c, "class", "share of rows")
        ax.set_xticks(list(places), list(names))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.tick_params(axis="x", length=0)
        ax.set_ylim(0, 1.25 * max(*first, *second))
        ax.legend(frameon=False, loc="upper right", ncols=2, handlelength=1, borderaxespad=0, fontsize=9.5)

    return draw


def spans(rows: Sequence[tuple[str, float, tuple[float, float], str]], x: str) -> Draw:
    """A dot with its interval for each row: (name, value, (low, high), colour); shares between 0 and 1."""

    def draw(ax: Any, c: Palette) -> None:
        for i, (name, value, (low, high), colour) in enumerate(rows):
            y = len(rows) - 1 - i
            ax.plot([0, 1], [y, y], color=c["grid"], linewidth=0.8, zorder=0)
            ax.plot([low, high], [y, y], color=c[colour], linewidth=5, alpha=0.35, solid_capstyle="butt")
            ax.plot([value], [y], "o", color=c[colour], markersize=7)
            ax.text(0, y + 0.3, name, color=c["ink"], va="center")
            ax.text(1.0, y + 0.3, f"{value:.1%}", color=c["ink"], va="center", ha="right")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.5, len(rows) - 0.4), yticks=[], xlabel=x)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        ax.spines["left"].set_visible(False)

    return draw


def rate_distortion(points: Sequence[Any]) -> Draw:
    """Distortion against rate, a dot for each β with its value beside it."""

    def draw(ax: Any, c: Palette) -> None:
        found = sorted(points, key=lambda point: point.rate)
        ax.plot(
            [p.rate for p in found], [p.distortion for p in found], color=c["vae"], marker="o", markersize=4
        )
        for p in found:
            ax.annotate(
                f"β = {p.beta:g}", (p.rate, p.distortion), (5, 5), textcoords="offset points", color=c["ink"]
            )
        _quiet(ax, c, "rate KL(q(z|x) ‖ p(z)), nats", "distortion −ln p(x|z), nats")
        ax.margins(0.15)

    return draw


def plan(plans: Any) -> Draw:
    """σ of each evaluation of a plan, or of several, on a scale of powers of ten; trial stages are open dots."""
    from math import log10

    listed = [plans] if hasattr(plans, "rows") else list(plans)
    colours = ("vae", "bare", "classifier", "gray", "pca")

    def draw(ax: Any, c: Palette) -> None:
        ends = []
        for k, each in enumerate(listed):
            rows = [row for row in each if row.d]
            ys = [log10(row.sigma) for row in rows]
            xs, colour = list(range(1, len(ys) + 1)), c[colours[k % len(colours)]]
            dense = len(ys) > 60
            ax.plot(xs, ys, color=colour, linewidth=1.6, alpha=1.0 if dense else 0.55)
            for trial in () if dense else (False, True):
                mine = [i for i, row in enumerate(rows) if row.commit is not trial]
                face = "none" if trial else colour
                ax.scatter(
                    [xs[i] for i in mine], [ys[i] for i in mine], s=15, facecolors=face, edgecolors=colour,
                    linewidths=1.0, zorder=3,
                )  # fmt: skip
            ends.append((ys[-1], each.evaluations, each.name, colours[k % len(colours)]))
        last = max(x for _, x, _, _ in ends)
        ends = [(y, last, name, colour) for y, _, name, colour in ends]
        _quiet(ax, c, "evaluation", "noise level σ")
        ax.xaxis.get_major_locator().set_params(integer=True)
        places = ax.get_yticks()
        low, high = round(min(places)), round(max(places))
        ax.set_yticks(range(low, high + 1), [f"{10.0**e:g}" for e in range(low, high + 1)])
        _name_ends(ax, c, ends, 0.3)

    return draw
