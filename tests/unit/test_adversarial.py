"""Training against a critic: who moves what, what is compared, and models told labels."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import psiphi as pp
from helpers.zoo import digits
from psiphi.basis.errors import ArgumentError, DataError
from psiphi.basis.noise import Noise
from psiphi.models import Generator
from psiphi.parts import Batch, Clock, Critic, LatentTrace, Statistics
from psiphi.parts import contest as sides
from psiphi.parts.priors import ModesPrior, OneHotPrior, StandardPrior
from psiphi.parts.slope import geometric, r1_r2
from psiphi.training._turn import Seat

CLOCK = Clock(0, 0.0, 10)
exactly = dict(rtol=0, atol=0)


def batch(n: int = 16) -> Batch:
    x, y = digits()
    return Batch(x[:n], y[:n], Noise.of(0, n))


TWO_PLAYERS = {
    "gan": dict(latent_dim=3),
    "wgan": dict(latent_dim=3),
    "wgan_gp": dict(latent_dim=3),
    "aae": dict(latent_dim=3),
    "waae": dict(latent_dim=3),
    "semi_supervised_aae": dict(latent_dim=3),
    "factor_vae": dict(latent_dim=3),
    "vae_gan": dict(latent_dim=3),
}


@pytest.mark.parametrize("name", TWO_PLAYERS)
def test_a_player_moves_its_own_weights_and_leaves_gradients_of_others_alone(name):
    model = getattr(pp.zoo, name)((1, 8, 8), hidden=(16,), **TWO_PLAYERS[name])
    players = model.players()
    assert len(players) == (3 if name == "semi_supervised_aae" else 2)
    owned = [{id(p) for p in player.module.parameters()} for player in players]
    assert not owned[0] & owned[1]
    assert set().union(*owned) == {id(p) for p in model.parameters()}
    for player, mine in zip(players, owned, strict=True):
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = None if id(parameter) in mine else torch.full_like(parameter, 0.5)
        Seat(player, None, None, None).update(
            batch(), CLOCK, 1.0, lambda loss, inputs: loss.backward(inputs=inputs)
        )
        moved = 0
        for key, value in model.named_parameters():
            if id(value) in mine:
                moved += not torch.equal(value, before[key])
            else:
                assert_close(value, before[key], **exactly, msg=key)
                assert value.grad is not None, key
                assert bool((value.grad == 0.5).all()), key
        assert moved


def test_clipping_holds_after_every_step_of_training():
    model = pp.zoo.wgan(2, 2, bound=0.03, hidden=(8,), ema=None)
    pp.fit(model, pp.data.toys.ring(), steps=5, quiet=True)
    assert max(float(w.detach().abs().max()) for w in model.critic.parameters()) <= 0.03 + 1e-7
    assert max(float(w.detach().abs().max()) for w in model.network.parameters()) > 0.03


def test_a_generator_learns_a_gaussian():
    """Mean and covariance of N(3, 0.5²): within 0.15 after a thousand steps, from N(0, 1) at the start."""
    target = pp.data.toys.gaussian(dimension=1, scale=0.5, mean=3.0)
    model = pp.zoo.gan(1, 1, hidden=(32,), lr=2e-3, lipschitz="r1:0.1", ema=0.99)
    pp.fit(model, target, steps=600, batch_size=128, quiet=True)
    drawn = model.sample(4000, seed=1).detach()
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.15)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.15)


def test_a_conditional_generator_draws_what_it_is_told():
    """Class k lies at 4 k: the samples of a label are nearer to its own centre than to the other's."""
    gen = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn(512, 1, generator=gen) + torch.tensor([0.0, 4.0]).repeat_interleave(256)[:, None]
    y = torch.arange(2).repeat_interleave(256)
    model = pp.zoo.gan(1, 2, classes=2, hidden=(32,), lr=2e-3, lipschitz="r1:0.1", ema=0.9)
    pp.fit(model, x, y, steps=400, batch_size=64, quiet=True)
    low, high = model.sample(500, y=0), model.sample(500, y=1)
    assert float((low < 2).float().mean()) > 0.9
    assert float((high > 2).float().mean()) > 0.9
    each = torch.tensor([0, 1] * 250)
    assert_close(model.sample(500, y=each)[::2], low[::2])
    z = torch.randn(5, 2)
    both = torch.stack([model.decode(z, y=k) for k in range(2)])
    assert_close(model.decode(z), both.mean(0))
    with pytest.raises(ArgumentError, match="labels run from 0 to 1; got 2 to 2"):
        model.sample(3, y=2)


