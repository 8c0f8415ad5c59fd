"""Posteriors, priors, corruptions, sparse codes and tied weights: what laws and contracts leave unsaid."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

import psiphi as pp
from psiphi.basis.errors import ArgumentError, DataError, MissingVerb
from psiphi.basis.noise import Noise, generator
from psiphi.formulas.distributions import DiagonalNormal, FullNormal
from psiphi.formulas.flows import Flowed
from psiphi.formulas.mixtures import NormalMixture
from psiphi.networks import MLP, TopK, Transposed
from psiphi.parts import Batch, Clock, RecordedDirac, Statistics, corruption
from psiphi.parts.corruption import Gaussian, Masking, SaltAndPepper
from psiphi.parts.posteriors import outputs, posterior

ROWS = 20_000


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(1, "some"), dtype=torch.float64)


# ------------------------------------------------------------------------------------------ distributions
def test_a_mixture_of_normals_agrees_with_torch_and_draws_from_itself():
    p = NormalMixture(some(3), some(3, 2), 0.3 * some(3, 2))
    oracle = MixtureSameFamily(
        Categorical(logits=p.logits), Independent(Normal(p.means, p.log_scales.exp()), 1)
    )
    z = some(50, 4, 2)
    assert_close(p.log_prob(z), oracle.log_prob(z))
    assert_close(p.mean[0], oracle.mean)
    drawn = p.rsample(Noise.of(0, ROWS, dtype=torch.float64), 2)
    assert drawn.shape == (2, ROWS, 2)
    for mine in drawn:
        bound = 4 * mine.std(0) / ROWS**0.5
        assert ((mine.mean(0) - oracle.mean).abs() < bound).all()
        second = mine.square()
        assert (
            (second.mean(0) - oracle.variance - oracle.mean.square()).abs() < 4 * second.std(0) / ROWS**0.5
        ).all()


def test_a_full_posterior_is_read_from_its_network():
    """μ, then the lower triangle by rows with ln on its diagonal."""
    network = nn.Linear(1, outputs("full", 2), bias=True)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([1.0, 2.0, 0.1, 0.2, 0.3]))
    q = posterior("full", network, Statistics((1,)), 2)(torch.zeros(3, 1))
    assert isinstance(q, FullNormal)
    wanted = torch.tensor([[0.1, 0.0], [0.2, 0.3]])
    wanted = wanted.tril(-1) + torch.diag(wanted.diagonal().exp())
    assert_close(q.mean, torch.tensor([[1.0, 2.0]]).expand(3, 2))
    assert_close(q.tril, wanted.expand(3, 2, 2))


@pytest.mark.parametrize("name", ["autoregressive", "coupling"])
def test_the_mean_of_a_flow_is_the_same_for_a_row_wherever_it_stands(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        q = posterior(name, nn.Linear(3, outputs(name, 2)), Statistics((3,)), 2).double()
    x = some(10, 3)
    whole = q(x)
    assert isinstance(whole, Flowed)
    assert_close(q(x[4:6]).mean, whole.mean[4:6], rtol=0, atol=1e-12)
    drawn = whole.rsample(Noise.of(0, 10, dtype=torch.float64), 20_000)
    spread = drawn.std(0)
    assert ((drawn.mean(0) - whole.mean).abs() < 4 * spread / 64**0.5).all()


def test_unknown_names_get_a_sentence():
    with pytest.raises(ArgumentError, match="no posterior is called 'wide'; use diagonal, full"):
        pp.zoo.vae(4, 2, posterior="wide")
    for name in ("vamp:0", "mixture:x", "flow:2", "normal"):
        with pytest.raises(ArgumentError, match=f"no prior is called '{name}'; use standard, mixture:16"):
            pp.zoo.vae(4, 2, prior=name)
    with pytest.raises(ArgumentError, match="a VampPrior needs a diagonal posterior"):
        pp.zoo.vae(4, 2, posterior="full", prior="vamp").sample(1)
    with pytest.raises(ArgumentError, match="free_bits are counted by coordinate"):
        pp.zoo.vae(4, 2, posterior="full", free_bits=0.1)
    with pytest.raises(ArgumentError, match="no activation is called 'swish'; use relu, tanh"):
        pp.zoo.ae(4, 2, activation="swish")
    with pytest.raises(ArgumentError, match="tied weights need the net 'mlp'"):
        pp.zoo.ae((1, 8, 8), 2, tied=True, net="conv")


def test_a_vamp_prior_is_the_mean_of_posteriors_at_its_inputs():
    model = pp.zoo.vae(3, 2, prior="vamp:4", hidden=(5,)).double()
    z, seen = some(6, 2), model.statistics.inverse(model.prior.inputs)
    q: DiagonalNormal = model.encoder(seen)
    wanted = torch.stack([DiagonalNormal(m, s).log_prob(z) for m, s in zip(q.mean, q.log_scale)])
    assert_close(model.prior().log_prob(z), wanted.logsumexp(0) - torch.tensor(4.0).log().double())


# -------------------------------------------------------------------------------------------- corruptions
def test_gaussian_corruption_has_its_sigma_and_depends_on_the_row_alone():
    x, noise = torch.zeros(ROWS, 3), Noise.of(3, ROWS)
    drawn = Gaussian(0.5)(x, noise)
    assert abs(float(drawn.std()) - 0.5) < 4 * 0.5 / (2 * 3 * ROWS) ** 0.5
    assert_close(Gaussian(0.5)(x[5:9], noise.take(slice(5, 9))), drawn[5:9])


def test_masking_and_salt_and_pepper_touch_their_share():
    x, noise = torch.full((ROWS, 2), 0.5), Noise.of(4, ROWS)
    error = 4 * (0.3 * 0.7 / (2 * ROWS)) ** 0.5
    masked = Masking(0.3, value=-1.0)(x, noise)
    assert set(masked.unique().tolist()) == {-1.0, 0.5}
    assert abs(float((masked == -1).float().mean()) - 0.3) < error
    flecked = SaltAndPepper(0.3)(x, noise)
    assert set(flecked.unique().tolist()) == {0.0, 0.5, 1.0}
    for value in (0.0, 1.0):
        assert abs(float((flecked == value).float().mean()) - 0.15) < error


def test_a_sum_of_corruptions_draws_one_for_each_row():
    mixed = corruption("masking:0.9,-1+gaussian:0.1")(torch.ones(4000, 20), Noise.of(5, 4000))
    masked = (mixed == -1).any(1)
    assert abs(float(masked.float().mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    assert set(mixed[masked].unique().tolist()) == {-1.0, 1.0}
    assert not (mixed[~masked] == 1.0).any()


@pytest.mark.parametrize("text", ["snow", "gaussian", "gaussian:x", "gaussian:1,2", "masking:0.1,2,3"])
def test_corruptions_that_are_none_get_a_sentence(text):
    with pytest.raises(ArgumentError, match="no corruption is called"):
        corruption(text)


@pytest.mark.parametrize(
    "text", ["masking:0", "masking:1.5", "salt_and_pepper:-1", "gaussian:0", "gaussian:nan"]
)
def test_corruptions_out_of_range_get_a_sentence(text):
    with pytest.raises(ArgumentError, match=r"lies between 0 and 1|needs a finite σ > 0"):
        corruption(text)


def test_corruption_is_drawn_anew_for_each_batch_and_only_in_training():
    seen = []
    model = pp.zoo.denoising_ae(
        3, 2, hidden=(4,), corruption=lambda x, noise: seen.append(noise.key) or x + 1
    )
    x = some(8, 3).float()
    pp.fit(model, x, steps=3, batch_size=8, quiet=True)
    assert len(set(seen)) == 3
    model.reconstruct(x)
    assert len(seen) == 3


def test_a_denoising_autoencoder_offers_a_score_only_where_it_is_one():
    assert pp.zoo.denoising_ae(4, 2, loss="bernoulli").can.count("score") == 1
    for arguments, reason in (
        (dict(corruption="masking:0.2"), "its corruption is not Gaussian"),
        (dict(loss="absolute"), "the minimiser of its loss is not the mean"),
    ):
        model = pp.zoo.denoising_ae(4, 2, **arguments)
        for verb in ("score", "denoise"):
            with pytest.raises(MissingVerb, match=reason):
                getattr(model, verb)
    with pytest.raises(MissingVerb, match="nothing was corrupted"):
        pp.zoo.ae(4, 2).score  # noqa: B018
    with pytest.raises(ArgumentError, match=r"learnt to remove noise of σ = 0.3; it knows nothing of 0.5"):
        pp.zoo.denoising_ae(4, 2).score(torch.zeros(1, 4), 0.5)


# --------------------------------------------------------------------------- networks of the sparse models
def test_top_k_keeps_alpha_k_outside_training():
    h = some(20, 10)
    layer = TopK(3, alpha=2.0)
    assert ((layer(h) != 0).sum(1) == 3).all()
    assert ((layer.eval()(h) != 0).sum(1) == 6).all()
    assert ((TopK(3, alpha=9.0).eval()(h) != 0).sum(1) == 10).all()


def test_tied_weights_are_one_tensor_with_two_uses():
    phi = MLP((4,), (2,), (3,))
    psi = Transposed(phi)
    assert not {id(p) for p in phi.parameters()} & {id(p) for p in psi.parameters()}
    z = torch.randn(5, 2, generator=generator(0, "z"))
    first, last = phi.layers[0], phi.layers[2]
    wanted = torch.relu(z @ last.weight + psi.biases[0]) @ first.weight + psi.biases[1]
    assert_close(psi(z), wanted)
    model = pp.zoo.ae(4, 2, tied=True, hidden=(3,))
    assert sum(p.numel() for p in model.parameters()) == (4 * 3 + 3 + 3 * 2 + 2) + (3 + 4)


def test_recorded_layers_are_the_activations_with_the_code_last():
    network = nn.Sequential(MLP((4,), (2,), (3, 5), nn.Sigmoid), nn.Sigmoid())
    encoder = RecordedDirac(network, Statistics((4,)))
    q = encoder(torch.ones(6, 4))
    assert [layer.shape[1] for layer in q.layers] == [3, 5, 2]
    assert encoder.count == 3
    assert_close(q.layers[-1], q.point)
    plain = RecordedDirac(MLP((4,), (2,), (3,), nn.Tanh), Statistics((4,)))
    assert [layer.shape[1] for layer in plain(torch.ones(6, 4)).layers] == [3, 2]
    assert plain.count == 2


def test_one_number_or_one_for_each_layer():
    with pytest.raises(
        ArgumentError, match=r"one for each of the 2 layers \(the code last\); got \(0.1, 0.2, 0.3\)"
    ):
        pp.zoo.sparse_ae(4, 3, hidden=(5,), target=(0.1, 0.2, 0.3))
    model = pp.zoo.sparse_ae(4, 3, hidden=(5,), target=(0.1, 0.2), strength=(1.0, 0.0))
    assert repr(model.objective) == "nll + sparsity(kl)"


def test_the_contractive_penalty_says_how_it_is_reckoned():
    assert repr(pp.zoo.contractive_ae(30, 16).objective) == "nll + 0.1 * contraction(exact)"
    assert repr(pp.zoo.contractive_ae(30, 17).objective) == "nll + 0.1 * contraction(8 projections)"
    assert repr(pp.zoo.contractive_ae(30, 17, projections=0).objective) == "nll + 0.1 * contraction(exact)"


# ---------------------------------------------------------------------------------------- labelled models
def test_a_conditional_model_needs_every_label():
    model, x = pp.zoo.conditional_vae(4, 2, classes=3, hidden=(5,)), some(8, 4).float()
    with pytest.raises(DataError, match="conditional_vae needs labels: pass y"):
        pp.fit(model, x, steps=1, quiet=True)
    with pytest.raises(DataError, match="needs the label of every row; 8 of a batch are −1"):
        pp.fit(model, x, torch.full((8,), -1), steps=1, quiet=True)
    with pytest.raises(DataError, match="labels reach 5, the model has 3 classes: build it with classes=6"):
        pp.fit(model, x, torch.full((8,), 5), steps=1, quiet=True)


def test_verbs_at_a_label_are_those_of_the_model_given_it():
    model, x = pp.zoo.conditional_vae(4, 2, classes=3, hidden=(5,)).double(), some(8, 4)
    y = torch.tensor([0, 1, 2, 0, 1, 2, 2, 2])
    for verb in ("encode", "reconstruct"):
        each = torch.stack(
            [getattr(model.given(int(c)).eval(), verb)(x[i : i + 1])[0] for i, c in enumerate(y)]
        )
        assert_close(getattr(model, verb)(x, y), each)
    assert_close(model.sample(8, seed=1, y=y)[3:4], model.sample(8, seed=1, y=0)[3:4])
    apart = torch.stack([model.log_prob(x, samples=4000, y=c) for c in range(3)])
    each = [model.given(c).eval().importance(x, 4000).standard_error for c in range(3)]
    sums = model.importance(x, 4000)
    wanted = apart.logsumexp(0) - torch.tensor(3.0).log().double()
    assert (sums.effective > 10).all()
    assert ((sums.estimate - wanted).abs() < 4 * (sums.standard_error + torch.stack(each).amax(0))).all()
    with pytest.raises(ArgumentError, match="labels run from 0 to 2; got 3 to 3"):
        model.encode(x, 3)
    with pytest.raises(
        ArgumentError, match=r"y is one label, or one for each of the 8 rows; got shape \(3,\)"
    ):
        model.encode(x, y[:3])


def test_the_supervised_loss_leaves_unknown_labels_out():
    model = pp.zoo.supervised_vae(4, 2, classes=3, hidden=(5,), gamma=2.0)
    x, y = some(6, 4).float(), torch.tensor([0, -1, 2, -1, -1, 1])
    noise = Noise.of(0, 6)
    (player,) = model.players()
    losses = player.loss(model, Batch(x, y, noise), Clock())
    trace = model.trace(x, noise, y=y)
    logits = model.head(trace.z[0]).log_softmax(1)
    wanted = -(logits[0, 0] + logits[2, 2] + logits[5, 1]) / 6
    assert_close(losses["label_nll"], wanted.detach())
    assert_close(losses["loss"], losses["nll"] + losses["rate"] + 2 * losses["label_nll"])
