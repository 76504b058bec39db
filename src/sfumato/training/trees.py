"""Grow the forests of a ``TreesDenoiser``, level by level, and keep them on disk from level to level.

At a level each forest learns v = cos(theta) eps - sin(theta) x_0 less what the Gaussian of the class says, from noisy
rows y = cos(theta) x_0 + sin(theta) eps. The noise is a function of (seed, class, level), so a run that was interrupted
ends with the same trees. LightGBM grows them, on one thread: of the libraries it has the smallest wheel (4 MB) and was
the fastest (half to a third of XGBoost's time per tree), and a tree of it is a few lines of text.
"""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.data import Samples
from sfumato.denoisers import TreesDenoiser
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.model_folder import load_weights, save_weights
from sfumato.numerics.random import derive
from sfumato.recipes.trees import TreesRecipe, TreesSection
from sfumato.runs.folder import RunFolder

from .lock import Lock

_BETWEEN = 10.0  # seconds between two copies of unfinished trees on disk
_MISSING = "trees: growing them needs LightGBM; install it with: pip install 'sfumato[trees]' (samples need it not)"
_FIELD = re.compile(r"^(num_leaves|split_feature|threshold|left_child|right_child|leaf_value)=(.*)$", re.MULTILINE)

Numbers = npt.NDArray[np.float64]


def require_library() -> Any:
    """LightGBM. Raises InputError where it is not installed."""
    try:
        import lightgbm
    except ImportError:
        raise InputError(_MISSING) from None
    return lightgbm


class Grower:
    """Grows the trees of ``model`` on ``samples``, those to train on.

    Arguments:
        model: a model by a ``TreesRecipe``; its denoiser is changed in place.
        samples: the samples in model units, with labels where the model takes classes.

    Raises:
        InputError: LightGBM is not installed; a class without two samples.
    """

    def __init__(self, model: Model, samples: Samples) -> None:
        recipe = model.recipe
        assert isinstance(recipe, TreesRecipe)
        assert isinstance(model.denoiser, TreesDenoiser)
        self.library = require_library()
        self.model, self.denoiser, self.settings = model, model.denoiser, recipe.trees
        self.seed, self.level, self.seconds = recipe.training.seed, 0, 0.0
        values = samples.values.detach().flatten(1).cpu()
        labels = samples.labels if self.denoiser.classes else torch.zeros(len(values), dtype=torch.int64)
        assert labels is not None  # ``ClassConditioning.resolved`` refuses data without
        self.parts = [values[labels.cpu() == row] for row in range(max(self.denoiser.classes, 1))]
        for row, part in enumerate(self.parts):
            if len(part) < 2:
                name = f"class '{model.spec.class_names[row]}'" if self.denoiser.classes else model.spec.source
                raise InputError(
                    f"trees: {name} has {len(part)} rows to train on; give at least 2, or conditioning=none"
                )
            self.denoiser.set_gaussian(row, part)

    @property
    def levels(self) -> int:
        """The number of levels."""
        return self.denoiser.levels

    def grow(
        self,
        run: RunFolder | None = None,
        watch: Callable[[int, int], None] = lambda done, total: None,
        stopped: Callable[[], str | None] = lambda: None,
    ) -> str:
        """Grow all levels that are left. Returns "levels", or the reason to stop, with the work kept in ``run``.

        Arguments:
            run: the folder that gets the unfinished trees and at the end ``model.safetensors``; None keeps nothing.
            watch: called after each level with the number of levels done and of all.
            stopped: asked after each level for a reason to stop.
        """
        saved, reason = time.monotonic(), None
        while self.level < self.levels and reason is None:
            began = time.monotonic()
            for row, part in enumerate(self.parts):
                self._grow(row, part)
            self.level += 1
            self.seconds += time.monotonic() - began
            watch(self.level, self.levels)
            reason = stopped() if self.level < self.levels else None
            if run is not None and self.level < self.levels and (reason or time.monotonic() - saved > _BETWEEN):
                self._keep(run)
                saved = time.monotonic()
        if reason is None and run is not None:
            save_weights(self.denoiser.state_dict(), run.weights, self.model.config().digest)
            unfinished(run).unlink(missing_ok=True)
        return reason or "levels"

    def resume(self, run: RunFolder) -> None:
        """Take the unfinished trees in ``run``, if it has some.

        Raises:
            InputError: the file is damaged, or of other trees.
        """
        path = unfinished(run)
        if not path.is_file():
            return
        whole = _Unfinished(self.denoiser)
        load_weights(whole, path, self.model.config().digest)
        self.level, self.seconds = int(whole.level), float(whole.seconds)

    def _keep(self, run: RunFolder) -> None:
        whole = _Unfinished(self.denoiser)
        whole.level.fill_(self.level)
        whole.seconds.fill_(self.seconds)
        save_weights(whole.state_dict(), unfinished(run), self.model.config().digest)

    def _grow(self, row: int, x_0: Tensor) -> None:
        """The forest of class ``row`` at the present level."""
        settings, theta = self.settings, self.denoiser.angle(self.level)
        generator = torch.Generator().manual_seed(derive(self.seed, f"trees {row} {self.level}"))
        x = x_0.double().repeat(max(math.ceil(settings.rows / len(x_0)), 1), 1)
        eps = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        y = (math.cos(theta) * x + math.sin(theta) * eps).float()  # as it is when samples are drawn
        angle = torch.full((len(x),), theta, dtype=torch.float64)
        target = math.cos(theta) * eps - math.sin(theta) * x - self.denoiser.gaussian(row, angle, y)
        trees = [
            tree
            for column in _boosted(self.library, y.numpy(), target.numpy(), settings)
            for tree in [*column, *([None] * (settings.trees - len(column)))]
        ]
        for name, found in zip(("feature", "number", "child"), _packed(trees, settings.leaves), strict=True):
            getattr(self.denoiser, name)[row, self.level] = torch.from_numpy(found)


