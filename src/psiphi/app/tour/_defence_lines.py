"""The lines that do the tour's defences again: at the command line, and in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psiphi.app.tour._defences import Defences


@dataclass(frozen=True)
class Again:
    """Command lines, one a line, and Python lines."""

    command: str
    lines: str


SETUP = """import psiphi as pp
from psiphi.attacks import L2, Linf

digits = pp.data.load("digits")
classifier = pp.load("runs/classifier")
x, y = digits.test.x[:{n}], digits.test.y[:{n}]
attack = pp.attacks.pgd(Linf({eps:g}), steps={steps})"""


def lines(found: Defences) -> dict[str, Again]:
    """By defence: setup, hard, purify, fresh, honesty, smooth, detect. They begin in the tour's folder."""
    s, n, seed = found.settings, len(found.y), found.seed
    tail, key = (f" --seed {seed}", f", seed={seed}") if seed else ("", "")
    ball = f"--threat linf:{s.eps:g} --steps {s.steps}"
    battery = f"pp.attacks.auto(Linf({s.eps:g}), steps={s.search_steps}, queries={s.queries})"
    held = "digits.validation.x, digits.validation.y"
    still = [each.purifier.run for each in found.purified if not each.purifier.fresh]
    fresh = [each for each in found.purified if each.purifier.fresh]
    made = {
        "setup": Again("cd psiphi-tour", SETUP.format(n=n, eps=s.eps, steps=s.steps)),
        "hard": Again(
            f"psiphi train classifier --attack pgd --threat linf:{s.eps:g} --attack-steps {s.attack_steps} "
            f"--attack-warm-up {s.warm_up} --hidden {s.hidden} --epochs {s.epochs}{tail} --out runs/hard",
            f"net = pp.zoo.classifier(digits.shape, 10, hidden=({s.hidden},), seed={seed})\n"
            f"worst = pp.attacks.pgd(Linf({s.eps:g}), steps={s.attack_steps})\n"
            f"hard = pp.defenses.adversarial_training(net, worst, warmup={s.warm_up})\n"
            f"pp.fit(hard, digits, epochs={s.epochs}, seed={seed}, monitor=pp.defenses.robust_accuracy(worst))",
        ),
        "honesty": Again(
            f"psiphi attack runs/hard --attack auto --threat linf:{s.eps:g} --steps {s.search_steps} "
            f"--set queries={s.queries} --limit {n}{tail} --report --out hard-report",
            f"report = pp.evaluation.robustness(hard, x, y, {battery}{key})\nprint(report)",
        ),
        "smooth": Again(
            f"psiphi train classifier --noise {s.sigma:g} --hidden {s.hidden} --epochs {s.noisy_epochs}{tail} "
            f"--out runs/noisy\n"
            f"psiphi defend runs/noisy --smooth {s.sigma:g} --votes {s.votes} --eps "
            f"{','.join(f'{each:g}' for each in s.lengths)} --steps {s.steps} --limit {n}{tail}",
            f"noisy = pp.zoo.classifier(digits.shape, 10, hidden=({s.hidden},), seed={seed})\n"
            f"pp.fit(pp.defenses.noisy_training(noisy, {s.sigma:g}), digits, epochs={s.noisy_epochs}, seed={seed})\n"
            f"safe = pp.defenses.smooth(noisy, {s.sigma:g})\n"
            f"certificate = safe.certify(x, n={s.votes}{key})\n"
            f"certificate.accuracy(y, {s.lengths[0]:g})",
        ),
    }
    if still:
        models = " ".join(f"--with runs/{run}" for run in still)
        made["purify"] = Again(
            f"psiphi defend runs/classifier {models} --tune {ball} --limit {n}{tail}",
            f'model = pp.load("runs/{still[-1]}")\n'
            f"chosen = pp.defenses.tuned(pp.defenses.purify(classifier, model), {held}, attack{key})\n"
            f"table = pp.evaluation.adaptive(chosen.safe, x, y, attack{key})\nprint(table); table.worst",
        )
    if fresh:
        one = fresh[0]
        options = " ".join(f"--set {name}={value}" for name, value in one.purifier.options.items())
        told = "".join(f", {name}={value!r}" for name, value in one.purifier.options.items())
        made["fresh"] = Again(
            f"psiphi defend runs/classifier --with runs/{one.purifier.run} {options} --fresh --tune --draws {s.draws} "
            f"--verify {s.verify} {ball} --limit {one.rows}{tail}",
            f'model = pp.load("runs/{one.purifier.run}")\n'
            f"safe = pp.defenses.purify(classifier, model, seed=None{told})\n"
            f"x, y = digits.validation.x[:{one.rows}], digits.validation.y[:{one.rows}]\n"
            f"chosen = pp.defenses.tuned(safe, x, y, attack{key})\n"
            f"x, y = digits.test.x[:{one.rows}], digits.test.y[:{one.rows}]\n"
            f"pp.evaluation.adaptive(chosen.safe, x, y, attack, draws={s.draws}, verify={s.verify}{key})",
        )
    if found.detecting is not None:
        made["detect"] = Again(
            f"psiphi defend runs/classifier --detect reconstruction --with runs/{s.detector} --alarm {s.alarm:g} "
            f"{ball} --limit {n}{tail}",
            f'detector = pp.defenses.detect(pp.load("runs/{s.detector}"), digits.validation, alarm={s.alarm:g})\n'
            "guarded = detector.guard(classifier)\n"
            f"aware = attack(guarded, x, y{key}).x\n"
            "guarded.outcome(aware, y)                # right, wrong and unflagged, flagged",
        )
    return made
