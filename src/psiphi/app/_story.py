"""What the report tells: everything measured, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.app._attacked import Curves
    from psiphi.app._judge import Defended, Judged, Share
    from psiphi.app.commands._verify import Outcome
    from psiphi.app.fields import Field, Paths
    from psiphi.app.modes_map import ModesMap
    from psiphi.attacks import Attack, Result
    from psiphi.data import Data
    from psiphi.evaluation import Samples
    from psiphi.training import History


@dataclass(frozen=True)
class Assault:
    """One attack on the classifier, with and without the purifier; the same at other radii; and the curve in L2."""

    attack: Attack
    eps: float
    clean: Share
    bare: Share
    result: Result
    defended: Defended
    sweep: dict[str, list[Share]]
    radii: list[float]
    curves: Curves


@dataclass(frozen=True)
class Downhill:
    """A denoiser of points in the plane and one of the data's images: field, paths, states; and steps of training."""

    field: Field
    paths: Paths
    images: Paths
    steps: int


@dataclass
class Story:
    """Data, trained models by name, judgements, attack, laws and timings of one run."""

    data: Data
    spec: str
    seed: int
    x: Tensor
    y: Tensor
    models: dict[str, Any]
    histories: dict[str, History]
    judged: list[Judged]
    samples: Samples
    neighbours: Share
    assault: Assault
    laws: list[Outcome]
    skipped: list[str]
    epochs: dict[str, int]
    draws: int
    timings: list[tuple[str, float]] = field(default_factory=list)
    quick: bool = False
    maps: list[ModesMap] = field(default_factory=list)
    ring_steps: int = 0
    downhill: Downhill | None = None
