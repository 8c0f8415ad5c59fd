"""The fused Adam kernel without the bookkeeping of `Optimizer.step`, which costs small networks as much again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.adam import adam


def lean_step(optimizer: Any) -> Callable[[], None]:
    """A function that does what `optimizer.step()` does, with the same state; call it after a first step.

    Only for a plain fused `torch.optim.Adam` with one group and no hooks; any other optimiser, and a step in which a
    parameter has no gradient, go the usual way.
    """
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return optimizer.step
    group = optimizer.param_groups[0]
    usual = group["fused"] and not (group["amsgrad"] or group["maximize"] or group["weight_decay"])
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    parameters = group["params"]
    if not usual or hooked or any(p not in optimizer.state for p in parameters):
        return optimizer.step
    means, squares, steps = (
        [optimizer.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq", "step")
    )
    beta1, beta2 = group["betas"]

    @torch.no_grad()
    def step() -> None:
        gradients = [p.grad for p in parameters]
        if any(gradient is None for gradient in gradients):
            optimizer.step()
            return
        adam(
            parameters, gradients, means, squares, [], steps, fused=True, amsgrad=False, maximize=False,
            beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=0.0, eps=group["eps"],
        )  # fmt: skip

    return step
