"""dev.py without a network: its requests to pip, when it sets up again, and its messages when something fails."""

import ast
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "dev.py"


@pytest.fixture
def dev(tmp_path):
    """A copy of the script in an empty project, as a module of its own."""
    copy = shutil.copy(PATH, tmp_path)
    spec = importlib.util.spec_from_file_location("dev_under_test", copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return module


# ------------------------------------------------------------------------------------------------------ torch


def test_torch_spec_comes_before_everything(dev):
    spec = "torch==2.12.* --index-url 'https://example.org/a b'"
    wanted = [["torch==2.12.*", "--index-url", "https://example.org/a b"]]
    for gpu in (False, True):
        for platform in ("linux", "darwin"):
            assert dev.torch_attempts(spec, gpu=gpu, platform=platform) == wanted


def test_a_windows_path_in_torch_spec_keeps_its_backslashes(dev):
    assert dev.torch_attempts(r"C:\wheels\torch.whl", gpu=False, platform="win32") == [[r"C:\wheels\torch.whl"]]


@pytest.mark.parametrize(("gpu", "platform"), [(True, "linux"), (False, "darwin"), (False, "win32"), (True, "win32")])
def test_a_gpu_and_the_other_systems_take_the_default_build(dev, gpu, platform):
    assert dev.torch_attempts("", gpu=gpu, platform=platform) == [["torch>=2.10"]]


def test_the_cpu_index_is_asked_once_and_then_done_without(dev):
    first, second = dev.torch_attempts("", gpu=False, platform="linux")
    assert first[0].startswith("torch==")
    assert first[0].endswith("+cpu")
    assert "--no-deps" in first
    options = dict(itertools.pairwise(first))
    assert (options["--retries"], options["--timeout"]) == ("0", "20")
    assert second == ["torch>=2.10"]


# ------------------------------------------------------------------------------------------------------ stamp


def pretend(dev, monkeypatch, *, has_torch=True, pip=lambda command: (0, "")):
    """Replace every process that the set-up would start; returns the pip command lines that it asked for."""
    commands = []

    def run(command, **_):
        if "venv" in command:
            dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            dev.PYTHON.touch()
            return subprocess.CompletedProcess(command, 0)
        if "-c" in command:
            return subprocess.CompletedProcess(command, 0 if has_torch or "torch" not in command[-1] else 1)
        commands.append(command[command.index("install") + 1 :])
        status, output = pip(command)
        return subprocess.CompletedProcess(command, status, output.encode())

    monkeypatch.setattr(dev.subprocess, "run", run)
    monkeypatch.setattr(dev, "has_gpu", lambda: False)
    monkeypatch.setattr(dev.sys, "platform", "linux")
    monkeypatch.delenv("TORCH_SPEC", raising=False)
    return commands


def change_project(dev):
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")


def test_the_stamp_follows_project_python_and_folder(dev, monkeypatch, tmp_path):
    stamps = [dev.stamp(), dev.stamp()]
    change_project(dev)
    stamps.append(dev.stamp())
    monkeypatch.setattr(dev.sys, "version_info", (3, 99, 0))
    stamps.append(dev.stamp())
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(dev.ROOT / "pyproject.toml", tmp_path / "elsewhere")
    monkeypatch.setattr(dev, "ROOT", tmp_path / "elsewhere")
    stamps.append(dev.stamp())
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 4


def test_a_finished_installation_is_not_repeated(dev, monkeypatch):
    commands = pretend(dev, monkeypatch)
    dev.ensure_environment()
    assert [command[-2:] for command in commands] == [["-e", ".[dev]"]]
    dev.ensure_environment()
    assert len(commands) == 1
    change_project(dev)
    marker = dev.VENV / "kept"
    marker.touch()
    dev.ensure_environment()
    assert len(commands) == 2
    assert marker.exists(), "an environment of the same Python is brought up to date, not created again"


def test_a_failed_installation_leaves_no_stamp_and_one_line(dev, monkeypatch, capfd):
    pretend(dev, monkeypatch)
    dev.ensure_environment()
    assert dev.STAMP.exists()
    change_project(dev)
    pretend(dev, monkeypatch, pip=lambda command: (1, "ERROR: the disk is full\n"))
    assert dev.main(["types"]) == 1
    assert not dev.STAMP.exists()
    *_, shown, line = capfd.readouterr().err.splitlines()
    assert "the disk is full" in shown
    assert line.startswith("dev.py: pip could not install -e .[dev]")
    assert "install.log" in line
    assert "the disk is full" in dev.LOG.read_text()


def test_an_index_without_the_cpu_build_is_followed_by_the_next_attempt(dev, monkeypatch):
    def pip(command):
        missing = any(word.endswith("+cpu") for word in command)
        return (1, "ERROR: No matching distribution found for torch==2.13.0+cpu\n") if missing else (0, "")

    commands = pretend(dev, monkeypatch, has_torch=False, pip=pip)
    dev.ensure_environment()
    assert [command[-1] for command in commands][1:] == ["torch>=2.10", ".[dev]"]
    assert any(word.endswith("+cpu") for word in commands[0])


def test_a_broken_download_is_not_followed_by_a_larger_one(dev, monkeypatch):
    commands = pretend(dev, monkeypatch, has_torch=False, pip=lambda command: (1, "ERROR: Read timed out\n"))
    with pytest.raises(dev.Failed, match="could not install torch"):
        dev.ensure_environment()
    assert len(commands) == 1


def test_torch_spec_is_read_from_the_environment(dev, monkeypatch):
    commands = pretend(dev, monkeypatch, has_torch=False)
    monkeypatch.setenv("TORCH_SPEC", "torch==2.12.*")
    dev.ensure_environment()
    assert commands[0][-1] == "torch==2.12.*"


def test_a_python_without_the_venv_module_gets_the_name_of_the_package(dev, monkeypatch):
    commands = pretend(dev, monkeypatch)
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(dev.Failed, match=r"apt-get install python3\.\d+-venv"):
        dev.ensure_environment()
    assert commands == []


# ------------------------------------------------------------------------------------------------------ verbs


@pytest.fixture
def ready(dev, monkeypatch):
    monkeypatch.setattr(dev, "ensure_environment", lambda: None)
    return dev


def test_arguments_leave_only_the_tests(dev):
    assert list(dev.checks([])) == ["ruff", "format", "mypy", "pytest"]
    (words,) = dev.checks(["tests/core", "-k", "posterior"]).values()
    assert words[:2] == ["pytest", "-n"]
    assert words[-3:] == ["tests/core", "-k", "posterior"]
    assert "--jaxtyping-packages=sfumato,beartype.beartype" in words


def test_every_check_runs_and_one_failure_is_enough(ready, monkeypatch, capfd):
    seen = []

    def call(_, name, *words, env):
        seen.append((name, env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]))
        return 1 if name == "mypy" else 0

    monkeypatch.setattr(ready, "call", call)
    assert ready.main(["test"]) == 1
    assert seen == [(name, "1", "1") for name in ("ruff", "ruff", "mypy", "pytest")]
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2] == "== pytest"
    assert lines[-1].startswith("dev.py test: FAILED: mypy (")
    monkeypatch.setattr(ready, "call", lambda *words, env: 0)
    assert ready.main(["test"]) == 0


