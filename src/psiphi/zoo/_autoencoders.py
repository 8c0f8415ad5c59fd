"""Autoencoders: deterministic codes, each with a penalty, a constraint or a corruption of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from psiphi import parts
from psiphi.basis.registry import models
from psiphi.basis.shapes import as_shape
from psiphi.models import LatentModel
from psiphi.networks import TopK
from psiphi.parts import Dirac, RecordedDirac, Statistics, nll
from psiphi.parts.corruption import Corruption
from psiphi.zoo._build import (
    Distortion,
    check_latent,
    check_share,
    check_sparsity,
    check_weights,
    networks,
    per_layer,
)


@models.register
def ae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    loss: Distortion = "squared",
    tied: bool = False,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Autoencoder: min over φ, ψ of E d(x, ψ(φ(x))).

    latent_dim: numbers a code; 0 is a constant code, whose best message is the mean, the median, ….
    loss: d, one of `squared`, `absolute`, `huber`, `bernoulli`, or a function of each coordinate; tied: the
    decoder's weights are the encoder's, transposed. net: `mlp` (hidden = widths, `()` is affine) or `conv`
    (hidden = channels); activation: relu, tanh, sigmoid, elu, gelu or softplus; encoder, decoder: modules of
    your own, (B, *shape) -> (B, latent_dim) and back.
    Source: Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", 2006.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape, least=0)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed, tied=tied,
    )  # fmt: skip
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(statistics, latent_dim, Dirac(phi, statistics), p, objective=nll)


@models.register
def k_sparse_ae(
    shape: int | Sequence[int],
    latent_dim: int = 64,
    k: int | None = None,
    *,
    alpha: float = 1.0,
    signed: bool = True,
    loss: Distortion = "squared",
    tied: bool = False,
    net: str = "mlp",
    hidden: Sequence[int] | None = (),
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """k-sparse autoencoder: min E d(x, ψ(h_k)), h_k the k entries of h = φ(x) with the largest |h|.

    latent_dim: length of h, which may exceed the data's; k: entries kept, a tenth unless given; alpha: α k are
    kept outside training; signed: of either sign, else the k largest h, as in the paper. The rest as in `ae`; without
    hidden layers φ and ψ are affine.
    Source: Makhzani & Frey, "k-sparse autoencoders", 2014, algorithm 1.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    k = max(1, latent_dim // 10) if k is None else k
    check_sparsity(latent_dim, k, alpha)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed, tied=tied,
    )  # fmt: skip
    p = parts.likelihood(loss, psi, shape, statistics)
    code = Dirac(nn.Sequential(phi, TopK(k, alpha, signed)), statistics)
    return LatentModel(statistics, latent_dim, code, p, objective=nll)


@models.register
def sparse_ae(
    shape: int | Sequence[int],
    latent_dim: int = 64,
    *,
    target: float | Sequence[float] = 0.05,
    strength: float | Sequence[float] = 0.1,
    penalty: str = "kl",
    over: str = "batch",
    loss: Distortion = "squared",
    tied: bool = False,
    net: str = "mlp",
    hidden: Sequence[int] | None = (),
    activation: str = "sigmoid",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Sparse autoencoder: min E d(x, ψ(φ(x))) + Σ_k w_k s(ρ̂_k, ρ_k), or Σ_k w_k ‖h_k‖; the code is a sigmoid.

    target: ρ̂, the mean activation wanted; strength: w; each a number, or one a layer, the code last. penalty: s is
    `kl`, `l2` or `l1` between ρ̂ and ρ, or `l1-norm`, `l2-norm` of the activations; over: ρ is the mean of a neuron
    over the `batch`, or of a `sample` over the neurons. The rest as in `ae`; `kl` wants activations in [0, 1].
    Source: Ng, "Sparse autoencoder", CS294A lecture notes, 2011.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, None)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed, tied=tied,
    )  # fmt: skip
    code = RecordedDirac(nn.Sequential(phi, nn.Sigmoid()), statistics)
    targets, weights = (
        check_share(per_layer(target, code.count, "target")),
        per_layer(strength, code.count, "strength"),
    )
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(
        statistics, latent_dim, code, p, objective=nll + parts.sparsity(penalty, targets, weights, over)
    )


@models.register
def denoising_ae(
    shape: int | Sequence[int],
    latent_dim: int = 64,
    *,
    corruption: str | Corruption = "gaussian:0.3",
    loss: Distortion = "squared",
    tied: bool = False,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "relu",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Denoising autoencoder: min E d(x, ψ(φ(x̃))), x̃ ~ T(x̃|x) drawn anew for each batch.

    corruption: T, `gaussian:σ`, `masking:share`, `salt_and_pepper:share` (σ and the values in units of the data),
    several with `+` (one of them a row), or a function (x, noise) -> x̃. The rest as in `ae`, but the code may be
    larger than the data. With Gaussian corruption and squared loss (r(x) − x)/σ² estimates ∇ ln p_σ(x), the `score`,
    by which `sample` walks.
    Source: Vincent et al., "Stacked denoising autoencoders", 2010.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, None)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed, tied=tied,
    )  # fmt: skip
    p = parts.likelihood(loss, psi, shape, statistics)
    return LatentModel(
        statistics,
        latent_dim,
        Dirac(phi, statistics),
        p,
        objective=nll,
        corruption=parts.corruption(corruption),
    )


@models.register
def contractive_ae(
    shape: int | Sequence[int],
    latent_dim: int = 8,
    *,
    strength: float = 0.1,
    projections: int | None = None,
    loss: Distortion = "squared",
    tied: bool = False,
    net: str = "mlp",
    hidden: Sequence[int] | None = None,
    activation: str = "softplus",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    seed: int = 0,
) -> LatentModel:
    """Contractive autoencoder: min E d(x, ψ(φ(x))) + λ ‖∂φ/∂x‖²_F.

    strength: λ; projections: random ones to estimate the norm with, 0 for the exact Jacobian; by default exact up to
    codes of 16 numbers and 8 projections beyond, as `model.objective` says. The rest as in `ae`.
    Source: Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction", 2011, eq. 2.
    """
    shape, statistics = as_shape(shape), Statistics(as_shape(shape))
    check_latent(latent_dim, shape)
    check_weights(strength=strength, projections=projections or 0)
    phi, psi = networks(
        shape, latent_dim, net=net, hidden=hidden, activation=activation, encoder=encoder, decoder=decoder,
        seed=seed, tied=tied,
    )  # fmt: skip
    p = parts.likelihood(loss, psi, shape, statistics)
    penalty = strength * parts.contraction(latent_dim, projections)
    return LatentModel(statistics, latent_dim, Dirac(phi, statistics), p, objective=nll + penalty)
