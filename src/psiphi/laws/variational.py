"""Laws 7c, 7d, 7f and 9: bounds, posteriors that are rich enough, flows, and labels."""

from __future__ import annotations

from math import log
from typing import Any

import torch
from torch import Tensor, nn

from psiphi import zoo
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import DiagonalNormal, StandardNormal
from psiphi.formulas.flows import Flowed
from psiphi.laws._law import Measured, at_most, law
from psiphi.laws._linear_gaussian import LinearGaussian
from psiphi.laws.autoencoders import sigma_points
from psiphi.laws.likelihoods import displaced_model
from psiphi.models import LabelledModel
from psiphi.models._labelled import label_nll, labelled, unlabelled
from psiphi.parts import END, GaussianDecoder, LatentTrace, StandardPrior, Statistics, adam, bound, nll, rate
from psiphi.parts.conditional import FixedScale
from psiphi.parts.labelled import LabelledDecoder
from psiphi.parts.posteriors import flow
from psiphi.training import cosine, fit

SEED = 19


@law("7c", "E ELBO ≤ E IWAE_K ≤ ln p(x), increasing in K")
@torch.no_grad()
def bounds_ordered() -> list[Measured]:
    """A linear-Gaussian model and a displaced posterior; each inequality within four standard errors."""
    known, model = displaced_model()
    x = known.draw(1, SEED).expand(10_000, 5)
    means, errors = [], []
    for i, samples in enumerate((1, 2, 8, 32)):
        model.samples = samples
        values = -bound.value(model.trace(x, Noise.of(SEED + i, len(x), dtype=torch.float64)))
        means.append(float(values.mean()))
        errors.append(float(values.std()) / len(x) ** 0.5)
    model.samples = 1
    elbo = -(nll + rate)(model.trace(x, Noise.of(SEED, len(x), dtype=torch.float64)), END)["loss"]
    exact = float(known.log_prob(x[:1]))
    found = [
        at_most(f"IWAE_{a} ≤ IWAE_{b}", means[i + 1], means[i], 4 * (errors[i] + errors[i + 1]))
        for i, (a, b) in enumerate(((1, 2), (2, 8), (8, 32)))
    ]
    return [
        Measured("IWAE_1 is the ELBO", float(elbo), means[0], 8 * errors[0]),
        *found,
        at_most("IWAE_32 ≤ ln p(x)", exact, means[-1], 4 * errors[-1]),
        at_most("IWAE_1 + 0.1 ≤ IWAE_32: the bounds do differ", means[-1], means[0] + 0.1),
    ]


def _correlated() -> LinearGaussian:
    """A model whose posterior precision I + WᵀW/s² is far from diagonal."""
    weight = torch.tensor([[1.0, 0.8], [0.3, 0.9], [-0.5, -0.7], [0.2, 0.4]])
    return LinearGaussian(weight, torch.tensor([0.5, -1.0, 0.0, 2.0]), 0.8)


def _gap(known: LinearGaussian, x: Tensor, posterior: str) -> float:
    """Mean of ln p(x) − ELBO after training q alone; the expectation over q is exact."""
    model: Any = zoo.vae(
        4, 2, hidden=(), likelihood=f"gaussian:{known.scale}", posterior=posterior, samples=4, seed=SEED
    )
    fit(model, x, steps=1, lr=1e-9, quiet=True)  # measures the data
    s, layer = model.statistics, model.decoder.network.layers[0]
    with torch.no_grad():
        layer.weight.copy_(known.weight / s.sigma)
        layer.bias.copy_((known.bias - s.mean) / s.sigma)
    model.decoder.requires_grad_(False)
    fit(
        model, x, steps=300, batch_size=len(x), optimizer=adam(0.05, schedule=cosine()), seed=SEED, quiet=True
    )
    with torch.no_grad():
        q: Any = model.encoder(x)
        z = sigma_points(q)
        trace = LatentTrace(x, x, q, z, known.likelihood(z), model.prior())
        return float(known.log_prob(x).mean() + (nll + rate)(trace, END)["loss"])


@law(
    "7d",
    "a diagonal posterior leaves ½(Σ ln Λ_ii − ln det Λ) where it should be correlated, a full one nothing",
)
def cholesky() -> list[Measured]:
    """Fixed decoder with posterior precision Λ; q trained, within 0.01 nat."""
    known = _correlated()
    x = known.draw(256, SEED)
    precision = torch.eye(2) + known.weight.T @ known.weight / known.scale**2
    gap = 0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    return [
        Measured("diagonal: ln p(x) − ELBO, nats", gap, _gap(known, x, "diagonal"), 0.01),
        Measured("full: ln p(x) − ELBO, nats", 0.0, _gap(known, x, "full"), 0.01),
    ]