def test_usage_has_one_line_per_verb(dev, capfd):
    assert dev.main([]) == dev.main(["--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    for name in ("demo", "test", "lint", "types", "docs", "bench"):
        assert sum(line.startswith(f"  {name} ") for line in lines) == 2


@pytest.mark.parametrize("arguments", [["tset"], ["bench", "no-such-script"]])
def test_bad_usage_is_one_line_and_status_2(ready, capfd, arguments):
    assert ready.main(arguments) == 2
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert arguments[-1] in line


# -------------------------------------------------------------------------------------------------- processes


def test_ctrl_c_is_status_130_without_a_traceback(ready, monkeypatch, capfd):
    def interrupted(extra):
        raise KeyboardInterrupt

    monkeypatch.setitem(ready.VERBS, "types", ready.Verb(interrupted, ""))
    assert ready.main(["types"]) == 130
    assert capfd.readouterr().err.split() == ["dev.py:", "interrupted"]


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that end a process")
def test_the_status_of_a_command_is_passed_on(dev, monkeypatch, code, status):
    monkeypatch.setattr(dev, "PYTHON", Path(sys.executable))
    assert dev.call("-c", code) == status


@pytest.mark.skipif(os.name == "nt", reason="there is no lock on Windows")
def test_the_lock_keeps_a_second_process_out_until_the_first_is_done(dev):
    import fcntl

    def free() -> bool:
        with open(dev.__file__, "rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    with dev.locked():
        assert not free()
    assert free()


def test_an_old_python_could_still_read_the_file():
    """The line that refuses Python 3.9 and older must not be a SyntaxError there."""
    ast.parse(PATH.read_text(encoding="utf-8"), feature_version=(3, 7))
