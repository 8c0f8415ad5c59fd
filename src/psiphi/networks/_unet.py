"""A U-Net for denoising images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from psiphi.basis.errors import ArgumentError
from psiphi.basis.shapes import Shape
from psiphi.networks._conv import _sizes
from psiphi.networks._embedding import Embedding, zero


def _norm(channels: int) -> nn.GroupNorm:
    """At most eight groups, of at least four channels where there are as many: at 1 × 1 a lone one is constant."""
    groups = max(g for g in range(1, 9) if channels % g == 0 and (g == 1 or 4 * g <= channels))
    return nn.GroupNorm(groups, channels)


class Residual(nn.Module):
    """x + conv(silu((1 + s) norm(conv(silu(norm(x)))) + t)), s and t affine in the embedding: (B, n, H, W) -> same."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm, self.conv = _norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels)
        self.again, self.last = _norm(channels), zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e)[:, :, None, None].chunk(2, 1)
        h = self.again(self.conv(F.silu(self.norm(x))))
        return x + self.last(F.silu(torch.addcmul(shift, h, 1 + scale)))


class Attention(nn.Module):
    """x + affine(v softmax(kᵀq / √d)), each pixel looking at all: (B, n, H, W) -> same.

    Source: Vaswani et al., "Attention is all you need", 2017, eq. 1.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.heads = max(h for h in (1, 2, 4, 8) if channels % h == 0 and (h == 1 or 32 * h <= channels))
        self.norm, self.ask = _norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.last = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.ask(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).mT.unbind(1)
        return x + self.last(F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape))


class Level(nn.Module):
    """All that happens at one resolution: residual blocks, then attention where asked for."""

    def __init__(self, channels: int, width: int, blocks: int, attend: bool):
        super().__init__()
        self.blocks = nn.ModuleList(Residual(channels, width) for _ in range(blocks))
        self.attention = Attention(channels) if attend else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, e)
        return self.attention(x)


class UNet(nn.Module):
    """A convolutional network told noise level and label: x (B, C, H, W), c (B,), y (B,) or None -> (B, C, H, W).

    Patches of `patch` × `patch` pixels are the channels of the first resolution. Going down, each is ⌈H/2⌉ × ⌈W/2⌉ of
    the one before; going up, the image grows to just the size that it had there, the two are stacked, and an affine
    map of their channels goes on. Norms are over channels of one image, so rows do not meet; the last convolution, and
    that of each residual branch, start at zero.
    channels: of each resolution; blocks: at each, down and up; attention: the largest side at which pixels look at each
    other; patch: 1, or 2 where a side exceeds 16, unless given; x of about unit variance; c, y: as in `Embedding`.
    Source: Ronneberger, Fischer, Brox, "U-Net", 2015; Ho, Jain, Abbeel, "Denoising diffusion probabilistic models",
    2020, app. B.
    """

    def __init__(
        self,
        shape: Shape,
        channels: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        attention: int = 8,
        classes: int = 0,
        patch: int | None = None,
    ):
        super().__init__()
        if len(channels) < 1 or min(channels) < 1 or blocks < 1 or (patch is not None and patch < 1):
            raise ArgumentError(
                f"a U-Net needs a resolution, and a channel, block and pixel or more at each; got channels = "
                f"{tuple(channels)}, blocks = {blocks}, patch = {patch}."
            )
        _sizes(shape, ())
        count, height, breadth = shape
        self.patch = patch or (2 if max(height, breadth) > 16 else 1)
        self.pad = (0, -breadth % self.patch, 0, -height % self.patch)
        stacked = count * self.patch**2
        first = (stacked, -(-height // self.patch), -(-breadth // self.patch))
        attend = [1 < max(size[1:]) <= attention for size in _sizes(first, channels)[:-1]]
        width = 4 * channels[0]
        self.embedding = Embedding(width, classes)
        self.first = nn.Conv2d(stacked, channels[0], 3, padding=1)
        levels = [(n, width, blocks, a) for n, a in zip(channels, attend, strict=True)]
        self.down = nn.ModuleList(Level(*level) for level in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.middle = Residual(channels[-1], width)
        self.merge = nn.ModuleList(nn.Conv2d(a + b, a, 1) for a, b in pairwise(channels))
        self.up = nn.ModuleList(Level(*level) for level in levels[:-1])
        self.norm, self.last = _norm(channels[0]), zero(nn.Conv2d(channels[0], stacked, 3, padding=1))

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        e = self.embedding(c, y)
        h = F.pixel_unshuffle(F.pad(x, self.pad), self.patch)
        # Channels last: a tenth faster on a processor.
        h = self.first(h.contiguous(memory_format=torch.channels_last))
        skips = [self.down[0](h, e)]
        for shrink, level in zip(self.shrink, self.down[1:], strict=True):
            skips.append(level(shrink(skips[-1]), e))
        h = self.middle(skips.pop(), e)
        for merge, level in zip(reversed(self.merge), reversed(self.up), strict=True):
            skip = skips.pop()
            h = level(merge(torch.cat([F.interpolate(h, skip.shape[2:]), skip], 1)), e)
        h = F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)
        return h[:, :, : x.shape[2], : x.shape[3]].contiguous()
