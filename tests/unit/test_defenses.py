"""Purification is the composition, and differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from psiphi.attacks import Linf, pgd
from psiphi.basis.errors import MissingVerb
from psiphi.defenses import purify


class Line(nn.Module):
    """Projects onto the line through the origin along a unit vector."""

    def __init__(self, d: int):
        super().__init__()
        self.register_buffer("along", torch.ones(d, dtype=torch.float64) / d**0.5)

    def project(self, x):
        return (x @ self.along)[:, None] * self.along


class Blind(nn.Module):
    def __getattr__(self, name):
        if name == "project":
            raise MissingVerb("Blind", "project", who=lambda verb: ["pca", "vae"])
        return super().__getattr__(name)


def classifier(d: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(d, 3).double()


def test_purify_classifies_the_projection():
    net, line = classifier(), Line(4)
    x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    safe = purify(net, line)
    assert_close(safe(x), net(line.project(x)))
    assert not safe.training
    assert repr(safe) == "purify(Linear, Line)"


def test_the_gradient_passes_through_the_projection():
    """d/dx w·P x = P w: the part of the gradient off the manifold is gone."""
    net, line = classifier(), Line(4)
    x = torch.rand(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (g,) = torch.autograd.grad(purify(net, line)(x)[0, 0], x)
    assert_close(g[0], (net.weight[0] @ line.along).detach() * line.along)


def test_an_identity_changes_no_result():
    class Everything(nn.Module):
        def project(self, x):
            return x

    net = classifier()
    x = torch.rand(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    attack = pgd(Linf(0.2), steps=5)
    plain, purified = attack(net, x), attack(purify(net, Everything()), x)
    assert_close(purified.x, plain.x, atol=0, rtol=0)
    assert_close(purified.success, plain.success)


def test_a_model_that_cannot_project_says_who_can():
    with pytest.raises(MissingVerb, match=r"Blind cannot project\. Models that can: pca, vae\."):
        purify(classifier(), Blind())
    with pytest.raises(MissingVerb, match="Linear cannot project: it is no model of psiphi"):
        purify(classifier(), nn.Linear(4, 4))
