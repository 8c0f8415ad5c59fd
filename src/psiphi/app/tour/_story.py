"""What the report tells: everything measured, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from psiphi.app._verified import Outcome
    from psiphi.app.tour._attacks import Attacks
    from psiphi.app.tour._defences import Defences
    from psiphi.app.tour._map import Map
    from psiphi.app.tour._models import Models
    from psiphi.app.tour._plane import Ring, Spiral
    from psiphi.data import Data
    from psiphi.evaluation import Samples
    from psiphi.training import History


@dataclass(frozen=True)
class Timing:
    """A step of the tour: seconds on the clock, and of the processor."""

    what: str
    seconds: float
    processor: float


@dataclass
class Story:
    """Data, classifier, the chapters, laws and timings of one run."""

    data: Data
    spec: str
    seed: int
    x: Tensor
    y: Tensor
    classifier: Any
    training: dict[str, Any]
    histories: dict[str, History]
    models: Models
    samples: Samples
    draws: int
    map: Map
    ring: Ring
    spiral: Spiral
    attacks: Attacks
    defences: Defences
    laws: list[Outcome] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    quick: bool = False

    @property
    def vae(self) -> Any:
        return self.models["vae"].model

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest value of the data."""
        told = self.vae.statistics
        return float(told.low), float(told.high)
