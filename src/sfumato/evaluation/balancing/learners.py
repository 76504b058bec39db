"""The learners that are trained on a table, and what each is."""

import warnings
from typing import Any

import numpy as np

from sfumato.errors import InputError

from .rows import Numbers, Table

_MISSING = "--learners {}: needs imbalanced-learn; install it with: pip install 'sfumato[balance]'"
LEARNERS = ("logistic", "forest", "boosting", "mlp")
"""Those that the verdict is about: they are trained on rows of every kind."""

BALANCED = ("easy-ensemble", "balanced-bagging", "balanced-forest")
"""Those that balance their own rows, and are trained on real ones alone."""

DEFAULT = ("logistic", "forest", "boosting")


def require(names: tuple[str, ...]) -> None:
    """Raises InputError: no learner of the verdict, an unknown one, one twice, or its library is missing."""
    for name in names:
        if name not in LEARNERS + BALANCED:
            raise InputError(f"--learners {name}: there is none; choose from {', '.join(LEARNERS + BALANCED)}")
        if name in BALANCED:
            _library(name)
    if len(set(names)) < len(names):
        raise InputError(f"--learners {','.join(names)}: name each once")
    if not set(names) & set(LEARNERS):
        raise InputError(f"--learners {','.join(names)}: give at least one of {', '.join(LEARNERS)}")


def probability(name: str, table: Table, x: Numbers, seed: int) -> Numbers:
    """The probability of the rare class at rows ``x``, of a learner that is trained on ``table``."""
    learner = _learner(name, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that fitting has not converged; what is measured is what was fitted
        if table.weights is None:
            learner.fit(table.x, table.rare)
        else:
            last = learner.steps[-1][0] if hasattr(learner, "steps") else None
            learner.fit(table.x, table.rare, **{f"{last}__sample_weight" if last else "sample_weight": table.weights})
        found: Numbers = np.asarray(learner.predict_proba(x)[:, 1], np.float64)
    return found


def _learner(name: str, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    if name == "forest":
        return RandomForestClassifier(100, random_state=seed, min_samples_leaf=2)
    if name == "boosting":
        return HistGradientBoostingClassifier(random_state=seed, max_iter=60, early_stopping=False)
    if name == "mlp":
        return make_pipeline(StandardScaler(), MLPClassifier((32, 32), alpha=1e-2, max_iter=150, random_state=seed))
    library = _library(name)
    kind = {
        "easy-ensemble": "EasyEnsembleClassifier",
        "balanced-bagging": "BalancedBaggingClassifier",
        "balanced-forest": "BalancedRandomForestClassifier",
    }[name]
    return getattr(library, kind)(random_state=seed)


def _library(name: str) -> Any:
    try:
        import imblearn.ensemble
    except ImportError:
        raise InputError(_MISSING.format(name)) from None
    return imblearn.ensemble
