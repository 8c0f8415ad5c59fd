"""Divergences by a learnt critic: what it is given, what it says of itself. Laws 12 and 13 say how right it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.basis.errors import ArgumentError, MissingVerb, ShapeError
from psiphi.data.toys import gaussian
from psiphi.divergences import _learnt, by_critic, learnt
from psiphi.formulas import games
from psiphi.parts.slope import clipping, spectral_norm

P, Q = gaussian(1), gaussian(1, mean=1.0)
SHORT = learnt(hidden=(16,), steps=60, batch_size=128, lr=1e-2, fresh=2000)
W1 = learnt(games.wasserstein, spectral_norm(), hidden=(16,), steps=60, batch_size=128, lr=1e-2, fresh=2000)


def draws(n: int, mean: float = 0.0, seed: int = 0) -> torch.Tensor:
    return mean + torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))


def test_samples_are_judged_on_rows_held_out():
    found = by_critic(draws(1000), draws(800, 1.0, 1), SHORT)
    assert "160 draws that it was not trained on" in found.how
    assert 0.05 < found.value < 0.25
    again = by_critic(draws(1000), draws(800, 1.0, 1), SHORT)
    assert again.value == found.value
    assert by_critic(draws(1000), draws(800, 1.0, 1), SHORT, seed=1).value != found.value


def test_an_overfitted_critic_is_found_out():
    """Sixty rows of the same distribution, learnt by heart: on rows held out it measures nothing, or less."""
    by_heart = learnt(hidden=(256,), steps=400, batch_size=64, lr=1e-2)
    found = by_critic(draws(60), draws(60, 0.0, 1), by_heart)
    assert found.value < 0.02


def test_the_log_ratio_is_of_p_over_q():
    found = by_critic(P, Q, SHORT)
    x = torch.tensor([[-1.0], [0.5], [2.0]])
    ratio = found.log_ratio(x)
    assert float(ratio[0]) > 0.5 > -0.5 > float(ratio[2])
    assert_close(found.log_ratio(x.squeeze(1)), ratio)
    with pytest.raises(MissingVerb):
        by_critic(P, Q, W1).log_ratio(x)


def test_transport_is_in_the_units_of_the_data():
    one = by_critic(draws(1000), draws(1000, 1.0, 1), W1)
    ten = by_critic(10 * draws(1000) + 3, 10 * draws(1000, 1.0, 1) + 3, W1)
    assert_close(ten.value, 10 * one.value, rtol=1e-3, atol=0)
    assert_close(ten.standard_error, 10 * one.standard_error, rtol=1e-3, atol=0)
    assert_close(ten.slope, one.slope, rtol=1e-3, atol=0)
    assert_close(one.value, one.raw / one.slope)
    assert one.slope <= 1 + 1e-3


def test_a_critic_of_your_own_and_densities_beside_samples():
    network = nn.Linear(1, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    how = learnt(games.wasserstein, spectral_norm(), network=network, steps=40, batch_size=64)
    found = by_critic(P, draws(500, 1.0), how)
    assert_close(dict(network.state_dict()), before)  # no weight moved, and no norm was put around it
    assert isinstance(found.critic.network, nn.Linear)
    assert by_critic(P, draws(500, 1.0), how).value == found.value
    assert set(found.as_dict()) == {"value", "standard_error", "how", "raw", "slope"}


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    by_critic(P, Q, SHORT)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("p", "how", "sentence"),
    [
        (P, learnt(fresh=1), "critic of 1 samples cannot be judged by 1 fresh draws, .* at least 2"),
        (P, learnt(fresh=7, pack=4), "critic of 4 samples .* 7 fresh draws, .* at least 8"),
        (P, learnt(fresh=2.5), "2.5 fresh draws"),
        (draws(30), learnt(pack=4), "the 6 samples that are held out"),
    ],
)
def test_too_few_draws_to_judge_by_are_told_before_training(p, how, sentence, monkeypatch):
    monkeypatch.setattr(_learnt, "fit", lambda *args, **more: pytest.fail("it trained"))
    with pytest.raises(ArgumentError, match=sentence):
        by_critic(p, Q, how)


def test_packs_are_called_packs():
    one, two = (by_critic(P, Q, replace(SHORT, steps=5, pack=pack)).how for pack in (1, 2))
    assert one == "critic of the minimax game, 2 000 draws that it was not trained on"
    assert two == "critic of the minimax game, 1 000 packs of 2 draws that it was not trained on"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_samples_on_a_gpu_are_brought_to_the_critic():
    here = by_critic(draws(1000), draws(800, 1.0, 1), SHORT)
    assert by_critic(draws(1000).cuda(), draws(800, 1.0, 1).cuda(), SHORT).value == here.value


def test_bad_sides_get_a_sentence():
    with pytest.raises(ShapeError, match="p has rows of 1 numbers and q of 2"):
        by_critic(P, gaussian(2), SHORT)
    with pytest.raises(ArgumentError, match="the critic is flat"):
        by_critic(P, Q, learnt(games.wasserstein, clipping(0.0), steps=2, batch_size=8, fresh=50))
