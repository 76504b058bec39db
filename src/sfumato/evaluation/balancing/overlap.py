"""The rows of the other classes that look like the rare one."""

import numpy as np
import numpy.typing as npt

TREES = 100
FOLDS = 5


def overlapping(x: npt.NDArray[np.float64], rare: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows (n, d) of the other classes a forest takes for the rare class.

    Rows have weights that make the two classes equal, and each row is judged by a forest that was grown without it.
    A generator that is trained with a label of their own for these rows does not have to tell the rare class from
    them, and a learner is trained without them (D'Souza, Swetha & Sarawagi 2025, "Synthetic tabular data generation
    for imbalanced classification: the surprising effectiveness of an overlap class"). One rare row is like none.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = min(FOLDS, int(rare.sum()), int((~rare).sum()))
    if folds < 2:
        return np.zeros(len(x), bool)
    forest = RandomForestClassifier(TREES, random_state=0, min_samples_leaf=2, class_weight="balanced")
    division = StratifiedKFold(folds, shuffle=True, random_state=0)
    p = cross_val_predict(forest, x, rare, cv=division, method="predict_proba")[:, 1]
    found: npt.NDArray[np.bool_] = (p >= 0.5) & ~rare
    return found
