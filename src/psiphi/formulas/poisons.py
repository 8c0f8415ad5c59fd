"""What a poison minimises, and the step that does it; pure tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def blended(x: Float[Tensor, "b *x"], pattern: Float[Tensor, "..."], share: float) -> Float[Tensor, "b *x"]:
    """(1 − α) x + α k: a pattern k, one for all or one a row, laid over inputs with the weight α.

    Source: Chen, Liu, Li, Lu, Song, "Targeted backdoor attacks on deep learning systems using data poisoning", 2017,
    section 4.1 (blended injection).
    """
    return torch.lerp(x, pattern.expand_as(x), share)


def collision(p: Float[Tensor, "b d"], t: Float[Tensor, "#b d"]) -> Float[Tensor, " b"]:
    """‖f(p) − f(t)‖²: how far a poison's features are from the target's.

    Source: Shafahi, Huang, Najibi, Suciu, Studer, Dumitras, Goldstein, "Poison frogs! Targeted clean-label poisoning
    attacks on neural networks", 2018, eq. 1, first term.
    """
    return (p - t).square().sum(1)


def forward_backward(
    p: Float[Tensor, "b *x"],
    gradient: Float[Tensor, "b *x"],
    base: Float[Tensor, "b *x"],
    step: float | Float[Tensor, "b *#x"],
    beta: float,
) -> Float[Tensor, "b *x"]:
    """(p − λ ∇ + 2λβ b)/(1 + 2λβ): a gradient step on the features' distance, then the proximal step of β ‖p − b‖².

    argmin_q ½ ‖q − (p − λ ∇)‖² + λβ ‖q − b‖²; at a fixed point ∇ = 2β (b − p). The source's algorithm 1 has λβ for 2λβ,
    which is the step of half that weight.
    Source: Shafahi et al., "Poison frogs!", 2018, eq. 1 and algorithm 1.
    """
    return (p - step * gradient + 2 * step * beta * base) / (1 + 2 * step * beta)


def mismatch(poison: Sequence[Tensor], target: Sequence[Tensor]) -> Float[Tensor, ""]:
    """1 − ⟨∇ℓ_poison, ∇ℓ_target⟩/(‖∇ℓ_poison‖ ‖∇ℓ_target‖), over all parameters of a network: 0 where aligned.

    poison: the gradient of the mean loss of the poisons at their labels; target: that of the target at the label that
    it is to get. A step of training on the one is then a step on the other.
    Source: Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' brew: industrial scale data poisoning
    via gradient matching", 2021, eq. 3.
    """
    product = sum((a * b).sum() for a, b in zip(poison, target, strict=True))
    sizes = [torch.stack([each.square().sum() for each in side]).sum().sqrt() for side in (poison, target)]
    tiny = torch.finfo(sizes[0].dtype).tiny
    return 1 - product / (sizes[0] * sizes[1]).clamp(min=tiny)
