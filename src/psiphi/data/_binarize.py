"""Grey values as probabilities of black and white."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from psiphi.basis.errors import DataError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import as_float
from psiphi.data._convert import as_tensor


def binarize(x: Any, noise: Noise) -> Tensor:
    """Pixels drawn anew: b ~ Bernoulli(x), so that E[b] = x; uint8 counts as k/255.

    x: (n, ...) in [0, 1]; noise: n rows. A float tensor of zeros and ones, x's shape and device.
    Errors: `DataError` for values outside [0, 1].
    Source: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016, section 5.
    """
    x = as_float(as_tensor(x))
    if x.numel() and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise DataError(
            f"values reach from {float(x.min()):g} to {float(x.max()):g}; grey values in [0, 1] are needed "
            "to draw pixels from: scale them."
        )
    return (noise.uniform(x.shape[1:]).to(x.device) < x).to(x.dtype)
