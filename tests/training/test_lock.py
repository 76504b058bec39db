import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfumato.errors import InputError
from sfumato.runs.folder import RunFolder
from sfumato.training import lock
from sfumato.training.lock import Lock

HOLDER = """
import sys, time
from pathlib import Path
from sfumato.runs.folder import RunFolder
from sfumato.training.lock import Lock
with Lock(RunFolder(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=30)


def test_another_process_is_named_and_its_end_by_any_means_frees_the_run(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(InputError) as caught, Lock(RunFolder(tmp_path)):
            pass
        who = json.loads((tmp_path / ".lock").read_text())
        assert str(caught.value) == (
            f"{tmp_path}: another process (pid {process.pid}, host {socket.gethostname()}, since {who['since']}) is "
            "training it; wait for it, or end it"
        )
        assert abs(time.mktime(time.strptime(who["since"], "%Y-%m-%d %H:%M")) - time.time()) < 600
        os.kill(process.pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait(timeout=30)
        assert (tmp_path / ".lock").exists()  # left behind, and in nobody's way
        with Lock(RunFolder(tmp_path)):
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with Lock(RunFolder(tmp_path)):
        with pytest.raises(InputError, match=f"pid {os.getpid()}, "), Lock(RunFolder(tmp_path)):
            pass
        # The one that was refused has freed nothing.
        with pytest.raises(InputError, match=f"pid {os.getpid()}, "), Lock(RunFolder(tmp_path)):
            pass
    with Lock(RunFolder(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "x"}', "\xff"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, text: str) -> None:
    with Lock(RunFolder(tmp_path)):
        (tmp_path / ".lock").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match="another process is training it"), Lock(RunFolder(tmp_path)):
            pass


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Lock(RunFolder(tmp_path)):
        raise KeyError
    with Lock(RunFolder(tmp_path)):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed")
def test_a_file_that_its_holder_removed_between_opening_and_locking_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    original = lock._lock
    calls = []

    def late(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
        original(descriptor)

    monkeypatch.setattr(lock, "_lock", late)
    with Lock(RunFolder(tmp_path)):
        assert path.exists()
        monkeypatch.undo()
        with pytest.raises(InputError, match="another process"), Lock(RunFolder(tmp_path)):
            pass
    assert len(calls) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed")
def test_the_lock_of_a_run_made_anew_is_left_to_its_holder(tmp_path: Path) -> None:
    with Lock(RunFolder(tmp_path)):
        (tmp_path / ".lock").unlink()
        second = Lock(RunFolder(tmp_path))
        second.__enter__()
    with pytest.raises(InputError, match="another process"), Lock(RunFolder(tmp_path)):
        pass
    second.__exit__(None, None, None)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(InputError, match=r"\.lock: cannot write \(No such file or directory\)"),
        Lock(RunFolder(tmp_path / "no")),
    ):
        pass

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(InputError, match=r"\.lock: cannot write \(No space left on device\)") as caught,
        Lock(RunFolder(tmp_path)),
    ):
        pass
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    with Lock(RunFolder(tmp_path)):
        pass


def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with Lock(RunFolder(tmp_path)), Lock(RunFolder(tmp_path)):
        pass
