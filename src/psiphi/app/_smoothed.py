"""Randomised smoothing at the command line: certified accuracy against the radius, beside what an attack leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app import _defence_plots as figures
from psiphi.app import plots
from psiphi.app._defences import Case, share
from psiphi.basis import files
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from psiphi.attacks import Attack
    from psiphi.defenses import Certificate, Smoothed

ALPHA, VOTES, JUDGES = 0.001, 10_000, 1000
CHOICE = 100  # draws that choose the class
STEPS_OF_SIGMA = (0.5, 1.0, 1.5, 2.0)
FINE = 200
ADVICE = (
    "Certified is a lower bound, but for a chance α a row; what an attack leaves is an upper "
    "bound. The truth lies between, within the L2 ball alone."
)


def searches(
    name: str, given: Mapping[str, Any], sigma: float, eps: str | None
) -> list[tuple[float, Attack]]:
    """The attack at each radius, by default ½, 1, 1½ and 2 σ."""
    radii = attacking.radii(eps) or tuple(sigma * each for each in STEPS_OF_SIGMA)
    made = [(radius, attacking.build(name, f"l2:{radius!r}", given, None)) for radius in radii if radius > 0]
    if eps is not None and not made:
        raise ArgumentError(f"--eps {eps} names no radius above 0: write e.g. --eps 0.1,0.25.")
    for _, attack in made:
        if attack.kind != "fixed-perturbation":
            raise ArgumentError(
                f"--smooth attacks at given radii, and {name} looks for the least change: --attack pgd or apgd."
            )
    return made


def certify(
    case: Case, sigma: float, denoiser: Path | None, attacks: Sequence[tuple[float, Attack]], draws: int, votes: int,
    alpha: float,
) -> dict[str, Any]:  # fmt: skip
    """The certificate, the attacks at their radii, and the files; as a record."""
    from psiphi import defenses
    from psiphi.app._judge import accuracy
    from psiphi.app._open import open_model

    asked = None if denoiser is None else open_model(denoiser)
    safe = defenses.smooth(case.classifier, sigma, draws=draws, denoiser=asked)
    how: dict[str, Any] = {"seed": case.seed}
    if case.batch_size is not None:
        how["batch_size"] = case.batch_size
    case.place()
    with out.progress(f"certificates, σ = {sigma:g}", case.quiet, "row") as move:
        certificate = safe.certify(case.x, CHOICE, votes, alpha, on_progress=move, **how)
    levels = [_level(case, safe, certificate, 0.0, None, alpha, how)]
    levels += [_level(case, safe, certificate, radius, each, alpha, how) for radius, each in attacks]
    kept = certificate.radius[~certificate.abstained].double()
    told: dict[str, Any] = {
        **case.record(attacks[0][1]), "defence": repr(safe), "denoiser": None if denoiser is None else str(denoiser),
        "sigma": sigma, "alpha": alpha, "n0": certificate.n0, "n": certificate.n, "judged_by": JUDGES,
        "bare": accuracy(case.classifier, case.x, case.y).as_dict(), "abstained": int(certificate.abstained.sum()),
        "median_radius": float(kept.median()) if len(kept) else None,
        "largest_radius": float(certificate.radius.max()),
        "curve": _curve(case, certificate), "levels": levels, "provenance": certificate.provenance,
    }  # fmt: skip
    if case.folder is not None:
        told["files"] = _write(case.folder, told, certificate)
    return told


def _level(
    case: Case, safe: Smoothed, certificate: Certificate, radius: float, attack: Attack | None, alpha: float,
    how: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Certified at a radius, and what becomes of the points that the attack finds in that ball."""
    from psiphi.access import expectation

    x, costs = case.x, {"forwards": 0, "backwards": 0}
    if attack is not None:
        # the votes on fresh noise judge, not the soft form, so the least number of verifying draws will do
        access = expectation(safe, draws=1, verify=2, bounds=case.seen.bounds)
        with (
            out.spoken_warnings(case.quiet),
            out.progress(f"attack within {radius:g}", case.quiet, "row") as move,
        ):
            found = attack(access, case.x, case.y, seed=case.seed, on_progress=move)
        x = found.x
        costs = {name: int(getattr(found, name).sum()) * safe.draws for name in costs}
    with out.progress(f"votes at {radius:g}", case.quiet, "row") as move:
        outcome = safe.outcome(x, case.y, min(JUDGES, certificate.n), alpha, on_progress=move, **how)
    return {
        "radius": radius, "attack": None if attack is None else repr(attack),
        "certified": certificate.accuracy(case.y, radius).as_dict(), "attacked": outcome.as_dict(), **costs,
    }  # fmt: skip


def _curve(case: Case, certificate: Certificate) -> dict[str, Any]:
    """Certified accuracy on a fine grid, up to where none is left."""
    top = float(certificate.radius.max()) or certificate.sigma
    radii, shares, spans = certificate.curve(case.y, [top * k / FINE for k in range(FINE + 1)])
    return {"radius": radii.tolist(), "accuracy": shares.tolist(), "intervals": spans.tolist()}


def _write(folder: Path, told: dict[str, Any], certificate: Certificate) -> list[str]:
    certificate.save(folder / "certificate")
    plots.png(folder / "smooth.png", figures.certified(told), (5.4, 3.3))
    names = ("certificate.npz", "certificate.json", "smooth.png", "summary.json")
    written = [str(folder / name) for name in names]
    files.write_json(folder / "summary.json", out.plain({**told, "files": written}))
    return written


def show(told: dict[str, Any]) -> None:
    """The record for people."""
    out.say(f"{told['defence']} on {told['rows']} test rows of {told['data']}, α = {told['alpha']:g} a row")
    out.say(
        f"{told['n']} votes a row; {told['abstained']} rows are left without an answer. "
        f"The classifier alone, without noise: {share(told['bare'])}."
    )
    out.table(
        ["L2 radius", "certified", "attacked: right", "wrong", "withheld"],
        [
            [
                f"{each['radius']:.4g}",
                share(each["certified"]),
                *(share(each["attacked"][name]) for name in ("right", "wrong", "withheld")),
            ]
            for each in told["levels"]
        ],
    )
    out.say(
        f"Attacked: {told['attack'].partition('(')[0]} on the mean softmax within that radius (at 0 no attack), "
        f"judged by {min(told['judged_by'], told['n'])} votes on fresh noise: right, wrong for certain, left open."
    )
    out.say(ADVICE)
    for path in told.get("files", []):
        out.say(f"Wrote {path}")
