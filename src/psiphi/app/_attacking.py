"""From the options of `psiphi attack` to an attack, an access, and the rows of a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from psiphi.app import _arguments as arguments
from psiphi.app import _console as out
from psiphi.app._open import held_out
from psiphi.basis.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from psiphi.access import Access
    from psiphi.attacks import Attack
    from psiphi.data import Data

THREAT = "linf:0.1"
UNLABELLED = "they have no label"


def build(
    name: str,
    threat: str | None,
    given: Mapping[str, Any],
    eps: Sequence[float] | None,
    network: nn.Module | None = None,
) -> Attack:
    """The named attack; of a curve, whose radii are `eps`, at the largest where the threat has none of its own.

    `network` has the features of a threat of features.
    """
    from psiphi.attacks.threats import parse
    from psiphi.basis.registry import attacks

    if name == "universal":
        raise ArgumentError(
            "one change for all inputs has a verb of its own: psiphi universal RUN --threat linf:0.3."
        )
    entry = attacks[name]
    takes = entry.parameters.get("threat")
    if takes is None and threat is not None:
        own = repr(entry.build().threat)
        raise ArgumentError(f"the attack {name} has a threat of its own, {own}: leave --threat {threat} out.")
    named: dict[str, Any] = {}
    if threat is not None:
        named["threat"] = parse(threat, network)
    elif takes is not None and takes.default is takes.empty:
        named["threat"] = parse(THREAT if eps is None else THREAT.partition(":")[0])
    made = arguments.build(entry, "attack", given, **named)
    radius = radius_of(made)
    if made.kind == "fixed-perturbation" and radius is None and getattr(made.threat, "norm", None):
        if eps is None:
            raise ArgumentError(
                f"the attack {name} needs a radius: write --threat {threat}:0.1, or --eps 0.05,0.1,0.2 for several."
            )
        named["threat"] = replace(named["threat"], eps=max(eps))
        made = arguments.build(entry, "attack", given, **named)
    if eps is not None and made.kind == "minimum-norm" and radius is not None and max(eps) > radius:
        raise ArgumentError(
            f"the attack looks no further than {radius:g}, and --eps reaches {max(eps):g}: leave the radius of "
            "--threat out."
        )
    return made


def radius_of(attack: Attack) -> float | None:
    """The threat's radius; None where it has none."""
    radius = float(getattr(attack.threat, "eps", inf))
    return None if radius == inf else radius


def radii(text: str | None) -> tuple[float, ...] | None:
    """--eps: rising radii."""
    from psiphi.attacks._curve import check_radii

    eps = arguments.fractions(text, "--eps")
    if eps is not None:
        try:
            check_radii(eps)
        except ArgumentError as error:
            raise ArgumentError(f"--eps {text}: {error}") from None
    return eps


def bounds(text: str) -> tuple[Any, Any]:
    """`0,1` for all data; `0,0,0:1,1,1` for lower and upper bounds a channel."""
    lower, colon, upper = text.partition(":")
    try:
        found = [arguments.fractions(part, "--bounds") for part in ((lower, upper) if colon else (text,))]
    except ArgumentError:
        found = []
    if colon and len(found) == 2:
        low, high = found
        return tuple(low or ()), tuple(high or ())
    if len(found) == 1 and found[0] and len(found[0]) == 2:
        return found[0]
    raise ArgumentError(
        f"--bounds is {text!r}; the least and the largest value with a comma are needed, e.g. 0,1, or those of each "
        "channel with a colon between, e.g. 0,0,0:1,1,1."
    )


def channels(text: str | None, what: str) -> float | tuple[float, ...] | None:
    """One number, or one a channel."""
    found = arguments.fractions(text, what)
    return found[0] if found is not None and len(found) == 1 else found


def target(text: str | None) -> str | int | None:
    """`3` as a class; a name as it is."""
    return int(text) if text is not None and text.lstrip("-").isdigit() else text


