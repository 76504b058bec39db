"""Are samples recognisable? A classifier of real data answers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Recognition:
    """How a classifier of real data classifies samples and, for comparison, held-out real data.

    Arguments:
        held_out_confidence: mean probability of the top class, over held-out data.
        held_out_error: its standard error.
        held_out_accuracy: fraction of the held-out data that is classified correctly.
        sample_confidence: mean probability of the top class, over the samples.
        sample_error: its standard error.
        held_out_shares: fraction of each class in the held-out data, by the classifier.
        sample_shares: fraction of each class among the samples.
        share_distance: total variation distance between the two.
        share_floor: the mean of this distance for two sets of these sizes with the held-out fractions.
    """

    held_out_confidence: float
    held_out_error: float
    held_out_accuracy: float
    sample_confidence: float
    sample_error: float
    held_out_shares: tuple[float, ...]
    sample_shares: tuple[float, ...]
    share_distance: float
    share_floor: float


def recognise(train: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor, samples: Tensor) -> Recognition:
    """Classify samples by a logistic regression on real data.

    Arguments:
        train: real data (N, *) that the classifier is trained on.
        labels: its classes (N,).
        held_out: other real data (M, *).
        held_out_labels: its classes (M,).
        samples: samples of a model (K, *).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    classifier.fit(_flat(train), labels.numpy())
    real, made = classifier.predict_proba(_flat(held_out)), classifier.predict_proba(_flat(samples))
    real_shares, made_shares = _shares(real), _shares(made)
    generator = np.random.default_rng(0)
    ours, theirs = (generator.multinomial(n, real_shares, size=1000) / n for n in (len(real), len(made)))
    by_chance = 0.5 * np.abs(ours - theirs).sum(axis=1)
    return Recognition(
        held_out_confidence=float(real.max(1).mean()),
        held_out_error=float(real.max(1).std() / len(real) ** 0.5),
        held_out_accuracy=float((classifier.classes_[real.argmax(1)] == held_out_labels.numpy()).mean()),
        sample_confidence=float(made.max(1).mean()),
        sample_error=float(made.max(1).std() / len(made) ** 0.5),
        held_out_shares=tuple(real_shares.tolist()),
        sample_shares=tuple(made_shares.tolist()),
        share_distance=float(0.5 * np.abs(real_shares - made_shares).sum()),
        share_floor=float(by_chance.mean()),
    )


def _flat(values: Tensor) -> Float[np.ndarray, "n d"]:
    return values.flatten(1).double().numpy()


def _shares(probabilities: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "classes"]:
    classes = probabilities.shape[1]
    return np.bincount(probabilities.argmax(1), minlength=classes) / len(probabilities)
