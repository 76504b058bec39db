"""Are samples recognisable? Ask a classifier that has never seen them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Recognition:
    """What a classifier of real data says of samples and, for comparison, of held-out real data.

    ``*_confidence``: the mean of its top-class probability, with ``*_error`` its standard error. ``*_shares``: the
    share of each class. ``share_distance``: the total variation distance between the two, and ``share_floor`` what
    that distance is on average for two sets of these sizes from one distribution, the held-out shares.
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
    """Logistic regression on the values of ``train`` (N, *) with ``labels`` (N,), applied to both other sets."""
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
