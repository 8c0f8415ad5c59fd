"""Detectors: scores, thresholds, and attacks that have to pass them."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from torch.testing import assert_close

from psiphi import zoo
from psiphi.access import black_box, expectation, white_box
from psiphi.attacks import (
    L2,
    Battery,
    Linf,
    Rivals,
    apgd,
    carlini_wagner,
    deepfool,
    fab,
    hop_skip_jump,
    nes,
    pgd,
    square,
    transfer,
    universal,
)
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb, ShapeError
from psiphi.defenses import detect
from psiphi.formulas import conformal, goals
from psiphi.formulas.detection import mahalanobis

F64 = torch.float64


def normal(n: int, d: int = 3, key: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=F64, generator=torch.Generator().manual_seed(key))


def size(model, x: torch.Tensor) -> torch.Tensor:
    return x.square().sum(1)


# -------------------------------------------------------------------------------------------------- scores
@pytest.fixture(scope="module")
def pca():
    from psiphi.training import fit

    model = zoo.pca(3, 2)
    fit(model, normal(200) * torch.tensor([3.0, 1.0, 0.2]), quiet=True)
    return model


def test_named_scores_are_the_models_own(pca):
    x = normal(50, key=1).float()
    scores = {name: detect(pca, x, name).score(x) for name in ("reconstruction", "density", "anomaly_score")}
    assert_close(scores["reconstruction"], (x - pca.reconstruct(x)).square().sum(1))
    assert_close(scores["density"], -pca.log_prob(x))
    assert_close(scores["anomaly_score"], pca.anomaly_score(x))


def test_latent_is_the_distance_to_the_nearest_class_of_training_codes(pca):
    x, train = normal(50, key=1).float(), normal(120, key=2).float() * torch.tensor([3.0, 1.0, 0.2])
    z, codes = pca.encode(x), pca.encode(train)
    one = detect(pca, x, "latent", train=train).score(x)
    assert_close(one, mahalanobis(z, codes.mean(0), codes.T.cov(correction=0)), rtol=1e-4, atol=1e-4)
    y = (train[:, 0] > 0).long()
    within = sum(codes[y == c].T.cov(correction=0) * (y == c).float().mean() for c in (0, 1))
    each = [mahalanobis(z, codes[y == c].mean(0), within) for c in (0, 1)]
    found = detect(pca, x, "latent", train=(train, y)).score(x)
    assert_close(found, torch.stack(each).amin(0), rtol=1e-4, atol=1e-4)
    assert (found - one).abs().max() > 0.1


def test_rows_without_a_label_are_of_no_class(pca):
    x, train = normal(50, key=1).float(), normal(120, key=2).float() * torch.tensor([3.0, 1.0, 0.2])
    y = torch.where(torch.arange(120) % 3 == 0, -1, (train[:, 0] > 0).long())
    mine = detect(pca, x, "latent", train=(train[y >= 0], y[y >= 0])).score(x)
    assert_close(detect(pca, x, "latent", train=(train, y)).score(x), mine, rtol=0, atol=0)
    none = detect(pca, x, "latent", train=(train, torch.full((120,), -1))).score(x)
    assert_close(none, detect(pca, x, "latent", train=train).score(x), rtol=0, atol=0)
    for given, said in (
        ((train, y[:5]), r"y of train has shape \(5\)"),
        (train[:0], "train has none"),
    ):
        with pytest.raises(DataError, match=said):
            detect(pca, x, "latent", train=given)


def test_a_density_that_is_sampled_takes_the_same_draws_for_every_row():
    vae = zoo.vae(3, 2, hidden=(4,), likelihood="gaussian", seed=0)
    x = normal(40).float()
    found = detect(vae, x, "density")
    assert_close(found.score(x.flip(0)), found.score(x).flip(0))
    assert_close(found.score(x[:1].expand(3, 3)), found.score(x[:1]).expand(3))


# ----------------------------------------------------------------------------------------------- threshold
def test_flags_are_scores_above_the_order_statistic():
    x = normal(99)
    found = detect(nn.Identity(), x, size, alarm=0.1)
    limit = size(None, x).sort().values[89]
    assert found.threshold == limit
    assert found.flags(x).sum() == 9
    fresh = normal(500, key=1)
    assert torch.equal(found.flags(fresh), size(None, fresh) > limit)
    assert torch.equal(found.flags(fresh), found.p_values(fresh) <= 0.1)
    assert found.rate == conformal.rate(99, 0.1)


def test_evaluation_is_scikit_learns_and_the_alarms_lie_where_they_may():
    found = detect(nn.Identity(), normal(199), size, alarm=0.05)
    usual, odd = normal(1000, key=1), 1.5 * normal(300, key=2)
    told = found.evaluate(usual, odd)
    truth = torch.cat([torch.zeros(1000), torch.ones(300)])
    score = torch.cat([size(None, usual), size(None, odd)])
    assert told.auroc == pytest.approx(roc_auc_score(truth, score))
    false, true, _ = roc_curve(truth, score, drop_intermediate=False)
    assert_close(told.roc, torch.stack([torch.as_tensor(false), torch.as_tensor(true)]))
    assert told.caught.hits == int(found.flags(odd).sum())
    theory = found.rate
    error = sqrt(theory.variance + theory.mean * (1 - theory.mean) / 1000)
    assert abs(told.alarms.value - theory.mean) < 4 * error
    assert told.allowed == theory.interval()
    assert told.as_dict()["caught"]["n"] == 300


# --------------------------------------------------------------------------------------------------- guard
class Three(nn.Module):
    """Logits of three classes on two coordinates; class 2 lies far out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.tensor([[-6.0, 0.0], [6.0, 0.0], [3.0, 3.0]], dtype=F64))
        self.register_buffer("b", torch.tensor([3.0, -3.0, -3.0], dtype=F64))

    def forward(self, x):
        return x @ self.w.T + self.b


