"""Training on attacks and on noise, from the options of `psiphi train`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from psiphi.app import _arguments as arguments
from psiphi.app import _attacking as attacking
from psiphi.app import _console as out
from psiphi.app._defences import share
from psiphi.basis.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from psiphi.attacks import Attack, Battery
    from psiphi.defenses import robust_accuracy
    from psiphi.models import Classifier

STEPS = 7
ROWS = 1024  # held-out rows that the result line is about, training rows that are looked at
OF_ATTACKS = ("threat", "attack_steps", "attack_warm_up", "clean", "trades")


@dataclass(frozen=True)
class Hardening:
    """What a classifier is to be trained on besides the rows as they are; None where an option was not given."""

    attack: str | None = None
    threat: str | None = None
    attack_steps: int | None = None
    attack_warm_up: float | None = None
    clean: float | None = None
    trades: float | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.attack is None:
            for name in OF_ATTACKS:
                if getattr(self, name) is not None:
                    raise ArgumentError(
                        f"{arguments.option(name)} is of training on attacks: name one, --attack pgd, or leave it out."
                    )
        elif self.noise is not None:
            raise ArgumentError(
                "--noise trains on random changes and --attack on the worst ones: choose one of the two."
            )
        if self.trades is not None and self.clean is not None:
            raise ArgumentError(
                "--trades weighs the clean loss against the attack already: leave --clean out."
            )

    @property
    def asked(self) -> bool:
        return self.attack is not None or self.noise is not None

    def harden(self, model: Any) -> Any:
        """The same model with the loss that was asked for; as it is where nothing was.

        Raises `ArgumentError` for a model that is no classifier.
        """
        from psiphi import defenses
        from psiphi.models import Classifier

        if not self.asked:
            return model
        if not isinstance(model, Classifier):
            given = next(f.name for f in fields(self) if getattr(self, f.name) is not None)
            raise ArgumentError(
                f"{arguments.option(given)} trains a classifier, and {model.title} has no classes to confuse: leave it "
                "out, or psiphi train classifier."
            )
        if self.noise is not None:
            return defenses.noisy_training(model, self.noise)
        warm_up = self.attack_warm_up or 0.0
        if self.trades is not None:
            climbs: Any = self._built("kl")
            return defenses.trades(model, climbs, beta=self.trades, warmup=warm_up)
        return defenses.adversarial_training(model, self._built(), warmup=warm_up, clean=self.clean or 0.0)

    def check(self, data: Any) -> None:
        """Raises `DataError` for data that attacks would leave the range of, as far as the first rows tell."""
        import torch

        from psiphi.basis.shapes import as_float

        if self.attack is None:
            return
        low, high = (float(end) for end in as_float(torch.as_tensor(data.train.x[:ROWS])).aminmax())
        if low < 0 or high > 1:
            raise DataError(
                f"training on attacks takes data in [0, 1], and {data.name} reaches from {low:.3g} to {high:.3g}: "
                "scale them."
            )

    def monitor(self, held: Any) -> robust_accuracy | None:
        """What chooses the weights: accuracy under the attack, where there are held-out rows."""
        from psiphi.defenses import robust_accuracy

        return None if self.attack is None or held is None else robust_accuracy(self._built())

    def waits(self, patience: int) -> Any:
        """What `--patience` waits for: what chooses the weights."""
        from psiphi.training import early_stopping

        if self.attack is None:
            return early_stopping(patience)
        return early_stopping(patience, "validation_robust_accuracy", higher=True)

    def record(self, model: Classifier, held: Any, seed: int) -> dict[str, Any]:
        """What it was trained on, and its accuracy on the first held-out rows, as they are and under the attack."""
        import torch

        from psiphi.app._judge import Share, robust
        from psiphi.basis.shapes import as_float

        told: dict[str, Any] = {"trained_on": model.recipe["training"]}
        if held is None:
            return told
        x, y = as_float(torch.as_tensor(held.x[:ROWS])), torch.as_tensor(held.y[:ROWS])
        x, y = x[y >= 0], y[y >= 0]
        told["clean"] = Share(int((model.predict(x) == y).sum()), len(y)).as_dict()
        if self.attack is not None:
            attack = self._built()
            told |= {"attack": repr(attack), "robust": robust(attack(model, x, y, seed=seed)).as_dict()}
        return told

    def show(self, told: dict[str, Any], folder: Path) -> None:
        """The record for people, and what to do next."""
        out.say(f"Trained on {self._words()}.")
        if "clean" in told:
            shares = [f"{share(told['clean'])} clean"]
            shares += [f"{share(told['robust'])} under {self._name()}"] if "robust" in told else []
            out.say(f"Of {told['clean']['n']} validation rows, which chose the weights: {', '.join(shares)}.")
        if self.noise is not None:
            out.say(f"Next: psiphi defend {folder} --smooth {self.noise:g}")
        else:
            out.say(f"Next: psiphi attack {folder} --attack auto --threat {self.threat or attacking.THREAT}")

    def _words(self) -> str:
        """`pgd Linf(0.1), 7 steps, warm-up 3 epochs`."""
        if self.noise is not None:
            return f"noise of σ = {self.noise:g}"
        said = [self._name()]
        said += [] if self._steps() is None else [f"{self._steps()} steps"]
        said += [] if self.trades is None else [f"TRADES with β = {self.trades:g}"]
        said += [f"warm-up {self.attack_warm_up:g} epochs"] if self.attack_warm_up else []
        said += [f"clean share {self.clean:g}"] if self.clean else []
        return ", ".join(said)

    def _name(self) -> str:
        return f"{self.attack} {self._built().threat!r}"

    def _steps(self) -> int | None:
        """Few unless their number was given; None of an attack that has none."""
        from psiphi.basis.registry import attacks

        assert self.attack is not None
        few = self.attack_steps is None and "steps" in attacks[self.attack].parameters
        return STEPS if few else self.attack_steps

    def _built(self, goal: str | None = None) -> Attack | Battery:
        from psiphi.basis.registry import attacks

        assert self.attack is not None
        if goal is not None and "goal" not in attacks[self.attack].parameters:
            raise ArgumentError(
                f"--trades climbs away from the clean answer, and {self.attack} has a goal of its own: --attack pgd."
            )
        return attacking.build(self.attack, self.threat, {"steps": self._steps(), "goal": goal}, None)
