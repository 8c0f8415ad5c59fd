"""Laws 2a, 12c, 21a and 27e: losses of critics, goals of attacks, distortions and poisons, by their definitions."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from psiphi.basis.noise import generator
from psiphi.formulas import goals
from psiphi.formulas.calculus import input_gradient, input_gradients, pulled_back, squared_jacobian_norm
from psiphi.formulas.distortions import absolute, huber, squared
from psiphi.formulas.games import GAMES
from psiphi.formulas.penalties import between, slope_gap, squared_slope
from psiphi.formulas.poisons import blended, collision, forward_backward, mismatch
from psiphi.formulas.sparsity import bernoulli_kl, penalty
from psiphi.laws._law import Measured, at_most, equal, law

SEED = 21
F64 = torch.float64


def _normal(*shape: int, name: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(SEED, name, *shape), dtype=F64)


@law("2a", "distortions by their equations, their slopes meeting where they change")
def distortions_by_equation() -> list[Measured]:
    """Squared, absolute and Huber's loss at two bounds, and the norms and gaps of sparsity."""
    x, y = torch.linspace(-3, 3, 25, dtype=F64), torch.zeros(25, dtype=F64)
    small, large = huber(x, y), huber(x, y, 2.5)
    h = _normal(5, 3)
    return [
        equal("squared", x**2, squared(x, y)),
        equal("absolute", torch.where(x < 0, -x, x), absolute(x, y)),
        equal("Huber's, δ = 1", [0.5 * v * v if abs(v) <= 1 else abs(v) - 0.5 for v in x.tolist()], small),
        equal("Huber's, δ = 2.5", [0.5 * v * v if abs(v) <= 2.5 else 2.5 * abs(v) - 3.125 for v in x.tolist()], large),
        equal("of a difference", huber(x, y), huber(x + 5, y + 5)),
        equal("ℓ1 of each row", h.abs().sum(1), penalty(h, "l1-norm", 0.0)),
        equal("ℓ2 of each row", h.square().sum(1).sqrt(), penalty(h, "l2-norm", 0.0)),
        equal("KL of activities", torch.distributions.kl_divergence(torch.distributions.Bernoulli(0.3),
              torch.distributions.Bernoulli(h.sigmoid())), bernoulli_kl(0.3, h.sigmoid()), 1e-7),
        equal("from a target of 0 and of 1", [-log(0.75), -log(0.25)],
              [bernoulli_kl(t, torch.tensor(0.25, dtype=F64)) for t in (0.0, 1.0)]),
        equal("at activities of 0 and 1", [-log(1e-6), -log(1e-6)],
              [bernoulli_kl(1.0, torch.tensor(0.0, dtype=F64)), bernoulli_kl(0.0, torch.tensor(1.0, dtype=F64))], 1e-9),
        equal("gap of each neuron's mean", sum((0.3 - h[:, j].mean()) ** 2 for j in range(3)), penalty(h, "l2", 0.3)),
        equal("gap of each row's mean", [float(abs(0.3 - row.mean())) for row in h], penalty(h, "l1", 0.3, "sample")),
    ]  # fmt: skip


