"""Every model that projects, as a purifier: shapes, batches, gradients, noise, options, memory."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.helpers.memory import peak
from tests.helpers.zoo import SHORT, digits, trained
from torch import nn
from torch.testing import assert_close

from psiphi import zoo
from psiphi.access import expectation
from psiphi.attacks import Linf, pgd
from psiphi.basis.errors import AccessError, ArgumentError, DataError, ShapeError
from psiphi.basis.noise import Noise, generator
from psiphi.defenses import Purified, purify, tuned
from psiphi.models import nearest_code

NOISELESS = ("ae", "vae", "denoising_ae", "pca")
NOISY = ("gan", "wgan_gp", "score_model", "ddpm", "edm")
HOW = {
    "gan": SHORT,
    "wgan_gp": SHORT,
    "score_model": {"sigma": 0.2, "steps": 4},
    "ddpm": {"sigma": 0.2, "steps": 4},
}


def classifier(seed: int = 0) -> nn.Module:
    return zoo.classifier((1, 8, 8), 10, hidden=(16,), seed=seed).eval()


def guarded(name: str, seed: int | None = 0, **how) -> Purified:
    model = trained(name)
    return purify(classifier(), model, seed=seed, **{**HOW.get(name, {}), **how})


def rows(n: int = 6) -> torch.Tensor:
    return digits()[0][:n].clone()


# ---------------------------------------------------------------------------------------- the contract
@pytest.mark.parametrize("name", [*NOISELESS, *NOISY])
def test_a_projection_of_rows_is_theirs_alone_and_leaves_no_trace(name):
    safe, x = guarded(name), rows()
    safe.model.train()
    modes = [module.training for module in safe.modules()]
    state = torch.get_rng_state()
    found = safe.project(x)
    assert [module.training for module in safe.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert found.shape == x.shape
    assert (found - x).abs().max() > 1e-3
    assert_close(safe(x), safe.classifier(found), rtol=0, atol=0)
    assert_close(safe.project(x), found, rtol=0, atol=0)
    assert_close(safe.project(x[2:5]), found[2:5], rtol=1e-4, atol=1e-4)
    doubled = safe.project(x.double())
    assert doubled.dtype == torch.float64
    assert_close(doubled, found.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*NOISELESS, *NOISY])
def test_the_gradient_goes_through_the_projection(name):
    """Along a random direction, against central differences in float64."""
    safe, x = guarded(name, **({"steps": 5} if name in ("gan", "wgan_gp") else {})), rows(3).double()
    safe = copy.deepcopy(safe).double()
    towards = torch.randn(x.shape, generator=generator("purify", name), dtype=torch.float64)
    here = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(safe(here).square().sum(), here)
    with torch.no_grad():
        up, down = (safe(x + sign * 1e-5 * towards).square().sum() for sign in (1, -1))
    assert_close((slope * towards).sum(), (up - down) / 2e-5, rtol=1e-3, atol=1e-7)
    assert slope.flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize("name", NOISELESS)
def test_a_projection_without_noise_takes_no_notice_of_a_seed(name):
    x = rows()
    assert not guarded(name, None).random
    assert_close(guarded(name, None)(x), guarded(name, 5)(x), rtol=0, atol=0)
    assert "seed" not in repr(guarded(name, None))


@pytest.mark.parametrize("name", NOISY)
def test_a_number_fixes_the_noise_and_none_draws_anew_for_every_row(name):
    x = rows(1).expand(4, -1, -1, -1)
    fixed, fresh = guarded(name), guarded(name, None)
    same = fixed.project(x)
    assert_close(same, same[:1].expand_as(same), rtol=1e-5, atol=1e-5)
    assert (fixed.seeded(1).project(x) - same).abs().max() > 1e-4
    torch.manual_seed(3)
    first, second = fresh.project(x), fresh.project(x)
    assert fresh.random
    assert (first - second).abs().max() > 1e-4
    apart = (first[:, None] - first[None]).abs().flatten(2).amax(2)
    assert apart[~torch.eye(4, dtype=torch.bool)].min() > 1e-5
    torch.manual_seed(3)
    assert_close(fresh.project(x), first, rtol=0, atol=0)


def test_fresh_noise_is_attacked_by_expectation_alone():
    safe, (x, y) = guarded("ddpm", None), digits()
    attack = pgd(Linf(0.1), steps=2)
    with pytest.raises(AccessError, match="output is random"):
        attack(safe, x[:8], y[:8])
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one, two = (attack(expectation(safe, 3, verify=10), x[:8], y[:8], seed=2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.share, two.share)
    assert_close(one.x, two.x, rtol=0, atol=0)
    assert not torch.equal(attack(expectation(safe, 3, verify=10), x[:8], y[:8], seed=4).share, one.share)


def test_noise_of_each_row_is_that_of_the_model_s_own_verb():
    model, x = trained("ddpm"), rows()
    noise = Noise.of(7, 100)
    whole = model.project(x, 0.3, seed=noise.take(slice(0, 6)))
    assert_close(model.project(x[4:], 0.3, seed=noise.take(slice(4, 6))), whole[4:], rtol=1e-5, atol=1e-5)
    zero = Noise.of(7, torch.zeros(6, dtype=torch.long))
    assert_close(model.project(x, 0.3, seed=zero), model.project(x, 0.3, seed=7), rtol=0, atol=0)


def test_a_search_from_draws_of_each_row_is_the_search_of_each_alone():
    model, draw = trained("ae").double(), generator("own draws")
    x, how = rows(4).double(), {"steps": 10, "restarts": 3}
    own = torch.randn(4, 20, model.latent_dim, generator=draw, dtype=torch.float64)
    found = nearest_code(model.decode, x, own, **how)
    alone = [nearest_code(model.decode, x[i : i + 1], own[i], **how).point for i in range(4)]
    assert_close(found.point, torch.cat(alone))
    labelled = trained("gan-conv")
    y = torch.tensor([3, 1, 3, 0])
    each = labelled.project(rows(4), y=y, seed=Noise.of(1, 4), **SHORT)
    one = labelled.project(rows(4)[1:2], y=1, seed=Noise.of(1, 4).take(slice(1, 2)), **SHORT)
    assert_close(each[1:2], one, rtol=1e-3, atol=1e-3)


# -------------------------------------------------------------------------------------------- options
def test_options_are_those_of_the_model_s_projection():
    safe = guarded("ddpm", 3, sigma=0.25, steps=2)
    x = rows()
    assert_close(safe.project(x), safe.model.project(x, 0.25, steps=2, seed=3), rtol=0, atol=0)
    assert repr(safe) == "purify(classifier, ddpm, sigma=0.25, steps=2, seed=3)"
    assert safe.options == ("sigma", "steps", "plan")
    assert safe.altered(steps=3).how == {"sigma": 0.25, "steps": 3}
    assert repr(guarded("pca")) == "purify(classifier, pca)"


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("ddpm", {"sigm": 0.2}, "ddpm cannot project with sigm=0.2; did you mean sigma"),
        ("pca", {"sigma": 0.2}, "pca cannot project with sigma=0.2; it takes no options"),
        ("ddpm", {"sigma": -1.0}, "finite noise level above 0"),
        ("ddpm", {"sigma": 1e-9}, "above the least of the schedule"),
        ("gan", {"steps": 0}, "number of steps must be an integer"),
        ("gan", {"y": 3}, "y is no option of a purifier"),
        ("ddpm", {"seed": 0.5}, "seed is a whole number, or None"),
    ],
)
def test_what_cannot_be_projected_with_is_said_when_it_is_made(name, how, said):
    with pytest.raises(ArgumentError, match=said):
        purify(classifier(), trained(name), **how)


def test_a_module_of_your_own_may_take_a_seed_and_options():
    class Jitter(nn.Module):
        def project(self, image, width=0.1, *, seed=0):
            draw = torch.Generator().manual_seed(seed)
            return image + width * torch.randn(image.shape, generator=draw)

    x, safe = rows(), purify(classifier(), Jitter(), width=0.2)
    assert_close(safe.project(x), Jitter().project(x, 0.2))
    assert repr(safe) == "purify(classifier, Jitter, width=0.2, seed=0)"
    fresh = safe.seeded(None)
    assert fresh.random
    assert not torch.equal(fresh.project(x), fresh.project(x))
    with pytest.raises(ArgumentError, match="Jitter cannot project with widht"):
        purify(classifier(), Jitter(), widht=0.2)


# --------------------------------------------------------------------------------------------- memory
def full(safe: nn.Module, x: torch.Tensor) -> int:
    """Bytes at the fullest moment of a pass and its gradient."""

    def run() -> None:
        here = x.clone().requires_grad_()
        torch.autograd.grad(safe(here).sum(), here)

    return peak(run)


def test_a_gradient_through_a_diffusion_holds_one_step_s_activations_and_an_image_a_step():
    x, net = torch.rand(32, 1, 16, 16), zoo.classifier((1, 16, 16), 10, hidden=(16,)).requires_grad_(False)
    model = zoo.ddpm((1, 16, 16), hidden=(256, 256)).requires_grad_(False)
    image = x.numel() * x.element_size()
    one = full(lambda x: model.denoise(x, 0.3), x)
    assert one > 30 * image
    for steps in (2, 8, 24):
        spent = full(purify(net, model, sigma=0.3, steps=steps), x)
        assert spent <= one + (steps + 6) * image, f"{spent / image:.1f} images at {steps} steps"


def test_a_gradient_through_a_search_holds_no_more_than_an_image_a_step():
    x, net = torch.rand(32, 1, 16, 16), zoo.classifier((1, 16, 16), 10, hidden=(16,)).requires_grad_(False)
    gan = zoo.gan((1, 16, 16), 8, hidden=(256,)).requires_grad_(False)
    image = x.numel() * x.element_size()
    few, many = (full(purify(net, gan, steps=steps, restarts=1), x) for steps in (2, 32))
    assert many <= few + 30 * image


# --------------------------------------------------------------------------------------------- tuning
def test_tuning_picks_the_level_that_undoes_a_known_change():
    """The projection takes away what exceeds a limit; the change is 0.5 where the clean pixel is at most 0.2."""

    class Clip(nn.Module):
        def project(self, x, most=1.0):
            return x.clamp(max=most)

    class Bright(nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(1, keepdim=True)
            return 100 * torch.cat([0.3 - mean, mean - 0.3], 1)

    x = 0.2 * torch.rand(20, 1, 4, 4, generator=generator("tuning"))
    y = torch.zeros(20).long()
    safe = purify(Bright(), Clip())
    found = tuned(safe, x, y, pgd(Linf(0.5), steps=2), most=[1.0, 0.5, 0.25, 0.2])
    assert found.changed == (0.0, 0.0, 1.0, 1.0)
    assert found.clean == (1.0, 1.0, 1.0, 1.0)
    assert found.safe.how == {"most": 0.25}
    assert found.as_dict()["chosen"] == {"most": 0.25}
    assert "→ most=0.25" in str(found)
    given = tuned(safe, x + 0.5, y, most=[0.5, 0.2])
    assert (given.chosen, given.changed) == (1, (0.0, 1.0))


@pytest.mark.parametrize(
    ("hits", "chosen"), [((4, 11, 12, 13), 2), ((12, 13), 0), ((11, 13), 1), ((16, 16), 0)]
)
def test_tuning_takes_the_first_within_one_standard_error(hits, chosen):
    """13 right of 16 have an error of √(0.8125 · 0.1875/16) = 0.0976: 12 are within it of them, 11 are not."""

    class Some(nn.Module):
        def project(self, x, many=0):
            return (torch.arange(len(x)) < many).to(x)[:, None].expand_as(x)

    class Split(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] - 0.5, 0.5 - x[:, 0]], 1)

    x, y = torch.zeros(16, 3), torch.zeros(16).long()
    assert tuned(purify(Split(), Some()), x, y, many=list(hits)).chosen == chosen


def test_tuning_has_usual_levels_and_says_what_it_lacks():
    x, y = digits()
    found = tuned(guarded("edm", None, steps=2), x[:8], y[:8], draws=2)
    unit = float(found.safe.model.statistics.sigma)
    assert_close(
        [each["sigma"] / unit for each in found.option], [0.1, 0.2, 0.3, 0.5, 0.7, 1.0], rtol=5e-3, atol=0
    )
    assert [each["steps"] for each in tuned(guarded("vae"), x[:8], y[:8]).option] == [1, 2, 3, 5]
    for safe, how, said in (
        (guarded("pca"), {}, "no option that is tried unless told"),
        (guarded("vae"), {"steps": []}, "steps needs a list of values"),
        (guarded("vae"), {"draws": 0}, "draws is a whole number"),
    ):
        with pytest.raises(ArgumentError, match=said):
            tuned(safe, x[:8], y[:8], **how)
    with pytest.raises(ArgumentError, match="no validation rows"):
        tuned(guarded("vae"), x[:0], y[:0])
    with pytest.raises(ArgumentError, match="attack is one of ours"):
        tuned(guarded("vae"), x[:8], y[:8], "pgd")
    for labels, error in ((y[:8] * 0 - 1, DataError), (y[:5], ShapeError), (None, DataError)):
        with pytest.raises(error, match="label"):
            tuned(guarded("vae"), x[:8], labels)


def test_tuning_takes_rows_of_another_precision():
    x, y = digits()
    attack = pgd(Linf(0.1), steps=2)
    found = [tuned(guarded("vae"), rows, y[:8], attack, steps=[1, 2]) for rows in (x[:8], x[:8].double())]
    assert found[0].as_dict() == found[1].as_dict()
