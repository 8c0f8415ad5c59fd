"""Parts by themselves, against what they stand for: encoders, decoders, priors, terms, aims, plans."""

from __future__ import annotations

from math import log, pi

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb
from psiphi.basis.noise import Noise
from psiphi.defenses import filters
from psiphi.formulas import denoising, games
from psiphi.formulas.distributions import Delta, DiagonalNormal
from psiphi.models import Classifier, Model, cross_entropy_loss, verb
from psiphi.networks import First
from psiphi.parts import (
    Batch,
    BernoulliDecoder,
    Clock,
    Contest,
    Critic,
    LatentTrace,
    NormalEncoder,
    Statistics,
    contraction,
    label_nll,
    prior,
)
from psiphi.poisoning import Taken, Toward, Triggered, Wrong
from psiphi.samplers import Plan, ancestral, clipped, ddim, register, samplers, walk

START = Clock(0, 0.0, 100)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affine(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight.data, layer.bias.data = weight.clone(), torch.zeros(len(weight)).double()
    return layer


def empty_trace(**more) -> LatentTrace:
    z = randn(3, 6, 2, seed=3)
    return LatentTrace(
        **{"x": randn(6, 5), "x_in": randn(6, 5), "q": Delta(z[0]), "z": z, "p": None, "prior": None} | more
    )


# ------------------------------------------------------------------------------------- conditionals, priors
def test_an_encoder_reads_mean_and_log_scale_in_the_units_of_the_data():
    seen = Statistics((3,)).double()
    seen.mean.fill_(2.0)
    seen.sigma.fill_(4.0)
    weight = randn(4, 3)
    q = NormalEncoder(affine(weight), seen)(x := randn(7, 3, seed=1))
    assert isinstance(q, DiagonalNormal)
    expected = ((x - 2) / 4) @ weight.T
    assert_close(q.mean, expected[:, :2])
    assert_close(q.log_scale, expected[:, 2:])


def test_a_bernoulli_decoder_is_the_cross_entropy_of_its_logits():
    weight, z, x = randn(5, 2), randn(4, 2, seed=1), (randn(4, 5, seed=2) > 0).double()
    decoder = BernoulliDecoder(affine(weight), (5,))
    reference = -F.binary_cross_entropy_with_logits(z @ weight.T, x, reduction="none").sum(1)
    assert_close(decoder(z).log_prob(x), reference)
    decoder.check_support(0.0, 1.0)
    with pytest.raises(DataError, match=r"\[0, 1\]; yours span 0 to 255"):
        decoder.check_support(0.0, 255.0)


@pytest.mark.parametrize("name", ["standard", "mixture:3", "vamp:3", "flow"])
def test_a_prior_is_a_density(name):
    seen = Statistics((2,))
    torch.manual_seed(0)
    made = prior(name, 2, NormalEncoder(nn.Linear(2, 4), seen), seen)()
    axis = torch.linspace(-9, 9, 181)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = made.log_prob(points).exp()
    assert float(density.sum()) * 0.1**2 == pytest.approx(1, abs=2e-3)
    if name == "standard":
        assert_close(density, (-points.square().sum(1) / 2 - log(2 * pi)).exp())


@pytest.mark.parametrize("name", ["vampire", "mixture:0", "mixture:x", "standard:2", "flow:3"])
def test_a_prior_that_is_none_gets_a_sentence(name):
    with pytest.raises(ArgumentError, match=r"no prior is called '.*'; use standard"):
        prior(name, 2, nn.Identity(), Statistics((2,)))


# ------------------------------------------------------------------------------------------------- terms
def test_the_contraction_of_an_affine_map_is_its_squared_frobenius_norm():
    weight, x = randn(2, 5), randn(600, 5, seed=1).requires_grad_()
    trace = empty_trace(x=x, x_in=x, q=Delta(x @ weight.T), noise=Noise.of(0, 600, dtype=torch.float64))
    exact = contraction(2).value(trace)
    assert_close(exact, weight.square().sum().expand(600))
    drawn = contraction(2, projections=4).value(trace)
    assert abs(float(drawn.mean() - exact[0])) < 4 * float(drawn.std()) / 600**0.5
    assert "exact" in repr(contraction(16))
    assert "8 projections" in repr(contraction(17))


def test_the_nll_of_a_label_is_that_of_rows_that_have_one():
    head, trace = affine(randn(4, 2)), empty_trace(y=torch.tensor([0, 3, -1, 1, -1, 2]))
    found = label_nll(head).value(trace)
    by_hand = -head(trace.z).log_softmax(2).gather(2, trace.y.clamp(min=0).expand(3, 6)[..., None])
    known = trace.y >= 0
    assert_close(found[known], by_hand.squeeze(2).mean(0)[known])
    assert (found[~known] == 0).all()
    with pytest.raises(ArgumentError, match="needs labels"):
        label_nll(head).value(empty_trace())


def test_a_contest_lets_the_model_fool_the_critic_and_the_critic_learn():
    critic = Critic(affine(randn(1, 2)), games.GAMES["non-saturating"])
    reference = randn(6, 2, seed=5)
    contest = Contest(critic, lambda trace, noise: (reference, trace.z[0]), name="judge")
    trace = empty_trace(noise=Noise.of(0, 6), parts={"judge": critic})
    assert_close(contest.term.value(trace), F.softplus(-critic(trace.z[0])).mean())

    class Tracing:
        def trace(self, x, noise, **how):
            return trace

    player = contest.player(Tracing())
    assert player.module is critic
    batch = Batch(trace.x, None, Noise.of(0, 6))
    loss = player.loss(critic, batch, START)["loss"]
    assert_close(loss, (F.softplus(-critic(reference)) + F.softplus(critic(trace.z[0]))).mean())


def test_first_takes_the_first():
    x = randn(3, 5)
    assert torch.equal(First(2)(x), x[:, :2])


# ------------------------------------------------------------------------------------------------ models
def test_the_loss_of_a_classifier_leaves_unknown_labels_out():
    network = affine(randn(3, 4))
    model = pp.zoo.classifier(4, 3, network=network).double()
    assert isinstance(model, Classifier)
    x, y = randn(5, 4, seed=1), torch.tensor([0, 2, -1, 1, -1])
    found = cross_entropy_loss(model, Batch(x, y, Noise.of(0, 5)), START)
    known = y >= 0
    assert_close(found["loss"], F.cross_entropy(network(x)[known], y[known]))
    assert float(found["accuracy"]) == pytest.approx(
        float((network(x).argmax(1) == y)[known].double().mean())
    )
    with pytest.raises(DataError, match="labels reach 7, the classifier has 3 classes"):
        cross_entropy_loss(model, Batch(x, torch.tensor([0, 7, 1, 1, 1]), Noise.of(0, 5)), START)


def test_a_verb_of_your_own_runs_in_eval_mode_or_says_why_not():
    class Own(Model):
        title = "own"
        open = True

        @verb
        def double(self, x):
            assert not self.training
            return 2 * x

        @verb.when(lambda model: None if model.open else "it is closed")
        def half(self, x):
            return x / 2

    model = Own(Statistics((2,))).train()
    assert model.double(3) == 6
    assert model.training
    assert model.half(3) == 1.5
    model.open = False
    assert not hasattr(model, "half")
    with pytest.raises(MissingVerb, match="it is closed"):
        model.half(3)


# ---------------------------------------------------------------------------------------- poisons, filters
class Reads(nn.Module):
    """Takes the first number of a row for its class, of three."""

    def forward(self, x):
        return F.one_hot(x.flatten(1)[:, 0].long(), 3).double()


def test_aims_count_what_they_say():
    x, y = torch.tensor([0.0, 0, 1, 1, 2, 2])[:, None], torch.tensor([0, 1, 1, 1, 2, 0])
    model = Reads()
    assert (Wrong()(model, x, y).hits, Wrong()(model, x, y).n) == (2, 6)
    told = Toward(1, 0)(model, x, y)  # of three ones, one is taken for 0
    assert (told.hits, told.n) == (1, 3)
    told = Toward(None, 2)(model, x, y)  # of five rows of other classes, one is taken for 2
    assert (told.hits, told.n) == (1, 5)
    told = Triggered(lambda rows: torch.full_like(rows, 2), 2)(model, x, y)
    assert (told.hits, told.n) == (5, 5)
    told = Taken(torch.tensor([[1.0], [2.0]]), 2)(model, x, y)
    assert (told.hits, told.n) == (1, 2)
    with pytest.raises(DataError, match="no test row can show"):
        Toward(1, 0)(model, x[:1], y[:1])


def test_clustering_finds_a_small_cluster_of_another_label():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    x = torch.randn(200, 6, generator=g) + 6 * y[:, None]
    odd = torch.arange(0, 40, 2)  # of label 0, a fifth that lie with the ones
    x[odd] += 6
    found = pp.defenses.filter_poison(x, y, filters.clustering(components=2), features=lambda rows: rows)
    assert set((~found.keep).nonzero().flatten().tolist()) == set(odd.tolist())


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (filters.spectral(across=True), filters.Spectral(1.5, True)),
        (filters.clustering(), filters.Clustering(10, 0.35)),
        (filters.reconstruction(4), filters.Reconstruction(4, 1.5, False, 2)),
        (filters.neighbours(5), filters.Neighbours(5)),
    ],
    ids=repr,
)
def test_a_filter_is_a_value_that_filter_poison_runs(made, value):
    assert made == value
    x, y = randn(60, 6), torch.arange(60) % 2
    score, gone = value(filters.Seen(x, y, 0.1, given=lambda rows: rows))
    found = pp.defenses.filter_poison(x, y, made, features=lambda rows: rows, fraction=0.1)
    assert_close(found.score, score)
    assert torch.equal(found.keep, ~gone)