@law("12c", "games: losses by their papers' equations, and the divergence that the best critic of each finds")
def games_by_equation() -> list[Measured]:
    """Two laws on four points: losses at random scores; the critic's optimum by its closed form, and moved off it."""
    r, s = _normal(9), _normal(9, name="other")
    q, p = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64), torch.tensor([0.1, 0.2, 0.25, 0.45], dtype=F64)
    d_q, d_p = r.sigmoid(), s.sigmoid()
    half = (q + p) / 2
    js = float((q * (q / half).log() + p * (p / half).log()).sum() / 2)
    losses = {
        "minimax": (-d_q.log() - (1 - d_p).log(), (1 - d_p).log()),
        "non-saturating": (-d_q.log() - (1 - d_p).log(), -d_p.log()),
        "relativistic": (-(r - s).sigmoid().log(), -(s - r).sigmoid().log()),
        "wasserstein": (-(r - s), -s),
        "hinge": (-torch.minimum(r - 1, 0 * r) - torch.minimum(-1 - s, 0 * s), -s),
        "least squares": ((r - 1) ** 2 + s**2, (s - 1) ** 2),
    }
    log_ratio = (q / p).log()
    best = {
        "minimax": (log_ratio, js),
        "non-saturating": (log_ratio, js),
        "hinge": (log_ratio.sign(), float((q - p).abs().sum() / 2)),
        "least squares": (q / (q + p), float(((q - p) ** 2 / (q + p)).sum() / 2)),
    }
    found = []
    for name, (critic, generator_) in losses.items():
        game = GAMES[name]
        found += [
            equal(f"{name}: the critic's loss", critic, game.critic(r, s)),
            equal(f"{name}: the generator's loss", generator_, game.generator(r, s)),
        ]
    for name, (f, theory) in best.items():
        game = GAMES[name]

        def value(f: Tensor, game=game) -> float:
            """Over all pairs of points, weighted by their chances."""
            pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
            each = game.divergence(game.critic(f[pairs[0]], f[pairs[1]]))
            return float((q[pairs[0]] * p[pairs[1]] * each).sum())

        found.append(equal(f"{name}: its divergence at the best critic", theory, value(f)))
        found.append(at_most(f"{name}: beside it", theory, value(f + 0.05 * _normal(4, name="aside"))))
        if game.log_ratio is not None:
            found.append(equal(f"{name}: ln q/p", log_ratio, game.log_ratio(f)))
    at = torch.tensor([0.0, 0.7, log(2)], dtype=F64)
    return [
        *found,
        equal("relativistic: of a constant critic", 0.0, GAMES["relativistic"].divergence(at)[2]),
        equal("relativistic: of others", log(2) - 0.7, GAMES["relativistic"].divergence(at)[1]),
        equal("Wasserstein: the gap of means", -at, GAMES["wasserstein"].divergence(at)),
        equal("least squares: a certain critic", [1, 1],
              GAMES["least squares"].log_ratio(torch.tensor([0.0, 1.0])).isfinite()),  # pyright: ignore[reportOptionalCall]
        equal("which mix scores of pairs", [0, 0, 1, 0, 0, 0], [game.paired for game in GAMES.values()]),
    ]  # fmt: skip