def height(model, x: torch.Tensor) -> torch.Tensor:
    """Normal rows have x₂ near ½: flagged where |x₂ − ½| is above the threshold."""
    return (x[:, 1] - 0.5).abs()


@pytest.fixture
def guarded():
    validation = torch.full((99, 2), 0.5, dtype=F64)
    validation[:, 1] += torch.linspace(-0.1, 0.1, 99, dtype=F64)
    return detect(nn.Identity(), validation, height, alarm=0.1).guard(Three())


def rows(n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    x = 0.5 + 0.3 * (torch.rand(n, 2, dtype=F64, generator=draw) - 0.5)
    x[:, 1] = 0.5 + 0.1 * (x[:, 1] - 0.5)
    return x, Three()(x).argmax(1)


def test_the_last_logit_wins_where_the_score_is_above_the_threshold(guarded):
    x = torch.rand(400, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    logits, flagged = guarded(x), guarded.detector.flags(x)
    assert guarded.refusal == 3
    assert torch.equal(logits.argmax(1) == 3, flagged)
    assert 0 < flagged.sum() < 400
    assert torch.equal(guarded.predict(x), torch.where(flagged, -1, Three()(x).argmax(1)))
    told = guarded.outcome(x, Three()(x).argmax(1))
    assert told.withheld.hits == int(flagged.sum())
    assert told.wrong.hits == 0


def test_it_refuses_what_it_flags_at_a_rate_of_most_rows_too():
    """At α = 0.7 the threshold lies below the median score."""
    validation = torch.full((99, 2), 0.5, dtype=F64)
    validation[:, 1] += torch.linspace(-0.1, 0.1, 99, dtype=F64)
    often = detect(nn.Identity(), (validation, torch.zeros(99)), height, alarm=0.7).guard(Three())
    x = torch.rand(400, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    flagged = often.detector.flags(x)
    assert 0 < flagged.sum() < 400
    assert torch.equal(often(x).argmax(1) == 3, flagged)
    assert torch.equal(often.predict(x) == -1, flagged)


def test_what_cannot_be_counted_or_guarded_is_said(guarded):
    x, y = rows()
    with pytest.raises(DataError, match=r"1 missing or negative labels \(rows 2\)"):
        guarded.outcome(x, torch.where(torch.arange(24) == 2, -1, y))
    with pytest.raises(ArgumentError, match="guards the module itself"):
        guarded.detector.guard(white_box(Three()))
    with pytest.raises(DataError, match="x is no array of numbers"):
        detect(nn.Identity(), "digits", height)
    with pytest.raises(ArgumentError, match="strictly between 0 and 1"):
        detect(nn.Identity(), x, height, alarm="0.1")


def test_a_refusal_counts_for_the_label():
    logits = torch.tensor([[1.0, 2.0, 5.0], [4.0, 2.0, 3.0], [1.0, 2.0, 0.0]])
    merged = goals.accepted(logits, torch.tensor([0, 0, 0]))
    assert_close(merged, torch.tensor([[5.0, 2.0], [4.0, 2.0], [1.0, 2.0]]))
    assert goals.succeeded(merged, torch.zeros(3).long()).tolist() == [False, False, True]


ATTACKS = {
    "pgd": pgd(Linf(0.3), steps=20),
    "apgd": apgd(Linf(0.3), steps=20),
    "square": square(Linf(0.3), queries=200),
    "deepfool": deepfool(),
    "fab": fab(L2(), steps=20),
    "carlini_wagner": carlini_wagner(steps=60, bisections=3),
    "all targets": pgd(Linf(0.3), steps=10, targets="all"),
    "rivals": apgd(Linf(0.3), steps=10, targets=Rivals(2)),
    "battery": Battery([pgd(Linf(0.3), steps=3), apgd(Linf(0.3), steps=10, targets=Rivals(2))]),
    "least likely": pgd(Linf(0.5), steps=20, targets="least-likely"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_flagged_is_never_a_success(guarded, name):
    x, y = rows()
    result = ATTACKS[name](guarded, x, y, seed=2)
    answer, flagged = Three()(result.x).argmax(1), guarded.detector.flags(result.x)
    assert not (result.success & (flagged | (answer == y))).any()
    assert not (flagged & (result.success | result.undecided)).any()
    # There is a way past, but Square's corners move x₂ as far as x₁, and the least likely class lies beyond the band.
    assert result.success.sum() >= (0 if name in ("square", "least likely") else 18)


def test_the_way_past_is_found_at_its_closed_form_distance(guarded):
    """The nearest plane of the classifier, at the distance that it has alone, where its foot lies inside the band."""
    x, y = rows()
    result, net = fab(L2(), steps=30)(guarded, x, y), guarded.classifier
    other = torch.stack([(y + 1) % 3, (y + 2) % 3])
    normal, z = net.w[other] - net.w[y], net(x)
    away = (z.gather(1, y[:, None]).T - z.gather(1, other.T).T) / normal.norm(dim=2)
    least, nearest = away.min(0)
    foot = x + (least / normal.norm(dim=2)[nearest, range(24)])[:, None] * normal[nearest, range(24)]
    inside = ~guarded.detector.flags(foot)
    assert inside.sum() > 12
    assert result.success.all()
    assert (result.distance >= least - 1e-6).all()
    assert (result.distance <= 1.02 * least + 1e-3)[inside].double().mean() > 0.9  # a local search


def test_where_every_error_is_flagged_no_attack_succeeds():
    """The score is the classifier's own margin towards class 1: what crosses is flagged."""
    validation = torch.zeros(19, 2, dtype=F64)
    validation[:, 0] = torch.linspace(0.0, 0.45, 19)
    guarded = detect(nn.Identity(), validation, lambda model, x: x[:, 0], alarm=0.05).guard(Three())
    x = torch.full((8, 2), 0.1, dtype=F64)
    x[:, 0] += torch.linspace(0, 0.3, 8)
    y = torch.zeros(8).long()
    two = Three()
    two.b[2] = -100.0
    guarded.classifier = two
    unguarded = pgd(Linf(0.6), steps=30)(two, x, y)
    assert unguarded.success.all()
    for attack in (
        pgd(Linf(0.6), steps=30),
        pgd(Linf(0.6), steps=30, targets="all"),
        square(Linf(0.6), queries=100),
    ):
        assert not attack(guarded, x, y).success.any()
    assert guarded.outcome(unguarded.x, y).withheld.hits == 8


def test_through_every_access(guarded):
    x, y = rows(12)
    for access in (white_box(guarded), black_box(guarded), black_box(guarded, "labels")):
        attack = (
            hop_skip_jump(L2(), steps=5)
            if "scores" not in access.sees
            else nes(L2(0.3), steps=20, samples=20)
        )
        result = attack(access, x, y)
        assert not (result.success & guarded.detector.flags(result.x)).any()
        assert result.success.sum() >= 6
    noisy = nn.Sequential(guarded)
    noisy.refusal = 3
    noisy.forward = lambda x: guarded(x) + 1e-3 * torch.randn(len(x), 4, dtype=F64)
    result = pgd(Linf(0.3), steps=10)(expectation(noisy, 4, 50), x, y)
    assert result.success.sum() >= 6
    assert not (result.success & (guarded.detector.score(result.x) > guarded.detector.threshold + 0.01)).any()


def test_transfer_counts_refusals_as_standing(guarded):
    x, y = rows(12)
    told = transfer(
        pgd(Linf(0.3), steps=10), {"plain": Three()}, x, y, targets={"plain": Three(), "guarded": guarded}
    )
    plain, behind = told.right[-1, 0].sum(), told.right[-1, 1].sum()
    assert behind > plain


def test_what_cannot_tell_a_refusal_says_so(guarded):
    x, y = rows(12)
    with pytest.raises(
        ArgumentError, match="only the label tells a refusal from an error: give the labels y"
    ):
        pgd(Linf(0.1))(guarded, x)
    with pytest.raises(ArgumentError, match="a universal change takes refusals for errors"):
        universal(Linf(0.1), steps=2).fit(guarded, x, y)


# ---------------------------------------------------------------------------------------------------- input
@pytest.mark.parametrize(
    ("how", "error", "sentence"),
    [
        ({"score": "colour"}, ArgumentError, "there is no score 'colour'"),
        ({"score": 3}, ArgumentError, "a score is a name or a function"),
        ({"score": "latent"}, ArgumentError, "give train="),
        ({"score": size, "alarm": 0.0}, ArgumentError, "strictly between 0 and 1"),
        ({"score": size, "alarm": 0.01}, DataError, "needs 99 validation rows at least; got 50"),
        ({"score": lambda model, x: x}, ShapeError, "one number a row"),
        ({"score": lambda model, x: x[:, 0] / 0}, DataError, "not finite on"),
    ],
)
def test_refuses_with_a_sentence(how, error, sentence):
    with pytest.raises(error, match=sentence):
        detect(nn.Identity(), normal(50), **how)


def test_a_model_without_the_verb_says_so():
    with pytest.raises(MissingVerb):
        detect(zoo.ae(3, 2, hidden=(4,)), normal(50).float(), "density")


def test_repr():
    assert (
        repr(detect(nn.Identity(), normal(50), size)) == "detect(Identity, score=size, alarm=0.05, 50 rows)"
    )
