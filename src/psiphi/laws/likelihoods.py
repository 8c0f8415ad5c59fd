"""Law 8: the marginal likelihood by importance sampling, with an error that is right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi.formulas.distributions import DiagonalNormal
from psiphi.laws._law import Measured, law
from psiphi.laws._linear_gaussian import LinearGaussian
from psiphi.models import LatentModel
from psiphi.parts import GaussianDecoder, StandardPrior, Statistics, nll, rate
from psiphi.parts.conditional import FixedScale

SEED = 11


class Displaced(nn.Module):
    """The exact posterior (diagonal here), shifted by half a standard deviation and widened by 1.3."""

    def __init__(self, model: LinearGaussian):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> DiagonalNormal:
        exact = self.model.posterior(x)
        sd = exact.tril.diagonal(dim1=-2, dim2=-1)
        return DiagonalNormal(exact.mean + 0.5 * sd, (1.3 * sd).log())


def displaced_model() -> tuple[LinearGaussian, LatentModel]:
    """Columns of W are orthogonal, so that the posterior is diagonal."""
    known = LinearGaussian.random(5, 2, 0.6, SEED, torch.float64)
    known = LinearGaussian(
        torch.linalg.qr(known.weight)[0] * torch.tensor([2.0, 1.0]), known.bias, known.scale
    )
    network = nn.Linear(2, 5).double()
    with torch.no_grad():
        network.weight.copy_(known.weight)
        network.bias.copy_(known.bias)  # pyright: ignore[reportOptionalMemberAccess]
    statistics = Statistics((5,))
    decoder = GaussianDecoder(network, (5,), statistics, FixedScale(known.scale))
    model = LatentModel(
        statistics, 2, Displaced(known), decoder, prior=StandardPrior(2), objective=nll + rate
    )
    return known, model.double()


@law("8", "importance sampling finds ln p(x), and knows its error")
@torch.no_grad()
def importance_sampling() -> list[Measured]:
    """|estimate − exact| ≤ 4 SE + |bias|; over repetitions the spread of the estimates is the SE reported."""
    known, model = displaced_model()
    found = []
    for row, x in enumerate(known.draw(3, SEED)):
        sums = model.importance(x[None], 2000, seed=SEED + row)
        error = float(sums.standard_error)
        exact = float(known.log_prob(x))
        found.append(
            Measured(f"ln p(x) of point {row}, nats", exact, float(sums.estimate), 4 * error + error**2 / 2)
        )
    repeats = 500
    sums = model.importance(known.draw(1, SEED).expand(repeats, 5), 500, seed=SEED)
    spread, reported = float(sums.estimate.std()), float(sums.standard_error.mean())
    found.append(
        Measured(
            "SE reported against the spread over repetitions",
            spread,
            reported,
            4 * spread / (2 * repeats) ** 0.5,
        )
    )
    return found