@law("21a", "goals of attacks, by loops over classes")
def goals_by_loops() -> list[Measured]:
    """Untargeted and targeted, two to six classes: cross-entropy, margin, ratio, gaps, ties, and when they hold."""
    found = []
    for classes in (2, 3, 4, 6):
        z, y = 2 * _normal(8, classes), torch.arange(8) % classes
        t = (y + 1) % classes
        log_p = z - z.exp().sum(1, keepdim=True).log()
        rows = range(8)
        others = torch.stack([z[i][torch.arange(classes) != y[i]] for i in rows])
        rivals = torch.stack([z[i][torch.arange(classes) != t[i]] for i in rows])
        best, wished = others.max(1).values, rivals.max(1).values
        own, aim = z[rows, y], z[rows, t]
        falling = z.sort(1, descending=True).values
        margin, aimed = best - own, aim - wished
        least = torch.tensor([min((float(z[i, j]), j) for j in range(classes) if j != y[i])[1] for i in rows])
        ratio = margin if classes == 2 else margin / (falling[:, 0] - falling[:, 2])
        wide = aimed if classes < 4 else (aim - own) / (falling[:, 0] - (falling[:, 2] + falling[:, -1]) / 2)
        if classes == 6:
            wide = (aim - own) / (falling[:, 0] - (falling[:, 2] + falling[:, 3]) / 2)
        found += [
            equal(f"{classes} classes: cross-entropy", -log_p[rows, y], goals.cross_entropy(z, y)),
            equal(f"{classes} classes: towards a class", log_p[rows, t], goals.cross_entropy(z, y, t)),
            equal(f"{classes} classes: margin", margin, goals.margin(z, y)),
            equal(f"{classes} classes: margin of a class", aimed, goals.margin(z, y, t)),
            equal(f"{classes} classes: ratio", ratio, goals.dlr(z, y)),
            equal(f"{classes} classes: ratio of a class", wide, goals.dlr(z, y, t)),
            equal(f"{classes} classes: least likely", log_p[rows, least], goals.least_likely(z, y)),
            equal(
                f"{classes} classes: gaps",
                others.sort(1, descending=True).values - own[:, None],
                goals.gaps(z, y),
            ),
            equal(
                f"{classes} classes: the largest gaps", goals.gaps(z, y)[:, :2], goals.gaps(z, y, rivals=2)
            ),
            equal(f"{classes} classes: the gap of a class", aimed[:, None], goals.gaps(z, y, t)),
            equal(f"{classes} classes: succeeded", margin > 1e-9, goals.succeeded(z, y)),
            equal(f"{classes} classes: succeeded at a class", aimed > 1e-9, goals.succeeded(z, y, t)),
        ]
    clean, moved = _normal(5, 4), _normal(5, 4, name="moved")
    ln_p, ln_m = clean.log_softmax(1), moved.log_softmax(1)
    y = torch.tensor([0, 1, 2, 0, 1])
    refusing = _normal(5, 4)
    z_y = torch.stack([torch.maximum(refusing[i, y[i]], refusing[i, 3]) for i in range(5)])
    expected = refusing[:, :3].clone()
    expected[torch.arange(5), y] = z_y
    at = torch.tensor([[0.0, 0.5], [0.0, 0.0], [0.5, 0.0], [0.0, 2.0], [0.0, 1.0]], dtype=F64)
    zero = torch.zeros(5, dtype=torch.long)
    big = torch.tensor([[1e3, -4e3], [0.0, 0.0]])
    slack = goals.tolerance(big.double())
    step = 64 * torch.finfo(F64).eps
    one = torch.ones(1, dtype=F64)
    close = 1.0 + torch.tensor([-0.5, 0.5, 0.99, 1.01, 2.0], dtype=F64) * step
    tie = torch.tensor([[0.0, 1e-15, 0.0]], dtype=F64)
    return [
        *found,
        equal("KL of answers", (ln_p.exp() * (ln_p - ln_m)).sum(1), goals.kl(moved, clean)),
        equal("a refusal counts for the label", expected, goals.accepted(refusing, y)),
        equal("reached, undecided, not, at κ = 1", [1, 1, 0, 2, 1], goals.standing(at, zero, confidence=1.0)),
        equal("at κ = 0", [2, 1, 0, 2, 2], goals.standing(at, zero)),
        equal("no confidence, unless told", goals.standing(at, zero, confidence=0.0), goals.standing(at, zero)),
        equal("tolerance, in single precision", [4e-2, torch.finfo(torch.float32).tiny], goals.tolerance(big), 1e-8),
        equal("and in double", [4e-2 * torch.finfo(F64).eps / torch.finfo(torch.float32).eps,
              torch.finfo(F64).tiny], slack, 1e-15),
        equal("a tie within rounding is no success", [0], goals.succeeded(1e6 * torch.ones(1, 2), zero[:1])),
        equal("more than rounding", [0, 0, 0, 1, 1], goals.above(close, one.expand(5))),
        equal("than −1", [0, 1], goals.above(torch.tensor([-1 + step / 2, -1 + 2 * step], dtype=F64), -one.expand(2))),
        equal("than infinity below", 1, goals.above(one, -torch.inf * one)[0]),
        equal("three classes alike have a finite ratio", 1, goals.dlr(tie, zero[:1]).isfinite()[0]),
        equal("what keeps it finite", [-0.5], goals.dlr(torch.tensor([[1e-12, 0, 0, 0]], dtype=F64), zero[:1])),
        equal("four too", 1, goals.dlr(torch.zeros(1, 4), zero[:1], zero[:1] + 1).isfinite()[0]),
        equal("by name", [1, 1], [goals.named("dlr") is goals.dlr, goals.named(goals.margin) is goals.margin]),
    ]  # fmt: skip