def test_labels_that_a_conditional_generator_needs():
    model = pp.zoo.gan((1, 8, 8), 2, classes=10, hidden=(8,))
    x, y = digits()
    for labels in (None, torch.where(y == 3, -1, y), y + 5):
        with pytest.raises(DataError, match="needs a label of 0 to 9 for every row: pass y"):
            pp.fit(model, x, labels, steps=1, quiet=True)
    with pytest.raises(ArgumentError, match="gan knows no labels"):
        pp.zoo.gan((1, 8, 8), 2, hidden=(8,)).sample(3, y=1)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_the_average_of_the_generator_is_what_it_is_returned_with():
    """θ̄ ← d θ̄ + (1 − d) θ, d = min(0.6, (1 + n)/(10 + n)), over the weights θ that training passes through."""
    plain, average = (pp.zoo.gan(2, 2, hidden=(8,), ema=ema, seed=1) for ema in (None, 0.6))
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    passed, mean = [], weights(plain.network)
    run = dict(steps=20, batch_size=32, quiet=True)
    pp.fit(plain, x, callbacks=[lambda moment: passed.append(weights(moment.model.network))], **run)
    pp.fit(average, x, **run)
    assert len(passed) == 20  # an epoch is a step
    for n, now in enumerate(passed):
        d = min(0.6, (1 + n) / (10 + n))
        mean = [d * old + (1 - d) * new for old, new in zip(mean, now, strict=True)]
    assert_close(weights(average.network), mean)
    assert_close(weights(average.critic), weights(plain.critic), **exactly)


# ---------------------------------------------------------------------------------------------- contests
def trace(z: torch.Tensor, prior: nn.Module, y: torch.Tensor | None = None) -> LatentTrace:
    return LatentTrace(z, z, None, z[None], None, prior(), y=y, noise=Noise.of(3, len(z)))  # pyright: ignore


def test_codes_meet_the_prior():
    z = torch.randn(6, 3)
    q, p = sides.codes(trace(z, StandardPrior(3)), Noise.of(0, 6))
    assert_close(p, z)
    assert_close(q, StandardPrior(3)().rsample(Noise.of(0, 6).split("prior"))[0])
    first, last = sides.part(slice(0, 2)), sides.part(slice(2, None))
    noise = Noise.of(0, 6)
    assert first(trace(z, StandardPrior(3)), noise)[1].shape == (6, 2)
    assert_close(last(trace(z, StandardPrior(3)), noise)[0], q[:, 2:])


