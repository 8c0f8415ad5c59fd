"""Changes that a network hardly sees: a ball in the space of its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psiphi.attacks.threats._base import OfInputs, Sized
from psiphi.basis.errors import ArgumentError
from psiphi.basis.noise import Noise
from psiphi.basis.shapes import show
from psiphi.formulas import features
from psiphi.formulas.calculus import input_gradient, per_row
from psiphi.formulas.geometry import Box, blocked, l2_norm

_DAMPING = 1e-3  # of JᵀJ, as a share of its Rayleigh quotient at the gradient: J may have a null space
_SOLVES = 5


@dataclass(frozen=True, init=False, repr=False)
class Features(OfInputs, Sized):
    """The network's features change by at most eps: ‖φ(v) − φ(x)‖₂ ≤ ε.

    network    any module of inputs (b, *x), frozen and in eval mode while it is used and then as it was; a step before
               it, such as a normalisation, belongs into it: nn.Sequential(normalise, network)
    layers     names of its submodules, whose outputs are φ, all numbers in one row; None is the network's output
    normalise  φ of a layer (b, C, *s) is a/‖a‖_C/√(number of places s), as in LPIPS: a change of direction alone

    With `nn.Identity()` this is `L2`. A result counts the passes of the classifier, not those of φ.

    Source: Laidlaw, Singla, Feizi, "Perceptual adversarial robustness: defense against unseen threat models", 2021,
    section 3.
    """

    network: nn.Module = nn.Identity()  # noqa: RUF009
    layers: tuple[str, ...] | None = None
    normalise: bool = False

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] | str | None = None,
        eps: float | Tensor = inf,
        normalise: bool = False,
    ):
        layers = (layers,) if isinstance(layers, str) else None if layers is None else tuple(layers)
        for name, value in {"network": network, "layers": layers, "eps": eps, "normalise": normalise}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()
        if not isinstance(network, nn.Module):
            raise ArgumentError(f"Features needs a module whose features count; got {network!r}.")
        known = {name for name, _ in network.named_modules()}
        unknown = [each for each in layers or () if each not in known]
        if unknown or layers == ():
            some = ", ".join(list(dict(network.named_modules()))[1:9])
            raise ArgumentError(
                f"Features needs names of submodules of its {type(network).__name__}, and there is no "
                f"{', '.join(map(repr, unknown)) if layers else 'name at all'}: use some of {some}, …, or "
                "leave layers out."
            )

    def __repr__(self) -> str:
        rest = [] if self.layers is None else [f"layers={self.layers}"]
        rest += [f"eps={self.radius}"] * bool(self.radius) + ["normalise=True"] * self.normalise
        return f"Features({', '.join([type(self.network).__name__, *rest])})"

    @staticmethod
    def vgg(
        weights: str | Path,
        eps: float | Tensor = inf,
        layers: Sequence[str] = ("3", "8", "15", "22", "29"),
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        normalise: bool = True,
    ) -> Features:
        """Features of torchvision's VGG-16, of images (b, 3, h, w) in [0, 1].

        weights    a safetensors file with the weights of `torchvision.models.vgg16`; nothing is downloaded
        layers     numbers of its layers, by default the last activations before each pooling
        mean, std  a channel: the network is given (x − mean)/std

        Raises `ArgumentError` without torchvision, or for weights of another network.
        """
        try:
            from torchvision.models import vgg16  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ArgumentError(
                "Features.vgg needs torchvision, which is not installed: install it, or give any module of yours to "
                "Features(network, layers)."
            ) from None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        network = vgg16(weights=None)
        try:
            network.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            first = str(error).split("\n")[0]
            raise ArgumentError(
                f"{weights} holds no weights of VGG-16 ({first}): give a safetensors file of torchvision's vgg16."
            ) from None
        last = max(int(name) for name in layers)
        trunk = nn.Sequential(_Scaled(mean, std), *network.features[: last + 1])
        return Features(trunk.eval(), [str(int(name) + 1) for name in layers], eps, normalise)

    def features(self, v: Tensor) -> Tensor:
        """φ(v), (b, D)."""
        seen: list[Tensor] = []
        chosen = [] if self.layers is None else [self.network.get_submodule(name) for name in self.layers]

        def listen(module: nn.Module, given: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                seen.append(out.clone())  # an activation in place may follow

        hooks = [module.register_forward_hook(listen) for module in chosen]
        try:
            with _still(self.network):
                output = self.network(v)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ArgumentError(
                f"the feature network fails on {v.dtype} of shape {show(v.shape)} "
                f"({str(error).strip().splitlines()[0]}): it needs the data's shape, type and device."
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        maps = seen if chosen else [output]
        if not maps or not all(isinstance(each, Tensor) and len(each) == len(v) for each in maps):
            raise ArgumentError(f"{self!r} needs layers that return tensors with one row for each input.")
        if self.normalise:
            maps = [features.normalised(each) for each in maps]
        return torch.cat([each.flatten(1) for each in maps], 1)

    def distance(self, v: Tensor, x: Tensor) -> Tensor:
        """‖φ(v) − φ(x)‖₂, (b,)."""
        with torch.no_grad():
            return l2_norm(self.features(v) - self.features(x))

    def slope(self, v: Tensor, x: Tensor) -> Tensor:
        """The gradient of the distance at `v`, (b, *x); 0 where that is 0."""
        with torch.no_grad():
            origin = self.features(x)
        return input_gradient(lambda u: (self._differentiable(u) - origin).norm(dim=1), v)

    def start(self, x: Tensor, box: Box, noise: Noise) -> Tensor:
        """In a random direction, at a share of eps drawn from U(0, 1), (b, *x)."""
        if not torch.as_tensor(self.eps).isfinite().all():
            raise ArgumentError(
                f"{self!r} has no radius, so there is no random point to start from: give eps, or start at the input "
                "(random_start=False)."
            )
        v = x + noise.split("direction").normal(tuple(x.shape[1:])) * (box.hi - box.lo)
        return replace(self, eps=self.eps * noise.split("radius").uniform()).project(v, x, box)

    @torch.no_grad()
    def project(self, v: Tensor, x: Tensor, box: Box) -> Tensor:
        """The farthest point within eps on the segment from `x` to `v`, brought into the box; not the nearest one."""
        v = box.clamp(v)
        eps = torch.as_tensor(self.eps, dtype=v.dtype, device=v.device).expand(len(v))
        origin = self.features(x)

        def length(t: Tensor, rows: Tensor) -> Tensor:
            return l2_norm(self.features(torch.lerp(x[rows], v[rows], per_row(t, v))) - origin[rows])

        t = features.farthest(length, eps)
        return torch.lerp(x, v, per_row(t, v))

    def steepest(self, g: Tensor, v: Tensor, box: Box, length: float | Tensor | None = None) -> Tensor:
        """argmax ⟨g, d⟩ over ‖J d‖₂ ≤ 1, J = ∂φ/∂v: d ∝ (JᵀJ)⁻¹ g, over the coordinates that no wall stops.

        By 5 conjugate-gradient steps on JᵀJ + ρI, ρ a thousandth of ‖J g‖²/‖g‖²: what φ does not see has no length.
        """
        free = ~blocked(g, v, box)
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            seen = self._differentiable(v)
            cotangent = torch.zeros_like(seen, requires_grad=True)
            (back,) = torch.autograd.grad(seen, v, cotangent, create_graph=True)

        def forward(d: Tensor) -> Tensor:  # J d is the derivative of Jᵀu by u, times d
            return torch.autograd.grad(back, cotangent, d, retain_graph=True)[0]

        def backward(u: Tensor) -> Tensor:
            return torch.autograd.grad(seen, v, u, retain_graph=True)[0] * free

        return features.steepest(g * free, forward, backward, _SOLVES, _DAMPING)

    def _differentiable(self, v: Tensor) -> Tensor:
        """φ(v) with a graph."""
        seen = self.features(v)
        if not seen.requires_grad:
            raise ArgumentError(
                f"{self!r} needs features that depend differentiably on the input, and these do not."
            )
        return seen


class _Scaled(nn.Module):
    """(x − mean)/std, a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


@contextmanager
def _still(network: nn.Module) -> Iterator[None]:
    """Eval mode and parameters without gradients; modes and flags come back."""
    training = [module for module in network.modules() if module.training]
    moving = [p for p in network.parameters() if p.requires_grad]
    for module in training:
        module.training = False
    for p in moving:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for p in moving:
            p.requires_grad_(True)