@law("27e", "poisons: blend, collision, proximal step and mismatch of gradients, by their definitions")
def poisons_by_equation() -> list[Measured]:
    """The proximal step minimises ½‖q − (p − λ∇)‖² + λβ‖q − b‖²: its gradient there is 0."""
    x, k = _normal(3, 2, 4), _normal(2, 4, name="pattern")
    p, g, b = _normal(3, 5), _normal(3, 5, name="gradient"), _normal(3, 5, name="base")
    step, beta = torch.tensor([[0.1], [0.7], [2.0]], dtype=F64), 0.3
    q = forward_backward(p, g, b, step, beta)
    side = [_normal(4, 2), _normal(3, name="bias")]
    other = [_normal(4, 2, name="w"), _normal(3, name="c")]
    one, two = (torch.cat([each.flatten() for each in s]) for s in (side, other))
    nothing = [torch.zeros(2, dtype=F64)]
    return [
        equal("a blend", 0.8 * x + 0.2 * k, blended(x, k, 0.2)),
        equal("collision", [float(((p[i] - g[i]) ** 2).sum()) for i in range(3)], collision(p, g)),
        equal("the proximal step", torch.zeros(3, 5), q - (p - step * g) + 2 * step * beta * (q - b)),
        equal("mismatch", 1 - torch.cosine_similarity(one, two, 0), mismatch(side, other)),
        equal("aligned", 0.0, mismatch(side, [3 * each for each in side])),
        equal("of no gradient", 1.0, mismatch(nothing, nothing)),
    ]


@law("6a", "gradients of several values, through a map, and of a critic's slope, by matrices")
def gradients_by_matrices() -> list[Measured]:
    """f(x) = ½ xᵀA x and x = B u: gradients, Jacobians and penalties are products of A, B and x."""
    a, b, x, u = _normal(4, 4), _normal(4, 3), _normal(6, 4), _normal(6, 3)
    a = a + a.T
    w = _normal(5, 4, name="rows")
    at = u.clone().requires_grad_()
    v = at @ b.T
    g, several = _normal(6, 4, name="g"), _normal(6, 2, 4)
    point = x.clone().requires_grad_()
    jac = squared_jacobian_norm((point @ w.T) ** 2 / 2, point)
    each = (x @ w.T)[:, :, None] * w

    def critic(rows: Tensor) -> Tensor:
        return (rows @ a * rows).sum(1) / 2

    held: list[Tensor] = []

    def watched(rows: Tensor) -> Tensor:
        held.extend([(rows @ w.T) ** 2 / 2, rows])
        return held[0]

    watched_gradients = input_gradients(watched, x[:3])
    slope = (x @ a).square().sum(1)
    t = torch.rand(6, generator=generator(SEED, "mix"), dtype=F64)
    other = _normal(6, 4, name="p")
    flat = torch.zeros(1, 4, dtype=F64)
    return [
        equal("of more values than rows", each[:3], watched_gradients),
        equal(
            "no graph, unless told",
            [0, 1],
            [
                input_gradient(critic, x).requires_grad,
                input_gradient(critic, x, create_graph=True).requires_grad,
            ],
        ),
        equal("of several values", each, input_gradients(lambda rows: (rows @ w.T) ** 2 / 2, x)),
        equal("of one value", (x @ a)[:, None], input_gradients(lambda rows: critic(rows)[:, None], x)),
        equal("several through a map", several @ b, pulled_back(v, at, several)),
        equal("graphs that are given back", [1, 1], [_is_freed(held[0], held[1]), _is_freed(v, at)]),
        equal("one through a map", g @ b, pulled_back(at @ b.T, at, g)),
        equal("‖J‖²", each.square().sum((1, 2)), jac),
        equal("‖∇f‖²", slope, squared_slope(critic, x)),
        equal("(‖∇f‖ − 1)²", (slope.sqrt() - 1) ** 2, slope_gap(critic, x), 1e-9),
        equal("(‖∇f‖ − 3)²", (slope.sqrt() - 3) ** 2, slope_gap(critic, x, 3.0), 1e-9),
        equal("where f is flat", 1.0, slope_gap(critic, flat)[0], 1e-5),
        equal("between pairs", other + t[:, None] * (x - other), between(x, other, t)),
    ]


def _is_freed(output: Tensor, of: Tensor) -> bool:
    """Whether what a pass back needs has been given back."""
    try:
        torch.autograd.grad(output.sum(), of)
    except RuntimeError:
        return True
    return False
