"""Can an evaluation be trusted: classifiers that only seem robust, each with the verdict that it must get."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from psiphi.access import black_box, bpda, expectation, white_box
from psiphi.attacks import L2, Linf, auto, ddn, hop_skip_jump, iterative_fgsm, pgd, spatial
from psiphi.basis.errors import AccessError, ArgumentError
from psiphi.basis.noise import generator
from psiphi.data import load
from psiphi.defenses import detect, purify, smooth
from psiphi.evaluation import Honesty, honesty
from psiphi.evaluation._honest._state import State
from psiphi.training import fit
from psiphi.zoo import classifier

EPS = 0.1
SEEN = {"limit": 24, "queries": 25}


class Wrapped(nn.Module):
    """A network with something before and something after it."""

    def __init__(self, net, before=nn.Identity(), after=nn.Identity()):  # noqa: B008
        super().__init__()
        self.before, self.net, self.after = before, net, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def rounded(x):
    return (x * 4).round() / 4


@pytest.fixture(scope="module")
def digits():
    data = load("digits")
    net = classifier(data.shape, 10, hidden=(64,), seed=0)
    fit(net, data.train.x, data.train.y, epochs=8, seed=0, quiet=True)
    return net.eval(), data.test.x[:32], data.test.y[:32]


@pytest.fixture(scope="module")
def surrogate():
    data = load("digits")
    net = classifier(data.shape, 10, hidden=(32,), seed=1)
    fit(net, data.train.x, data.train.y, epochs=4, seed=1, quiet=True)
    return net.eval()


@pytest.fixture(scope="module")
def asked(digits, surrogate):
    """The verdicts on a wrapped network, by PGD on the cross-entropy."""
    net, x, y = digits

    def ask(before=nn.Identity(), after=nn.Identity(), attack=None, wrap=lambda net: net.eval(), **how):  # noqa: B008
        made = wrap(Wrapped(net, before, after))
        return honesty(made, x, y, attack or pgd(Linf(EPS), 10), surrogate=surrogate, **SEEN, **how)

    return ask


def failed(verdicts: Honesty) -> set[str]:
    return {each.name for each in verdicts.failed}


# ------------------------------------------------------------------------------------------------ sound, and not
def test_a_sound_classifier_under_a_sound_attack_fails_nothing(asked):
    found = asked(attack=auto(Linf(EPS), steps=10, queries=40))
    assert not failed(found), str(found)
    status = {each.name: each.status for each in found.verdicts}
    left_out = {name for name, value in status.items() if value == "SKIP"}
    assert left_out == {"purifier at every level", "certified ≤ empirical"}
    assert found["everything breaks at full width"].value == 1
    assert found["finite differences"].value == 0
    assert found.forwards > 0
    assert found.worst == "WARN"
    assert found["enough rows"].status == "WARN"  # thirty-two are not


def test_logits_so_large_that_the_loss_saturates_fail(asked, digits):
    found = asked(after=Apply(lambda z: 1e4 * z))
    assert {"gradients", "several losses", "everything breaks at full width"} <= failed(found)
    assert found["gradients"].value > 0.9
    plain = asked()
    assert float(found.evidence.columns["stands"].mean()) > 0.85  # what PGD alone would report
    assert abs(found.lowest - plain.lowest) < 0.1  # and what is found once it is asked
    assert "Not to be trusted" in found.summary()
    assert found["gradients"].advice in found.summary()


def test_a_random_classifier_fails_and_by_expectation_it_does_not(asked):
    noisy = Apply(lambda x: x + 0.1 * torch.randn_like(x))
    found = asked(before=noisy)
    assert failed(found) == {"randomness"}
    assert found["success grows with ε"].status == "SKIP"
    assert found.lowest != found.lowest
    small = pgd(Linf(EPS), 2)
    by_mean = asked(before=noisy, attack=small, wrap=lambda net: expectation(net.eval(), draws=2))
    assert by_mean["randomness"].status == "OK"
    assert by_mean["randomness"].value == 100
    assert by_mean["finite differences"].status == "OK"  # the draws are held while differences are taken
    assert "another question" in by_mean["randomness"].sentence


def test_too_few_fresh_draws_fail(asked):
    noisy = Apply(lambda x: x + 0.1 * torch.randn_like(x))
    found = asked(
        before=noisy, attack=pgd(Linf(EPS), 1), wrap=lambda net: expectation(net.eval(), 1, verify=9)
    )
    assert found["randomness"].status == "FAIL"
    assert found["randomness"].value == 9


def test_train_mode_fails(asked):
    found = asked(before=nn.Dropout(0.2), wrap=lambda net: net.train())
    assert "mode and state" in failed(found)
    assert "Dropout" in found["mode and state"].sentence


class Own(nn.Module):
    """Dropout that is no module, or of attention."""

    def __init__(self, dropout, attention=0.0):
        super().__init__()
        self.dropout, self.out = dropout, nn.Linear(8, 3)
        self.mix = nn.MultiheadAttention(8, 1, dropout=attention, batch_first=True)

    def forward(self, x):
        x = F.dropout(x, self.dropout, self.training)[:, None]
        return self.out(self.mix(x, x, x, need_weights=False)[0][:, 0])


@pytest.mark.parametrize(
    ("dropout", "attention", "status"), [(0.5, 0.0, "FAIL"), (0.0, 0.5, "FAIL"), (0.0, 0.0, "OK")]
)
def test_train_mode_is_seen_by_its_answers(dropout, attention, status):
    torch.manual_seed(0)
    net, x = Own(dropout, attention).train(), torch.rand(8, 8)
    found = honesty(net, x, None, pgd(Linf(EPS), 2), surrogate=net, queries=2)["mode and state"]
    assert found.status == status
    assert "train mode" in found.sentence
    assert net.training
    assert (
        honesty(net.eval(), x, None, pgd(Linf(EPS), 2), surrogate=net, queries=2)["mode and state"].status
        == "OK"
    )


def test_a_rounded_input_fails(asked):
    hard = asked(before=Apply(rounded))
    assert {"gradients", "finite differences", "gradients ≥ no gradients"} <= failed(hard)


def test_a_rounded_input_with_a_gradient_of_its_own_fails_unless_it_is_a_stand_in(asked):
    straight = asked(before=Apply(lambda x: x + (rounded(x) - x).detach()))
    assert "finite differences" in failed(straight)
    assert "gradients" not in failed(straight)
    said = asked(before=bpda(rounded))
    assert said["finite differences"].status == "OK"
    assert "bpda" in said["finite differences"].sentence


def test_a_step_outside_torch_has_no_gradient_at_all(asked):
    found = asked(before=Apply(lambda x: x.detach()))
    assert "gradients" in failed(found)
    assert "differentiably" in found["gradients"].sentence


def test_one_label_in_every_row_is_no_constant_classifier():
    """Class 0 on all probed rows and random points, and class 1 within ε of each: masked by rounding, or not."""
    x, y = torch.rand(24, 16, generator=generator("one label")), torch.zeros(24, dtype=torch.long)

    def score(x):
        z = x.sum(1) - 12
        return torch.stack((-z, z), 1)

    x = x.clamp(0.2, 0.7)
    how = {"surrogate": score, "queries": 30}
    masked = honesty(lambda x: score((x * 8).round() / 8), x, y, pgd(Linf(0.3), 5, random_start=False), **how)
    assert {"gradients", "finite differences"} <= failed(masked)
    sound = honesty(score, x, y, pgd(Linf(0.3), 5), **how)
    assert sound["everything breaks at full width"].status == "OK"
    assert sound["gradients"].status == "OK"
    assert not failed(sound), str(sound)
    walled = honesty(lambda x: score(x) + torch.tensor([10.0, 0]), x, y, pgd(Linf(0.3), 5), **how)
    assert walled["everything breaks at full width"].status == "WARN"  # nothing tells it from a wall
    assert not failed(walled), str(walled)


def test_a_random_classifier_has_fallen_where_most_draws_err():
    """At full width tanh(3 z) differs by 2 at most, and noise of √2 leaves an eighth of the draws right."""
    net = Linear()

    def noisy(x):
        return torch.tanh(3 * net(x)) + torch.randn(len(x), 2, dtype=x.dtype)

    x = torch.rand(16, 6, dtype=torch.float64, generator=generator("noisy")) * 0.4 + 0.3
    access = expectation(noisy, draws=16)
    found = honesty(access, x, net(x).argmax(1), pgd(Linf(0.3), 5), surrogate=net, queries=5)
    assert found.evidence.columns["full width"].max() < 0.5
    assert found["everything breaks at full width"].status == "OK"
    assert found["everything breaks at full width"].value == 1
    assert not failed(found), str(found)
    coin = lambda x: 0 * net(x) + 3 * (torch.rand(len(x), 1, dtype=x.dtype) < 0.7) * torch.tensor([1.0, -1.0])  # noqa: E731
    same = honesty(
        expectation(coin, draws=4), x, 0 * net(x).argmax(1), pgd(Linf(0.3), 3), surrogate=net, queries=5
    )
    assert same["everything breaks at full width"].status == "SKIP"
    told = {each.name: each.status for each in same.verdicts}
    for name in ("success grows with ε", "iterative ≥ one step", "white box ≥ transfer ≥ noise"):
        assert told[name] == "OK", same[name]  # shares of draws that differ by chance alone
    assert same.lowest == float(same.evidence.columns["stands"].mean())


def test_a_constant_classifier_is_excepted(asked):
    found = asked(after=Apply(lambda z: 0 * z + torch.arange(10.0)))
    assert found["everything breaks at full width"].status == "SKIP"
    assert found["gradients"].status == "SKIP"
    assert not failed(found)


def test_probabilities_fail(asked):
    assert "logits" in failed(asked(after=nn.Softmax(1)))
    assert asked(after=Apply(lambda z: torch.sigmoid(z / 20)))["logits"].status == "WARN"


def test_rows_that_see_each_other_fail(digits):
    net, x, y = digits

    def centred(x):
        z = net(x)
        return z - z.mean(0, keepdim=True)

    assert "rows apart" in failed(honesty(centred, x, y, pgd(Linf(EPS), 2), limit=16, queries=5))


def test_rows_apart_says_why_it_was_not_asked(digits):
    net, x, y = digits
    ask = lambda rows: honesty(net, x[rows], y[rows], pgd(Linf(EPS), 1), rows=rows, surrogate=net, queries=2)  # noqa: E731
    for rows in (torch.tensor([0]), torch.arange(8, 12)):
        found = ask(rows)["rows apart"]
        assert found.status == "SKIP"
        assert "random" not in found.sentence
        assert "rows 0 to 3" in found.sentence


def test_a_function_that_detaches_gets_its_fail(digits):
    net, x, y = digits
    found = honesty(lambda z: net(z.detach()), x, y, pgd(Linf(EPS), 1), limit=8, queries=2)
    assert "gradients" in failed(found)
    with pytest.raises(AccessError, match="differentiably"):
        pgd(Linf(EPS), 1)(lambda z: net(z.detach()), x[:4], y[:4])


# ------------------------------------------------------------------------------------------------ surrogates
class Alarm(nn.Module):
    """A projection to black, so that what is bright is far from it."""

    def project(self, x):
        return 0 * x


def test_surrogates_are_functions_or_know_no_refusal_and_have_as_many_classes(digits, surrogate):
    net, x, y = digits
    how = {"limit": 12, "queries": 2}
    attack, name = pgd(Linf(EPS), 3), "white box ≥ transfer ≥ noise"
    of_module = honesty(net, x, y, attack, surrogate=surrogate, **how)
    of_function = honesty(net, x, y, attack, surrogate=lambda x: surrogate(x), **how)
    assert of_function[name].sentence == of_module[name].sentence
    assert "surrogate" in of_module[name].sentence
    guarded = detect(Alarm(), x, alarm=0.1).guard(net)
    assert "transfer" in honesty(guarded, x, y, attack, surrogate=surrogate, **how).evidence.columns
    few = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    for classifier_ in (net, guarded):
        found = honesty(classifier_, x, y, attack, surrogate=few, **how)
        assert "4 classes apart, and the classifier 10" in found[name].sentence
    itself = honesty(net, x, y, attack, surrogate=white_box(surrogate), **how)
    assert "judged by itself" in itself[name].sentence


# ------------------------------------------------------------------------------------------------ weak attacks
def test_an_attack_that_hardly_moves_fails(asked):
    found = asked(attack=pgd(Linf(EPS), 2, step=1e-3, random_start=False))
    assert {"iterative ≥ one step", "everything breaks at full width"} <= failed(found)
    assert found["iterative ≥ one step"].value > 0.1


def test_an_attack_that_has_not_arrived_fails(asked):
    found = asked(attack=pgd(Linf(EPS), 2, step=0.02, random_start=False))
    assert "twice the steps" in failed(found)


def test_points_outside_the_ball_fail(asked):
    found = asked(attack=iterative_fgsm(Linf(EPS), 4, step=0.05, project=False))
    assert "ball and box" in failed(found)
    assert found["ball and box"].value > 0.5


# ------------------------------------------------------------------------------------------------ claims
class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, dtype=torch.float64, generator=generator("honesty linear")))

    def forward(self, x):
        score = (x - 0.5).flatten(1) @ self.w
        return torch.stack((-score, score), 1) / 2


class Certified:
    def __init__(self, prediction, radius):
        self.prediction, self.radius = prediction, radius


def boundary():
    """A linear classifier, rows, their labels, and how far each is from the boundary."""
    net = Linear()
    x = torch.rand(40, 6, dtype=torch.float64, generator=generator("honesty rows")) * 0.2 + 0.4
    score = (net(x)[:, 1] - net(x)[:, 0]).detach()
    return net, x, (score > 0).long(), score.abs() / net.w.detach().norm()


def test_a_certificate_that_says_too_much_fails():
    net, x, y, radius = boundary()
    attack, how = pgd(L2(float(radius.median())), 10), {"surrogate": net, **SEEN, "queries": 3}
    right = honesty(net, x, y, attack, certificate=Certified(y, radius), **how)
    assert right["certified ≤ empirical"].status == "OK"
    assert right["certified ≤ empirical"].value == 0
    wrong = honesty(net, x, y, attack, certificate=Certified(y, 1.5 * radius), **how)
    assert wrong["certified ≤ empirical"].status == "FAIL"


class Mostly(nn.Module):
    """Right by a little in most draws of the noise, wrong by a lot in the others; class 1 is right."""

    def forward(self, x):
        u = x.flatten(1)[:, 0] - 0.5
        z = torch.where(u > 0, 0.1, -20.0) + 0 * u
        return torch.stack([torch.zeros_like(u), z], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_sound_certificate_is_of_votes_not_of_the_mean():
    """The mean softmax errs where the votes are right, and the votes are what was certified."""
    x, y = torch.full((6, 1, 3, 3), 0.6), torch.ones(6, dtype=torch.long)
    safe = smooth(Mostly(), 0.25, draws=16)
    certificate = safe.certify(x, n0=50, n=1000)
    assert certificate.certified(y).all()
    how = {"certificate": certificate, "surrogate": Mostly(), "queries": 3}
    found = honesty(expectation(safe, draws=1), x, y, pgd(L2(0.01), 2), **how)
    assert float(found.evidence.columns["stands"].mean()) == 0  # by the mean softmax, nothing is left
    assert found["certified ≤ empirical"].status == "OK"
    assert found["certified ≤ empirical"].value == 0
    too_much = Certified(certificate.prediction, 8 * certificate.radius)  # 0.1 to the boundary
    wrong = honesty(expectation(safe, draws=1), x, y, pgd(L2(0.01), 2), **how | {"certificate": too_much})
    assert wrong["certified ≤ empirical"].status == "FAIL"
    held = honesty(expectation(nn.Sequential(safe), 1), x, y, pgd(L2(0.01), 1), limit=2, **how)
    assert held["certified ≤ empirical"].status == "SKIP"


@pytest.mark.parametrize("eps", [0.02, 0.5])
def test_a_certificate_is_tried_within_each_radius_of_its_own(eps):
    net, x, y, radius = boundary()
    how = {"surrogate": net, **SEEN, "queries": 3}
    for factor, status in ((1.0, "OK"), (2.0, "FAIL")):
        found = honesty(net, x, y, pgd(L2(eps), 5), certificate=Certified(y, factor * radius), **how)
        assert found["certified ≤ empirical"].status == status
    other = honesty(net, x, y, pgd(Linf(eps), 5), certificate=Certified(y, 2 * radius), **how)
    assert other["certified ≤ empirical"].status == "SKIP"


class Cell(nn.Module):
    """A projection that rounds, and so has no gradient."""

    def project(self, x):
        return rounded(x)


def test_a_purifier_is_shown_at_every_level(digits, surrogate):
    net, x, y = digits
    attack, how = pgd(Linf(EPS), 5), {"limit": 16, "queries": 5, "surrogate": surrogate}
    whole = honesty(purify(net, Cell()), x, y, attack, **how)
    found = whole["purifier at every level"]
    for level in ("gray-box", "bpda", "exact gradient", "fixed noise", "expectation"):
        assert level in found.sentence
    assert found.status == "FAIL"  # no gradient comes through, and the identity's breaks it
    assert whole.lowest < float(whole.evidence.columns["stands"].mean()) - 0.1


class Half(nn.Module):
    """A projection to half of the way from the middle, wherever the data's box is."""

    def project(self, x):
        return 0.5 * x


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), ([-1.0] * 3, [1.0] * 3)])
def test_a_purifier_is_shown_at_every_level_in_any_box(bounds):
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 3)).eval()
    x = torch.rand(8, 3, 3, 3, generator=generator("box")) * 2 - 1
    safe = white_box(purify(net, Half()), bounds=bounds)
    found = honesty(safe, x, None, pgd(Linf(EPS), 2), surrogate=net, queries=2, batch_size=3)
    assert found["purifier at every level"].status in ("OK", "WARN")
    scaled = honesty(
        white_box(purify(net, Half()), mean=0.5), x.abs(), None, pgd(Linf(EPS), 1), surrogate=net, queries=2
    )
    assert "without mean and std" in scaled["purifier at every level"].sentence


