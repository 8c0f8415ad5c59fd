"""Games, penalties and critics against what is known of them."""

from __future__ import annotations

import functools
from math import log

import pytest
import torch
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError, MissingVerb
from psiphi.basis.noise import Noise
from psiphi.formulas import games, penalties
from psiphi.formulas.games import GAMES
from psiphi.networks import MLP, ConvEncoder, Maxout
from psiphi.parts import Clock, Critic, Statistics
from psiphi.parts.slope import (
    clipping,
    geometric,
    gradient_penalty,
    lipschitz,
    r1,
    r1_r2,
    r2,
    spectral_norm,
)

CLOCK = Clock(0, 0.0, 10)
q = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)  # two distributions on four points
p = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)


def kl(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.where(a > 0, a * (a / b).log(), 0).sum())


JS = (kl(q, (p + q) / 2) + kl(p, (p + q) / 2)) / 2


def value(game: games.Game, f: torch.Tensor) -> torch.Tensor:
    """The divergence that scores f of the four points stand for: pairs weighted by q and p."""
    r, s = f[:, None].expand(4, 4).flatten(), f[None].expand(4, 4).flatten()
    return (game.divergence(game.critic(r, s)) * (q[:, None] * p).flatten()).sum()


@functools.cache
def best(game: games.Game) -> torch.Tensor:
    """The scores that maximise it, by gradient ascent."""
    f = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([f], lr=0.1)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 600)
        optimizer.zero_grad()
        (-value(game, f)).backward()
        optimizer.step()
    return f.detach()


# ------------------------------------------------------------------------------------------------- games
@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_the_best_critic_measures_jensen_shannon(name):
    f = best(GAMES[name])
    assert float(value(GAMES[name], f)) == pytest.approx(JS, abs=1e-3)
    assert float(2 * (value(GAMES[name], f) - log(2))) == pytest.approx(2 * JS - 2 * log(2), abs=2e-3)


def test_the_best_least_squares_critic_measures_le_cam_and_is_q_over_both():
    f = best(games.least_squares)
    assert float(value(games.least_squares, f)) == pytest.approx(
        float(((p - q) ** 2 / (p + q)).sum() / 2), abs=1e-6
    )
    assert_close(f, q / (p + q), rtol=0, atol=1e-4)


def test_the_best_hinge_critic_measures_total_variation():
    f = best(games.hinge)
    assert float(value(games.hinge, f)) == pytest.approx(float((p - q).abs().sum() / 2), abs=1e-2)


def test_the_best_bounded_wasserstein_critic_measures_transport():
    """Scores on a line of four points, 1-Lipschitz: |f_i − f_j| ≤ |i − j|; here f falls by 1 a step."""
    f = torch.arange(0, -4, -1).double()
    distance = (q.cumsum(0) - p.cumsum(0)).abs().sum()
    assert_close(value(games.wasserstein, f), distance)


