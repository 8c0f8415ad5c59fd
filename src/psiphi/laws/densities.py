"""Laws 7g to 7i and 10f: densities, divergences and draws of every record against torch.distributions and loops."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
import torch.distributions as td
from torch import Tensor

from psiphi.basis.noise import Noise, generator
from psiphi.formulas.bounds import ImportanceSums, log_mean_exp, log_weights
from psiphi.formulas.distortions import absolute, huber
from psiphi.formulas.distributions import (
    Bernoulli,
    Delta,
    DiagonalNormal,
    Distorted,
    FullNormal,
    StandardNormal,
    draw,
    has_kl,
    kl,
)
from psiphi.formulas.gaps import defensive_log_weights
from psiphi.formulas.mixed import Mixed, unroll
from psiphi.formulas.mixtures import Categorical, LabelledModes, NormalMixture, OneHotNormal, pick
from psiphi.laws._law import Measured, equal, law

SEED = 7
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


def _triangles(rows: int, d: int) -> Tensor:
    lower = _normal(rows, d, d, name="triangles").tril(-1)
    return lower + torch.diag_embed((0.3 * _normal(rows, d, name="diagonals")).exp())


@law("7g", "densities and divergences are another library's, and what is masked leaves the sum")
def densities_of_records() -> list[Measured]:
    """Every record, of one and of two event axes, with and without a mask under which there are NaNs: to 10⁻¹⁰."""
    mean, scale = _normal(3, 4), 0.4 * _normal(3, 4, name="scale")
    mean2, scale2 = _normal(3, 4, name="mean 2"), 0.4 * _normal(3, 4, name="scale 2")
    x, where = 2 * _normal(5, 3, 4), _normal(5, 3, 4, name="where") > 0
    seen = torch.where(where, x, torch.nan)
    binary = (x > 0).to(F64)
    q, p = DiagonalNormal(mean, scale), DiagonalNormal(mean2, scale2)
    n1, n2, n0 = td.Normal(mean, scale.exp()), td.Normal(mean2, scale2.exp()), td.Normal(0 * mean, 1.0)
    standard, tall = StandardNormal(torch.zeros(3, 4, dtype=F64)), mean.view(3, 2, 2)
    shared = td.Normal(tall, torch.tensor(0.3, dtype=F64).exp())
    coin, coin2 = Bernoulli(mean), Bernoulli(mean2)
    b1, b2 = td.Bernoulli(logits=mean), td.Bernoulli(logits=mean2)
    left, right = _triangles(3, 4), _triangles(3, 4).flip(0)
    f1, f2 = td.MultivariateNormal(mean, scale_tril=left), td.MultivariateNormal(mean2, scale_tril=right)
    full, full2 = FullNormal(mean, left), FullNormal(mean2, right)
    d1 = td.MultivariateNormal(mean, scale_tril=torch.diag_embed(scale.exp()))
    d0 = td.MultivariateNormal(0 * mean, torch.eye(4, dtype=F64))
    one = DiagonalNormal(tall, torch.tensor(0.3, dtype=F64), event=2)
    loss = Distorted(mean, absolute)
    return [
        equal("a diagonal normal", n1.log_prob(x).sum(-1), q.log_prob(x)),
        equal("the same, masked", (n1.log_prob(x) * where).sum(-1), q.log_prob(seen, where)),
        equal("one scale, two event axes", shared.log_prob(x.view(5, 3, 2, 2)).sum((-2, -1)),
              one.log_prob(x.view(5, 3, 2, 2))),
        equal("the same, masked", (shared.log_prob(x.view(5, 3, 2, 2)) * where.view(5, 3, 2, 2)).sum((-2, -1)),
              one.log_prob(seen.view(5, 3, 2, 2), where.view(5, 3, 2, 2))),
        equal("a standard normal", n0.log_prob(x).sum(-1), standard.log_prob(x)),
        equal("the same, masked", (n0.log_prob(x) * where).sum(-1), standard.log_prob(seen, where)),
        equal("Bernoulli", b1.log_prob(binary).sum(-1), coin.log_prob(binary)),
        equal("the same, masked", (b1.log_prob(binary) * where).sum(-1),
              coin.log_prob(torch.where(where, binary, torch.nan), where)),
        equal("a full normal", f1.log_prob(x), full.log_prob(x)),
        equal("a distortion", -(x - mean).abs().sum(-1), loss.log_prob(x)),
        equal("the same, masked", -((x - mean).abs() * where).sum(-1), loss.log_prob(seen, where)),
        equal("KL, diagonal", td.kl_divergence(n1, n2).sum(-1), kl(q, p)),
        equal("KL to N(0, I)", td.kl_divergence(n1, n0).sum(-1), kl(q, standard)),
        equal("KL, two event axes", td.kl_divergence(shared, td.Normal(0.0, 1.0)).sum((-2, -1)),
              kl(one, StandardNormal(torch.zeros(3, 2, 2, dtype=F64), event=2))),
        equal("KL, full", td.kl_divergence(f1, f2), kl(full, full2)),
        equal("KL, diagonal and full", td.kl_divergence(d1, f2), kl(q, full2)),
        equal("KL, full and N(0, I)", td.kl_divergence(f1, d0), kl(full, standard)),
        equal("KL, Bernoulli", td.kl_divergence(b1, b2).sum(-1), kl(coin, coin2)),
        equal("pairs with a closed form", [1, 1, 1, 0, 0, 0],
              [has_kl(q, p), has_kl(full, standard), has_kl(coin, coin2),
               has_kl(q, coin), has_kl(coin, standard), has_kl(loss, loss)]),
    ]  # fmt: skip


class _Zeros(Noise):
    """Noise that is 0."""

    def _draw(self, fill: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(1, *shape)


@law("7h", "draws are the record's own map of the noise, and do not depend on how many rows there are")
def draws_of_records() -> list[Measured]:
    """z = μ + σ ε, μ + L ε, [u < p] of the very noise that was handed in, three draws of each of five rows."""
    noise, k = Noise.of(SEED, 5, dtype=F64), 3
    mean, scale, tril = _normal(5, 4), 0.4 * _normal(5, 4, name="scale"), _triangles(5, 4)
    eps, u = noise.normal((k, 4)).transpose(0, 1), noise.uniform((k, 4)).transpose(0, 1)
    q, full, coin = DiagonalNormal(mean, scale), FullNormal(mean, tril), Bernoulli(mean)
    flat = DiagonalNormal(mean[:4].repeat(3, 1), scale[:4].repeat(3, 1))
    shared = DiagonalNormal(mean[:4].repeat(3, 1), torch.tensor(0.3, dtype=F64))
    x = _normal(3, 4, 4, name="x")
    folded = [
        (flat, x.flatten(0, 1)), (shared, x.flatten(0, 1)), (Bernoulli(mean[:4].repeat(3, 1)), x.flatten(0, 1) > 0),
        (FullNormal(mean[:4].repeat(3, 1), tril[:4].repeat(3, 1, 1)), x.flatten(0, 1)),
        (Distorted(mean[:4].repeat(3, 1), huber), x.flatten(0, 1)),
    ]  # fmt: skip
    z, log_q = draw(q, noise, k)
    return [
        equal("a diagonal normal", mean + scale.exp() * eps, q.rsample(noise, k)),
        equal("a standard normal", eps, StandardNormal(torch.zeros(5, 4, dtype=F64)).rsample(noise, k)),
        equal("a full normal", mean + torch.einsum("bij,kbj->kbi", tril, eps), full.rsample(noise, k)),
        equal("Bernoulli", (u < torch.sigmoid(mean)).to(F64), coin.rsample(noise, k)),
        equal("a probability of 0, where u is 0", torch.zeros(1, 1, 2), Bernoulli(
              torch.full((1, 2), -torch.inf)).rsample(_Zeros(0, range(1)))),
        equal("a point", mean.expand(k, 5, 4), Delta(mean).rsample(noise, k)),
        equal("a reconstruction", mean.expand(k, 5, 4), Distorted(mean, huber).rsample(noise, k)),
        equal("two rows of five", q.rsample(noise, k)[:, [1, 3]],
              DiagonalNormal(mean[[1, 3]], scale[[1, 3]]).rsample(noise.take(torch.tensor([1, 3])), k)),
        equal("one draw, unless told", [1, 1, 1, 1, 1, 1],
              [len(each.rsample(noise)) for each in (q, full, coin, StandardNormal(mean), Delta(mean), loss_of(mean))]),
        equal("ln q of a draw", q.log_prob(q.rsample(noise, k)), log_q),
        equal("the draw", q.rsample(noise, k), z),
        equal("samples and rows apart", mean[:4].expand(3, 4, 4), Delta(mean[:4].repeat(3, 1)).unflatten(3).mean),
        *(
            equal(f"{type(p).__name__} of samples and rows", p.log_prob(rows.to(F64)).view(3, 4),
                  p.unflatten(3).log_prob(rows.to(F64).view(3, 4, 4)))
            for p, rows in folded
        ),
    ]  # fmt: skip


def loss_of(mean: Tensor) -> Distorted:
    return Distorted(mean, absolute)


@law("7i", "mixtures, labels and categories: densities by enumeration, draws by the cumulated probabilities")
def draws_of_mixtures() -> list[Measured]:
    """Against torch.distributions; the component of a draw is the first whose cumulated probability exceeds u."""
    noise, k = Noise.of(SEED, 6, dtype=F64), 5
    logits, means, scales = _normal(3), 3 * _normal(3, 2), 0.3 * _normal(3, 2, name="scales")
    mixture = NormalMixture(logits, means, scales)
    weights = logits.softmax(0)
    oracle = td.MixtureSameFamily(
        td.Categorical(logits=logits), td.Independent(td.Normal(means, scales.exp()), 1)
    )
    x = 3 * _normal(4, 6, 2, name="x")
    u, eps = noise.split("component").uniform((k,)).T, noise.normal((k, 2)).transpose(0, 1)
    chosen = torch.searchsorted(weights.cumsum(0), u.contiguous(), right=True)
    y = torch.tensor([2, 0, 1, 1, 2, 0])
    given = LabelledModes(logits, means, scales).given(y)
    hot = OneHotNormal(4, torch.zeros(1, 3, dtype=F64))
    label = noise.split("label").integers(4, (k,)).T
    z = noise.normal((k, 3)).transpose(0, 1)
    codes = torch.eye(4, dtype=F64)
    choice, other = Categorical(_normal(6, 4)), Categorical(_normal(6, 4, name="other"))
    o1, o2 = td.Categorical(logits=choice.logits), td.Categorical(logits=other.logits)
    v = noise.uniform((k,)).T
    found = (choice.mean.cumsum(-1).expand(k, 6, 4) <= v.unsqueeze(-1)).sum(-1)
    sure = Categorical(torch.tensor([0.0, 0.0, -torch.inf], dtype=F64))
    never = Categorical(torch.tensor([0.0, -torch.inf, 0.0], dtype=F64))
    steps = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], dtype=F64)
    at = torch.tensor([0.0, 0.2, 0.25, 0.7, 0.75, 0.9999], dtype=F64)
    return [
        equal("ln p of a mixture", oracle.log_prob(x), mixture.log_prob(x)),
        equal("its mean", oracle.mean[None], mixture.mean),
        equal("its draws", means[chosen] + scales[chosen].exp() * eps, mixture.rsample(noise, k)),
        equal("p(z|y)", td.Normal(means[y], scales[y].exp()).log_prob(x).sum(-1), given.log_prob(x)),
        equal("classes", 3, LabelledModes(logits, means, scales).classes),
        equal("a label and N(0, I)", torch.cat([codes[label], z], 2), hot.rsample(noise, k)),
        equal("event axes", [1, 1, 1, 1], [hot.event, mixture.event, choice.event, given.event]),
        equal("one label for all draws", torch.cat([codes[y].expand(k, 6, 4), z], 2), hot.given(y).rsample(noise, k)),
        equal("ln p of a category", o1.log_prob(torch.arange(4)[:, None]), choice.log_prob(codes[:, None])),
        equal("KL of categories", td.kl_divergence(o1, o2), choice.kl(other)),
        equal("where mass is missing", [log(2), torch.inf], [float(sure.kl(other_two())), float(sure.kl(never))]),
        equal("ln p where mass is missing", log(0.5), sure.log_prob(torch.tensor([1.0, 0.0, 0.0], dtype=F64))),
        equal("categories drawn", codes[found], choice.rsample(noise, k)),
        equal("where u falls on a step", [1, 1, 3, 3, 4, 4], pick(steps, at)),
        equal("probabilities of any sum", pick(steps, at), pick(7 * steps, at)),
        equal("u rounded to 1", 5, pick(steps, torch.tensor(1.0, dtype=F64))),
        equal("one draw, unless told", [1, 1, 1],
              [len(each.rsample(noise)) for each in (mixture, hot, choice)]),
    ]  # fmt: skip


def other_two() -> Categorical:
    """A quarter, a quarter and a half."""
    return Categorical(torch.tensor([0.25, 0.25, 0.5], dtype=F64).log())


@law("8a", "sums of importance weights: estimate, effective size, standard error, and the defensive mixture")
def sums_of_weights() -> list[Measured]:
    """By their definitions with the weights themselves, (K, B) of them."""
    likelihood, prior, q = _normal(9, 4), _normal(9, 4, name="prior"), _normal(9, 4, name="q")
    logs = log_weights(likelihood, prior, q)
    w = likelihood.exp() * prior.exp() / q.exp()
    shares, sums = w / w.sum(0), ImportanceSums.of(logs)
    safe = likelihood.exp() * prior.exp() / (0.5 * q.exp() + 0.5 * prior.exp())
    alike = ImportanceSums.of(torch.full((9, 1), 2.0, dtype=F64))
    return [
        equal("ln w", w.log(), logs),
        equal("ln of the mean weight", w.mean(0).log(), log_mean_exp(logs)),
        equal("the estimate", w.mean(0).log(), sums.estimate),
        equal("effective size", 1 / shares.square().sum(0), sums.effective),
        equal("standard error", (shares.square().sum(0) - 1 / 9).sqrt(), sums.standard_error),
        equal("equal weights have no error", [0.0], alike.standard_error, 1e-7),
        equal("defensive weights", safe.log(), defensive_log_weights(likelihood, prior, q)),
    ]


@law("29c", "tables: a row is its columns, one by one")
def rows_of_tables() -> list[Measured]:
    """Densities, means, averages, draws and codes of numbers and categories, against a loop over columns."""
    sizes, k = (3, 0, 2, 0, 4), 3
    numbers, log_scale, logits = _normal(6, 2), 0.3 * _normal(2, name="scale"), _normal(6, 9)
    table = Mixed(numbers, log_scale, logits, sizes)
    parts = {0: logits[:, :3], 2: logits[:, 3:5], 4: logits[:, 5:]}
    places = {1: 0, 3: 1}
    x = torch.stack([torch.tensor([0.0, 2, 1, 1, 2, 0]), torch.randn(6, generator=generator(SEED, "x")),
                     torch.tensor([1.0, 0, 0, 1, 1, 1]), torch.randn(6, generator=generator(SEED, "x2")),
                     torch.tensor([3.0, 1, 2, 0, 1, 3])], 1).to(F64)  # fmt: skip
    gone = torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1],
                         [0, 0, 0, 0, 1]]).bool()  # fmt: skip

    def column(j: int) -> Tensor:
        if j in places:
            i = places[j]
            return td.Normal(numbers[:, i], log_scale[i].exp()).log_prob(x[:, j])
        return td.Categorical(logits=parts[j]).log_prob(x[:, j].long())

    each = torch.stack([column(j) for j in range(5)], 1)
    holes = torch.where(gone, torch.nan, x)
    means = torch.stack(
        [numbers[:, places[j]] if j in places else parts[j].argmax(1).to(F64) for j in range(5)], 1
    )
    weights = _normal(k, 2, name="weights").softmax(0)
    wide = table.unflatten(3)
    averaged = torch.stack([
        (weights * numbers.view(k, 2, 2)[..., places[j]]).sum(0) if j in places
        else (weights[..., None] * parts[j].softmax(1).view(k, 2, -1)).sum(0).argmax(-1).to(F64)
        for j in range(5)], 1)  # fmt: skip
    noise = Noise.of(SEED, 6, dtype=F64)
    u = noise.split("category").uniform((k, 3, 1)).transpose(0, 1)
    eps = noise.normal((k, 2)).transpose(0, 1)
    drawn = torch.stack([
        numbers[:, places[j]] + log_scale[places[j]].exp() * eps[..., places[j]] if j in places
        else (parts[j].softmax(1).cumsum(1).expand(k, 6, -1) <= u[:, :, [0, 2, 4].index(j)]).sum(-1).to(F64)
        for j in range(5)], 2)  # fmt: skip
    hot = [torch.nn.functional.one_hot(x[:, j].long(), sizes[j]) * ~gone[:, [j]] for j in (0, 2, 4)]
    rolled = torch.cat([torch.where(gone, 0, x)[:, [1, 3]], *hot, ~gone], 1)
    odd = x[:1].clone()
    odd[0, 0] = 1.5
    beyond = x[:1].clone()
    beyond[0, 4] = 4.0
    short = x[:1].clone()
    short[0, 2] = 2.0
    codes = Mixed(numbers[:, :0], log_scale[:0], logits, (3, 2, 4))
    return [
        equal("ln p", each.sum(1), table.log_prob(x)),
        equal("ln p of what is there", (each * ~gone).sum(1), table.log_prob(holes)),
        equal("the same by a mask", (each * ~gone).sum(1), table.log_prob(x, ~gone)),
        equal("a code that is none", [-torch.inf] * 3,
              [float(Mixed(numbers[:1], log_scale, logits[:1], sizes).log_prob(v)) for v in (odd, beyond, short)]),
        equal("mean", means, table.mean),
        equal("mean of a mixture", averaged, wide.average(weights)),
        equal("draws", drawn, table.rsample(noise, k)),
        equal("as networks see it", rolled, unroll(holes, sizes)),
        equal("measures", [1, 1], [table.measure == "mixed",
              Mixed(numbers, log_scale, logits[:, :0], (0, 0)).measure == "continuous"]),
        equal("numbers alone", each[:, [1, 3]].sum(1),
              Mixed(numbers, log_scale, logits[:, :0], (0, 0)).log_prob(x[:, [1, 3]])),
        equal("categories alone", each[:, [0, 2, 4]].sum(1), codes.log_prob(x[:, [0, 2, 4]])),
        equal("their draws", drawn[:, :, [0, 2, 4]], codes.rsample(noise, k)),
        equal("draws of numbers alone", drawn[:, :, [1, 3]], Mixed(numbers, log_scale, logits[:, :0], (0, 0)).rsample(
              noise, k)),
        equal("their mean", numbers, Mixed(numbers, log_scale, logits[:, :0], (0, 0)).mean),
        equal("one draw, unless told", 1, len(table.rsample(noise))),
    ]  # fmt: skip
