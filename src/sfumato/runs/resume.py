"""Whether the run in a folder is the one that a command would start now, so that the command may continue it."""

import json
from typing import Any

from sfumato.errors import InputError, NoPermissionError
from sfumato.generative_model import GenerativeModel

from .folder import RunFolder
from .settings import Goal
from .sources import origin_of

_STARTED = {"run.json", "config.json", "README.md", "metrics.jsonl", "tensorboard", "checkpoints", "threads.json"}


def has_not_trained(folder: RunFolder) -> bool:
    """Whether a run in this folder stopped before its first checkpoint, and the folder holds nothing else."""
    if not folder.path.is_dir():
        return False
    names = {path.name for path in folder.path.iterdir() if not path.name.startswith(".")}
    ours = names <= _STARTED and (names <= {folder.checkpoints.name} or folder.origin_file.name in names)
    return ours and not any(folder.checkpoints.glob("[0-9]*"))


def require_same(folder: RunFolder, model: GenerativeModel, source: str, goal: Goal) -> None:
    """Refuse to continue a run that was started with other settings. The same data may be at another ``source`` now.

    Raises:
        InputError: names the first setting that differs, with both values.
    """
    config = folder.config()
    try:
        origin = folder.origin()
    except NoPermissionError:
        raise
    except InputError:
        raise InputError(f"{folder.origin_file}: missing or damaged; use another --out") from None
    before, now = _flat(config.recipe.model_dump(mode="json")), _flat(model.recipe.model_dump(mode="json"))
    keys = sorted({*before, *now})
    same_data = config.spec.fingerprint == model.spec.fingerprint  # which may have moved
    facts: list[tuple[str, Any, Any]] = [
        *([] if same_data else [("SOURCE", origin.source, origin_of(source))]),
        ("the budget", None if origin.goal is None else origin.goal.flag(), goal.flag()),
        *((key, before.get(key), now.get(key)) for key in keys if key.startswith("data.")),
        ("the data", config.spec.fingerprint, model.spec.fingerprint),
        *((key, before.get(key), now.get(key)) for key in keys),
    ]
    for what, old, new in facts:
        if old != new and what == "the data":
            raise InputError(f"{folder}: the data has changed since this run started; restore it, or use another --out")
        if old != new:
            raise InputError(
                f"{folder} was started with different settings ({what}: was {_word(old)}, now {_word(new)}); restore "
                f"{_word(old)}, or use another --out"
            )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}
