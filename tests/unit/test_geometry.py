"""Balls in a box: norms, projections, steepest directions, draws, and the step that uses them."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from psiphi.basis.noise import Noise
from psiphi.formulas import geometry as geo
from psiphi.formulas.calculus import ascent_step, input_gradient
from psiphi.formulas.geometry import Box

BOX = Box(0.0, 1.0)
PROJECT = {"linf": (geo.linf_project, geo.linf_norm), "l2": (geo.l2_project, geo.l2_norm)}
STEEPEST = {"linf": (geo.linf_steepest, geo.linf_norm), "l2": (geo.l2_steepest, geo.l2_norm)}


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


def test_l2_norm_does_not_underflow():
    assert_close(geo.l2_norm(torch.full((1, 4), 1e-30)), torch.tensor([2e-30]))
    assert geo.l2_norm(torch.zeros(1, 4)).item() == 0


def test_l2_project_by_hand():
    """One coordinate stops at its wall, the other takes up what is left of the radius."""
    x = torch.tensor([[0.9, 0.5]], dtype=torch.float64)
    u = geo.l2_project(x + torch.tensor([[3.0, 3.0]], dtype=torch.float64), x, 0.3, BOX)
    assert_close(u, torch.tensor([[1.0, 0.5 + sqrt(0.3**2 - 0.1**2)]], dtype=torch.float64))


@pytest.mark.parametrize("norm", PROJECT)
@given(
    seed=st.integers(0, 10**6),
    b=st.integers(0, 4),
    d=st.integers(1, 12),
    eps=st.sampled_from([0.0, 1e-3, 0.3, 1.0, 50.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    per_row=st.booleans(),
)
def test_projection(norm, seed, b, d, eps, dtype, per_row):
    """In the ball, in the box, idempotent, and no feasible point is nearer (the variational inequality)."""
    project, size = PROJECT[norm]
    x, v = points(seed, b, d, dtype)
    radius = torch.full((b,), eps, dtype=dtype) if per_row else eps
    u = project(v, x, radius, BOX)
    slack = 20 * torch.finfo(dtype).eps * (1 + eps)
    assert u.shape == x.shape
    assert u.dtype == dtype
    assert ((u >= 0) & (u <= 1)).all()
    assert (size(u - x) <= eps + slack).all()
    assert_close(project(u, x, radius, BOX), u, atol=slack, rtol=0)
    rivals = project(points(seed + 1, b, d, dtype)[1], x, radius, BOX)
    assert (((v - u) * (rivals - u)).flatten(1).sum(1) <= 100 * d * slack).all()


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


@pytest.mark.parametrize("norm", STEEPEST)
def test_steepest_is_the_best_unit_step(norm):
    """Over the coordinates that can move ⟨g, d⟩ = dual norm of g, ‖d‖ = 1; the others only push outward."""
    steepest, size = STEEPEST[norm]
    x, v = points(5, 40, 9)
    g = v - x
    d = steepest(g, x, BOX)
    stuck = geo.blocked(g, x, BOX)
    assert stuck.any()
    free = torch.where(stuck, 0, g)
    dual = free.abs().sum(1) if norm == "linf" else free.norm(dim=1)
    moving = torch.where(stuck, 0, d)
    assert_close((g * moving).sum(1), dual)
    assert_close(size(moving), torch.ones(40, dtype=torch.float64))
    assert ((d * g)[stuck] >= 0).all()


@pytest.mark.parametrize("norm", STEEPEST)
def test_steepest_where_nothing_can_move(norm):
    g, x = torch.ones(2, 3), torch.ones(2, 3)
    assert_close(STEEPEST[norm][0](g, x, BOX), torch.zeros(2, 3))
    assert_close(STEEPEST[norm][0](0 * g, x / 2, BOX), torch.zeros(2, 3))


def test_l2_steepest_of_tiny_gradients():
    d = geo.l2_steepest(torch.tensor([[3e-38, 4e-38]]), torch.full((1, 2), 0.5), BOX)
    assert_close(d, torch.tensor([[0.6, 0.8]]), atol=1e-3, rtol=0)


def test_uniform_draws_fill_the_balls():
    """P(‖δ‖ ≤ r) = (r/ε)^d, within 4 SE; the mean is 0, within 4 SE."""
    n, d, eps = 20_000, 3, 0.7
    for draw, size in ((geo.linf_uniform, geo.linf_norm), (geo.l2_uniform, geo.l2_norm)):
        delta = draw(Noise.of(11, n, dtype=torch.float64), (d,), eps)
        for r in (0.3, 0.5, 0.65):
            p = (r / eps) ** d
            assert abs((size(delta) <= r).double().mean() - p) <= 4 * sqrt(p * (1 - p) / n)
        assert size(delta).max() <= eps
        assert (delta.mean(0).abs() <= 4 * delta.std(0) / sqrt(n)).all()


def test_uniform_draws_are_keyed_by_row():
    noise, some = Noise.of(3, 100), torch.tensor([7, 70, 2])
    for draw in (geo.linf_uniform, geo.l2_uniform):
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
