"""Checkpoints in the background: what was given, in order, and errors told."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sfumato.errors import InputError
from sfumato.training import checkpoint
from sfumato.training.background_writer import Writer
from sfumato.training.keep import Keep

PARTS = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}}
STATE = {"seconds": 1.5}


def counts(folder: Path) -> list[int]:
    return [int(place.name) for place in checkpoint.checkpoints(folder)]


def test_what_is_written_in_the_background_is_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    save_file = checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", lambda *args: (gate.wait(10), save_file(*args)))
    weights = {"a": torch.arange(12.0).reshape(3, 4), "t": torch.arange(12.0).reshape(3, 4).t()}
    before = {key: value.clone() for key, value in weights.items()}
    state = {"seconds": 1.0}
    done: list[str] = []
    writer = Writer(tmp_path, Keep())
    writer.save(5, {"weights": weights}, state, then=lambda: done.append(threading.current_thread().name))
    assert counts(tmp_path) == []  # it has returned before anything is there
    for value in weights.values():
        value.fill_(-1)
    state["seconds"] = 2.0
    gate.set()
    writer.wait()
    assert done == ["checkpoint"]
    parts, read = checkpoint.load(tmp_path / f"{5:012d}")
    assert read["seconds"] == 1.0
    assert all(torch.equal(parts["weights"][key], value) for key, value in before.items())


def test_one_at_a_time_in_order(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Keep(last=3))
    for images in range(1, 6):
        writer.save(images, PARTS, STATE)
    writer.wait()
    assert counts(tmp_path) == [3, 4, 5]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_error_in_the_background_is_raised_once_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path, Keep())
    for call in (writer.wait, lambda: writer.save(2, PARTS, STATE)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "rename", lambda *args: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
            writer.save(1, PARTS, STATE)
            while writer._thread is not None and writer._thread.is_alive():
                time.sleep(0.001)
        with pytest.raises(InputError, match="Input/output error"):
            call()
    writer.wait()
    assert counts(tmp_path) == []
    writer.save(2, PARTS, STATE)
    writer.wait()
    assert counts(tmp_path) == [2]


AT_EXIT = """
import sys, time
from pathlib import Path
import torch
from sfumato.training import checkpoint
from sfumato.training.keep import Keep
from sfumato.training.background_writer import Writer
write = checkpoint.save_file
checkpoint.save_file = lambda *args: (time.sleep(0.3), write(*args))
folder = Path(sys.argv[1])
Writer(folder / "good", Keep()).save(1, {"weights": {"a": torch.ones(3)}}, {})
Writer(folder / "bad", Keep()).save(1, {"weights": {"a": torch.ones(3)}}, {"unknown": object()})
"""


def test_a_process_that_ends_waits_for_the_writer_and_tells_of_an_error(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert checkpoint.damage(tmp_path / "good" / f"{1:012d}") is None
    assert result.stderr == "sfumato: error: Object of type object is not JSON serializable\n"
    assert list((tmp_path / "bad").iterdir()) == []
