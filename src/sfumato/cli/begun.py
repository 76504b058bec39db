"""Whether a run folder is what a command would make now, so that the command may go on with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

from . import runs

if TYPE_CHECKING:
    from sfumato.model import Model

_STARTED = {"run.json", "config.json", "README.md", "metrics.jsonl", "tensorboard", "checkpoints"}


def bare(folder: Path) -> bool:
    """Whether a run that was to be here had not begun: no checkpoint, and nothing that is not of its making."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    ours = names <= _STARTED and (not names or "run.json" in names)
    return ours and not any((folder / "checkpoints").glob("[0-9]*"))


def same(folder: Path, model: "Model", source: str, goal: runs.Goal) -> None:
    """Raises InputError, naming what differs, where the run in ``folder`` was begun with anything else."""
    from sfumato.data import BUILT_IN
    from sfumato.model import read_config

    config = read_config(folder)
    try:
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        origin, other = str(state["source"]), dict(state["goal"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'run.json'}: missing or damaged; give another --out") from None
    before, now = _flat(config["recipe"]), _flat(model.recipe.model_dump(mode="json"))
    own = source if source in BUILT_IN else str(Path(source).expanduser().resolve())
    facts = [
        ("SOURCE", origin, own),
        ("the budget", _said(other), _said(goal)),
        *((key, before.get(key), now.get(key)) for key in sorted({*before, *now}) if key.startswith("data.")),
        ("the data", config["data"].get("fingerprint"), model.spec.fingerprint),
        *((key, before.get(key), now.get(key)) for key in sorted({*before, *now})),
    ]
    for what, old, new in facts:
        if old != new:
            how = "has changed since" if what == "the data" else f"was {_word(old)} and is {_word(new)} now"
            raise InputError(f"{folder} was begun otherwise: {what} {how}; give it as it was, or another --out")


def _said(goal: Mapping[str, Any]) -> str:
    if "seconds" in goal:
        return f"--budget {goal['seconds']:g}s"
    return f"--steps {goal.get('steps')}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}
