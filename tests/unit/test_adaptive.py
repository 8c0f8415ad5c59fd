"""The honest table of a purifier: what each attacker knows, and that no level can flatter it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import Linf, ddn, fgsm, pgd
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import generator
from psiphi.defenses import purify
from psiphi.evaluation import adaptive
from psiphi.evaluation._levels import LEVELS

PGD = pgd(Linf(0.2), steps=8)


class Linear(nn.Module):
    """Two classes by the sign of aᵀx − ½ Σa."""

    def __init__(self, d: int = 6):
        super().__init__()
        self.register_buffer("a", torch.ones(d, dtype=torch.float64))
        self.float_ = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        z = (x - 0.5) @ self.a + 0 * self.float_
        return torch.stack([-z, z], 1)


class Shift(nn.Module):
    """Pulls x to the nearer of two points; the pull saturates, so that its gradient is next to nothing."""

    def project(self, x, sharpness=200.0):
        side = torch.tanh(sharpness * (x - 0.5).mean(1, keepdim=True))
        return (0.5 + 0.3 * side).expand_as(x) + 0.0 * x


class Jitter(nn.Module):
    """Adds noise of width σ along the way that the classifier looks."""

    def project(self, x, sigma=0.6, *, seed=0):
        key = seed if isinstance(seed, int) else 0
        noise = torch.randn(len(x), 1, generator=torch.Generator().manual_seed(key % 2**63), dtype=x.dtype)
        return x + sigma * (noise[:1].expand(len(x), 1) if key == 0 else noise)


def data(n: int = 40, gap: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows whose mean lies `gap` on either side of ½."""
    draw = generator("adaptive", n)
    y = torch.arange(n) % 2
    x = 0.5 + gap * (2 * y[:, None] - 1) + 0.02 * torch.randn(n, 6, generator=draw, dtype=torch.float64)
    return x.clamp(0, 1), y


def test_a_purifier_that_masks_its_gradient_is_seen_through_by_bpda():
    """Every row can be broken (0.15 < 0.2); where a tanh is ±1 in double precision its slope is 0."""
    x, y = data()
    table = adaptive(purify(Linear(), Shift()), x, y, PGD)
    assert table.clean.value == table.bare_clean.value == 1.0
    assert table.bare.value == 0.0
    assert table.levels["bpda"].value == 0.0
    assert table.levels["exact gradient"].value > 0.8  # a few random starts are across already
    assert table.worst == ("gray-box", 0.0)  # what breaks the classifier alone crosses the middle too
    assert list(table.levels) == list(LEVELS)
    assert "there is no noise" in table.levels["expectation"].note


def test_a_projection_that_undoes_the_change_is_high_for_those_who_do_not_know_it():
    """Π turns the sign of the deviation: what breaks f helps f∘Π, until the attacker looks through Π."""

    class Turn(nn.Module):
        def project(self, x):
            return 1 - x

    x, y = data()
    table = adaptive(purify(Linear(), Turn()), x, 1 - y, PGD)
    assert table.clean.value == 1.0
    assert table.bare_clean.value == 0.0
    assert table.levels["bpda"].value == 1.0  # the identity's gradient points the wrong way
    assert table.levels["exact gradient"].value == 0.0
    assert table.worst == ("exact gradient", 0.0)
    assert table.together.value == 0.0


def test_a_random_purifier_is_judged_on_fresh_draws_at_every_level():
    """z = m + σξ: a row stands in a share Φ((m − ε)/σ) of draws, m its distance from the boundary."""
    x, y = data(60, gap=0.3)
    sigma, verify = 0.2, 200
    safe = purify(Linear(), Jitter(), seed=None, sigma=sigma)
    table = adaptive(safe, x, y, fgsm(Linf(0.2)), draws=64, verify=verify, seed=1, batch_size=4096)
    margin = (2 * y - 1) * (x - 0.5).mean(1)
    normal = torch.distributions.Normal(0.0, 1.0)
    attacked = [(table.levels[name], 0.2) for name in ("gray-box", "bpda", "expectation")]
    for level, far in ((table.clean, 0.0), *attacked):
        theory = normal.cdf((margin - far) / sigma)
        error = float((theory * (1 - theory) / verify).sum().sqrt()) / len(x)
        assert abs(level.value - float(theory.mean())) < 4 * error
    assert set(table.levels) == set(LEVELS)
    assert table.levels["fixed noise"].held is not None
    assert "fresh noise" in table.levels["fixed noise"].note
    assert table.provenance["random"]
    low, high = table.levels["expectation"].interval
    assert low < table.levels["expectation"].value < high