def test_shuffled_codes_keep_every_coordinate_s_values():
    z = torch.arange(24.0).view(8, 3)
    whole, mixed = sides.shuffled(trace(z, StandardPrior(3)), Noise.of(1, 8))
    assert_close(whole, z[:4])
    assert_close(mixed.sort(0).values, z[4:])
    assert not torch.equal(mixed, z[4:])
    rows = (mixed // 3).long()
    assert (rows[:, 0] != rows[:, 1]).any()  # coordinates of a row come from different rows


def test_labelled_codes_meet_the_mode_of_their_label():
    prior, y = ModesPrior(2, 4, radius=100.0), torch.tensor([0, 1, 2, 3, -1, -1])
    here = trace(torch.zeros(6, 2), prior, y)
    q, _ = sides.labelled_codes(here, Noise.of(0, 6))
    nearest = torch.cdist(q, prior.means).argmin(1)
    assert_close(nearest[:4], y[:4])
    assert_close(sides.known(here), torch.cat([torch.eye(4), torch.zeros(2, 4)]).long(), **exactly)
    with pytest.raises(DataError, match="labels reach 7, the model has 4 classes"):
        sides.known(trace(torch.zeros(2, 2), prior, torch.tensor([7, 0])))


def test_decoded_sides_give_the_encoder_no_gradient():
    """Of a linear decoder, ∂ Σ x̂ / ∂W is the sum of the codes that were decoded, and ∂ Σ x̂ / ∂b their number."""
    gen = torch.Generator().manual_seed(0)
    z = torch.randn(4, 2, generator=gen).requires_grad_()
    decoder = nn.Linear(2, 3)

    class Mean:
        def __init__(self, z):
            self.mean = decoder(z)

    here = replace(trace(z, StandardPrior(2)), parts={"decoder": Mean})
    data, made = sides.decoded(here, Noise.of(0, 4))
    assert data is here.x
    drawn = StandardPrior(2)().rsample(Noise.of(0, 4).split("prior"))[0]
    decoded = torch.stack([z[0], drawn[1], z[2], drawn[3]]).detach()
    assert_close(made, decoder(decoded))
    made.sum().backward()
    assert z.grad is None
    assert_close(decoder.weight.grad, decoded.sum(0).expand(3, 2))
    assert_close(decoder.bias.grad, torch.full((3,), 4.0))


def test_the_one_hot_prior():
    prior = OneHotPrior(3, 2)()
    drawn = prior.rsample(Noise.of(0, 3000))[0]
    assert_close(drawn[:, :3].sum(1), torch.ones(3000))
    share = drawn[:, :3].mean(0)
    assert float((share - 1 / 3).abs().max()) < 4 * (2 / 9 / 3000) ** 0.5
    y = torch.tensor([2, 0])
    assert_close(prior.given(y).rsample(Noise.of(0, 2))[0, :, :3], torch.eye(3)[y])


def test_a_labelled_adversarial_autoencoder_draws_from_a_mode():
    model = pp.zoo.aae((1, 8, 8), 2, classes=10, hidden=(16,))
    x, y = digits()
    pp.fit(model, x, torch.where(y < 5, y, -1), steps=4, quiet=True)
    z = model.prior().given(torch.full((4,), 3)).rsample(Noise.of(2, 4).split("z"))[0]
    assert_close(model.sample(4, seed=2, y=3), model.decode(z))


def test_labels_make_a_semi_supervised_adversarial_autoencoder_a_classifier():
    """Half of the labels of the digits: better than 80 % on the others, where chance is 10 %."""
    train = pp.data.load("digits").train
    x, y = torch.as_tensor(train.x[:800]), torch.as_tensor(train.y[:800])
    told = torch.where(torch.arange(800) % 2 == 0, y, -1)
    model = pp.zoo.semi_supervised_aae((1, 8, 8), 4, 10, hidden=(64,))
    pp.fit(model, x, told, epochs=40, quiet=True)
    right = (model.predict(x[1::2]) == y[1::2]).float().mean()
    assert float(right) > 0.8


def test_a_density_needs_more_than_a_point():
    model = pp.zoo.aae((1, 8, 8), 2, hidden=(8,))
    assert not hasattr(model, "log_prob")
    assert not hasattr(model, "posterior")
    with pytest.raises(AttributeError, match="its code is a point"):
        _ = model.log_prob


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: pp.zoo.gan(2, 2, game="poker"), "no game is called 'poker'; use minimax"),
        (lambda: pp.zoo.gan(2, 2, lipschitz="tight"), "no means to bound a critic's slope is called 'tight'"),
        (lambda: pp.zoo.gan(2, 2, lipschitz="r1:-3"), "no means to bound a critic's slope is called 'r1:-3'"),
        (lambda: pp.zoo.wgan(2, 2, bound=-0.1), "bound must be a number above 0; got -0.1"),
        (lambda: pp.zoo.wgan_gp(2, 2, weight=float("nan")), "weight must be a number above 0; got nan"),
        (lambda: pp.zoo.gan(2, 2, lr=-1.0), "lr must be a number above 0; got -1.0"),
        (lambda: pp.zoo.gan(2, 2, ema="none"), "ema is the decay of an average"),
        (lambda: pp.zoo.gan(2, 2, hidden=(8,)).decode(torch.zeros(1, 2), y=1), "gan knows no labels"),
        (lambda: pp.zoo.gan(2, 2, pack=0), "pack is a whole number of at least 1; got 0"),
        (lambda: pp.zoo.gan(2, 2, ema=1.0), "ema is the decay of an average"),
        (lambda: pp.zoo.waae(4, 2, steps=2.5), "steps is a whole number of at least 1; got 2.5"),
        (lambda: pp.zoo.info_vae(4, 2, alpha=2.0), "1 - alpha must be a number of at least 0"),
        (lambda: pp.zoo.vae_gan(4, 2, critic=pp.zoo.ae(4, 2)), "vae_gan reads a critic's last hidden layer"),
    ],
)  # fmt: skip
def test_arguments_without_meaning_get_a_sentence(build, what):
    with pytest.raises(ArgumentError, match=what):
        build()