def test_the_relativistic_critic_is_zero_at_equality_and_ln_2_where_nothing_is_shared():
    f = torch.tensor([30.0, -30.0], dtype=torch.float64)
    apart = games.relativistic.divergence(games.relativistic.critic(f[:1], f[1:]))
    assert_close(apart, torch.tensor([log(2)], dtype=torch.float64))
    same = games.relativistic.divergence(games.relativistic.critic(f, f))
    assert_close(same, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least squares"])
def test_log_ratio_at_the_optimum(name):
    game = GAMES[name]
    assert game.log_ratio is not None
    shared = slice(0, 3)
    found = game.log_ratio(best(game)[shared])
    assert_close(found, (q / p).log()[shared], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", GAMES)
def test_a_generator_moves_towards_higher_scores(name):
    """Every generator's loss falls when the score of its sample rises, and reads r only in paired games."""
    game = GAMES[name]
    s = torch.linspace(-2.9, 0.9, 9, dtype=torch.float64, requires_grad=True)
    r = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    loss = game.generator(r, s)
    of_r, of_s = torch.autograd.grad(loss.sum(), (r, s), allow_unused=True)
    assert (of_s < 0).all()
    assert (of_r is not None and bool(of_r.any())) == game.paired


def test_the_non_saturating_generator_keeps_its_gradient_where_minimax_loses_it():
    s = torch.tensor([-20.0], requires_grad=True)
    both = (games.minimax, games.non_saturating)
    slopes = [torch.autograd.grad(game.generator(s, s).sum(), s)[0] for game in both]
    assert float(slopes[0].abs()) < 1e-8
    assert float(slopes[1]) == pytest.approx(-1.0)


# --------------------------------------------------------------------------------------------- penalties
def quadratic(x: torch.Tensor) -> torch.Tensor:
    """f(x) = ½‖x‖², whose gradient is x."""
    return x.square().flatten(1).sum(1) / 2


def test_slopes_are_per_sample():
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norm = x.flatten(1).norm(dim=1)
    assert_close(penalties.squared_slope(quadratic, x), norm.square())
    assert_close(penalties.slope_gap(quadratic, x), (norm - 1).square())
    assert_close(penalties.slope_gap(quadratic, x, 0.5), (norm - 0.5).square())


def test_a_flat_critic_has_a_gradient_at_slope_zero():
    w = torch.zeros(3, requires_grad=True)
    penalties.slope_gap(lambda x: x @ w, torch.ones(2, 3)).sum().backward()
    assert w.grad is not None
    assert w.grad.isfinite().all()


def test_points_between_have_one_weight_a_sample():
    a, b = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    u = torch.tensor([0.0, 0.25, 1.0])
    assert_close(penalties.between(a, b, u), (1 - u)[:, None, None].expand(3, 2, 2))


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        (r1(3.0), lambda u, v: 1.5 * u.square().sum(1)),
        (r2(3.0), lambda u, v: 1.5 * v.square().sum(1)),
        (r1_r2(3.0), lambda u, v: 1.5 * (u.square().sum(1) + v.square().sum(1))),
    ],
)
def test_zero_centred_penalties(means, expected):
    u, v = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    assert_close(means.penalty(quadratic, u, v, Noise.of(0, 5), CLOCK), expected(u, v))


def test_the_gradient_penalty_looks_between_the_pairs():
    u, v, noise = torch.zeros(64, 2), torch.full((64, 2), 3.0), Noise.of(0, 64)
    found = gradient_penalty(2.0).penalty(quadratic, u, v, noise, CLOCK)
    place = noise.split("between").uniform()
    assert_close(found, 2 * ((1 - place) * 18**0.5 - 1).square(), rtol=1e-4, atol=1e-4)
    assert place.std() > 0.2


def test_weights_follow_the_clock():
    falling = geometric(0.2, 0.002)
    assert falling(Clock(0, 0.0, 100)) == pytest.approx(0.2)
    assert falling(Clock(50, 0.0, 100)) == pytest.approx(0.02)
    assert falling(Clock(100, 0.0, 100)) == pytest.approx(0.002)
    u = torch.ones(2, 3)
    assert_close(
        r1(falling).penalty(quadratic, u, u, Noise.of(0, 2), Clock(50, 0.0, 100)), torch.full((2,), 0.03)
    )


# ----------------------------------------------------------------------------------------------- critics
def critic(game: games.Game = games.minimax, width: int = 3, **more) -> Critic:
    torch.manual_seed(0)
    return Critic(MLP((width,), (1,), (8,)), game, **more)


def test_a_packed_critic_scores_samples_together():
    judge = critic(width=6, pack=2)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    assert judge(x).shape == (4,)
    assert_close(judge(x)[1], judge.network(torch.cat([x[2], x[3]])[None])[0, 0])
    with pytest.raises(ArgumentError, match="judges 2 samples at a time; got 1"):
        judge(x[:1])


def test_packed_images_are_channels_side_by_side():
    torch.manual_seed(0)
    judge = Critic(ConvEncoder((4, 8, 8), (1,), (4,)), games.hinge, pack=2)
    x = torch.randn(6, 2, 8, 8)
    assert_close(judge(x)[2], judge.network(torch.cat([x[4], x[5]])[None])[0, 0])


