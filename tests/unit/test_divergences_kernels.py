"""Kernel sums over pairs: in blocks, differentiable, and equal to what whole matrices give."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from psiphi import divergences as dv
from psiphi.basis.errors import DataError
from psiphi.formulas import kernels

KERNELS = {
    "rbf": kernels.rbf((0.7, 2.0)),
    "imq": kernels.inverse_multiquadratic((1.5,)),
    "distance": kernels.negative_distance,
}


def draws(seed: int, n: int, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def whole(x: Tensor, y: Tensor, kernel: kernels.Kernel, unbiased: bool) -> Tensor:
    """MMD² by the definition, from matrices of differences."""

    def gram(a: Tensor, b: Tensor) -> Tensor:
        return kernel((a[:, None] - b).square().sum(2))

    xx, yy = gram(x, x), gram(y, y)
    if unbiased:
        xx, yy = (g[~torch.eye(len(g), dtype=torch.bool)] for g in (xx, yy))
    return xx.mean() + yy.mean() - 2 * gram(x, y).mean()


def test_kernels_by_hand():
    squares = torch.tensor([0.0, 4.0], dtype=torch.float64)
    by_hand = torch.tensor([1.0, (exp(-2) + exp(-0.5)) / 2], dtype=torch.float64)
    assert_close(kernels.rbf((1.0, 2.0))(squares), by_hand)
    by_hand = torch.tensor([1.0, (1 / 5 + 1 / 2) / 2], dtype=torch.float64)
    assert_close(kernels.inverse_multiquadratic((1.0, 2.0))(squares), by_hand)
    assert_close(kernels.negative_distance(squares), torch.tensor([0.0, -2.0], dtype=torch.float64))
    assert_close(squares, torch.tensor([0.0, 4.0], dtype=torch.float64))


def test_squared_distances_far_from_the_origin():
    x, y = draws(1, 7, 5) + 1e4, draws(2, 9, 5) + 1e4
    assert_close(kernels.squared_distances(x, y), torch.cdist(x, y) ** 2, rtol=1e-9, atol=1e-9)
    assert float(kernels.squared_distances(x, x).diagonal().abs().max()) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 10, 100])
def test_mmd_is_its_definition_whatever_the_blocks(kernel, unbiased, rows):
    x, y = draws(3, 13, 4), draws(4, 10, 4) + 0.5
    wanted = whole(x, y, KERNELS[kernel], unbiased)
    assert_close(kernels.mmd2(x, y, KERNELS[kernel], unbiased, rows), wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rows", [3, 100])
def test_mmd_has_the_gradient_of_its_definition(kernel, rows):
    x, y = draws(5, 8, 3).requires_grad_(), draws(6, 7, 3).requires_grad_()
    mine = torch.autograd.grad(kernels.mmd2(x, y, KERNELS[kernel], rows=rows), (x, y))
    theirs = torch.autograd.grad(whole(x, y, KERNELS[kernel], True), (x, y))
    for a, b in zip(mine, theirs):
        assert_close(a, b)


def test_gradients_are_finite_where_rows_coincide():
    x = draws(7, 6, 2, torch.float32).requires_grad_()
    value = kernels.mmd2(x, x.detach().clone(), kernels.negative_distance)
    (slope,) = torch.autograd.grad(value, x)
    assert slope.isfinite().all()
    assert value.dtype == torch.float32


def test_energy_by_hand():
    """x = 0, 2 against y = 1, 1: 2·1 − 2 − 0 without pairs of a row with itself, 2·1 − 1 − 0 with them."""
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    assert_close(kernels.mmd2(x, y, kernels.negative_distance), torch.tensor(0.0))
    assert_close(kernels.mmd2(x, y, kernels.negative_distance, unbiased=False), torch.tensor(1.0))


def test_mmd_of_gaussians_in_closed_form():
    """E k of N(0, I) and N(Δ, I) for k = exp(−d²/2s²): (s²/(s²+2))^{d/2}, times exp(−‖Δ‖²/2(s²+2)) between."""
    n, d, s, shift = 3000, 3, 1.3, 0.6
    same = (s**2 / (s**2 + 2)) ** (d / 2)
    theory = 2 * same * (1 - exp(-d * shift**2 / (2 * (s**2 + 2))))
    found = dv.mmd(draws(8, n, d), draws(9, n, d) + shift, kernel="rbf", scales=(s,))
    assert 0 < found.standard_error < theory / 10
    assert abs(float(found) - theory) <= 4 * found.standard_error


def test_energy_of_gaussians_on_the_line():
    """2 E|x − y| − E|x − x'| − E|y − y'| for N(0, 1) and N(0, 4): √(2/π) (2√5 − √2 − √8)."""
    n = 3000
    theory = sqrt(2 / torch.pi) * (2 * sqrt(5) - sqrt(2) - sqrt(8))
    found = dv.energy(draws(10, n, 1), 2 * draws(11, n, 1))
    assert abs(float(found) - theory) <= 4 * found.standard_error


def test_the_jackknife_is_leaving_rows_out():
    x, y, kernel = draws(12, 9, 2), draws(13, 7, 2), KERNELS["imq"]
    squares = 0.0
    for n, left_out in (
        (9, lambda i, keep: kernels.mmd2(x[keep], y, kernel)),
        (7, lambda i, keep: kernels.mmd2(x, y[keep], kernel)),
    ):
        values = torch.stack([left_out(i, torch.arange(n) != i) for i in range(n)])
        squares += (n - 1) / n * float((values - values.mean()).square().sum())
    assert kernels.jackknife_error(kernels.pair_sums(x, y, kernel)) == pytest.approx(sqrt(squares))


def test_the_jackknife_is_the_spread_over_repetitions():
    """Away from p = q: within a third of the standard deviation over 100 repetitions (its own error is 7 %)."""
    found = [dv.mmd(draws(100 + i, 60, 2), draws(900 + i, 60, 2) + 1, scales=(2.0,)) for i in range(100)]
    spread = float(torch.tensor([each.value for each in found]).std())
    error = sum(each.standard_error**2 for each in found) ** 0.5 / 10
    assert 0.75 * spread < error < 1.33 * spread


def test_the_median_scale():
    x = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    assert kernels.median_scale(*x) == 2.0
    many = draws(14, 20_000, 2)
    assert kernels.median_scale(many, many) == pytest.approx(sqrt(2 * 2 * 0.6931), rel=0.05)
    with pytest.raises(DataError, match="equal"):
        kernels.median_scale(torch.zeros(3, 1), torch.zeros(3, 1))


def test_centring_a_gram_matrix_leaves_every_split_alone():
    z = draws(15, 17, 3)
    kernel = KERNELS["rbf"]
    gram = kernels.centred_gram(z, kernel)
    assert_close(gram.sum(1), torch.zeros(17, dtype=torch.float64))
    chosen = torch.zeros(17, 2, dtype=torch.float64)
    chosen[:5, 0], chosen[3:12, 1] = 1, 1
    wanted = [kernels.mmd2(z[c > 0], z[c == 0], kernel) for c in chosen.T]
    assert_close(kernels.split_discrepancies(gram, chosen[:, :1]), torch.stack(wanted[:1]))
    assert_close(kernels.split_discrepancies(gram, chosen[:, 1:]), torch.stack(wanted[1:]))


def test_large_samples_never_meet_in_one_matrix(monkeypatch):
    """No block of distances holds more than the stated number of entries."""
    seen, squares = [], kernels._squares
    monkeypatch.setattr(kernels, "_squares", lambda x, y: seen.append(len(x) * len(y)) or squares(x, y))
    x = draws(16, 3000, 2, torch.float32)
    dv.mmd(x, x + 1, scales=(1.0,))
    assert len(seen) == 21 + 21 + 36
    assert max(seen) <= kernels._TILE**2
