"""The recipe of a training that names none: trees for small tables, a network for all else."""

import os
from dataclasses import replace
from pathlib import Path

from sfumato import recipes
from sfumato.data import TABLES, count_rows
from sfumato.errors import InputError
from sfumato.files import expanded
from sfumato.reporting import SILENT, Reporter
from sfumato.training.trees import require_library

from .settings import DEFAULT, TrainSettings
from .sources import load_data

ROWS = 5_000
"""Rows of a table below which trees make better samples than networks: docs/tables.md."""

TREES = "trees"
_OF_BOTH = {"training.held_out", "training.seed"}  # settings of training that trees have too


def with_recipe(settings: TrainSettings, reporter: Reporter) -> TrainSettings:
    """``settings`` with the recipe, chosen by the data where none is named.

    A table of vectors with fewer than ``ROWS`` rows is for trees, unless a budget, steps, or a setting that only
    networks have is given, several processes train, or LightGBM is not installed.

    Raises:
        InputError: as ``recipes.read`` and ``load`` do.
    """
    if settings.recipe is not None or settings.resume is not None:
        return settings
    chosen, why = _chosen(settings)
    if why:
        reporter.info(why)
    return replace(settings, recipe=chosen)


def _chosen(settings: TrainSettings) -> tuple[str, str]:
    """The recipe, and why as a sentence; empty where there was no choice."""
    source = settings.source or ""
    path = expanded(source)
    if Path(source).suffix.lower() not in TABLES or not path.is_file():
        return DEFAULT, ""
    sections = {text.partition("=")[0].partition(".")[0] for text in settings.overrides}
    if "trees" in sections:
        return TREES, ""
    keys = {text.partition("=")[0] for text in settings.overrides if text.startswith("training.")}
    of_trees = all(recipes.applies(recipes.read(TREES), text) for text in settings.overrides)
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if settings.goal is not None or not of_trees or keys - _OF_BOTH or not alone:
        return DEFAULT, ""
    if (rows := count_rows(path)) >= ROWS:
        return DEFAULT, f"{rows:,} rows: a network is trained; --recipe trees grows trees instead"
    spec = load_data(source, recipes.read(TREES, settings.overrides), SILENT).spec
    try:
        recipes.read(TREES, settings.overrides).build(spec)
    except InputError:  # signals, too many columns, or a schedule that trees cannot use
        return DEFAULT, ""
    try:
        require_library()
    except InputError:
        return DEFAULT, (
            f"{rows:,} rows are few, and trees would be better than a network: pip install 'sfumato[trees]'"
        )
    return TREES, (
        f"{rows:,} rows are few, so trees are grown, which need fewer than a network; --recipe {DEFAULT} trains a "
        "network instead"
    )