@dataclass(frozen=True)
class Seen:
    """What the attacker may see, and how data go to the classifier."""

    bounds: tuple[Any, Any]
    mean: Any = None
    std: Any = None
    reveal: str | None = None
    budget: int | None = None
    draws: int | None = None

    def access(self, classifier: Any) -> Access:
        from psiphi.access import black_box, expectation, white_box

        scaled: dict[str, Any] = {"bounds": self.bounds, "mean": self.mean, "std": self.std}
        if self.reveal is not None:
            made: Any = black_box(classifier, self.reveal, self.budget, **scaled)  # pyright: ignore[reportArgumentType]
        elif self.budget is not None:
            raise ArgumentError(
                "--budget bounds the questions to a black box: say --reveal scores or labels."
            )
        else:
            made = white_box(classifier, **scaled)
        return made if self.draws is None else expectation(made, self.draws)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the largest value of any channel."""
        return tuple(end(b) if isinstance(b, tuple) else b for end, b in zip((min, max), self.bounds))  # pyright: ignore


def scaled(classifier: nn.Module, seen: Seen) -> nn.Module:
    """The classifier of data in their own units, for what stands in front of it."""
    from torch import nn

    from psiphi.access import white_box

    if seen.mean is None and seen.std is None:
        return classifier

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier
            self.pipe = white_box(classifier, seen.bounds, seen.mean, seen.std).pipe

        def forward(self, x: Tensor) -> Tensor:
            return self.pipe.forward(x)

    return Scaled()


def shard(text: str | None, n: int) -> range:
    """The rows of shard r of k, `r/k`: r − 1, r − 1 + k, …; all n without."""
    if text is None:
        return range(n)
    first, slash, of = text.partition("/")
    try:
        r, k = int(first), int(of)
    except ValueError:
        r, k = 0, 0
    if not slash or not 1 <= r <= k:
        raise ArgumentError(f"--shard is {text!r}; write which of how many, from 1/3 to 3/3.")
    if r > n:
        raise ArgumentError(f"--shard {text} has no row: only {n} are attacked.")
    return range(r - 1, n, k)


def judged(
    data: Data, limit: int, models: Iterable[nn.Module], quiet: bool, aim: Any = None
) -> tuple[Tensor, Any]:
    """Test rows and labels to attack or to judge by; a note says which rows are left out, and how labels are numbered.

    aim: the class to reach, whose own rows are left out, or other words of --target.
    """
    x, y, left_out = known(*held_out(data, limit), aim)
    if left_out:
        why = f"{UNLABELLED}, or are of the class to reach already" if isinstance(aim, int) else UNLABELLED
        out.note(f"note: {left_out} rows are left out: {why}.", quiet)
    numbered = "" if y is None else next(filter(None, (numbering(each, data.classes) for each in models)), "")
    if numbered:
        out.note(f"note: {numbered}", quiet)
    return x, y


def known(x: Tensor, y: Any, aim: Any) -> tuple[Tensor, Any, int]:
    """Rows with a label, where there are any labels at all, without those of the class aimed at; how many are out."""
    n = len(x)
    if y is not None and not bool((y >= 0).all()):
        x, y = (x[y >= 0], y[y >= 0]) if bool((y >= 0).any()) else (x, None)
    if isinstance(aim, int) and y is not None and bool((y != aim).any()):
        x, y = x[y != aim], y[y != aim]
    return x, y, n - len(x)


def numbering(model: nn.Module, classes: Sequence[str]) -> str:
    """How the data's classes were numbered, where a classifier of the user's own may number them otherwise."""
    from psiphi.models import Model

    if isinstance(model, Model) or list(classes) == [str(k) for k in range(len(classes))]:
        return ""
    named = ", ".join(f"{name} is {k}" for k, name in enumerate(classes[:5]))
    more = ", …" if len(classes) > 5 else ""
    return f"labels are numbered from 0 in order: {named}{more}; is this the order of the logits?"


def model_digest(model: nn.Module) -> str:
    """SHA-256 of names and values of parameters and buffers."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(tensor, torch.Tensor):
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def data_digest(x: Tensor, y: Any) -> str:
    """SHA-256 of rows and labels."""
    digest = hashlib.sha256(x.detach().cpu().numpy().tobytes())
    if y is not None:
        digest.update(y.cpu().numpy().tobytes())
    return digest.hexdigest()
