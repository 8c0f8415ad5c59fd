"""Law 29: PCA through our verbs, masked likelihoods, and imputation that equals the exact conditional."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psiphi import zoo
from psiphi.basis.noise import generator
from psiphi.laws._law import Measured, law
from psiphi.laws._linear_gaussian import LinearGaussian
from psiphi.laws.likelihoods import displaced_model
from psiphi.parts.tables import MixedDecoder, TableStatistics, told_width
from psiphi.training import fit

SEED = 29
DRAWS, REPEATS = 2000, 64


@law("29a", "leaving a column out of the likelihood is integrating it out")
@torch.no_grad()
def masked_likelihood() -> list[Measured]:
    """ln p(x_o|z) with NaN for x_m against ln ∫ Σ p(x_o, x_m|z): a sum over codes, the trapezoidal rule over ±12 σ."""
    sizes = (0, 3, 0, 2)
    gen = generator(SEED, "weights")
    network = nn.Linear(2, told_width(sizes)).double()
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=gen, dtype=torch.float64))
    decoder = MixedDecoder(network, sizes, TableStatistics(sizes)).double()
    p = decoder(torch.randn(1, 2, generator=gen, dtype=torch.float64))
    row = torch.tensor([0.3, 1, -0.4, 0], dtype=torch.float64)
    sigma, codes = p.log_scale.exp()[0], torch.arange(3, dtype=torch.float64)
    grid = p.numbers[0, 0] + sigma * torch.linspace(-12, 12, 401, dtype=torch.float64)
    every = torch.cartesian_prod(grid, codes)
    joint = p.log_prob(torch.cat([every, row[2:].expand(len(every), 2)], 1))
    found = [
        Measured("ln p of two of four columns, nats", _ln_sum(joint, sigma), _gappy(p, row, [0, 1]), 1e-10)
    ]
    joint = p.log_prob(torch.cat([grid[:, None], row[1:].expand(len(grid), 3)], 1))
    found.append(Measured("… without the number alone", _ln_sum(joint, sigma), _gappy(p, row, [0]), 1e-10))
    joint = p.log_prob(torch.stack([row[0].expand(3), codes, *row[2:, None].expand(2, 3)], 1))
    found.append(
        Measured("… without the category alone", float(joint.logsumexp(0)), _gappy(p, row, [1]), 1e-10)
    )
    return found


def _ln_sum(joint: Tensor, sigma: Tensor) -> float:
    """ln of the integral over the grid of 401 points; its ends weigh nothing."""
    return float((joint + (24 / 400 * sigma).log()).logsumexp(0))


def _gappy(p: object, row: Tensor, missing: list[int]) -> float:
    return float(p.log_prob(row.index_fill(0, torch.tensor(missing), torch.nan)))  # pyright: ignore


def conditional(known: LinearGaussian, x: Tensor, seen: Tensor) -> Tensor:
    """x with E[x_m|x_o] = b_m + C_mo C_oo⁻¹ (x_o − b_o) in its gaps, C = W Wᵀ + s²I; one pattern for all rows."""
    covariance = known.weight @ known.weight.T + known.scale**2 * torch.eye(len(seen), dtype=x.dtype)
    gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, ~seen])
    filled = x.clone()
    filled[:, ~seen] = known.bias[~seen] + (x - known.bias)[:, seen] @ gain
    return filled


@law("29", "PCA's codes, scores and imputation are scikit-learn's, and the Gaussian conditional's")
@torch.no_grad()
def pca_imputation() -> list[Measured]:
    """Imputation against C_mo C_oo⁻¹ of the covariance that scikit-learn gives for the same fit; float64."""
    from sklearn.decomposition import PCA

    x = LinearGaussian.random(6, 3, 0.4, SEED, torch.float64).draw(300, SEED)
    found = []
    for components in (2, 6):
        model = zoo.pca(6, components).double()
        fit(model, x, quiet=True)
        theirs = PCA(components).fit(x.numpy())
        covariance = torch.as_tensor(theirs.get_covariance())
        known = LinearGaussian(torch.linalg.cholesky(covariance), torch.as_tensor(theirs.mean_), 0.0)
        seen = torch.tensor([True, False, True, True, False, False])
        wanted = conditional(known, x, seen)
        off = (model.impute(torch.where(seen, x, torch.nan)) - wanted).abs().max()
        codes = (model.encode(x) - torch.as_tensor(theirs.transform(x.numpy()))).abs().max()
        scores = (model.anomaly_score(x) + torch.as_tensor(theirs.score_samples(x.numpy()))).abs().max()
        found += [
            Measured(f"{components} of 6 components, {what}: largest difference", 0.0, float(gap), 1e-8)
            for what, gap in (("imputation", off), ("codes", codes), ("−ln p(x)", scores))
        ]
    return found


@law("29b", "importance-weighted imputation is the exact conditional")
@torch.no_grad()
def weighted_imputation() -> list[Measured]:
    """Means of 64 repetitions of 2000 draws, from a displaced posterior of a linear-Gaussian model, within 4 SE."""
    known, model = displaced_model()
    seen = torch.tensor([True, True, False, True, False])
    found = []
    for i, x in enumerate(known.draw(2, SEED)):
        rows = x.expand(REPEATS, 5)
        guesses = model.impute(rows, seen, samples=DRAWS, seed=SEED)
        wanted = conditional(known, x[None], seen)[0]
        for place in (~seen).nonzero().flatten().tolist():
            spread = float(guesses[:, place].std()) / REPEATS**0.5
            name = f"point {i}, coordinate {place}"
            found.append(Measured(name, float(wanted[place]), float(guesses[:, place].mean()), 4 * spread))
    return found