# ------------------------------------------------------------------------------------------------ the record
def test_parts_joined_are_the_whole(digits, surrogate, tmp_path):
    net, x, y = digits
    net = nn.Sequential(net).double()
    x, how = x[:24].double(), {"surrogate": surrogate, "limit": 20, "queries": 20}
    ask = lambda rows: honesty(net, x[list(rows)], y[list(rows)], pgd(Linf(EPS), 5), rows=rows, **how)  # noqa: E731
    whole, parts = ask(range(24)), [ask(range(r, 24, 3)) for r in range(3)]
    joined = Honesty.cat(parts[::-1])
    told, same = whole.as_dict(), joined.as_dict()
    assert told == same
    for name, column in whole.evidence.columns.items():
        assert_close(joined.evidence.columns[name], column, equal_nan=True, msg=name)
    assert whole.rows == 20
    with pytest.raises(ArgumentError, match="two of the parts"):
        Honesty.cat([parts[0], parts[0]])
    whole.save(tmp_path / "honesty")
    assert Honesty.load(tmp_path / "honesty").as_dict() == told
    net.float()


def test_what_a_run_changed_is_named():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    before = State.of(net)
    assert before.changes(net) == []
    with torch.no_grad():
        net[0].weight += 1
    net[1].train()
    net[0].bias.requires_grad_(False)
    changed = before.changes(net)
    assert "0.weight" in changed
    assert "mode of 1" in changed
    assert "requires_grad of 0.bias" in changed
    torch.rand(1)
    assert "torch's random state" in before.changes(net)


