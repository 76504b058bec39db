"""A mixture of Gaussians on the samples, which favours training data over held-out data where a model copies.

    log p(x) = log 1/n sum_j N(x; s_j, v_j I)

stands on the n samples s_j. The variances v_j are fitted to the training data. A sample that copies a training point
gets a small one, which raises the likelihood of the training data and not that of held-out data.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ROUNDS = 20  # of expectation and maximisation
_LEAST = 1e-4  # of the median squared distance: a copy's variance would be 0, and its likelihood infinite


@dataclass(frozen=True)
class Gap:
    """Mean log-likelihood of training data above that of held-out data, in nats per feature.

    Arguments:
        value: the difference.
        error: its standard error, over new training and held-out points; the samples are fixed.
    """

    value: float
    error: float


def likelihood_gap(
    samples: Float[Tensor, "n *s"], train: Float[Tensor, "k *s"], held_out: Float[Tensor, "m *s"]
) -> Gap:
    """The train-against-test gap of a mixture that stands on ``samples``.

    Fitting alone makes it positive. Compare it with the gap of a mixture that stands on as many real points.

    Arguments:
        samples: the centres.
        train: training data, to which the variances are fitted.
        held_out: data that was not trained on, and that is not among the centres.

    References:
        Jiralerspong et al. 2023, "Feature likelihood divergence" (they fit the variances by gradient descent).
    """
    centres, near, far = (points.double().flatten(1) for points in (samples, train, held_out))
    width = centres.shape[1]
    squares = torch.cdist(near, centres).square() / width
    least = _LEAST * float(squares.median()) or 1e-300
    variances = torch.full((len(centres),), float(squares.amin(1).mean()), dtype=torch.float64).clamp(min=least)
    for _ in range(ROUNDS):
        responsibility = _logs(squares, variances, width).softmax(1)
        total = responsibility.sum(0)
        fitted = (responsibility * squares).sum(0) / total.clamp(min=1e-300)
        variances = torch.where(total > 1e-6, fitted, variances).clamp(min=least)
    likelihoods = [
        _logs(s, variances, width).logsumexp(1) / width for s in (squares, torch.cdist(far, centres).square() / width)
    ]
    error = (
        math.sqrt(sum(float(each.var()) / len(each) for each in likelihoods))
        if min(len(near), len(far)) > 1
        else math.nan
    )
    return Gap(float(likelihoods[0].mean() - likelihoods[1].mean()), error)


def _logs(squares: Float[Tensor, "k n"], variances: Float[Tensor, "n"], width: int) -> Float[Tensor, "k n"]:
    """Log of each component's density times its weight 1 / n; ``squares`` are per feature."""
    return -0.5 * width * (squares / variances + (2 * math.pi * variances).log()) - math.log(len(variances))
