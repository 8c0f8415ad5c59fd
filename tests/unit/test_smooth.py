"""Randomised smoothing on a plane, where p, the radius and the votes are known."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from scipy import stats
from torch import nn
from torch.testing import assert_close

from psiphi import zoo
from psiphi.access import expectation, white_box
from psiphi.attacks import L2, pgd
from psiphi.basis.errors import AccessError, ArgumentError, DataError, FileError, MissingVerb, ShapeError
from psiphi.defenses import Certificate, Outcome, noisy_training, smooth
from psiphi.formulas import intervals, smoothing
from psiphi.training import fit

F64 = torch.float64


class Plane(nn.Module):
    """Logits (0, 3x₁)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("slope", torch.tensor(3.0, dtype=F64))

    def forward(self, x):
        z = self.slope * x[:, 0]
        return torch.stack([torch.zeros_like(z), z], 1)


def at(*distances: float) -> torch.Tensor:
    x = torch.zeros(len(distances), 2, dtype=F64)
    x[:, 0] = torch.tensor(distances)
    return x


# ------------------------------------------------------------------------------------------------ formulas
def test_lower_bound_is_clopper_and_pearsons():
    hits = torch.tensor([0, 1, 37, 99, 100])
    found = intervals.at_least(hits, 100, 0.01)
    theory = [0.0, *(stats.beta.ppf(0.01, k, 101 - k) for k in (1, 37, 99, 100))]
    assert_close(found, torch.tensor(theory, dtype=F64))
    assert_close(found[-1], torch.tensor(0.01 ** (1 / 100), dtype=F64))
    for k, p in zip(hits[1:], found[1:]):
        assert stats.binom.sf(int(k) - 1, 100, float(p)) == pytest.approx(0.01)


def test_two_sided_is_the_exact_binomial_test():
    first, second = torch.tensor([5, 8, 10, 60, 0]), torch.tensor([5, 2, 0, 40, 0])
    theory = [stats.binomtest(int(a), int(a + b)).pvalue for a, b in zip(first[:4], second[:4])]
    assert_close(smoothing.two_sided(first, second), torch.tensor([*theory, 1.0], dtype=F64))


def test_radius_is_zero_up_to_a_half():
    found = smoothing.radius(torch.tensor([0.1, 0.5, stats.norm.cdf(1.0), 1.0], dtype=F64), 0.5)
    assert_close(found[:3], torch.tensor([0.0, 0.0, 0.5], dtype=F64))
    assert found[3] == torch.inf


# ------------------------------------------------------------------------------------------------- module
def test_the_module_is_the_log_of_the_mean_softmax():
    """For logits (0, 3x₁) the second share is E σ(3(x₁ + σξ)), by quadrature."""
    shown, x = smooth(Plane(), 0.5, draws=20_000, seed=1), at(-0.4, 0.0, 0.7)
    found = shown(x).exp()
    nodes, weights = torch.as_tensor(stats.norm.ppf((torch.arange(4000) + 0.5) / 4000)), 1 / 4000
    theory = torch.sigmoid(3 * (x[:, :1] + 0.5 * nodes)).sum(1) * weights
    assert_close(found.sum(1), torch.ones(3, dtype=F64))
    assert_close(found[:, 1], theory, atol=4 * 0.5 / sqrt(20_000), rtol=0)


