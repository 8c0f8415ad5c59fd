"""A model as it should be while it is attacked, and exactly as it was afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_MODE_MATTERS = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
)


def trained_modules(model: nn.Module) -> list[str]:
    """Names of the kinds of module that are in train mode and behave otherwise there; a `forward` that asks for the
    mode itself is not seen."""
    return sorted({type(m).__name__ for m in model.modules() if m.training and _mode_matters(m)})


def _mode_matters(module: nn.Module) -> bool:
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return module.dropout > 0
    return isinstance(module, _MODE_MATTERS)


@contextmanager
def frozen(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Eval mode and no gradients of parameters; modes, flags, buffers and random state come back.

    Says so if the model was in train mode and that would have mattered.
    """
    with torch.inference_mode(False), torch.random.fork_rng():
        if not isinstance(model, nn.Module):
            yield
            return
        if kinds := trained_modules(model):
            warnings.warn(
                f"{type(model).__name__} is in train mode ({', '.join(kinds)}): it is evaluated in eval "
                "mode, and put back afterwards. Call .eval() first to silence this.",
                stacklevel=5,
            )
        modes = [(module, module.training) for module in model.modules()]
        flags = [(p, p.requires_grad) for p in model.parameters()]
        buffers = _snapshot(model)
        try:
            _evaluate(model)
            for p, _ in flags:
                p.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for p, flag in flags:
                p.requires_grad_(flag)
            _restore(buffers)


def _evaluate(model: nn.Module) -> None:
    """Eval mode; a program of torch.export, whose mode is fixed in it, has no such call."""
    try:
        model.eval()
    except NotImplementedError:
        for module in model.modules():
            module.training = False


def _snapshot(model: nn.Module) -> list[tuple[nn.Module, str, Tensor | None, Tensor | None]]:
    return [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]


def _restore(buffers: list[tuple[nn.Module, str, Tensor | None, Tensor | None]]) -> None:
    with torch.no_grad():
        for module, name, buffer, saved in buffers:
            module._buffers[name] = buffer
            if buffer is not None and saved is not None and not torch.equal(buffer, saved):
                buffer.copy_(saved)