@pytest.mark.parametrize(
    ("name", "more"),
    [("wae_mmd", {}), ("info_vae", {}), ("factor_vae", {}), ("aae", {}), ("gan", {"pack": 3})],
)
def test_a_last_batch_too_small_to_judge_is_left_out(name, more):
    model = getattr(pp.zoo, name)((1, 8, 8), 2, hidden=(8,), **more)
    x = digits()[0][:17]
    history = pp.fit(model, x, validation=x, epochs=2, batch_size=8, quiet=True)
    assert history.last["step"] == 4
    assert all(torch.isfinite(p).all() for p in model.parameters())
    exact = pp.zoo.vae((1, 8, 8), 2, hidden=(8,))
    assert pp.fit(exact, x, epochs=2, batch_size=8, quiet=True).last["step"] == 6


@pytest.mark.parametrize("name", ["aae", "factor_vae", "vae_gan"])
def test_a_copy_plays_against_its_own_critic(name):
    model = getattr(pp.zoo, name)((1, 8, 8), 2, hidden=(8,))
    copy = deepcopy(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trace = copy.trace(batch().x, batch().noise)
    copy.objective(trace, CLOCK)["loss"].backward()
    assert all(p.grad is not None for p in copy.decoder.parameters() if name != "factor_vae")
    assert trace.parts["critic"] is copy.contests[0].critic
    assert trace.parts["critic"] is not model.contests[0].critic


def test_slopes_that_fall_are_named_saved_and_resumed(tmp_path):
    means = "r1+r2:0.2>0.002"
    build = lambda: pp.zoo.gan(2, 2, game="relativistic", lipschitz=means, hidden=(8,))  # noqa: E731
    whole, half = build(), build()
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    pp.fit(whole, x, steps=8, batch_size=16, quiet=True)
    assert whole.critic.lipschitz == r1_r2(geometric(0.2, 0.002))
    pp.fit(half, x, steps=8, batch_size=16, quiet=True, out=tmp_path)
    assert pp.load(tmp_path).recipe["arguments"]["lipschitz"] == means
    other = pp.zoo.gan(2, 2, game="relativistic", lipschitz="r1+r2:5", hidden=(8,))
    with pytest.raises(ArgumentError, match="was made with model"):
        pp.fit(other, x, steps=9, batch_size=16, quiet=True, out=tmp_path, resume=True)


def test_an_average_asked_for_is_not_the_critic_s():
    for own in (None, 0.5):
        model = pp.zoo.gan(2, 2, hidden=(8,), ema=own)
        critic, generator = (Seat(player, None, None, 0.9) for player in model.players())
        assert critic.average is None
        assert generator.average is not None
        assert generator.average.decay == 0.9
        assert generator.average.module is model.network


def test_changes_reach_every_player_s_own_rule():
    players = pp.zoo.vae_gan((1, 8, 8), 2, hidden=(8,)).players()
    rules = [Seat(player, None, {"clip": 2.0}, None).rule for player in players]
    assert [rule.clip for rule in rules] == [2.0, 2.0]
    assert [rule.lr for rule in rules] == [player.optimizer.lr for player in players]
    assert rules[0].lr != rules[1].lr


def test_labels_of_shapes_that_are_no_images():
    model = pp.zoo.gan((4, 5), 2, classes=3, pack=2, hidden=(8,))
    x, y = torch.randn(12, 4, 5), torch.arange(12) % 3
    pp.fit(model, x, y, steps=2, batch_size=6, quiet=True)
    assert model.sample(4, y=1).shape == (4, 4, 5)


def test_modes_of_a_code_of_one_number_are_apart():
    means = ModesPrior(1, 4).means.squeeze(1)
    assert float(means.diff().min()) > 1


def test_a_batch_smaller_than_the_pack_gets_a_sentence():
    model = pp.zoo.gan(2, 2, pack=8, hidden=(8,))
    assert isinstance(model, Generator)
    assert isinstance(model.critic, Critic)
    assert isinstance(model.statistics, Statistics)
    with pytest.raises(ArgumentError, match="judges 8 samples at a time; got 4"):
        pp.fit(model, torch.randn(4, 2), steps=1, quiet=True)
