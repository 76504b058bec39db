"""A denoiser of regression trees: one boosted forest per noise level and class.

With theta = atan(sigma / alpha) and y = x_t / sqrt(alpha^2 + sigma^2), the estimate of v = cos(theta) eps - sin(theta)
x_0 is that of a Gaussian with the mean m and the covariance of the class, plus what the forests add:

    v(y, theta) = v_Gauss(y, theta) + (1 - w) f_k(y) + w f_{k+1}(y),     theta = (k + w) / (L + 1) * pi / 2

The forests stand at k = 1 .. L and are interpolated in the angle. There is none at k = 0 and k = L + 1, where
v_Gauss is exact: v is 0 at clean data that has a density, and -m at pure noise. Trees are constant almost everywhere,
and what is linear in y would cost them most; without any, the model is the Gaussian itself. Gaussian noise levels with
a forest each: Jolicoeur-Martineau, Fatras & Kachman 2024 (ForestDiffusion, who have no Gaussian and no interpolation).
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import forward_ad

from sfumato.core import Prediction, Process
from sfumato.core.levels import expand
from sfumato.errors import InputError

from .base import Denoiser
from .condition import NOT_GIVEN, Condition

_AT_ONCE = 2**21  # pairs of a sample and a tree that are evaluated at once: 16 MB per array of indices


class TreesDenoiser(Denoiser):
    """Boosted trees as a denoiser of D numbers. A fresh one has empty trees and no spread: all samples are 0.

    A tree is ``2 leaves - 1`` nodes in rows of three arrays. At an inner node with the feature j >= 0 and the threshold
    s, a sample goes to ``child`` where y_j <= s, else to ``child + 1``. A leaf has the feature -1, itself as its
    child, and its value instead of a threshold. All of it is plain numbers: nothing that is loaded is executed.

    Arguments:
        process: the process.
        dimensions: D.
        classes: the number of classes, each with its own forests; 0 takes no condition.
        levels: L, the number of noise levels with a forest.
        trees: the number of trees of each of the D outputs.
        leaves: the most leaves of a tree, from 2 to 1,000.
        depth: the most decisions in a tree.
    """

    mean: Tensor  # (C, D)
    variances: Tensor  # (C, D): of the class along its axes
    axes: Tensor  # (C, D, D): orthonormal columns
    feature: Tensor  # (C, L, D trees, 2 leaves - 1)
    number: Tensor
    child: Tensor

    def __init__(
        self, process: Process, dimensions: int, classes: int, levels: int, trees: int, leaves: int, depth: int
    ) -> None:
        super().__init__()
        self.process = process
        self.dimensions, self.classes, self.levels, self.trees, self.depth = dimensions, classes, levels, trees, depth
        C, D = max(classes, 1), dimensions
        nodes = (C, levels, D * trees, 2 * leaves - 1)
        self.register_buffer("mean", torch.zeros(C, D, dtype=torch.float64))
        self.register_buffer("variances", torch.zeros(C, D, dtype=torch.float64))
        self.register_buffer("axes", torch.eye(D, dtype=torch.float64).repeat(C, 1, 1))
        self.register_buffer("feature", torch.full(nodes, -1, dtype=torch.int16))
        self.register_buffer("number", torch.zeros(nodes))
        self.register_buffer("child", torch.arange(nodes[-1], dtype=torch.int16).expand(nodes).clone())

    def set_gaussian(self, row: int, x_0: Float[Tensor, "n d"]) -> None:
        """Take mean and covariance of class ``row`` from its samples in model units."""
        x = x_0.double()
        mean = x.mean(0)
        variances, axes = torch.linalg.eigh((x - mean).mT @ (x - mean) / len(x))
        self.mean[row], self.variances[row], self.axes[row] = mean, variances.clamp(min=0), axes

    def angle(self, level: int) -> float:
        """theta of forest number ``level``, from 0 to L - 1."""
        return (level + 1) / (self.levels + 1) * math.pi / 2

    def gaussian(self, row: int, theta: Float[Tensor, "b"], y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """v_Gauss of class ``row``, float64: what the forests add to.

        With ``g = (cos^2 C + sin^2 I)^-1 (y - cos m)`` it is ``cos sin g - sin (m + cos C g)``.
        """
        cos, sin = torch.cos(theta)[:, None], torch.sin(theta)[:, None]
        mean, variances, axes = self.mean[row], self.variances[row], self.axes[row]
        g = ((y.double() - cos * mean) @ axes) / (cos**2 * variances + sin**2)
        return (cos * sin * g * (1 - variances)) @ axes.mT - sin * mean

    def forest(self, row: int, level: int, y: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """What the forest of class ``row`` at ``level`` adds to v, float32."""
        x = y.float()
        feature, number, child = (each[row, level] for each in (self.feature, self.number, self.child))
        root = torch.arange(len(feature), device=x.device) * feature.shape[1]
        inner = (feature >= 0).flatten()
        number, feature = number.flatten(), feature.flatten().long().clamp(min=0)
        child = (child + root[:, None]).flatten()
        found = []
        for part in torch.split(x, max(_AT_ONCE // len(root), 1)):
            at = root.expand(len(part), -1)
            for _ in range(self.depth):
                right = (part.gather(1, feature[at]) > number[at]) & inner[at]
                at = child[at] + right
            found.append(number[at].reshape(len(part), self.dimensions, self.trees).sum(2))
        return torch.cat(found) if found else x

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """The prediction (see ``Denoiser``).

        Raises:
            InputError: a condition that the model does not take, or lacks; a derivative is asked for.
        """
        if _differentiated(x_t):
            raise InputError(
                "trees: have no derivative, which this method needs; choose a method without, or a network"
            )
        level = self.process.level(t)
        theta = torch.atan2(level.sigma, level.alpha).to(x_t.device).expand(len(x_t))
        norm = expand(torch.hypot(level.alpha, level.sigma), x_t)
        y = (x_t / norm).flatten(1)
        rows = self._rows(cond, len(x_t)).to(x_t.device)
        v = self._v(rows, theta, y).to(x_t.dtype).reshape(x_t.shape)
        cos, sin = expand(level.alpha, x_t) / norm, expand(level.sigma, x_t) / norm
        y = x_t / norm
        return Prediction(cos * y - sin * v, sin * y + cos * v)

    def _v(self, rows: Int64[Tensor, "b"], theta: Float[Tensor, "b"], y: Float[Tensor, "b d"]) -> Tensor:
        position = theta * (2 / math.pi * (self.levels + 1))
        lower = position.floor()
        share = position - lower
        below = lower.long() - 1
        v = torch.zeros(y.shape, dtype=torch.float64, device=y.device)
        for row in _different(rows):
            mine = rows == row
            v[mine] = self.gaussian(row, theta[mine], y[mine])
            for first, weight in ((below, 1 - share), (below + 1, share)):
                used = mine & (weight > 1e-9) & (first >= 0) & (first < self.levels)  # an angle on a level has one
                for level in _different(first[used]):
                    at = used & (first == level)
                    v[at] += weight[at, None] * self.forest(row, level, y[at])
        return v

    def _rows(self, cond: Condition | None, count: int) -> Int64[Tensor, "b"]:
        """The class of each sample."""
        if not self.classes:
            if cond is not None:
                raise InputError("cond: this model takes no condition; leave it out")
            return torch.zeros(count, dtype=torch.int64)
        if cond is None or cond.classes is None or len(cond.tensors) > 1:
            raise InputError("cond: these trees know each class alone; give classes, and nothing else")
        if bool(((cond.classes == NOT_GIVEN) | (cond.classes >= self.classes)).any()):
            raise InputError(f"cond: these trees know each class alone; give every sample one of {self.classes}")
        return cond.classes


def _differentiated(x: Tensor) -> bool:
    """Whether a derivative by ``x`` is being computed, backward or forward."""
    dual = forward_ad.unpack_dual(x)  # type: ignore[no-untyped-call]
    return (x.requires_grad and torch.is_grad_enabled()) or dual.tangent is not None


def _different(numbers: Int64[Tensor, "n"]) -> list[int]:
    return sorted(set(numbers.tolist()))
