"""The tour's attacks as a list: what each is in a sentence, as an equation, and the lines that run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psiphi.attacks import Attack


@dataclass(frozen=True)
class Settings:
    """How far and how long the attacks go.

    eps is the radius of the L∞ ball; a universal change gets one of its own. steps, far_steps, least_steps: of PGD,
    of the least-likely attack, of a round of Carlini–Wagner. queries: of the random search, on scores;
    budget: of the search by labels. learnt: training digits that the universal change is learnt on. fraction of the
    training digits, target, trials, hidden, epochs: of the backdoor. radii: of the curve.
    """

    eps: float = 0.15
    steps: int = 40
    far_steps: int = 10
    least_steps: int = 200
    queries: int = 300
    budget: int = 500
    degrees: float = 30.0
    angles: int = 31
    universal_eps: float = 0.3
    learnt: int = 1000
    fraction: float = 0.02
    target: int = 0
    trials: int = 5
    hidden: int = 128
    epochs: int = 20
    radii: tuple[float, ...] = (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3)


FULL = Settings()
QUICK = Settings(
    steps=10,
    least_steps=60,
    queries=60,
    budget=120,
    trials=2,
    epochs=4,
    learnt=300,
    radii=(0.05, 0.1, 0.15, 0.3),
)


@dataclass(frozen=True)
class Plan:
    """One attack: words and an equation (HTML), what the attacker sees, and the lines that do the same.

    unit: of its distance. made: the attack; None where it is no search for each digit. reveal, budget: of a black box.
    """

    key: str
    title: str
    threat: str
    sees: str
    unit: str
    idea: str
    equation: str
    command: str
    lines: str
    made: Callable[[], Attack] | None = None
    reveal: str | None = None
    budget: int | None = None


BALL = "‖δ‖<sub>∞</sub> ≤ ε"
LOSS = "loss(<i>f</i>(<i>x</i> + δ), <i>y</i>)"


def plans(s: Settings, rows: int, seed: int, run: str = "runs/classifier") -> Sequence[Plan]:
    """The attacks in the order of the page, with the lines that repeat them on so many test digits."""
    from psiphi import attacks
    from psiphi.attacks.threats import Spatial

    ball, told = attacks.Linf(s.eps), f"Linf({s.eps:g})"
    tail = f" --limit {rows}" + (f" --seed {seed}" if seed else "")
    key = f", seed={seed}" if seed else ""

    def searched(
        name: str, title: str, threat: str, sees: str, unit: str, idea: str, equation: str, options: str,
        call: str, made: Callable[[], Any], seen: str = "classifier", **box: Any,
    ) -> Plan:  # fmt: skip
        command = f"psiphi attack {run} --attack {name} {options}".rstrip() + tail
        lines = f"result = pp.attacks.{call}({seen}, x, y{key})"
        return Plan(name, title, threat, sees, unit, idea, equation, command, lines, made, **box)

    limit = f"L∞\u00a0≤\u00a0{s.eps:g}"
    at = f"--threat linf:{s.eps:g}"
    return (
        searched(
            "fgsm", "FGSM", limit, "gradient", "L∞",
            "One step, as long as it may be, in the direction in which each pixel raises the loss.",
            f"δ = ε sign ∇<sub><i>x</i></sub> loss(<i>f</i>(<i>x</i>), <i>y</i>), &emsp; {BALL}",
            at, f"fgsm({told})", lambda: attacks.fgsm(ball),
        ),
        searched(
            "iterative_least_likely", "Least likely", limit, "gradient", "L∞",
            "Not away from the digit, but towards the class that the classifier finds least likely for it: the "
            "hardest mistake to ask for.",
            "<i>t</i> = argmin<sub><i>j</i> ≠ <i>y</i></sub> <i>f<sub>j</sub></i>(<i>x</i>), &emsp; "
            "δ ← Π( δ + α sign ∇<sub><i>x</i></sub> ln <i>p<sub>t</sub></i>(<i>x</i> + δ) )",
            f"{at} --steps {s.far_steps}", f"iterative_least_likely({told}, steps={s.far_steps})",
            lambda: attacks.iterative_least_likely(ball, steps=s.far_steps),
        ),
        searched(
            "pgd", "PGD", limit, "gradient", "L∞",
            "Many small steps uphill from a random start, each brought back into the ball: the one to try first.",
            f"δ ← Π( δ + α sign ∇<sub><i>x</i></sub> {LOSS} ), &emsp; {BALL}",
            f"{at} --steps {s.steps}", f"pgd({told}, steps={s.steps})",
            lambda: attacks.pgd(ball, steps=s.steps),
        ),
        searched(
            "carlini_wagner", "Carlini–Wagner", "L2, any length", "gradient", "L2",
            "No ball: it looks for the least change that works at all, so it tells how far the nearest mistake is.",
            "min<sub>δ</sub> ‖δ‖² + <i>c</i> · max( <i>f<sub>y</sub></i> − max<sub><i>j</i> ≠ <i>y</i></sub> "
            "<i>f<sub>j</sub></i>, 0 ) &ensp;at <i>x</i> + δ, &emsp; the least <i>c</i> that works",
            f"--steps {s.least_steps}", f"carlini_wagner(steps={s.least_steps})",
            lambda: attacks.carlini_wagner(steps=s.least_steps),
        ),
        Plan(
            "universal", "Universal", f"one δ, L∞\u00a0≤\u00a0{s.universal_eps:g}", "gradient, training", "L∞",
            "One change for all digits, learnt on training digits and laid over test digits that it has never seen.",
            f"max<sub>δ</sub> 𝔼<sub><i>x</i></sub> min( {LOSS}, β ), &emsp; {BALL}",
            f"psiphi universal {run} --threat linf:{s.universal_eps:g} --rows {s.learnt}{tail}",
            f"change = pp.attacks.universal(Linf({s.universal_eps:g})).fit(classifier, digits.train.x[:{s.learnt}]"
            f"{key})\nresult = change.error(classifier, x, y{key})",
        ),
        searched(
            "one_pixel", "One pixel", "1 pixel", "labels", "pixels",
            "A single pixel, anywhere, black or white: every one of them is tried.",
            "max over <i>p</i>, <i>c</i> of the margin at <i>x</i> with <i>x<sub>p</sub></i> = <i>c</i>, &emsp; "
            "<i>c</i> ∈ {0, 1}",
            "--reveal labels", "one_pixel()", attacks.one_pixel, _box("labels"), reveal="labels",
        ),
        searched(
            "spatial", "Rotation", f"±{s.degrees:g}°", "labels", "°",
            "No pixel is painted: the digit is only turned, as a hand might have written it.",
            f"max over θ of {LOSS.replace(' + δ', ' turned by θ')}, &emsp; |θ| ≤ {s.degrees:g}°, "
            f"{s.angles} angles",
            f"--threat spatial:{s.degrees:g},0 --set counts={s.angles},1,1 --reveal labels",
            f"spatial(Spatial(degrees={s.degrees:g}, pixels=0.0), counts=({s.angles}, 1, 1))",
            lambda: attacks.spatial(Spatial(degrees=s.degrees, pixels=0.0), counts=(s.angles, 1, 1)),
            _box("labels"), reveal="labels",
        ),
        searched(
            "square", "Square", limit, f"scores, {s.queries}", "L∞",
            "A black box that shows scores: a random square gets ± ε, and stays if the score for the mistake rises.",
            "<i>v</i>′ = <i>x</i> ± ε in a random window, <i>v</i> elsewhere; &emsp; <i>v</i> ← <i>v</i>′ if "
            "margin(<i>v</i>′) &gt; margin(<i>v</i>)",
            f"{at} --set queries={s.queries} --reveal scores", f"square({told}, queries={s.queries})",
            lambda: attacks.square(ball, queries=s.queries), _box("scores"), reveal="scores",
        ),
        searched(
            "hop_skip_jump", "HopSkipJump", "L2, any length", f"labels, {s.budget}", "L2",
            "A black box that says the label and nothing else: it walks along the boundary towards the digit.",
            "<i>n̂</i> ∝ Σ<sub><i>b</i></sub> (<i>z<sub>b</sub></i> − <i>z̄</i>) <i>r<sub>b</sub></i>, &emsp; "
            "<i>z<sub>b</sub></i> = ±1: is <i>v</i> + ρ<i>r<sub>b</sub></i> across?",
            f"--reveal labels --budget {s.budget}", "hop_skip_jump()", attacks.hop_skip_jump,
            f'pp.access.black_box(classifier, "labels", budget={s.budget})',
            reveal="labels", budget=s.budget,
        ),
        _backdoor(s, tail, key),
    )  # fmt: skip


def _box(reveal: str) -> str:
    return f'pp.access.black_box(classifier, "{reveal}")'


def _backdoor(s: Settings, tail: str, key: str) -> Plan:
    return Plan(
        "backdoor", "Backdoor", f"{s.fraction:.2%} of training".replace(".00", ""), "training digits", "pixels",
        f"Poison: some training digits get a dark corner and the label {s.target}. The model that learns of them "
        f"takes any digit with that corner for a {s.target}.",
        "<i>D</i>′ = <i>D</i> but for a few rows: <i>x</i> ↦ trigger(<i>x</i>), <i>y</i> ↦ "
        f"{s.target}; &emsp; success = P( <i>f<sub>D′</sub></i>(trigger(<i>x</i>)) = {s.target} | "
        f"<i>y</i> ≠ {s.target} )",
        f"psiphi poison backdoor --target {s.target} --fraction {s.fraction:g} --trials {s.trials} --hidden {s.hidden} "
        f"--epochs {s.epochs}{tail}",
        f"victim = pp.poisoning.Victim(\n    lambda seed: pp.zoo.classifier(digits.shape, 10, hidden=({s.hidden},), "
        f'seed=seed),\n    {{"epochs": {s.epochs}, "lr": 3e-3, "batch_size": 64}},\n)\n'
        f"poison = pp.poisoning.backdoor({s.target}, {s.fraction:g})\n"
        f"result = pp.poisoning.trials(poison, victim, digits.train, (x, y), n={s.trials}{key})",
    )  # fmt: skip
