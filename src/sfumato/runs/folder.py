"""A run folder: the name of every file in it, and access to those that several parts of the package read.

The format number in ``config.json`` is valid for the whole folder, so call ``config`` before you read other files.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.files import no_permission, strict_json, write_text
from sfumato.model_folder import OWN_CARD, Config, model_card, read_config
from sfumato.recipes import Recipe

from .settings import Goal as Goal


@dataclass(frozen=True)
class Origin:
    """The content of ``run.json``.

    Arguments:
        source: the data that the run was started on: an absolute path, or the name of a built-in data set.
        goal: when training ends; None if the file does not say.
    """

    source: str
    goal: Goal | None


@dataclass(frozen=True)
class Outcome:
    """What a command made of the model: a folder with ``result.json`` and a picture.

    Arguments:
        folder: where it is.
        record: the content of ``result.json``.
        picture: the picture; None if there is none.
    """

    folder: Path
    record: dict[str, Any]
    picture: Path | None


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run at ``path``. The constructor reads and writes nothing."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    # -------------------------------------------------------------------------------------------- the model's files

    @property
    def config_file(self) -> Path:
        """Recipe and data contract."""
        return self.path / "config.json"

    @property
    def weights(self) -> Path:
        """The averaged weights."""
        return self.path / "model.safetensors"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    # ---------------------------------------------------------------------------------------------- training's files

    @property
    def origin_file(self) -> Path:
        """The source and the goal."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """A folder per checkpoint, named by the images seen."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The record of training, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The record of training as TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def lock(self) -> Path:
        """Held while a process trains the run."""
        return self.path / ".lock"

    # ------------------------------------------------------------------------------- samples, measurements, the report

    @property
    def samples(self) -> Path:
        """The folder of drawn samples."""
        return self.path / "samples"

    @property
    def gallery(self) -> Path:
        """Samples, neighbours and trajectories for the report; how they were drawn is ``measurement("gallery")``."""
        return self.path / "gallery.npz"

    @property
    def evaluation(self) -> Path:
        """The closest pairs of samples and training data; the numbers are ``measurement("evaluation")``."""
        return self.path / "evaluation.npz"

    @property
    def tuning(self) -> Path:
        """The state of ``sfumato tune``."""
        return self.path / "tuning"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        """The figures of the report as files: SVG, PNG, and their numbers as CSV."""
        return self.path / "figures"

    def measurement_file(self, name: str) -> Path:
        """The file of a measurement.

        One of "gallery", "results", "likelihood", "certify", "certify-reconstruction", "evaluation", "comparison" and
        "threads".
        """
        return self.path / f"{name}.json"

    def picture(self, name: str) -> Path:
        """The picture of a measurement: "likelihood", "certify" or "certify-reconstruction"."""
        return self.path / f"{name}.png"

    # ---------------------------------------------------------------------------------------------------- typed access

    def config(self) -> Config:
        """Recipe and data contract. Raises InputError if the file is missing, damaged or of another format."""
        return read_config(self.path)

    def recipe(self) -> Recipe:
        """The recipe. Raises InputError as ``config`` does."""
        return self.config().recipe

    def spec(self) -> DataSpec:
        """The data contract. Raises InputError as ``config`` does."""
        return self.config().spec

    def origin(self) -> Origin:
        """The content of run.json. Raises InputError if it is missing or damaged, or names no source."""
        data = self._object(self.origin_file)
        if data is None:
            raise InputError(f"{self.origin_file}: missing or damaged; give a run folder that 'sfumato train' made")
        if not isinstance(data.get("source"), str):
            raise InputError(f"{self.origin_file}: names no source; train again with another --out")
        return Origin(data["source"], _goal(data.get("goal")))

    def write_origin(self, origin: Origin) -> None:
        """Write run.json."""
        goal = None if origin.goal is None else origin.goal.to_dict()
        write_text(self.origin_file, json.dumps({"source": origin.source, "goal": goal}, indent=2) + "\n")

    def measurement(self, name: str) -> dict[str, Any] | None:
        """The measurement of that name (see ``measurement_file``); None if there is none.

        Raises:
            InputError: the file is damaged.
        """
        path = self.measurement_file(name)
        if not path.is_file():
            return None
        data = self._object(path)
        if data is None:
            raise InputError(f"{path}: damaged, not a JSON object; delete it and measure again")
        return data

    def write_measurement(self, name: str, record: Mapping[str, Any]) -> Path:
        """Write a measurement and return the path of its file."""
        path = self.measurement_file(name)
        write_text(path, strict_json(record, indent=2) + "\n")
        return path

    def outcomes(self) -> list[Outcome]:
        """What ``reconstruct``, ``inpaint``, ``denoise`` and ``interpolate`` left in the run, oldest first."""
        found = []
        for file in sorted(self.path.glob("*/result.json"), key=lambda file: file.stat().st_mtime):
            record = self._object(file)
            if record is not None:
                pictures = sorted(file.parent.glob("*.png"))
                found.append(Outcome(file.parent, record, pictures[0] if pictures else None))
        return found

    def write_card(self, facts: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Write the model card with what was measured, unless the folder holds one that somebody else wrote."""
        if not self.card.is_file() or OWN_CARD in self.card.read_text(encoding="utf-8", errors="replace"):
            write_text(self.card, model_card(self.config(), facts, metrics))

    def ended_by(self, reason: str) -> int | None:
        """The images seen when training ended for ``reason`` the last time; None if it never has."""
        images = None
        with suppress(OSError):
            for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict) and (row.get("kind"), row.get("reason")) == ("stop", reason):
                        images = row.get("images")
        return images if isinstance(images, int) else None

    def _object(self, path: Path) -> dict[str, Any] | None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            raise no_permission(path) from None
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None


def _goal(data: Any) -> Goal | None:
    if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= {"steps", "seconds"}:
        return None
    ((name, value),) = data.items()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return Goal(steps=int(value)) if name == "steps" else Goal(seconds=value)