# ----------------------------------------------------------------------------------------------- accesses
def test_a_bare_module_is_a_white_box_and_a_white_box_is_itself():
    network = affine(randn(3, 4))
    access = pp.access.white_box(network)
    assert isinstance(access, pp.access.WhiteBox)
    assert pp.access.white_box(access) is access
    attack, x = pp.attacks.fgsm(pp.attacks.L2(0.3)), randn(8, 4).sigmoid()
    assert_close(attack(network, x).x, attack(access, x).x, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------------- plans
def test_clipping_holds_the_denoiser_to_the_range():
    def far(x, sigma, y=None):
        return 3 * x if y is None else 3 * x + y[:, None]

    x, sigma = torch.tensor([[-1.0, 0.1, 1.0]]), torch.ones(1)
    assert_close(clipped(far, -0.5, 2)(x, sigma), torch.tensor([[-0.5, 0.3, 2.0]]))
    assert_close(clipped(far, -0.5, 2)(x, sigma, torch.tensor([1])), torch.tensor([[-0.5, 1.3, 2.0]]))
    ended = walk(ancestral([4.0, 1.0, 0.2]), clipped(far, 0, 1), 4 * torch.randn(50, 3), Noise.of(0, 50))
    assert ended.min() >= 0
    assert ended.max() <= 1


def test_a_plan_of_your_own_is_known_by_its_name():
    def twice(sigmas, steps=None) -> Plan:
        """ddim on every second level."""
        return Plan("twice", ddim(list(sigmas)[::2]).rows)

    try:
        built = register(twice)([8.0, 4.0, 2.0, 1.0, 0.5])
        assert samplers["twice"].build([8.0, 4.0, 2.0]).sigmas == (8.0, 2.0)
        assert built.sigmas == (8.0, 2.0, 0.5)
    finally:
        samplers._entries.pop("twice", None)


# ---------------------------------------------------------------------------------------------- denoising
def test_the_denoiser_of_a_quadratic_energy_is_the_shrinkage():
    """E = ‖x‖²/(2 (v + σ²)) is −ln p_σ of N(0, v), whose denoiser is x v/(v + σ²)."""
    v, sigma, x = 0.7, torch.tensor([0.5, 1.0, 2.0]).double(), randn(3, 4)

    def energy(rows):
        return rows.square().sum(1) / (2 * (v + sigma**2))

    assert_close(denoising.of_energy(energy, x, sigma), x * (v / (v + sigma**2))[:, None])
