"""Balls in a box: norms, projections, steepest directions, draws, and the step that uses them."""

from __future__ import annotations

from math import ceil, inf, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from psiphi.basis.noise import Noise
from psiphi.formulas import geometry as geo
from psiphi.formulas import halfspaces, levels, projections
from psiphi.formulas.calculus import ascent_step, input_gradient
from psiphi.formulas.geometry import Box

BOX = Box(0.0, 1.0)
PROJECT = {
    "linf": (projections.linf_project, geo.linf_norm),
    "l2": (projections.l2_project, geo.l2_norm),
    "l1": (projections.l1_project, geo.l1_norm),
}
STEEPEST = {
    "linf": (geo.linf_steepest, geo.linf_norm, geo.l1_norm),
    "l2": (geo.l2_steepest, geo.l2_norm, geo.l2_norm),
    "l1": (geo.l1_steepest, geo.l1_norm, geo.linf_norm),
}
REACH = {
    "linf": (halfspaces.linf_reach, geo.linf_norm),
    "l2": (halfspaces.l2_reach, geo.l2_norm),
    "l1": (halfspaces.l1_reach, geo.l1_norm),
}


def points(
    seed: int, b: int, d: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres with a third of their coordinates exactly on walls, and points around them."""
    gen = torch.Generator().manual_seed(seed)
    x = (torch.rand(b, d, generator=gen, dtype=dtype) * 1.6 - 0.3).clamp(0, 1)
    return x, x + torch.randn(b, d, generator=gen, dtype=dtype)


def test_norms_are_torchs():
    x, v = points(0, 5, 7)
    assert_close(geo.linf_norm(v - x), torch.linalg.vector_norm(v - x, torch.inf, dim=1))
    assert_close(geo.l2_norm(v - x), torch.linalg.vector_norm(v - x, dim=1))
    assert_close(geo.l1_norm((v - x).view(5, 7, 1)), torch.linalg.vector_norm(v - x, 1, dim=1))


def test_l2_norm_does_not_underflow():
    assert_close(geo.l2_norm(torch.full((1, 4), 1e-30)), torch.tensor([2e-30]))
    assert geo.l2_norm(torch.zeros(1, 4)).item() == 0


def test_l2_project_by_hand():
    """One coordinate stops at its wall, the other takes up what is left of the radius."""
    x = torch.tensor([[0.9, 0.5]], dtype=torch.float64)
    u = projections.l2_project(x + torch.tensor([[3.0, 3.0]], dtype=torch.float64), x, 0.3, BOX)
    assert_close(u, torch.tensor([[1.0, 0.5 + sqrt(0.3**2 - 0.1**2)]], dtype=torch.float64))


def test_l1_project_by_hand():
    """The first stops at its wall, the second is left with the rest, the third is too short to matter."""
    x = torch.tensor([[0.9, 0.5, 0.5]], dtype=torch.float64)
    u = projections.l1_project(x + torch.tensor([[3.0, -2.0, 1.0]], dtype=torch.float64), x, 0.3, BOX)
    assert_close(u, torch.tensor([[1.0, 0.3, 0.5]], dtype=torch.float64))


@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.3, 0.9]),
    coarse=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_levels_solve_their_equations(seed, d, share, coarse, dtype):
    """Coarse numbers bring ties, zeros and coincident kinks."""
    gen = torch.Generator().manual_seed(seed)
    first, cap = torch.rand(2, 3, d, generator=gen, dtype=dtype)
    if coarse:
        first, cap = (3 * first).round() / 2, (3 * cap).round() / 2
    slack = 50 * d * torch.finfo(dtype).eps
    total = share * torch.where(first > 0, cap, 0).sum(1, keepdim=True)
    t = levels.rising(first, cap, total)
    assert_close((first * t).minimum(cap).sum(1, keepdim=True), total, atol=slack, rtol=0)
    total = share * first.minimum(cap).sum(1, keepdim=True)
    mu = levels.falling(first, cap, total)
    assert_close((first - mu).clamp(min=0).minimum(cap).sum(1, keepdim=True), total, atol=slack, rtol=0)


@pytest.mark.parametrize("norm", PROJECT)
@given(
    seed=st.integers(0, 10**6),
    b=st.integers(0, 4),
    d=st.integers(1, 12),
    eps=st.sampled_from([0.0, 1e-3, 0.3, 1.0, 50.0, inf]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    per_row=st.booleans(),
)
def test_projection(norm, seed, b, d, eps, dtype, per_row):
    """In the ball, in the box, idempotent, and no feasible point is nearer (the variational inequality)."""
    project, size = PROJECT[norm]
    x, v = points(seed, b, d, dtype)
    radius = torch.full((b,), eps, dtype=dtype) if per_row else eps
    u = project(v, x, radius, BOX)
    slack = 20 * torch.finfo(dtype).eps * (1 + min(eps, 50))
    assert u.shape == x.shape
    assert u.dtype == dtype
    assert ((u >= 0) & (u <= 1)).all()
    assert (size(u - x) <= eps + slack).all()
    assert_close(project(u, x, radius, BOX), u, atol=slack, rtol=0)
    rivals = project(points(seed + 1, b, d, dtype)[1], x, radius, BOX)
    assert (((v - u) * (rivals - u)).flatten(1).sum(1) <= 100 * d * slack).all()
    if eps == 0:
        assert torch.equal(u, x)
    if eps == inf:
        assert torch.equal(u, v.clamp(0, 1))


@pytest.mark.parametrize("norm", PROJECT)
def test_projection_keeps_images(norm):
    project, _ = PROJECT[norm]
    x, v = points(3, 6, 12)
    images = project(v.view(6, 3, 2, 2), x.view(6, 3, 2, 2), 0.4, BOX)
    assert_close(images.flatten(1), project(v, x, 0.4, BOX))


@pytest.mark.parametrize("norm", PROJECT)
def test_a_point_inside_stays(norm):
    x, v = points(4, 6, 12)
    v = (x + 1e-3 * (v - x)).clamp(0, 1)
    assert_close(PROJECT[norm][0](v, x, 0.5, BOX), v)


@pytest.mark.parametrize("norm", PROJECT)
def test_each_channel_has_its_box(norm):
    """As if stretched to [0, 1]: the coordinates of a channel see their own walls alone."""
    project, _ = PROJECT[norm]
    x, v = points(6, 6, 12)
    walls = Box(
        torch.tensor([-1.0, 0.0, 0.5]).view(3, 1, 1), torch.tensor([[1.5, 1.0, 0.9]]).view(1, 3, 1, 1)
    )
    x, v = walls.clamp(x.view(6, 3, 2, 2)), v.view(6, 3, 2, 2)
    u = project(v, x, 1.2, walls)
    assert u.dtype == x.dtype
    lo, hi = (bound.expand(1, 3, 2, 2).reshape(1, 12).double() for bound in walls)
    for i in range(6):
        own = projection_by_bisection(norm, v[i].reshape(12), x[i].reshape(12), 1.2, lo[0], hi[0])
        assert_close(u[i].reshape(12), own, atol=1e-6, rtol=0)


def projection_by_bisection(norm, v, x, eps, lo, hi):
    """The closed form of law 22 with its multiplier found by halving."""
    low, high = 0.0, 1e3
    for _ in range(100):
        mu = (low + high) / 2
        d = v - x
        shrunk = {"linf": d.clamp(-eps, eps), "l2": d / (1 + mu), "l1": d - d.clamp(-mu, mu)}[norm]
        u = torch.minimum(torch.maximum(x + shrunk, lo), hi)
        inside = (u - x).norm(p={"linf": inf, "l2": 2, "l1": 1}[norm]) <= eps
        low, high = (low, mu) if inside else (mu, high)
    return u


@pytest.mark.parametrize("norm", PROJECT)
def test_the_box_takes_the_dtype_of_the_points(norm):
    x, v = points(12, 4, 3, torch.float32)
    walls = Box(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    assert PROJECT[norm][0](v, x, 0.5, walls).dtype == torch.float32
    assert STEEPEST[norm][0](v - x, x, walls).dtype == torch.float32
    assert REACH[norm][0](v - x, torch.ones(4), x, walls)[0].dtype == torch.float32


@pytest.mark.parametrize("norm", PROJECT)
def test_a_box_without_walls(norm):
    """Onto the ball alone; a half-space is always reached, along the dual direction, unless a = 0."""
    box = Box(-inf, inf)
    x, v = points(7, 6, 12)
    u = PROJECT[norm][0](v, x, 0.5, box)
    assert_close(PROJECT[norm][1](u - x), torch.full((6,), 0.5, dtype=x.dtype))
    a, b = v - x, torch.full((6,), 2.0, dtype=x.dtype)
    a[0] = 0
    delta, reached = REACH[norm][0](a, b, x, box)
    assert reached.tolist() == [False, *[True] * 5]
    assert_close((REACH[norm][1](delta) * STEEPEST[norm][2](a))[1:], b[1:])


@pytest.mark.parametrize("norm", PROJECT)
def test_nan_stays_in_its_row(norm):
    x, v = points(8, 3, 5)
    whole = PROJECT[norm][0](v, x, 0.3, BOX)
    v[1, 2] = torch.nan
    assert_close(PROJECT[norm][0](v, x, 0.3, BOX)[[0, 2]], whole[[0, 2]], atol=0, rtol=0)


# ----------------------------------------------------------------------------------------- half-spaces
@pytest.mark.parametrize("norm", REACH)
@given(
    seed=st.integers(0, 10**6),
    b=st.integers(0, 4),
    d=st.integers(1, 12),
    share=st.sampled_from([-0.5, 0.0, 0.3, 0.9, 1.2]),
    scale=st.sampled_from([1e-20, 1.0, 1e15]),
    coarse=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_reach(norm, seed, b, d, share, scale, coarse, dtype):
    """⟨a, δ⟩ = b in the box, or the corner; no shorter rival enters the half-space; scale of a and b is no matter."""
    x, v = points(seed, b, d, dtype)
    a = ((v - x).mul(2).round() if coarse else v - x) * scale
    reach, size = REACH[norm]
    most = (a.abs() * BOX.ahead(a, x)).sum(1)
    delta, reached = reach(a, share * most, x, BOX)
    assert delta.shape == x.shape
    assert delta.dtype == dtype
    assert reached.dtype == torch.bool
    slack = 20 * d * torch.finfo(dtype).eps
    assert ((x + delta >= -slack) & (x + delta <= 1 + slack)).all()
    assert (delta[a == 0] == 0).all()
    assert torch.equal(reached, (share * most <= most) | (most == 0))
    target = most if share > 1 else max(share, 0) * most
    assert_close((a * delta).sum(1) / scale, target / scale, atol=slack, rtol=slack)
    if share <= 0:
        assert (delta == 0).all()
    if 0 < share < 1:
        rivals = BOX.clamp(points(seed + 1, b, d, dtype)[1]) - x
        enters = (a * rivals).sum(1) >= share * most
        assert (size(rivals) >= size(delta) - slack)[enters].all()


def test_reach_by_hand():
    x, a, b = torch.tensor([[0.5, 0.9, 0.5]]), torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([0.6])
    for norm, theory in (("l1", [0.4, 0.1, 0]), ("l2", [0.2, 0.1, -0.2]), ("linf", [0.2, 0.1, -0.2])):
        delta, reached = REACH[norm][0](a, b, x, BOX)
        assert reached.all()
        assert_close(delta, torch.tensor([theory]))


@pytest.mark.parametrize("norm", REACH)
def test_reach_keeps_images(norm):
    x, v = points(9, 6, 12)
    b = torch.full((6,), 0.8, dtype=x.dtype)
    flat, reached = REACH[norm][0](v - x, b, x, BOX)
    shape = (6, 3, 2, 2)
    walls = Box(torch.zeros(3, 1, 1), torch.ones(1, 3, 1, 1))
    images, same = REACH[norm][0]((v - x).view(shape), b, x.view(shape), walls)
    assert_close(images.flatten(1), flat, atol=0, rtol=0)
    assert torch.equal(same, reached)


# ----------------------------------------------------------------------------------------- directions and draws
@pytest.mark.parametrize("norm", STEEPEST)
def test_steepest_is_the_best_unit_step(norm):
    """Over the coordinates that can move ⟨g, d⟩ = dual norm of g, ‖d‖ = 1; the others only push outward."""
    steepest, size, dual = STEEPEST[norm]
    x, v = points(5, 40, 9)
    g = v - x
    d = steepest(g, x, BOX)
    stuck = geo.blocked(g, x, BOX)
    assert stuck.any()
    moving = torch.where(stuck, 0, d)
    assert_close((g * moving).sum(1), dual(torch.where(stuck, 0, g)))
    assert_close(size(moving), torch.ones(40, dtype=torch.float64))
    assert ((d * g)[stuck] >= 0).all()


@pytest.mark.parametrize("norm", STEEPEST)
def test_steepest_where_nothing_can_move(norm):
    g, x = torch.ones(2, 3), torch.ones(2, 3)
    assert_close(STEEPEST[norm][0](g, x, BOX), torch.zeros(2, 3))
    assert_close(STEEPEST[norm][0](0 * g, x / 2, BOX), torch.zeros(2, 3))


def test_l1_steepest_takes_the_first_of_equals_and_holds_the_wall_before_it():
    g = torch.tensor([[1.0, -2.0, 2.0, 3.0, 1.5]])
    x = torch.tensor(
        [[1.0, 0.5, 0.5, 1.0, 1.0]]
    )  # 3.0 is at its wall and worth more, the others are worth less
    assert_close(geo.l1_steepest(g, x, BOX), torch.tensor([[0.0, -1.0, 0.0, 2.0, 0.0]]))
    d = geo.l1_steepest(g, x, BOX, 0.75)  # 0.5 to the wall, then 0.25 of the next
    assert_close(BOX.clamp(x + 0.75 * d), torch.tensor([[1.0, 0.0, 0.75, 1.0, 1.0]]))
    many, middle = torch.ones(1, 500), torch.full((1, 500), 0.5)
    for told, length in ((None, 0.5), (1.5, 1.5)):
        moved = geo.l1_steepest(many, middle, BOX, told).nonzero()[:, 1]
        assert moved.tolist() == list(range(round(length / 0.5)))


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(("eps", "length"), [(2.0, 0.1), (2.0, 0.6), (2.0, 2.0), (0.3, 0.05)])
def test_l1_ascent_comes_to_rest_at_the_linear_optimum(eps, length, random_start):
    """max ⟨g, δ⟩ over ball ∩ box fills coordinates to the wall in falling |g_i|; with the length told, in ε/length
    steps from the centre, however many coordinates that takes."""
    x, v = points(10, 20, 30)
    g = v - x
    order = g.abs().argsort(1, descending=True)
    room = BOX.ahead(g, x).gather(1, order)
    best = (g.abs().gather(1, order) * (eps - (room.cumsum(1) - room)).clamp(min=0).minimum(room)).sum(1)
    begin = x + geo.l1_uniform(Noise.of(1, 20, dtype=x.dtype), (30,), eps) if random_start else x
    for told, steps in ((None, 150), (length, ceil(eps / length) * (3 if random_start else 1))):
        u = projections.l1_project(begin, x, eps, BOX)
        for _ in range(steps):
            d = geo.l1_steepest(g, u, BOX, told)
            u = projections.l1_project(u + length * d, x, eps, BOX)
        assert_close((g * (u - x)).sum(1), best, atol=1e-9, rtol=0)


def test_l2_steepest_of_tiny_gradients():
    d = geo.l2_steepest(torch.tensor([[3e-38, 4e-38]]), torch.full((1, 2), 0.5), BOX)
    assert_close(d, torch.tensor([[0.6, 0.8]]), atol=1e-3, rtol=0)


def test_uniform_draws_fill_the_balls():
    """P(‖δ‖ ≤ r) = (r/ε)^d, within 4 SE; the mean is 0, within 4 SE."""
    n, d, eps = 20_000, 3, 0.7
    for draw, size in (
        (geo.linf_uniform, geo.linf_norm),
        (geo.l2_uniform, geo.l2_norm),
        (geo.l1_uniform, geo.l1_norm),
    ):
        delta = draw(Noise.of(11, n, dtype=torch.float64), (d,), eps)
        for r in (0.3, 0.5, 0.65):
            p = (r / eps) ** d
            assert abs((size(delta) <= r).double().mean() - p) <= 4 * sqrt(p * (1 - p) / n)
        assert size(delta).max() <= eps
        assert (delta.mean(0).abs() <= 4 * delta.std(0) / sqrt(n)).all()


def test_uniform_draws_are_keyed_by_row():
    noise, some = Noise.of(3, 100), torch.tensor([7, 70, 2])
    for draw in (geo.linf_uniform, geo.l2_uniform, geo.l1_uniform):
        assert_close(draw(noise, (2, 2), 0.1)[some], draw(noise.take(some), (2, 2), 0.1), atol=0, rtol=0)


# ------------------------------------------------------------------------------------------- calculus
def test_input_gradient_is_the_rows_own_and_leaves_parameters_alone():
    net = torch.nn.Linear(3, 1).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        g = input_gradient(lambda x: (net(x) ** 2).squeeze(1), x)
        theory = 2 * net(x) * net.weight
    assert_close(g, theory)
    assert not g.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_input_gradient_can_be_differentiated_again():
    net = torch.nn.Linear(3, 1, bias=False).double()
    x = torch.ones(2, 3, dtype=torch.float64)
    penalty = input_gradient(lambda x: net(x).squeeze(1), x, create_graph=True).square().sum()
    (by_weight,) = torch.autograd.grad(penalty, net.weight)
    assert_close(by_weight, 4 * net.weight.detach())


def test_ascent_step_is_pgd_when_cold_and_langevin_when_warm():
    x, direction = torch.full((2, 2), 0.5), torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    cold = ascent_step(x, direction, torch.tensor([0.1, 0.2]), project=lambda v: v.clamp(0.45, 0.6))
    assert_close(cold, torch.tensor([[0.6, 0.45], [0.6, 0.6]]))
    xi = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    warm = ascent_step(x, direction, 0.02, noise=xi, temperature=1.0)
    assert_close(warm, x + 0.02 * direction + sqrt(0.04) * xi)
    with pytest.raises(ValueError, match="needs noise"):
        ascent_step(x, direction, 0.02, temperature=1.0)