def test_the_worst_of_all_levels_is_picked_on_one_set_of_draws_and_judged_on_another():
    """A coin decides, whatever x is: the least of five levels is below ½ by luck, fresh draws are not."""

    class Own(nn.Module):
        def project(self, x):
            side = torch.randint(0, 2, (len(x), 1)).to(x)
            return 0.2 + 0.6 * side + 0 * x

    x, y = data(50)
    verify = 20
    table = adaptive(purify(Linear(), Own()), x, y, pgd(Linf(0.1), steps=1), draws=2, verify=verify)
    error = (0.25 / (50 * verify)) ** 0.5
    assert abs(table.together.value - 0.5) < 4 * error
    least = torch.stack([e.right for e in table.levels.values() if e.right is not None]).amin(0)
    assert float(least.mean()) < 0.5 - 4 * error
    name, value = table.worst
    lowest = min(each.value for each in (*table.levels.values(), table.together) if each.right is not None)
    assert abs(value - 0.5) < 4 * error
    assert value == table.final.value != lowest
    assert table.final.name == name
    assert table.as_dict()["worst"] == {"level": name, "value": value}
    assert table.levels["fixed noise"].right is None
    assert "takes no seed" in table.levels["fixed noise"].note


def test_a_seed_that_is_taken_and_not_heeded_costs_one_level():
    class Deaf(nn.Module):
        def project(self, x, *, seed=0):
            return x + 0.1 * torch.randn(len(x), 1, dtype=x.dtype)

    x, y = data(8)
    table = adaptive(purify(Linear(), Deaf(), seed=None), x, y, pgd(Linf(0.1), steps=1), draws=2, verify=4)
    assert table.levels["fixed noise"].right is None
    assert "random" in table.levels["fixed noise"].note
    assert table.levels["expectation"].right is not None


def test_a_projection_without_a_gradient_leaves_levels_out_and_says_why():
    class Rounded(nn.Module):
        def project(self, x):
            return torch.as_tensor((4 * x.detach()).numpy().round() / 4)

    x, y = data()
    table = adaptive(purify(Linear(), Rounded()), x, y, PGD)
    for name in ("exact gradient", "fixed noise", "expectation"):
        assert table.levels[name].right is None
        assert "does not depend differentiably" in table.levels[name].note
        assert table.levels[name].share is None
        assert table.as_dict()["levels"][name]["value"] is None
    assert table.worst[1] == table.levels["bpda"].value == 0.0
    assert "—" in str(table)


def test_a_fixed_seed_is_attacked_through_itself_and_over_fresh_noise():
    x, y = data(40, gap=0.3)
    safe = purify(Linear(), Jitter(), seed=4, sigma=0.3)
    table = adaptive(safe, x, y, PGD, draws=4)
    exact, fixed = table.levels["exact gradient"], table.levels["fixed noise"]
    assert fixed.value == exact.value
    assert "its seed fixes it" in fixed.note
    assert fixed.forwards == 0
    assert "judged under its own" in table.levels["expectation"].note
    assert table.levels["expectation"].forwards > exact.forwards
    assert not table.levels["expectation"].drawn


def test_the_table_counts_repeats_and_tells():
    x, y = data(16)
    safe, moves = purify(Linear(), Shift()), []
    one = adaptive(safe, x, y, PGD, seed=3, on_progress=lambda done, of: moves.append((done, of)))
    two = adaptive(safe, x, y, PGD, seed=3, batch_size=7)
    assert moves[-1] == (80, 80)
    assert [done for done, _ in moves] == sorted(done for done, _ in moves)
    for name in LEVELS:
        assert torch.equal(one.levels[name].right, two.levels[name].right)
    record = one.as_dict()
    assert record["worst"] == {"level": one.worst[0], "value": one.worst[1]}
    assert record["levels"]["bpda"]["n"] == len(x)
    assert record["levels"]["bpda"]["interval"] == list(one.levels["bpda"].interval)
    assert record["levels"]["exact gradient"]["forwards"] > 0
    assert "the number to report: 0.0%" in str(one)
    assert repr(one).startswith("Adaptive of purify(Linear, Shift)")
    assert_close(one.x.shape, x.shape)
    assert ((one.x - x).abs() <= 0.2 + 1e-9).all()


def test_bad_questions_get_a_sentence():
    x, y = data()
    with pytest.raises(ArgumentError, match="adaptive judges a purifier"):
        adaptive(Linear(), x, y, PGD)
    with pytest.raises(ArgumentError, match="has no radius"):
        adaptive(purify(Linear(), Shift()), x, y, ddn())
    with pytest.raises(ArgumentError, match="no rows"):
        adaptive(purify(Linear(), Shift()), x[:0], y[:0], PGD)
    with pytest.raises(ArgumentError, match="got 'pgd'"):
        adaptive(purify(Linear(), Shift()), x, y, "pgd")
