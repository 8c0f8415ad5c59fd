from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from psiphi.basis.errors import DataError
from psiphi.evaluation._features import answers
from psiphi.formulas.information import entropy


@dataclass(frozen=True)
class Samples:
    """What a classifier makes of a model's samples.

    entropy: of the classes it assigns, in nats; data_entropy: of the labels; ratio: the first over the second;
    confidence: mean probability of the class assigned; counts: samples a class.
    """

    entropy: float
    data_entropy: float
    ratio: float
    confidence: float
    counts: list[int]
    n: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"class entropy {self.entropy:.3f} of {self.data_entropy:.3f} nats ({self.ratio:.1%}), {self.n} samples"


@torch.no_grad()
def samples(
    model: Any, classifier: Any, y: Any, n: int = 2000, seed: int = 0, exact: bool = False
) -> Samples:
    """Diversity of n samples: the entropy of the classes that `classifier` finds, beside that of the labels y."""
    y = torch.as_tensor(y)
    known = y[y >= 0]
    if len(known) == 0 or len(known.unique()) < 2:
        raise DataError("diversity needs labels of at least two classes to compare with.")
    drawn = model.sample(n, seed=seed, exact=exact)
    probability = torch.cat([answer.softmax(1).cpu() for answer in answers(classifier, drawn)])
    classes = probability.shape[1]
    counts = torch.bincount(probability.argmax(1), minlength=classes)
    found, wanted = entropy(counts), entropy(torch.bincount(known, minlength=classes))
    return Samples(found, wanted, found / wanted, float(probability.amax(1).mean()), counts.tolist(), n)