def _bent(coupling: bool, d: int) -> nn.Module:
    """A flow of d numbers with weights large enough to bend space."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        made = flow(d, 0, coupling).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2.0)
    return made


@law("7f", "a flow is a density: ∫ q = 1 and ln q = ln q0 − ln|det ∂z/∂ε|")
def flows() -> list[Measured]:
    """∫ q over a grid in two dimensions; autograd's determinant in two and, for both kinds of flow, in five."""
    found = []
    for name, coupling, d in (
        ("autoregressive", False, 2),
        ("autoregressive", False, 5),
        ("coupling", True, 5),
    ):
        name = f"{name}, {d} numbers"
        q = Flowed(StandardNormal(torch.zeros(1, d, dtype=torch.float64)), _bent(coupling, d)(None))
        with torch.no_grad():
            z, log_q = q.rsample_log_prob(Noise.of(SEED, 64, dtype=torch.float64))
            again = float((q.log_prob(z) - log_q).abs().max())
            if d == 2:
                reach = 3 * float(z.abs().max())
                side = torch.linspace(-reach, reach, 241, dtype=torch.float64)
                mass = float(
                    q.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
                )
                found.append(Measured(f"{name}: ∫ q over a grid", 1.0, mass, 1e-3))
        gaps = []
        for point in z[0, :8]:
            u = q.transform.inv(point).detach()
            jacobian: Any = torch.autograd.functional.jacobian(q.transform, u)  # pyright: ignore[reportAttributeAccessIssue]
            wanted = StandardNormal(u).log_prob(u) - torch.linalg.slogdet(jacobian).logabsdet
            gaps.append(float((q.log_prob(point).detach() - wanted).abs()))
        found += [
            Measured(f"{name}: |ln q − (ln q0 − ln|det|)|, autograd's determinant", 0, max(gaps), 1e-8),
            Measured(f"{name}: |ln q there − ln q back|", 0, again, 1e-8),
        ]
    return found


class _Exact(nn.Module):
    """q(z|x, y): the exact posterior, diagonal as the columns of W are orthogonal, moved by `shift` deviations."""

    def __init__(self, known: LinearGaussian, biases: Tensor, shift: float):
        super().__init__()
        self.known, self.biases, self.shift = known, biases, shift

    def forward(self, x: Tensor, y: Tensor) -> DiagonalNormal:
        x = x.repeat(len(y) // len(x), 1)
        exact = self.known.posterior(x - y @ self.biases + self.known.bias)
        sd = exact.tril.diagonal(dim1=-2, dim2=-1)
        return DiagonalNormal(exact.mean + self.shift * sd, sd.log())


def _class_conditional(shift: float, classifier: nn.Module) -> tuple[Any, LinearGaussian, Tensor]:
    """x = W z + b_y + s ξ for three classes, as a `LabelledModel`."""
    known = LinearGaussian.random(4, 2, 0.7, SEED, torch.float64)
    known = LinearGaussian(
        torch.linalg.qr(known.weight)[0] * torch.tensor([1.5, 0.8]), known.bias, known.scale
    )
    biases = torch.randn(3, 4, generator=generator(SEED, "classes"), dtype=torch.float64)
    network = nn.Linear(5, 4, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.cat([known.weight, biases.T], 1))
    statistics = Statistics((4,)).double()
    decoder = LabelledDecoder(GaussianDecoder(network, (4,), statistics, FixedScale(known.scale)))
    encoder: Any = _Exact(known, biases, shift)
    model = LabelledModel(
        statistics, 2, 3, encoder, decoder, StandardPrior(2), objective=labelled + unlabelled + 7.0 * label_nll,
        classifier=classifier,
    )  # fmt: skip
    return model.double(), known, biases


@law("9", "M2: U(x) = ln p(x) − KL(q(y|x) ‖ p(y|x)) at the exact q(z|x, y), and below for any other")
@torch.no_grad()
def semi_supervised() -> list[Measured]:
    """A linear-Gaussian class-conditional model; means over 5000 draws of z, within four standard errors."""
    judge = nn.Linear(4, 3).double()
    judge.weight.copy_(torch.randn(3, 4, generator=generator(SEED, "judge"), dtype=torch.float64))
    judge.bias.zero_()
    rows, model, known, biases = 5000, *_class_conditional(0.0, judge)
    x = (known.draw(1, SEED) - known.bias + biases[1]).expand(rows, 4)
    log_joint = torch.stack([known.log_prob(x[:1] - b + known.bias) for b in biases], 1) - log(3)
    log_p, log_q = log_joint.logsumexp(1), judge(x[:1]).log_softmax(1)
    divergence = (log_q.exp() * (log_q - log_joint.log_softmax(1))).sum(1)

    def measured(model: Any, y: int, term: Any) -> tuple[float, float]:
        trace = model.trace(x, torch.full((rows,), y), Noise.of(SEED, rows, dtype=torch.float64))
        values = -term.value(trace)
        return float(values.mean()), 4 * float(values.std()) / rows**0.5

    u, within = measured(model, -1, unlabelled)
    bayes, _, _ = _class_conditional(0.0, _Bayes(known, biases))
    best, best_within = measured(bayes, -1, unlabelled)
    displaced, _, _ = _class_conditional(0.7, judge)
    lower, lower_within = measured(displaced, -1, unlabelled)
    own, own_within = measured(model, 2, labelled)
    both = torch.arange(rows) % 2 * 3 - 1  # −1 and 2 in turn
    trace = model.trace(x, both, Noise.of(SEED, rows, dtype=torch.float64))
    parts = model.objective(trace, END)
    by_hand = -0.5 * (u + own) - 0.5 * 7.0 * float(log_q[0, 2])
    return [
        Measured("U(x), an arbitrary q(y|x)", float(log_p - divergence), u, within),
        Measured("U(x) at the exact posterior is ln p(x)", float(log_p), best, best_within),
        at_most("U(x), a displaced q(z|x, y)", float(log_p - divergence) - 0.1, lower, lower_within),
        Measured("L(x, y) = ln p(x, y)", float(log_joint[0, 2]), own, own_within),
        Measured(
            "loss of half labelled, half unlabelled rows", by_hand, float(parts["loss"]), within + own_within
        ),
    ]


class _Bayes(nn.Module):
    """ln p(y|x) up to a constant."""

    def __init__(self, known: LinearGaussian, biases: Tensor):
        super().__init__()
        self.known, self.biases = known, biases

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.known.log_prob(x - b + self.known.bias) for b in self.biases], 1)
