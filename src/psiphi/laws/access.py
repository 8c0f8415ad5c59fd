"""Laws of what an attacker may see."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from psiphi.access import Reveal, black_box, bpda, expectation, white_box
from psiphi.attacks import Attack, Linf, fgsm, pgd
from psiphi.basis.noise import generator
from psiphi.formulas import goals
from psiphi.laws._asking import Counting, LabelSearch, RandomSearch
from psiphi.laws._law import Measured, at_most, law


def _linear(key: str, dims: int, classes: int) -> nn.Linear:
    net, draw = nn.Linear(dims, classes).double(), generator(key)
    with torch.no_grad():
        for value in (net.weight, net.bias):
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64))
    return net.requires_grad_(False)


def _centres(key: str, rows: int, dims: int) -> Tensor:
    return 0.3 + 0.4 * torch.rand(rows, dims, generator=generator(key, "x"), dtype=torch.float64)


@law("19", "a black box gives answers, and no more than its budget")
def enforced() -> list[Measured]:
    """Random searches by scores and by labels on a classifier that counts; a white-box attack as the control."""
    net, x, turns = _linear("law 19", 6, 3), _centres("law 19", 24, 6), 7
    counting = Counting(net)
    pgd(Linf(0.0), steps=5)(counting, x)
    measured = [
        Measured(
            "white box, the control: rows whose gradient the hook saw", 5 * len(x), counting.backwards, 0
        )
    ]
    kinds: tuple[tuple[Reveal, type[RandomSearch]], ...] = (("scores", RandomSearch), ("labels", LabelSearch))
    for reveal, search in kinds:
        for budget, each in ((None, 1), (1, 1), (6, 1), (7, 3)):
            counting = Counting(net)
            attack = Attack(Linf(0.05), goals.margin, search(turns, each))
            result = attack(black_box(counting, reveal, budget), x, batch_size=16, stop_early=False)
            what, most = f"{reveal}, budget {budget}, {each} a turn", 1 + turns * each
            measured += [
                Measured(f"{what}: rows whose gradient passed back", 0, counting.backwards, 0),
                Measured(f"{what}: calls with gradients on", 0, counting.tracked, 0),
                Measured(
                    f"{what}: rows sent, by the model's count", int(result.forwards.sum()), counting.sent, 0
                ),
            ]
            if budget is None:
                measured.append(
                    at_most(f"{what}: one less the rows broken", 0, 1 - int(result.success.sum()))
                )
            else:
                measured.append(at_most(f"{what}: rows of a sample", budget, int(result.forwards.max())))
                most = min(most, budget)
            spent = int((result.forwards - most).abs().max())
            measured.append(Measured(f"{what}: rows of a sample, off clean + search", 0, spent, 0))
            if reveal == "scores":
                again = goals.margin(net(result.x), net(x).argmax(1))
                gap = float((again - result.score).abs().max())
                measured.append(Measured(f"{what}: recorded score, off a fresh one", 0, gap, 1e-12))
    return measured


@law("19a", "randomised classifiers: mean gradient, share of fresh draws, substitute gradient")
def randomised() -> list[Measured]:
    """Draws given as a table; two classes with Gaussian noise on the logits, in closed form; a quantiser."""
    draw = generator("law 19a")
    n, m, dims = 12, 7, 5
    body, x = _linear("law 19a", dims, 3), _centres("law 19a", n, dims)
    noise = torch.randn(m, n, dims, generator=draw, dtype=torch.float64)
    y = torch.arange(n) % 3

    def score(logits: Tensor) -> Tensor:
        return goals.cross_entropy(logits, y)

    def given(part: Tensor):
        return white_box(lambda x: body(torch.tanh(x + part)))

    folded = expectation(given(noise.flatten(0, 1)), draws=m).climb(x, score)
    single = [given(part).climb(x, score) for part in noise]
    means = [torch.stack([getattr(r, name) for r in single]).mean(0) for name in ("value", "gradient")]
    assert folded.value is not None
    assert folded.gradient is not None
    measured = [
        Measured(
            "mean over draws, off that of single passes",
            0,
            float((folded.value - means[0]).abs().max()),
            1e-12,
        ),
        Measured("its gradient, off their mean", 0, float((folded.gradient - means[1]).abs().max()), 1e-12),
    ]
    return measured + _shares() + _substituted()


def _shares(rows: int = 60, eps: float = 0.05, sigma: float = 0.7, verify: int = 200) -> list[Measured]:
    """z = Wx + b + σξ, a = w₁ − w₀: after the best step the margin is M = |aᵀx + b₁ − b₀| − ε‖a‖₁, ρ = Φ(−M/(σ√2)).

    Of 256 draws each, the means at x and after the step differ by more than their noise in every row.
    """
    net, x = _linear("law 19a, shares", 6, 2), _centres("law 19a, shares", rows, 6)
    net.bias -= net(x).mean(0)
    a = net.weight[1] - net.weight[0]
    before = net(x)
    y, gap = before.argmax(1), (before[:, 1] - before[:, 0]).abs()
    access = expectation(
        lambda x: net(x) + sigma * torch.randn(len(x), 2, dtype=x.dtype), draws=256, verify=verify
    )
    result = fgsm(Linf(eps))(access, x, y, seed=19, stop_early=False)
    assert result.share is not None
    theory = torch.distributions.Normal(0.0, 1.0).cdf(-(gap - eps * a.abs().sum()) / (sigma * sqrt(2)))
    error = float((theory * (1 - theory) / verify).sum().sqrt()) / rows
    called = int((result.success != (result.share > 0.5)).sum())
    off = (result.share - theory) / (theory * (1 - theory) / verify).sqrt().clamp_min(1 / verify)
    return [
        Measured("mean share of wrong draws, Φ(−M/(σ√2))", float(theory.mean()), float(result.share.mean()), 4 * error),
        Measured("mean of 1 − share, as the accuracy", 1 - float(result.share.mean()), result.accuracy, 1e-12),
        at_most("largest deviation of a row's share, in standard errors", 4.5, float(off.abs().max())),
        Measured("rows called broken, off those of share > ½", 0, called, 0),
    ]  # fmt: skip


def _substituted() -> list[Measured]:
    """f rounds to tenths, b = sin: ∇ = b′(x) · (∂s/∂u at u = f(x))."""
    body, x = _linear("law 19a, bpda", 5, 3), _centres("law 19a, bpda", 20, 5)
    y = torch.zeros(len(x)).long()

    def quantise(x: Tensor) -> Tensor:
        return (10 * x).round() / 10

    at = quantise(x).requires_grad_()
    (outer,) = torch.autograd.grad(goals.cross_entropy(body(torch.tanh(at)), y).sum(), at)
    measured = []
    for name, backward, inner in (("identity", None, torch.ones_like(x)), ("sine", torch.sin, x.cos())):
        model = nn.Sequential(bpda(quantise, backward), nn.Tanh(), body)
        reply = white_box(model).climb(x, lambda z: goals.cross_entropy(z, y))
        assert reply.gradient is not None
        gap = float((reply.gradient - inner * outer).abs().max())
        said = float((reply.said[0] - body(torch.tanh(at)).detach()).abs().max())
        measured += [
            Measured(f"gradient through a quantiser by the {name}, off the chain rule", 0, gap, 1e-12),
            Measured(f"logits behind it ({name}), off the quantiser's own", 0, said, 0),
        ]
    return measured
