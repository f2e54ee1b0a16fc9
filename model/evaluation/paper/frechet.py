"""Frechet distance between two sets of features: FVD, if the features are those of I3D or VideoMAE.

Source: T. Unterthiner et al., Towards accurate generative models of video, 2018; M. Heusel et al., GANs trained by a
two time-scale update rule, 2017 (the distance).
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SEED = 7  # of the halves


def frechet_distance(features: Float[Tensor, "n d"], reference: Float[Tensor, "m e"]) -> float:
    """Returns the squared Frechet distance between the Gaussians that fit the two sets.

    It is biased: for two samples of one distribution it is not 0, and it grows as the samples shrink. Compare only
    figures of equal numbers of clips, and compare them with `distance_of_halves`.

    Raises:
        ValueError: A set has fewer than two rows, the widths differ, or a number is not finite.
    """
    for name, rows in (("features", features), ("reference", reference)):
        if rows.ndim != 2 or len(rows) < 2 or not bool(torch.isfinite(rows).all()):
            raise ValueError(f"{name}: expected two or more rows of finite numbers, got shape {list(rows.shape)}")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features: expected width {reference.shape[1]}, got {features.shape[1]}; use one network")
    means = [rows.double().mean(dim=0) for rows in (features, reference)]
    covariances = [torch.cov(rows.double().T).reshape(rows.shape[1], -1) for rows in (features, reference)]
    return gaussian_distance(means[0], covariances[0], means[1], covariances[1])


def gaussian_distance(
    mean_a: Float[Tensor, " d"], cov_a: Float[Tensor, "d d"], mean_b: Float[Tensor, " d"], cov_b: Float[Tensor, "d d"]
) -> float:
    """Returns |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

    The trace of the root is the sum of the singular values of C_a^(1/2) C_b^(1/2): both are roots of symmetric
    matrices, so no complex number arises where a covariance is singular, as it is with fewer clips than features.
    """
    roots = [_root(covariance.double()) for covariance in (cov_a, cov_b)]
    overlap = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    spread = cov_a.double().trace() + cov_b.double().trace() - 2 * overlap
    return float((mean_a.double() - mean_b.double()).square().sum() + spread)


def distance_of_halves(features: Float[Tensor, "n d"]) -> float | None:
    """Returns the distance between two random halves of one set, None for fewer than four rows: it shows the bias.

    Films cannot be expected to be nearer to the reference than its halves are to each other. Sets with twice as many
    clips as a half can be nearer, by about half of this distance.
    """
    if len(features) < 4:
        return None
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(_SEED))
    half = len(features) // 2
    return frechet_distance(features[order[:half]], features[order[half : 2 * half]])


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