class _Unfinished(torch.nn.Module):
    """Trees that are grown up to a level."""

    level: Tensor
    seconds: Tensor

    def __init__(self, denoiser: TreesDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("level", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seconds", torch.zeros((), dtype=torch.float64))


def unfinished(run: RunFolder) -> Path:
    """The file of trees that are not all grown yet."""
    return run.checkpoints / "trees.safetensors"


def _boosted(library: Any, y: Any, target: Numbers, settings: TreesSection) -> list[list[dict[str, Numbers]]]:
    """The trees of each column of ``target``, as LightGBM's arrays."""
    binning = {"verbose": -1, "num_threads": 1, "feature_pre_filter": False}
    growing = {
        **binning,
        "objective": "l2",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "max_depth": settings.depth,
        "min_data_in_leaf": settings.least,
        "boost_from_average": False,
        "deterministic": True,
        "force_col_wise": True,
    }
    rows = library.Dataset(y, label=target[:, 0], params=binning, free_raw_data=False).construct()
    found = []
    for column in target.T:
        rows.set_label(np.ascontiguousarray(column))
        booster = library.train(growing, rows, settings.trees)
        found.append(_trees(booster.model_to_string()))
    return found


def _trees(text: str) -> list[dict[str, Numbers]]:
    """The trees in LightGBM's text, each by the names of its arrays."""
    blocks = text.split("\nTree=")[1:]
    return [
        {name: np.array(numbers.split(), dtype=np.float64) for name, numbers in _FIELD.findall(block)}
        for block in blocks
    ]


def _packed(trees: list[dict[str, Numbers] | None], leaves: int) -> tuple[Any, Any, Any]:
    """(feature, number, child) of ``TreesDenoiser``, each (trees, 2 leaves - 1). None is a tree that adds 0."""
    shape = (len(trees), 2 * leaves - 1)
    feature, number = np.full(shape, -1, np.int16), np.zeros(shape, np.float32)
    child = np.broadcast_to(np.arange(shape[1], dtype=np.int16), shape).copy()
    for k, tree in enumerate(trees):
        if tree is None:
            continue
        values = tree["leaf_value"]
        places = [0 if len(values) > 1 else -1]  # LightGBM's number of the node at each place; ~leaf for a leaf
        for place in range(2 * len(values) - 1):
            node = places[place]
            if node < 0:
                number[k, place] = values[~node]
                continue
            feature[k, place], number[k, place] = tree["split_feature"][node], tree["threshold"][node]
            child[k, place] = len(places)  # both children side by side
            places += [int(tree["left_child"][node]), int(tree["right_child"][node])]
    return feature, number, child


def grown(model: Model, samples: Samples) -> Model:
    """``model`` with its trees grown on ``samples``, without a folder."""
    Grower(model, samples).grow()
    return model


def grow_run(
    grower: Grower, run: RunFolder, watch: Callable[[int, int], None], stopped: Callable[[], str | None]
) -> str:
    """``Grower.grow`` into the folder of a run that no other process grows meanwhile."""
    with Lock(run):
        return grower.grow(run, watch, stopped)