def test_a_critic_is_told_labels():
    judge = critic(width=5, classes=2)
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    assert_close(judge(x, y), judge.network(torch.cat([x, torch.eye(2)[y]], 1)).squeeze(1))
    assert_close(judge(x, torch.eye(2)[y]), judge(x, y))
    with pytest.raises(ArgumentError, match="is told labels: pass y"):
        judge(x)
    loss = judge.loss(x, x + 1, Noise.of(0, 4), CLOCK, y)["loss"]
    by_hand = games.minimax.critic(judge(x, y), judge(x + 1, y)).mean()
    assert_close(loss, by_hand)


def test_the_loss_of_a_critic_is_its_game_and_its_penalty():
    judge = critic(lipschitz=gradient_penalty(5.0))
    x, y, noise = torch.randn(6, 3), torch.randn(6, 3), Noise.of(0, 6)
    found = judge.loss(x, y, noise, CLOCK)
    each = games.minimax.critic(judge(x), judge(y))
    penalty = gradient_penalty(5.0).penalty(lambda u: judge.network(u).squeeze(1), x, y, noise, CLOCK)
    assert_close(found["loss"], each.mean() + penalty.mean())
    assert_close(found["penalty"], penalty.mean())
    assert_close(found["divergence"], log(2) - each.mean() / 2)


@pytest.mark.parametrize("name", GAMES)
def test_the_generator_s_gradient_flows_through_its_samples_alone(name):
    judge = critic(GAMES[name])
    x, y = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3, requires_grad=True)
    loss = judge.generator_loss(x, y)
    assert_close(loss, GAMES[name].generator(judge(x), judge(y)))
    loss.sum().backward()
    assert x.grad is None
    assert y.grad is not None


def test_a_critic_of_data_sees_the_network_s_units():
    statistics = Statistics((3,))
    statistics.mean.fill_(5.0)
    statistics.sigma.fill_(2.0)
    judge = critic(statistics=statistics)
    x = torch.randn(4, 3)
    assert_close(judge(x), judge.network((x - 5) / 2).squeeze(1))
    assert "statistics" not in "".join(judge.state_dict())


def test_log_ratio_is_refused_where_it_means_nothing():
    x = torch.randn(4, 3)
    assert critic().log_ratio(x).shape == (4,)
    for game in (games.wasserstein, games.hinge, games.relativistic):
        with pytest.raises(MissingVerb, match=rf"a critic of the {game} game cannot log_ratio"):
            critic(game).log_ratio(x)
    with pytest.raises(MissingVerb, match="a critic of 2 samples cannot log_ratio"):
        critic(width=6, pack=2).log_ratio(x)


# ---------------------------------------------------------------------------------------- means by name
def test_clipping_keeps_every_weight_within_its_bound():
    judge = critic(games.wasserstein, lipschitz=clipping(0.02))
    assert max(float(w.abs().max()) for w in judge.parameters()) > 0.02
    judge.lipschitz.after_step(judge)
    assert max(float(w.abs().max()) for w in judge.parameters()) == pytest.approx(0.02)


def test_a_spectral_norm_leaves_a_slope_of_at_most_one():
    judge = critic(games.wasserstein, lipschitz=spectral_norm())
    x = 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        judge(x)  # power iterations
    judge.eval()
    assert float(penalties.squared_slope(judge.scorer(None), x).max()) <= 1 + 1e-3


def test_means_by_name():
    assert lipschitz("gp:3") == gradient_penalty(3.0)
    assert lipschitz("clip") == clipping()
    assert lipschitz("r1+r2:0.2>0.002") == r1_r2(geometric(0.2, 0.002))
    for wrong in ("lip", "gp:x", "spectral:3", "", "r1:-3", "gp:nan", "r1:0.2>", "clip:0.2>0.1"):
        with pytest.raises(ArgumentError, match="no means to bound a critic's slope is called"):
            lipschitz(wrong)


def test_maxout_is_the_largest_piece():
    layer = Maxout(3, 2, pieces=4)
    x = torch.randn(5, 3)
    assert_close(layer(x), layer.affine(x).view(5, 2, 4).amax(2))