def test_threats_and_accesses_that_show_less_leave_checks_out(digits):
    net, x, y = digits
    turned = honesty(net, x, y, spatial(), limit=6, queries=5)
    assert turned["everything breaks at full width"].status == "SKIP"
    assert turned["ball and box"].status == "OK"
    nearest = honesty(net, x, y, ddn(steps=10), limit=6)
    assert nearest["everything breaks at full width"].value == 1
    assert "radius" in nearest["twice the steps"].sentence
    labels = honesty(black_box(net, "labels"), x, y, hop_skip_jump(L2(), steps=1), limit=4)
    assert labels["gradients"].status == labels["logits"].status == "SKIP"
    assert not turned.failed, str(turned)
    own = honesty(white_box(net), x, y, pgd(Linf(torch.full((32,), EPS)), 3), limit=6, queries=5)
    assert own["ball and box"].status == "OK"


def test_errors_are_sentences(digits):
    net, x, y = digits
    with pytest.raises(ArgumentError, match="asked of an attack"):
        honesty(net, x, y)
    with pytest.raises(ArgumentError, match="limit"):
        honesty(net, x, y, pgd(Linf(EPS)), limit=0)
    with pytest.raises(ArgumentError, match="rows has"):
        honesty(net, x, y, pgd(Linf(EPS)), rows=range(3))
    with pytest.raises(ArgumentError, match="names 1 twice"):
        honesty(net, x[:3], y[:3], pgd(Linf(EPS)), rows=torch.tensor([0, 1, 1]))
    with pytest.raises(ArgumentError, match="certify these rows"):
        honesty(net, x, y, pgd(L2(EPS)), certificate=Certified(y[:3], torch.ones(3)))
    with pytest.raises(ArgumentError, match="certificate=3"):
        honesty(net, x, y, pgd(L2(EPS)), certificate=3)
