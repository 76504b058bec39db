"""The number of CPU threads that a command computes with: what is asked for, or what training found to be best."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sfumato.errors import InputError

from .folder import RunFolder


@contextmanager
def threads(wanted: int | None, run: str | Path | None = None) -> Iterator[None]:
    """Compute with ``wanted`` threads inside the context.

    By default with as many as the training of ``run`` chose, if it chose among as many as there are here; beside other
    busy processes, one thread can be several times faster than all. Else with torch's own number.

    Arguments:
        wanted: the number of threads, at least 1.
        run: the folder of a run or a model.
    """
    before = torch.get_num_threads()
    number = wanted or (None if run is None else _chosen(RunFolder(Path(run)), before))
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chosen(folder: RunFolder, most: int) -> int | None:
    try:
        found = folder.measurement("threads") or {}
    except InputError:  # only speed depends on it
        return None
    chosen, among = found.get("threads"), found.get("among")
    return chosen if isinstance(chosen, int) and among == most and 1 <= chosen <= most else None
