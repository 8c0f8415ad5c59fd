"""What an attack found, told: the record, the tables, the files. One result of a whole run or of merged shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psiphi.app import _console as out
from psiphi.app import pictures, plots
from psiphi.basis import files
from psiphi.formulas.intervals import normal, wilson

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.attacks import Curve, Result

RADII = 10
FINE = 240
NORMS = {"Linf": "L∞", "L2": "L2", "L1": "L1"}


@dataclass(frozen=True)
class Curves:
    """Accuracy against the radius: what is listed, what is drawn, and what guessing would reach."""

    listed: Curve
    drawn: Curve
    norm: str
    chance: float | None

    def as_dict(self) -> dict[str, Any]:
        c = self.listed
        return {
            "norm": self.norm,
            "eps": c.eps.tolist(),
            "accuracy": c.accuracy.tolist(),
            "intervals": c.intervals.tolist(),
            "clean_accuracy": c.clean_accuracy,
            "chance": self.chance,
            "rows": len(c.robust),
            "forwards": int(c.forwards.sum()),
            "backwards": int(c.backwards.sum()),
        }


def from_distances(result: Result) -> Curves:
    """The curves of a minimum-norm attack, up to a radius a little beyond the farthest success."""
    from psiphi.attacks import Curve

    run = result.provenance["run"]
    eps, radius = run["eps"], inf if run["radius"] is None else run["radius"]
    far = result.distance[result.broken]
    top = max(float(far.max()) if len(far) else 1.0, max(eps or (0.0,)))
    top = min(1.05 * top, radius) or 1.0
    step = _step(top)
    chosen = eps or [round(k * step, 12) for k in range(1, int(top / step + 1e-9) + 1)] or [top]
    fine = sorted({top * k / FINE for k in range(FINE + 1)} | set(chosen))
    return Curves(Curve.of(result, chosen), Curve.of(result, fine), run["norm"], run["chance"])


def _step(top: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most `RADII` of them reach `top`."""
    unit = 10.0 ** floor(log10(top / RADII))
    return next(unit * k for k in (1, 2, 5, 10) if unit * k * RADII >= top * (1 - 1e-9))


def record(result: Result, curves: Curves | None, **about: Any) -> dict[str, Any]:
    """Everything in numbers, for machines."""
    from psiphi.app._judge import Share, robust

    moved = result.distance[result.broken].double()
    found = {
        **about,
        "attack": result.provenance["attack"],
        "kind": result.kind,
        "rows": len(result),
        "clean_accuracy": Share(int((~result.already_wrong).sum()), len(result)).as_dict(),
        "robust_accuracy": robust(result).as_dict(),
        "success_rate": result.success_rate,
        "broken": len(moved),
        "undecided": int(result.undecided.sum()),
        "already_met": int(result.already_met.sum()),
        "median_distance": float(moved.median()) if len(moved) else None,
        "mean_distance": float(moved.mean()) if len(moved) else None,
        "forwards": int(result.forwards.sum()),
        "backwards": int(result.backwards.sum()),
        "provenance": result.provenance,
    }
    if result.share is not None:
        found["mean_share"] = float(result.share.double().mean())
    if result.share is not None and result.clean_share is not None and not result.targeted:
        found["clean_accuracy"] = _of_draws(1 - result.clean_share)
        found["robust_accuracy"] = _of_draws(1 - result.share)
    if result.broken_by is not None:
        names = result.provenance["attacks"]
        found["broken_by"] = {n: int((result.broken_by == place).sum()) for place, n in enumerate(names)}
        found["left_out"] = result.provenance.get("left_out", [])
    if result.trace is not None:
        queries, share, interval = result.query_curve()
        found["queries"] = {
            "queries": queries.tolist(),
            "success": share.tolist(),
            "intervals": interval.tolist(),
        }
    if curves is not None:
        found["curve"] = curves.as_dict()
    return found


def _of_draws(right: Tensor) -> dict[str, Any]:
    """Mean share of a random classifier's draws that are right."""
    return {"value": float(right.mean()), "interval": list(normal(right)), "n": len(right)}


