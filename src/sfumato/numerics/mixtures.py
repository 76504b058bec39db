"""A mixture of Gaussians fitted to samples: k-means, then a few steps of EM.

With few samples per component a covariance of its own would be noise, so each is shrunk towards the pooled one as if
``q`` more samples had been seen of it:

    C_k = (S_k + q C) / (n_k + q),    S_k = sum_i r_ik (z_i - m_k)(z_i - m_k)^T,    C = sum_k S_k / N,

with the responsibilities r_ik and n_k = sum_i r_ik. Classes share the components and differ in their weights; each
begins with components of its own, in the shares of the classes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LLOYD_STEPS = 10
EM_STEPS = 3
CHUNK = 2048  # samples whose distances to all components are in memory
FLOOR = 1e-5  # of a variance, relative to the mean one
LEAST = 1e-10  # of a variance


@dataclass(frozen=True, eq=False)
class Fitted:
    """A mixture of K Gaussians over q numbers.

    Arguments:
        weights: (classes + 1, K): of each class, and in the last row of all samples.
        means: (K, q).
        variances: (K, q): the eigenvalues of the covariances.
        axes: (K, q, q): their eigenvectors, as columns.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor

    def responsibilities(self, z: Float[Tensor, "n q"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "n k"]:
        """p(k | z, label); the label -1 is that of all samples."""
        K, q = self.means.shape
        flat = self.axes.permute(1, 0, 2).reshape(q, K * q)
        origin = torch.einsum("kq,kqr->kr", self.means, self.axes)
        constants = self.weights.log() - 0.5 * self.variances.log().sum(1)
        found = []
        for part, label in zip(torch.split(z, CHUNK), torch.split(labels, CHUNK), strict=True):
            offset = (part @ flat).view(-1, K, q) - origin
            logits = constants[label] - 0.5 * (offset.square() / self.variances).sum(2)
            found.append(logits.softmax(1))
        return torch.cat(found)


def fit(
    z: Float[Tensor, "n q"], components: int, generator: torch.Generator, labels: Int64[Tensor, "n"], classes: int = 0
) -> Fitted:
    """The mixture of ``components`` Gaussians after ``EM_STEPS`` steps.

    Arguments:
        z: the samples.
        components: K, at most the number of samples.
        generator: draws the first centres.
        labels: the class of each sample, from 0; without classes, -1 for all.
        classes: how many there are.
    """
    nearest = _first_components(z, components, generator, labels, classes)
    shares = torch.nn.functional.one_hot(nearest, components).to(z.dtype)
    found = _maximised(z, shares, labels, classes)
    for _ in range(EM_STEPS):
        found = _maximised(z, found.responsibilities(z, labels), labels, classes)
    return found


def _first_components(
    z: Tensor, components: int, generator: torch.Generator, labels: Tensor, classes: int
) -> Int64[Tensor, "n"]:
    """The component of each sample at first: k-means within each class, if there is a component for each of them."""
    counts = torch.bincount(labels[labels >= 0], minlength=classes)
    present = [k for k in range(classes) if counts[k] > 0]
    if not present or components < len(present):
        return _k_means(z, components, generator)
    shares = (components * counts[present].cumsum(0).double() / counts.sum()).round().long().tolist()
    ends: list[int] = []  # of the components of each class, at least one
    for k, share in enumerate(shares):
        least, most = (ends[-1] if ends else 0) + 1, components - (len(present) - 1 - k)
        ends.append(min(max(share, least), most))
    nearest = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    for first, last, label in zip([0, *ends], ends, present, strict=False):
        own = labels == label
        nearest[own] = first + _k_means(z[own], min(last - first, int(own.sum())), generator)
    return nearest


def _k_means(z: Tensor, components: int, generator: torch.Generator) -> Int64[Tensor, "n"]:
    """The number of the nearest centre of each sample, after ``LLOYD_STEPS`` of Lloyd's algorithm."""
    centres = z[torch.randperm(len(z), generator=generator)[:components]]
    nearest = _nearest(z, centres)
    for _ in range(LLOYD_STEPS):
        count = torch.bincount(nearest, minlength=components).to(z.dtype)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, nearest, z)
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
        nearest = _nearest(z, centres)
    return nearest


def _nearest(z: Tensor, centres: Tensor) -> Int64[Tensor, "n"]:
    return torch.cat([torch.cdist(part, centres).argmin(1) for part in torch.split(z, CHUNK)])


def _maximised(z: Tensor, shares: Tensor, labels: Tensor, classes: int) -> Fitted:
    """The mixture whose components have the samples in these ``shares`` (n, K)."""
    K, q = shares.shape[1], z.shape[1]
    counts = shares.sum(0)
    # A component that has lost its samples keeps a place in the middle, with next to no weight.
    means = (shares.T @ z + 1e-6 * z.mean(0)) / (counts + 1e-6)[:, None]
    scatter = torch.empty(K, q, q, dtype=torch.float64, device=z.device)
    for k in range(K):
        own = shares[:, k] > 1e-4
        offset = z[own] - means[k]
        scatter[k] = (offset * shares[own, k, None]).T @ offset
    pooled = scatter.sum(0) / len(z)
    variances, axes = torch.linalg.eigh((scatter + q * pooled) / (counts.double() + q)[:, None, None])
    floor = FLOOR * float(pooled.diagonal().mean()) + LEAST
    own = torch.zeros(classes + 1, K, dtype=z.dtype, device=z.device)
    own.index_add_(0, torch.where(labels < 0, classes, labels), shares)
    own[classes] = counts
    share = (counts + 1e-3) / (counts + 1e-3).sum()
    weights = (own + share) / (own.sum(1, keepdim=True) + 1)  # as if one more sample had been seen of each class
    return Fitted(weights, means, variances.clamp(min=floor).to(z.dtype), axes.to(z.dtype))
