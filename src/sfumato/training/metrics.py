"""The record of a run: metrics.jsonl, append-only, and the same numbers as TensorBoard events."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from sfumato.files import write_text
from sfumato.runs.folder import RunFolder

_ONCE = ("train", "held_out", "average")  # kinds with one row per count of images


class Record:
    """Writes rows to metrics.jsonl, one JSON object per line, and scalars to TensorBoard.

    Rows beyond ``images``, from a run that was killed after its last checkpoint, are dropped at the start. Rows at
    exactly ``images`` stay, and are not written again.

    Arguments:
        run: the folder.
        images: images seen so far.
    """

    def __init__(self, run: RunFolder, images: int) -> None:
        from tensorboardX import SummaryWriter

        self._path = run.metrics
        self._present = _drop_after(self._path, images)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._events = SummaryWriter(str(run.tensorboard), purge_step=images or None, flush_secs=5)

    def write(self, kind: str, images: int, **numbers: Any) -> None:
        """Write one row. Its plain numbers also go to TensorBoard as ``kind/name`` against images seen."""
        if (kind, images) in self._present and kind in _ONCE:
            return
        self._file.write(json.dumps({"kind": kind, "images": images, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, (int, float)) and name not in ("step", "seconds"):
                self._events.add_scalar(f"{kind}/{name}", value, images)

    def rewind(self, images: int) -> None:
        """Drop the rows beyond ``images``."""
        self._file.close()
        self._present = _drop_after(self._path, images)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._events.close()


def rewinds(metrics: Path, images: int) -> int:
    """How often the run was rewound, according to its record up to ``images``."""
    counts = [0]
    with suppress(OSError):
        for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            row = _parsed(line)
            if row.get("kind") == "rewind" and isinstance(row.get("rewinds"), int) and row["images"] <= images:
                counts.append(row["rewinds"])
    return max(counts)


def _parsed(line: str) -> dict[str, Any]:
    """A row with a count of images, or an empty one."""
    try:
        row = json.loads(line)
    except ValueError:  # the last line of a killed process
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("images"), int) else {}


def _drop_after(path: Path, images: int) -> set[tuple[str, int]]:
    """Drop the rows beyond ``images``. Returns the (kind, images) of the rows at exactly ``images``."""
    kept: list[str] = []
    present: set[tuple[str, int]] = set()
    if not path.exists():
        return present
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        row = _parsed(line)
        if row and row["images"] <= images:
            kept.append(line)
            if row["images"] == images:
                present.add((str(row.get("kind")), images))
    write_text(path, "".join(line + "\n" for line in kept))
    return present