def show(found: dict[str, Any]) -> None:
    """The record for people."""
    out.say(found["attack"])
    name = found["attack"].partition("(")[0]
    shares = [("clean", found["clean_accuracy"]), (f"under {name}", found["robust_accuracy"])]
    if purifier := found.get("purifier"):
        shares += [
            ("purified, clean", purifier["clean"]),
            ("purified, the same images (gray-box)", purifier["gray"]),
            ("purified, attacked through it (white-box)", purifier["white"]),
        ]
    rows = [
        [name, out.percent(each["value"]), _interval(each["interval"]), each["n"]] for name, each in shares
    ]
    out.table(["accuracy", "", "95% interval", "rows"], rows)
    counts = [found[name] for name in ("broken", "undecided", "median_distance", "mean_distance")]
    passes = [f"{found[name]:,}".replace(",", " ") for name in ("forwards", "backwards")]
    out.table(
        ["broken", "undecided", "median distance", "mean distance", "forwards", "backwards"],
        [[*counts[:2], *map(out.number, counts[2:]), *passes]],
    )
    if by := found.get("broken_by"):
        out.table(["broken by", "rows"], [[name, count] for name, count in by.items()])
        for left in found["left_out"]:
            out.say(f"Left out: {left}.")
    if (queries := found.get("queries")) and queries["success"][-1] > 0:
        out.table(["queries a sample", "rows broken", "95% interval"], _milestones(queries))
    if curve := found.get("curve"):
        lines = zip(curve["eps"], curve["accuracy"], curve["intervals"])
        norm = NORMS.get(curve["norm"], curve["norm"])
        out.table(
            [f"ε ({norm})", "accuracy", "95% interval"],
            [[out.number(e), out.percent(a), _interval(i)] for e, a, i in lines],
        )
    if (share := found.get("mean_share")) is not None:
        out.say(f"Over fresh draws of the classifier, the goal holds in {share:.1%}.")
    out.say(
        "Distances are those of the broken rows; undecided rows count as broken; forwards and backwards are rows "
        "sent through the classifier, and back."
    )
    for path in found.get("files", []):
        out.say(f"Wrote {path}")


def _milestones(queries: dict[str, Any], shares: Sequence[float] = (0.25, 0.5, 0.75, 1.0)) -> list[list[Any]]:
    """How many queries reached each share of the final success."""
    lines = []
    for share in shares:
        place = next(
            i for i, s in enumerate(queries["success"]) if s >= share * queries["success"][-1] - 1e-12
        )
        cells = [queries[name][place] for name in ("queries", "success", "intervals")]
        lines.append([cells[0], out.percent(cells[1]), _interval(cells[2])])
    return lines


def _interval(ends: Sequence[float]) -> str:
    return "[{:.1%}, {:.1%}]".format(*ends)


def draw(curves: Curves) -> plots.Draw:
    """Accuracy against the radius, from the clean accuracy at 0, with its band and what guessing would reach."""
    c = curves.drawn
    clean = wilson(int(c.clean.sum()), len(c.clean))
    eps, values = [0.0, *c.eps.tolist()], [c.clean_accuracy, *c.accuracy.tolist()]
    bands = [clean, *map(tuple, c.intervals.tolist())]
    if c.eps[0] == 0:
        eps, values, bands = eps[1:], values[1:], bands[1:]
    return plots.accuracy_curve(eps, values, bands, NORMS.get(curves.norm, curves.norm), curves.chance)


def words(curves: Curves) -> str:
    """The curve for those who do not see it."""
    c = curves.listed
    pairs = ", ".join(f"{a:.0%} at {e:.3g}" for e, a in zip(c.eps.tolist(), c.accuracy.tolist()))
    norm = NORMS.get(curves.norm, curves.norm)
    return f"Accuracy against the radius of the {norm} ball: {c.clean_accuracy:.0%} clean, {pairs}"


def write(
    folder: Path,
    result: Result,
    curves: Curves | None,
    found: dict[str, Any],
    shown: list[Any],
    classes: Sequence[str] = (),
) -> list[str]:
    """Result, curve, pictures and summary under `folder`; their paths."""
    from psiphi.app import gallery

    result.save(folder / "result")
    names = ["result.npz", "result.json"]
    if shown:
        gallery.save(folder / "attack.png", shown, classes)
        names.append("attack.png")
    if curves is not None:
        curves.listed.save(folder / "curve")
        plots.png(folder / "curve.png", draw(curves), (5.2, 3.4))
        names += ["curve.npz", "curve.json", "curve.png"]
    if queries := found.get("queries"):
        told = plots.query_curve(queries["queries"], queries["success"], queries["intervals"])
        plots.png(folder / "queries.png", told, (5.2, 3.4))
        names.append("queries.png")
    names.append("summary.json")
    written = [str(folder / name) for name in names]
    files.write_json(folder / "summary.json", out.plain({**found, "files": written}))
    return written


def is_picture(x: Any) -> bool:
    return pictures.is_image(tuple(x.shape[1:])) and isfinite(float(x.max()))
