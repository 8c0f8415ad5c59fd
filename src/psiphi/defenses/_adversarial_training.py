"""Training on the worst that an attack finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from numbers import Real
from typing import Any

from torch import Tensor

from psiphi.access import _checks as checks
from psiphi.access import white_box
from psiphi.attacks import Attack, Battery
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.formulas import goals
from psiphi.models import Classifier
from psiphi.models._base import evaluating
from psiphi.parts import Batch, Clock

Losses = dict[str, Tensor]
Bounds = tuple[Any, Any]


def adversarial_training(
    classifier: Classifier,
    attack: Attack | Battery,
    *,
    warmup: float = 0.0,
    clean: float = 0.0,
    bounds: Bounds = (0.0, 1.0),
) -> Classifier:
    """The same classifier with the loss min_θ E max_{x' ∈ threat(x)} −ln p_θ(y | x'), x' as `attack` finds it.

    `pp.fit(adversarial_training(classifier, attack), x, y, validation=…, monitor=robust_accuracy(attack))` trains the
    weights of `classifier` itself; what is returned is saved and loaded as a classifier.

    attack   any with a radius. It sees the network in eval mode and takes all its steps on every row (no row leaves at
             its first success); its draws are those of the row and the step of training
    warmup   epochs over which the radius rises in a line from 0, since a network that is attacked in full from the
             first step may learn to answer one class; a step given in the data's units stays as it is
    clean    share of the clean loss: clean · L(x) + (1 − clean) · L(x')
    bounds   of the data, which x' keeps to: two numbers, or two lists of one a channel

    The history shows `accuracy` under attack and `clean_accuracy` before it. Rows without a label (−1) are left out; a
    batch of such rows alone has a loss of 0. A step costs what the attack does, one pass forward and back besides.
    Raises `ArgumentError`.

    Sources: Madry et al., "Towards deep learning models resistant to adversarial attacks", 2018, eq. 2.1; of the mix,
    Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", 2015, section 6.
    """
    _check(classifier, attack, warmup)
    if not isinstance(clean, Real) or not 0 <= clean < 1:
        raise ArgumentError(f"clean is a share in [0, 1); got {clean!r}.")
    base, kept = classifier.loss, _kept(bounds)

    def loss(model: Any, batch: Batch, clock: Clock) -> Losses:
        if not len(known(batch)):
            return _nothing(model, batch, "accuracy", "clean_accuracy")
        rows, worst, right = worst_of(model, attack, batch, clock, warmup, bounds)
        losses = base(model, worst, clock)
        if clean:
            plain = base(model, rows, clock)
            losses = {**losses, "loss": losses["loss"].lerp(plain["loss"], clean)}
        return {**losses, "clean_accuracy": right}

    how = {"adversarial_training": repr(attack), "warmup": warmup, "clean": clean, **kept}
    return _with_loss(classifier, loss, how)


def trades(
    classifier: Classifier,
    attack: Attack,
    *,
    beta: float = 6.0,
    warmup: float = 0.0,
    bounds: Bounds = (0.0, 1.0),
) -> Classifier:
    """The same classifier with the loss −ln p(y | x) + β KL(p(· | x) ‖ p(· | x')), x' where that KL is largest.

    As `adversarial_training` in all else. attack: with the goal `kl`, e.g. `pgd(Linf(0.3), steps=40, step=0.01,
    goal="kl")`, from a random start, since at x the KL's gradient is zero; of the points it meets, those that are
    misclassified come first. beta: β, the price of robustness in clean accuracy; published are 1 and 6.

    Source: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically principled trade-off between robustness and
    accuracy", 2019, eq. 5; the source starts from x + 0.001 ξ, ξ ~ N(0, I).
    """
    _check(classifier, attack, warmup)
    if not isinstance(attack, Attack):
        raise ArgumentError(f"trades takes one attack, not several; got {attack!r}: give one of its parts.")
    if not isinstance(attack.goal, goals.Relative):
        raise ArgumentError(
            f"trades climbs away from the clean answer: give the attack goal='kl'; got {attack!r}."
        )
    if not isinstance(beta, Real) or not 0 <= beta < inf:
        raise ArgumentError(f"beta is a finite weight of at least 0; got {beta!r}.")
    kept = _kept(bounds)

    def loss(model: Any, batch: Batch, clock: Clock) -> Losses:
        if not len(known(batch)):
            return _nothing(model, batch, "cross_entropy", "kl", "accuracy", "clean_accuracy")
        rows, worst, right = worst_of(model, attack, batch, clock, warmup, bounds)
        logits, moved, y = model(rows.x), model(worst.x), rows.y
        assert y is not None
        likely, apart = goals.cross_entropy(logits, y).mean(), goals.kl(moved, logits).mean()
        held = (moved.detach().argmax(1) == y).to(right).mean()
        parts = {"cross_entropy": likely, "kl": apart, "accuracy": held, "clean_accuracy": right}
        return {"loss": likely + beta * apart, **parts}

    how = {"trades": repr(attack), "warmup": warmup, "beta": beta, **kept}
    return _with_loss(classifier, loss, how)


@dataclass(frozen=True)
class robust_accuracy:
    """What chooses the weights of `fit(monitor=…)`: which rows of a batch are right and stay right under the attack.

    Of the rows with a label alone; `bounds` as of `adversarial_training`.
    """

    attack: Attack | Battery
    bounds: Bounds = (0.0, 1.0)

    @property
    def __name__(self) -> str:
        return "robust_accuracy"

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        rows = known(batch)
        if not len(rows):
            return rows.x.new_zeros(0).bool()
        how: dict[str, Any] = {"seed": rows.noise.key, "rows": rows.noise.rows}
        return self.attack(white_box(model, self.bounds), rows.x, rows.y, **how).robust


def worst_of(
    model: Any,
    attack: Attack | Battery,
    batch: Batch,
    clock: Clock,
    warmup: float = 0.0,
    bounds: Bounds = (0.0, 1.0),
) -> tuple[Batch, Batch, Tensor]:
    """The rows with a label; the same as the attack leaves them when it takes all its steps; the accuracy before it."""
    rows = known(batch)
    grown = min(1.0, clock.epoch / warmup) if warmup else 1.0
    if grown < 1:
        threat: Any = attack.threat
        attack = replace(attack, threat=replace(threat, eps=grown * threat.eps))
    how: dict[str, Any] = {"seed": rows.noise.key, "rows": rows.noise.rows, "stop_early": False}
    with evaluating(model):
        found = attack(white_box(model, bounds), rows.x, rows.y, batch_size=len(rows), **how)
    return rows, Batch(found.x, rows.y, rows.noise), rows.x.new_tensor(found.clean_accuracy)


def known(batch: Batch) -> Batch:
    """The rows whose label is known; there may be none. Raises `DataError` for data without labels."""
    if batch.y is None:
        raise DataError("training on attacks needs labels: pass y, or data with labels.")
    mine = batch.y >= 0
    return (
        batch if mine.all() else Batch(batch.x[mine], batch.y[mine], batch.noise.take(mine.nonzero()[:, 0]))
    )


def _nothing(model: Any, batch: Batch, *names: str) -> Losses:
    """The losses of no rows: 0, with a gradient of 0."""
    zero = model(batch.x)[:0].sum()
    return {"loss": zero, **{name: zero.detach() for name in names}}


def _kept(bounds: Any) -> dict[str, Any]:
    """The bounds, checked, as the model's record has them: nothing where they are the usual ones."""
    low, high = (end.tolist() for end in checks.as_bounds(bounds))
    return {} if (low, high) == (0.0, 1.0) else {"bounds": [low, high]}


def _check_classifier(classifier: Any) -> None:
    if not isinstance(classifier, Classifier):
        raise ArgumentError(
            f"fit trains classifiers of psiphi, and got a {type(classifier).__name__}: wrap it, "
            "pp.zoo.classifier(shape, classes, network=your_module)."
        )


def _check(classifier: Any, attack: Any, warmup: float) -> None:
    _check_classifier(classifier)
    if not isinstance(attack, Attack | Battery):
        raise ArgumentError(f"attack is one of ours, e.g. pp.attacks.pgd(Linf(0.3)); got {attack!r}.")
    eps = getattr(attack.threat, "eps", inf)
    if isinstance(eps, Tensor) or eps == inf or attack.kind != "fixed-perturbation":
        raise ArgumentError(
            f"training needs an attack within one radius, e.g. pgd(Linf(0.3)); got {attack!r}."
        )
    if not isinstance(warmup, Real) or not 0 <= warmup < inf:
        raise ArgumentError(f"warmup is a finite number of epochs of at least 0; got {warmup!r}.")


def _with_loss(classifier: Classifier, loss: Any, how: dict[str, Any]) -> Classifier:
    made = Classifier(
        classifier.statistics,
        classifier.classes,
        classifier.network,
        optimizer=classifier.optimizer,
        loss=loss,
    )
    made.recipe = {**classifier.recipe, "training": how}
    made.provenance = classifier.provenance
    return made
