"""White-box access: the box, the normalisation, the count, and a sentence for everything that is wrong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.access import white_box
from psiphi.attacks import L2, Linf, pgd
from psiphi.basis.errors import AccessError, ArgumentError, DataError, PsiphiError, ShapeError

ATTACK = pgd(Linf(0.1), steps=3)


def data(n: int = 6, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, 1, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))


def linear(k: int = 3, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, k)).to(dtype)


def test_normalisation_is_in_front_of_the_model():
    net, x = linear(), data()
    by_hand = white_box(lambda x: net((x - 0.3) / 0.2))
    assert_close(white_box(net, mean=0.3, std=0.2).look(x).said, by_hand.look(x).said)
    rgb = nn.Flatten()
    x = torch.rand(2, 3, 2, 2)
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    theory = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert_close(white_box(rgb, mean=mean, std=std).look(x).said[0], theory.flatten(1))


def test_the_attack_stays_in_the_datas_units():
    net, x = linear(), 4 * data() - 1
    access = white_box(net, bounds=(-1, 3), mean=1.0, std=2.0)
    result = ATTACK(access, x, stop_early=False)
    assert result.distance.max() <= 0.1 + 1e-6
    assert result.x.min() >= -1
    assert result.x.max() <= 3
    assert_close(result.distance, torch.full((6,), 0.1), atol=1e-6, rtol=0)


def test_each_channel_has_walls_a_mean_and_a_scale_of_its_own():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    low, high = torch.tensor([0.0, -1.0, 10.0]), torch.tensor([1.0, 3.0, 10.5])
    mean, std = [0.5, 0.2, 10.2], [0.25, 2.0, 0.1]
    walls = [b.double()[:, None, None] for b in (low, high)]
    x = walls[0] + torch.rand(20, 3, 2, 2, dtype=torch.float64) * (walls[1] - walls[0])
    by_hand = [torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (mean, std)]
    for bounds in ((low.tolist(), high.tolist()), (low, high), (low.numpy(), high.numpy())):
        access = white_box(net, bounds, mean, std)
        assert_close(access.look(x).said[0], net((x - by_hand[0]) / by_hand[1]))
        found = pgd(Linf(0.7), steps=5)(access, x, stop_early=False).x
        assert (found >= walls[0]).all()
        assert (found <= walls[1]).all()
        for channel, (lo, hi) in enumerate(zip(low.tolist(), high.tolist())):
            part, start = found[:, channel], x[:, channel]
            assert ((part == lo) | (part == hi) | ((part - start).abs() > 0.7 - 1e-9)).double().mean() > 0.9
    assert repr(access) == (
        "white_box(Sequential, bounds=([0.0, -1.0, 10.0], [1.0, 3.0, 10.5]), "
        "mean=[0.5, 0.2, 10.2], std=[0.25, 2.0, 0.1])"
    )
    reply = access.climb(x, lambda z: z[:, 0])
    assert_close(reply.gradient, (net[1].weight[0].view(3, 2, 2) / by_hand[1]).detach().expand_as(x))
    with pytest.raises(
        AccessError, match=r"outside the bounds \[\[0\.0, -1\.0, 10\.0\], \[1\.0, 3\.0, 10\.5\]\]"
    ):
        ATTACK(access, x.flip(1))
    for wrong in (([0, 0], [1, 1]), ([0] * 4, [1] * 4)):
        with pytest.raises(ShapeError, match=r"bounds are one number, or one a channel"):
            ATTACK(white_box(net, wrong), x)
    with pytest.raises(ArgumentError, match="positive"):
        white_box(net, std=[1.0, 0.0, 1.0])
    with pytest.raises(ArgumentError, match="lower first"):
        white_box(net, ([0, 2, 0], [1, 1, 1]))


def test_gradient_is_autograds():
    net, x = linear(dtype=torch.float64), data(dtype=torch.float64)
    reply = white_box(net, mean=0.5, std=0.1).climb(x, lambda z: z[:, 1] - z[:, 0])
    theory = (net[1].weight[1] - net[1].weight[0]).detach().view(1, 4, 4) / 0.1
    assert_close(reply.gradient, theory.expand(6, 1, 4, 4))
    assert_close(reply.value, reply.said[0, :, 1] - reply.said[0, :, 0])


def test_every_row_sent_is_counted():
    sent = []

    class Counting(nn.Module):
        def forward(self, x):
            sent.append(len(x))
            return linear()(x)

    access = white_box(Counting())
    result = ATTACK(access, data(11), batch_size=4, stop_early=False)
    assert access.rows == sum(sent)
    # Per row: all but the few rows that are sent twice to see whether the output is random.
    assert result.forwards.sum().item() == sum(sent) - 2 * 4


def test_bytes_are_255ths_and_arrays_are_taken():
    net, x = linear(), (data() * 255).to(torch.uint8)
    theory = ATTACK(net, x.float() / 255)
    assert_close(ATTACK(net, x).x, theory.x)
    assert_close(ATTACK(net, x.numpy()).x, theory.x)


def test_the_models_dtype_counts():
    assert ATTACK(linear(dtype=torch.float64), data()).x.dtype == torch.float64
    assert (
        ATTACK(lambda x: linear(dtype=torch.float64)(x), data(dtype=torch.float64)).x.dtype == torch.float64
    )


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = linear()

    def forward(self, x):
        return self.net(x) + 0.1 * torch.randn(len(x), 3)


class Detached(nn.Module):
    def forward(self, x):
        return torch.from_numpy(linear()(x).detach().numpy().copy())


class NanGradient(nn.Module):
    def forward(self, x):
        return linear()(x) + (x.flatten(1)[:, :1] * 0).sqrt()


SAYS = {
    "probabilities": (
        linear().append(nn.Softmax(1)),
        {},
        AccessError,
        "probabilities .* drop the last softmax",
    ),
    "random": (Noisy(), {}, AccessError, r"output is random: .* differ by"),
    "nan": (lambda x: linear()(x) / 0, {}, AccessError, r"NaN or infinite for 6 of 6 rows"),
    "nan gradient": (NanGradient(), {}, AccessError, r"gradient of the classifier is NaN"),
    "no gradient": (Detached(), {}, AccessError, "does not depend differentiably"),
    "one output": (linear(1), {}, AccessError, r"at least two classes .* return \(0, z\)"),
    "no tensor": (lambda x: (linear()(x),), {}, AccessError, "returned tuple"),
    "wrong rank": (nn.Identity(), {}, AccessError, r"returned shape \(6, 1, 4, 4\) for 6 rows"),
    "wrong size": (nn.Linear(5, 3), {}, AccessError, r"fails on input of shape \(6, 1, 4, 4\)"),
    "no function": (3, {}, ArgumentError, "a classifier is a module or a function"),
    "bounds": (
        linear(),
        {"x": 255 * data()},
        AccessError,
        r"x lies in \[.*, 2.*\], outside the bounds \[0, 1\]",
    ),
    "below": (linear(), {"x": data() - 0.5}, AccessError, r"bounds=\(-0\.\d+, 0\.\d+\)"),
    "nan x": (linear(), {"x": data().fill_(torch.nan)}, DataError, "NaN or infinity in 6 of 6 rows"),
    "one sample": (linear(), {"x": torch.zeros(16)}, ShapeError, r"pass x\[None\]"),
    "words": (linear(), {"x": "cat"}, DataError, "no array of numbers"),
    "complex": (linear(), {"x": data().to(torch.complex64)}, DataError, "complex"),
    "labels too few": (linear(), {"y": [0, 1]}, ShapeError, r"shape \(2\); 6 labels are needed"),
    "labels missing": (
        linear(),
        {"y": [0, 1, -1, 2, -1, 0]},
        DataError,
        r"2 missing or negative .*rows 2, 4",
    ),
    "labels beyond": (
        linear(),
        {"y": [0, 1, 3, 2, 7, 0]},
        DataError,
        r"up to 7 \(rows 2, 4\).* 3 classes, 0\.\.2",
    ),
    "labels float": (linear(), {"y": torch.zeros(6)}, DataError, "integers 0..K-1"),
    "one-hot": (linear(), {"y": torch.eye(6, 3).long()}, ShapeError, "one for each row"),
    "target beyond": (linear(), {"target": 3}, DataError, "target goes up to 3"),
    "target is y": (linear(), {"y": [0] * 6, "target": 0}, ArgumentError, "label itself in 6 of 6"),
    "batch size": (linear(), {"batch_size": 0}, ArgumentError, "batch_size is at least 1"),
    "rows": (linear(), {"rows": range(3)}, ArgumentError, "3 numbers, but x has 6 rows"),
}


@pytest.mark.parametrize("case", SAYS)
def test_bad_input_gets_a_sentence(case):
    model, arguments, error, sentence = SAYS[case]
    arguments = {"x": data(), **arguments}
    with pytest.raises(error, match=sentence) as caught:
        ATTACK(model, arguments.pop("x"), **arguments)
    assert isinstance(caught.value, PsiphiError)
    assert str(caught.value).endswith(".") or case == "wrong size"


def test_bad_settings_get_a_sentence():
    for make, sentence in (
        (lambda: white_box(linear(), bounds=(1, 0)), "lower first"),
        (lambda: white_box(linear(), std=0.0), "positive"),
        (lambda: Linf(-1), "at least 0"),
        (lambda: L2(float("nan")), "radius of at least 0"),
        (lambda: Linf("big"), "needs a radius"),
        (lambda: pgd(Linf(0.1), steps=0), "steps is a whole number of at least 1"),
        (lambda: pgd(Linf(0.1), step=-1.0), "step is a finite length"),
        (lambda: pgd(Linf(0.1), random_start=False, restarts=2), "same walk"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            make()
    with pytest.raises(ShapeError, match="one radius or 6"):
        pgd(Linf(torch.ones(4)))(linear(), data())
    with pytest.raises(ShapeError, match="one a channel"):
        ATTACK(white_box(linear(), mean=[0.1, 0.2]), data())


def test_train_mode_is_said_and_handled():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    net.eval()
    theory = ATTACK(net, data())
    net.train()
    with pytest.warns(UserWarning, match=r"train mode \(BatchNorm1d, Dropout\).*eval mode"):
        result = ATTACK(net, data())
    assert_close(result.x, theory.x, atol=0, rtol=0)
    assert all(module.training for module in net.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ATTACK(linear().train(), data())


def test_an_access_is_an_access():
    access = white_box(linear(), bounds=(0, 2))
    assert white_box(access) is access
    assert repr(access) == "white_box(Sequential, bounds=(0, 2))"
    assert np.isclose(access.box.hi, 2)


class Viewing(nn.Module):
    """Takes a view of its activations, which another order of memory forbids."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.conv(x).view(len(x), -1))


@pytest.mark.parametrize("reshapes", [False, True])
def test_convolutions_are_laid_out_anew_and_put_back(reshapes):
    torch.manual_seed(0)
    net = Viewing().eval()
    x = torch.rand(6, 2, 4, 4)
    theory = net(x).detach()
    memory = [(p.data_ptr(), p.stride(), p.clone()) for p in net.parameters()]
    model = nn.Sequential(net.conv, nn.Flatten(), net.head) if reshapes else net
    access = white_box(model)
    with access.session(x):
        assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert_close(access.look(x).said[0], theory)
        assert net.conv.weight.is_contiguous(memory_format=torch.channels_last) == reshapes
    for p, (place, stride, value) in zip(net.parameters(), memory):
        assert (p.data_ptr(), p.stride()) == (place, stride)
        assert torch.equal(p, value)
