"""The checkpoints of a run: written in the background, and read to resume."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from sfumato.errors import InputError
from sfumato.model_folder import save_weights
from sfumato.runs.folder import RunFolder
from sfumato.world import ALONE, World

from . import autotune, checkpoint
from .autotune import fingerprint
from .background_writer import Writer
from .engine import Engine
from .keep import Keep
from .metrics import rewinds
from .schedule import Schedule

KINDS: dict[str, Any] = {
    "seconds": (int, float),
    "rewinds": int,
    "schedule": list,
    "score": (float, NoneType),
    "bits": dict,
}
"""Types of what a run resumes from, by its key in a checkpoint's state."""


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint says besides the state of the engine.

    Arguments:
        seconds: of training, over all sessions.
        score: the last held-out loss, if there is one.
    """

    seconds: float
    score: float | None


class Saver:
    """Saves an engine's state into the folder of its run, and restores it.

    Arguments:
        engine: the engine.
        run: the folder.
        keep: which checkpoints to keep.
        world: the processes that train together.
    """

    def __init__(self, engine: Engine, run: RunFolder, keep: Keep, world: World) -> None:
        self._engine = engine
        self._run = run
        self._world = world
        self._writing = world.is_main or engine.compute.shard
        self._checkpoints = Writer(run.checkpoints, keep, world.separate_group() if engine.compute.shard else ALONE)

    def save(self, seconds: float, score: float | None) -> None:
        """Write a checkpoint, and the averaged weights as the run's model, while training goes on.

        Arguments:
            seconds: of training, over all sessions.
            score: the last held-out loss.

        Raises:
            NonFiniteError: on all processes, instead of writing weights that are not finite.
        """
        engine = self._engine
        tensors = engine.state.tensors()
        if not self._writing:
            return
        averaged, config = engine.state.averaged_weights(), self.config_digest
        state = {
            "images": engine.images,
            "seconds": seconds,
            "score": score,
            "rewinds": engine.state.rewinds,
            "schedule": engine.state.schedule.to_list(),
            "recipe": self._recipe(),
            "bits": engine.rounding(),
        }
        self._checkpoints.save(engine.images, tensors, state, lambda: save_weights(averaged, self._run.weights, config))

    @cached_property
    def config_digest(self) -> str:
        """The digest of the run's config.json, which the weights are tied to; read once per session."""
        folder = self._run
        return (folder.config() if folder.config_file.exists() else self._engine.model.config()).digest

    def wait(self) -> None:
        """Wait until everything is on the disk. Raises what went wrong, once."""
        self._checkpoints.wait()

    def restore(self, warn: Callable[[str], None]) -> Resumed:
        """Set the engine to the newest whole checkpoint.

        Arguments:
            warn: called with a line for each damaged checkpoint, and for what will change the last bits.

        Raises:
            InputError: there is none, it belongs to another recipe, or it does not fit.
        """
        path, rewound = self._newest(warn)
        tensors, state = checkpoint.load(path)
        if not all(isinstance(state.get(name, ...), kind) for name, kind in KINDS.items()):
            raise InputError(
                f"{path / checkpoint.STATE}: lacks what a run resumes from; train again with another --out"
            )
        if state.get("recipe") != self._recipe():
            raise InputError(
                f"{path}: belongs to another recipe than {self._run.config_file} has now; restore that file, or train "
                "again with another --out"
            )
        engine, former = self._engine, state["bits"]
        autotune.restore(engine, former)
        for key, value in engine.rounding().items():
            if (was := former.get(key)) != value:
                warn(f"{path}: {key} was {was} and is {value} now; the run continues, its last bits will differ")
        # A rewind to this very checkpoint is in the record alone.
        schedule = Schedule.of(state["schedule"])
        engine.state.load(tensors, state["images"], max(state["rewinds"], rewound), schedule, path)
        return Resumed(state["seconds"], state["score"])

    def _newest(self, warn: Callable[[str], None]) -> tuple[Path, int]:
        """The newest whole checkpoint, as the first process sees it, and the rewinds in the record until then."""
        folder = self._run.checkpoints
        path = checkpoint.newest(folder, warn) if self._world.is_main else None
        own = "" if path is None else f"{path.name} {rewinds(self._run.metrics, int(path.name))}"
        found = self._world.gather_text(own)[0]
        if not found:
            raise InputError(f"{folder}: no whole checkpoint to resume from; train again with another --out")
        name, count = found.split()
        return folder / name, int(count)

    def _recipe(self) -> str:
        return fingerprint(self._engine.model.recipe.model_dump(mode="json"))