def test_a_seed_makes_it_a_function_and_none_a_draw():
    x = torch.rand(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    fixed, fresh = smooth(Plane(), 0.5, seed=3), smooth(Plane(), 0.5)
    assert_close(fixed(x), torch.cat([fixed(x[i : i + 1]) for i in range(5)]), rtol=0, atol=1e-12)
    same = fresh(x[:1].expand(4, 2))
    assert len(same[:, 0].unique()) == 4
    with pytest.raises(AccessError, match="output is random"):
        pgd(L2(0.1))(fresh, x, torch.zeros(5).long())
    first, again = (pgd(L2(0.1), steps=2)(expectation(fresh, 2, 10), x, torch.zeros(5).long()) for _ in "ab")
    assert_close(first.x, again.x, rtol=0, atol=0)


def test_a_denoiser_stands_between_the_noise_and_the_classifier():
    shown = smooth(Plane(), 0.5, draws=8, denoiser=lambda x: x.clamp(0.2, 0.3))
    assert (shown.votes(at(-1.0, 2.0), 50) == torch.tensor([0, 50])).all()
    assert shown(at(0.0)).exp()[0, 1] > torch.sigmoid(torch.tensor(0.6, dtype=F64)) - 1e-9
    dae = zoo.denoising_ae(2, 2, corruption="gaussian:0.5", hidden=(4,), seed=0)
    noisy = torch.rand(3, 2)
    net = nn.Linear(2, 2)
    assert_close(smooth(net, 0.5, denoiser=dae).base(noisy), net(dae.denoise(noisy)))
    with pytest.raises(ArgumentError, match=r"learnt to remove noise of σ = 0\.5"):
        smooth(net, 0.25, denoiser=dae)(noisy)
    with pytest.raises(MissingVerb, match="pca cannot denoise"):
        smooth(net, 0.25, denoiser=zoo.pca(2, 1))


# -------------------------------------------------------------------------------------------- certificates
def test_votes_do_not_depend_on_the_batch_and_parts_join(tmp_path):
    shown, x = smooth(Plane(), 0.5), at(*torch.linspace(-0.6, 0.6, 9).tolist())
    whole = shown.certify(x, 50, 300, seed=4)
    assert whole.counts.sum(1).eq(300).all()
    assert torch.equal(whole.counts, shown.certify(x, 50, 300, seed=4, batch_size=7).counts)
    odd = torch.arange(9) % 2 == 1
    parts = [shown.certify(x[some], 50, 300, seed=4, rows=torch.arange(9)[some]) for some in (odd, ~odd)]
    joined = Certificate.cat(parts)
    for name in ("prediction", "radius", "p_lower", "counts", "row"):
        assert_close(getattr(joined, name), getattr(whole, name), rtol=0, atol=0)
    joined.save(tmp_path / "c")
    assert_close(Certificate.load(tmp_path / "c").radius, whole.radius, rtol=0, atol=0)
    (tmp_path / "c.npz").write_bytes(b"")
    with pytest.raises(FileError, match="cut short or changed"):
        Certificate.load(tmp_path / "c")
    with pytest.raises(ArgumentError, match="in two of the parts"):
        Certificate.cat([whole, whole])
    with pytest.raises(ArgumentError, match="differ in `n`"):
        Certificate.cat([parts[0], shown.certify(x[~odd], 50, 200, rows=torch.arange(9)[~odd])])


def test_shares_of_votes_are_the_normal_law():
    x, n = at(-0.5, -0.1, 0.0, 0.3, 1.0), 20_000
    share = smooth(Plane(), 0.5).votes(x, n, seed=1)[:, 1] / n
    theory = torch.special.ndtr(x[:, 0] / 0.5)
    assert ((share - theory).abs() < 4 * (theory * (1 - theory) / n).sqrt()).all()


def test_rows_have_noise_of_their_own():
    shown, x = smooth(Plane(), 0.5), at(0.0).expand(6, 2)
    assert len(shown.votes(x, 400)[:, 0].unique()) > 3
    assert len(shown.votes(x, 400, rows=torch.full((6,), 2))[:, 0].unique()) == 1
    assert not torch.equal(shown.votes(x, 400), shown.votes(x, 400, seed=1))


def test_abstains_at_the_plane_and_is_sure_far_from_it():
    shown, x = smooth(Plane(), 0.5), at(0.0, 9.0, -9.0)
    found = shown.certify(x, 100, 1000, alpha=0.01, seed=2)
    assert found.prediction.tolist() == [-1, 1, 0]
    assert found.radius[0] == 0
    most = 0.5 * stats.norm.ppf(0.01 ** (1 / 1000))
    assert_close(found.radius[1:], torch.full((2,), most, dtype=F64))
    assert shown.predict(x, 200).tolist() == [-1, 1, 0]


def test_certified_accuracy_counts_right_rows_of_a_radius():
    radius = torch.tensor([0.0, 0.1, 0.4, 0.4, 0.9], dtype=F64)
    found = Certificate(
        torch.tensor([-1, 0, 0, 1, 1]),
        radius,
        radius,
        torch.ones(5, 2).long(),
        torch.arange(5),
        0.5,
        0.001,
        10,
        100,
    )
    y = torch.tensor([0, 0, 0, 0, 1])
    assert [found.accuracy(y, r).hits for r in (0.0, 0.1, 0.39, 0.4, 0.9)] == [3, 2, 2, 1, 0]
    radii, share, spans = found.curve(y)
    assert_close(radii, torch.tensor([0.0, 0.1, 0.4, 0.9], dtype=F64))
    assert_close(share, torch.tensor([0.6, 0.4, 0.2, 0.0], dtype=F64))
    assert ((spans[:, 0] <= share) & (share <= spans[:, 1])).all()
    assert "abstained        1" in found.summary(y)
    with pytest.raises(ShapeError, match=r"shape \(3\); 5 labels are needed"):
        found.accuracy(y[:3])
    with pytest.raises(DataError, match=r"1 missing or negative labels \(rows 0\)"):
        found.accuracy(torch.tensor([-1, 0, 0, 0, 1]))


def test_no_rows():
    found = smooth(Plane(), 0.5).certify(at()[:0])
    assert len(found) == 0
    assert found.summary() == "no rows were certified"
    full = smooth(Plane(), 0.5).certify(at(-1.0, 1.0), rows=[4, 2])
    for parts in ([found, full], [full, found]):
        joined = Certificate.cat(parts)
        assert joined.row.tolist() == [2, 4]
        assert torch.equal(joined.counts, full.counts.flip(0))
    assert len(Certificate.cat([found, found])) == 0


def test_outcomes_add_up():
    found = Outcome.of(torch.tensor([0, 1, -1, 2]), torch.tensor([0, 0, 0, 2]))
    assert (found.right.hits, found.wrong.hits, found.withheld.hits) == (2, 1, 1)
    for y, said in (
        ([0, -1, 0, 2], "1 missing or negative"),
        (None, "are no labels"),
        ([0.5] * 4, "integers"),
    ):
        with pytest.raises(DataError, match=said):
            Outcome.of(torch.tensor([0, 1, -1, 2]), y)
    with pytest.raises(ShapeError, match="4 labels are needed"):
        Outcome.of(torch.tensor([0, 1, -1, 2]), [0, 1])


# ------------------------------------------------------------------------------------------------ training
def test_training_under_noise_trains_the_same_weights_on_noisy_rows():
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    x = (
        0.5
        + 0.2 * (2 * y[:, None] - 1) * torch.tensor([1.0, 0.0])
        + 0.01 * torch.randn(200, 2, generator=draw)
    )
    net = zoo.classifier(2, 2, hidden=(16,), seed=0)
    seen = []
    hook = net.network.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    trained = noisy_training(net, 0.3)
    fit(trained, x, y, epochs=10, lr=0.03, seed=0, quiet=True)
    hook.remove()
    assert trained.network is net.network
    assert trained.recipe["training"] == {"noise": 0.3}
    spread = torch.cat(seen)[:, 1].std() * net.statistics.sigma  # the second coordinate carries noise alone
    assert 0.28 < float(spread) < 0.32
    assert smooth(net, 0.3).outcome(x[:20], y[:20], 300).right.hits >= 18


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"sigma": 0.0}, "sigma is a finite noise level"),
        ({"sigma": float("inf")}, "sigma is a finite noise level"),
        ({"sigma": 0.5, "draws": 0}, "draws is a whole number"),
        ({"sigma": 0.5, "denoiser": 3}, "denoiser is a model or a function"),
    ],
)
def test_refuses_what_has_no_meaning(how, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        smooth(Plane(), **how)


def test_refuses_levels_and_rows_that_do_not_fit():
    shown = smooth(Plane(), 0.5)
    for alpha in (0.0, 1.0, "0.1", None):
        with pytest.raises(ArgumentError, match="alpha, the failure rate"):
            shown.certify(at(1.0), alpha=alpha)
    with pytest.raises(ArgumentError, match="smooth takes the module itself"):
        smooth(white_box(Plane()), 0.5)
    with pytest.raises(ArgumentError, match="fit trains classifiers of psiphi"):
        noisy_training(Plane(), 0.5)
    with pytest.raises(ArgumentError, match="rows has 2 numbers, but x has 1"):
        shown.votes(at(1.0), rows=range(2))
    with pytest.raises(ArgumentError, match="hits are 0 to n"):
        intervals.at_least(torch.tensor([5]), 4, 0.01)
    assert repr(smooth(Plane(), 0.5, seed=2)) == "smooth(Plane, sigma=0.5, draws=16, seed=2)"
