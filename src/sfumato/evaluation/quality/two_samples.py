"""A classifier's two-sample test, which tries to tell samples from real data."""

import numpy as np
import torch

from ..out_of_distribution import auroc
from .intervals import Interval
from .sets import Sets

FOLDS = 5
TREES = 100


def classifier(sets: Sets, seed: int = 0) -> Interval:
    """The area under the ROC curve of a classifier that tells samples from real data; 0.5 if it cannot.

    The classifier is a forest of extremely randomised trees. Every point is judged by one that was trained without the
    fold of that point. The error is that of the area for fixed classifiers (DeLong et al. 1988). Groups of fewer
    points than there are folds cannot be divided, and give nan.

    References:
        Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests"; Geurts, Ernst & Wehenkel 2006 (the trees).
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    n, m = len(sets.samples), len(sets.real)
    if min(n, m) < FOLDS:
        return Interval(float("nan"), float("nan"))
    points = torch.cat((sets.samples, sets.real)).numpy()
    drawn = np.repeat([1, 0], [n, m])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=5, random_state=seed)
    scores = torch.from_numpy(cross_val_predict(forest, points, drawn, cv=folds, method="predict_proba")[:, 1])
    found = auroc(scores[n:], scores[:n])
    return Interval(found.value, found.error)
