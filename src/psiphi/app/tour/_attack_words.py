"""What was found of each attack, in a sentence or two: every claim is decided by what was measured."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psiphi.app.tour._attacks import Attacks, Tried


def remark(found: Attacks, tried: Tried) -> str:
    """The sentence of this attack, beside the others."""
    return REMARKS[tried.plan.key](found, tried)


def again(found: Attacks) -> dict[str, str]:
    """What comes before the lines of each attack, and those of the curve."""
    s, n = found.settings, len(found.x)
    tail, key = (f" --seed {found.seed}", f", seed={found.seed}") if found.seed else ("", "")
    radii = ",".join(f"{each:g}" for each in s.radii)
    setup = (
        "import psiphi as pp\nfrom psiphi.attacks import Linf\nfrom psiphi.attacks.threats import Spatial\n\n"
        'digits = pp.data.load("digits")\nclassifier = pp.load("runs/classifier")\n'
        f"x, y = digits.test.x[:{n}], digits.test.y[:{n}]"
    )
    command = (
        f"psiphi attack runs/classifier --attack pgd --steps {s.steps} --eps {radii} --independent --limit {n}{tail}\n"
        f"psiphi attack runs/classifier --attack carlini_wagner --steps {s.least_steps} --limit {n}{tail} --out nearest"
    )
    lines = (
        f"attack = pp.attacks.pgd(Linf({s.radii[-1]:g}), steps={s.steps})\nradii = [{radii.replace(',', ', ')}]\n"
        f"curve = attack.curve(classifier, x, y, eps=radii, independent=True{key})\n"
        "curve.accuracy, curve.intervals\n"
        f"pp.attacks.carlini_wagner(steps={s.least_steps})(classifier, x, y{key}).distance"
    )
    return {"setup": setup, "curve_command": command, "curve_lines": lines}


def _one_step(found: Attacks, tried: Tried) -> str:
    return "It costs one gradient a digit."


def _far(found: Attacks, tried: Tried) -> str:
    assert tried.reached is not None
    assert tried.result is not None
    own = int((~(tried.right | tried.result.already_wrong)).sum())
    return (
        f"{tried.reached.hits} of {len(found.x)} digits are read as the class that was asked for; {own} that were read "
        "rightly no longer are, whatever they are read as."
    )


def _many_steps(found: Attacks, tried: Tried) -> str:
    ahead = 100 * (found["fgsm"].left.value - tried.left.value)
    if ahead > 0:
        return f"That is {_points(ahead)} less than one step leaves."
    return "Here the many steps find no more than the one."


def _least(found: Attacks, tried: Tried) -> str:
    if isnan(tried.distance):
        return "No digit was broken."
    length = float(found.x[tried.broken].flatten(1).norm(dim=1).mean())
    return f"The mean change is {tried.distance / length:.0%} as long as the digit itself."


def _common(found: Attacks, tried: Tried) -> str:
    return (
        f"It was learnt on {found.settings.learnt} training digits, and {int(tried.broken.sum())} test digits that "
        "were read rightly no longer are."
    )


def _one_pixel(found: Attacks, tried: Tried) -> str:
    return f"{int(tried.broken.sum())} of {len(found.x)} digits hang on a single pixel."


def _turned(found: Attacks, tried: Tried) -> str:
    return (
        f"{int(tried.broken.sum())} digits are misread at one of the angles or another. The search begins at the "
        "largest angles and stops at the first that works, so these are not the least ones."
    )


def _by_scores(found: Attacks, tried: Tried) -> str:
    ahead = 100 * (tried.left.value - found["pgd"].left.value)
    more = (
        f"{_points(abs(ahead))} {'more' if ahead > 0 else 'less'} than" if abs(ahead) > 0.05 else "as much as"
    )
    asked = tried.forwards / len(found.x)
    return f"Without any gradient it leaves {more} PGD, and asks {asked:.0f} times a digit on average."  # fmt: skip


def _by_labels(found: Attacks, tried: Tried) -> str:
    nearest = found["carlini_wagner"].distance
    if isnan(tried.distance) or isnan(nearest):
        return "It found no mistake to begin from."
    ratio = tried.distance / nearest
    return f"Its changes are {ratio:.2f} times as long as those of Carlini–Wagner, which sees the gradient."


def _poisoned(found: Attacks, tried: Tried) -> str:
    t = found.trials
    seen = "not " if t.change.low <= 0 <= t.change.high else ""
    return (
        f"(The classifier of the first trial.) Over {len(t)} trials, {t.success} of the digits with the corner are "
        f"taken for a {found.settings.target}, and {t.control} by models of untouched data. Without the corner the "
        f"accuracy changes by {_signed(t.change.value)} points [{_signed(t.change.low)}, {_signed(t.change.high)}]: "
        f"to look at untouched digits alone would {seen}give it away."
    )


REMARKS: dict[str, Any] = {
    "fgsm": _one_step,
    "iterative_least_likely": _far,
    "pgd": _many_steps,
    "carlini_wagner": _least,
    "universal": _common,
    "one_pixel": _one_pixel,
    "spatial": _turned,
    "square": _by_scores,
    "hop_skip_jump": _by_labels,
    "backdoor": _poisoned,
}


def _points(value: float) -> str:
    return f"{value:.1f} points"


def _signed(share: float) -> str:
    return "—" if isnan(share) else f"{100 * share:+.1f}".replace("-", "−")
