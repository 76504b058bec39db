"""dev.py without a network: what it asks pip for, when it sets up again, and what it says when something fails."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "dev.py"
NOTHING = "global.cert='/etc/ssl/ca.crt'\n:env:.disable-pip-version-check='1'\n"


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


def asked(dev, spec="", gpu=False, platform="linux", own_sources=False):
    return [
        attempt.arguments for attempt in dev.torch_attempts(spec, gpu=gpu, platform=platform, own_sources=own_sources)
    ]


def test_torch_spec_comes_before_everything(dev):
    spec = "torch==2.12.* --index-url 'https://example.org/a b'"
    wanted = [["torch==2.12.*", "--index-url", "https://example.org/a b"]]
    for gpu in (False, True):
        for platform in ("linux", "darwin"):
            assert asked(dev, spec, gpu=gpu, platform=platform, own_sources=True) == wanted


def test_a_windows_path_in_torch_spec_keeps_its_backslashes(dev):
    assert asked(dev, r"C:\wheels\torch.whl", platform="win32") == [[r"C:\wheels\torch.whl"]]


@pytest.mark.parametrize("own_sources", [False, True])
@pytest.mark.parametrize(("gpu", "platform"), [(True, "linux"), (False, "darwin"), (False, "win32"), (True, "win32")])
def test_a_gpu_and_the_other_systems_take_the_default_build(dev, gpu, platform, own_sources):
    assert asked(dev, gpu=gpu, platform=platform, own_sources=own_sources) == [["torch>=2.10"]]


def test_the_cpu_build_comes_from_where_pip_is_told_to_look(dev):
    assert asked(dev, own_sources=True) == [["torch==2.13.*"], ["torch>=2.10"]]


def test_the_cpu_index_is_asked_once_and_then_done_without(dev):
    first, second = asked(dev)
    assert first[0] == "torch==2.13.*"
    options = dict(zip(first[2::2], first[3::2], strict=True))
    assert first[1] == "--no-deps"
    assert options == {"--index-url": dev.CPU_INDEX, "--retries": "0", "--timeout": "20"}
    assert second == ["torch>=2.10"]
    assert "GB" in dev.torch_attempts("", gpu=False, platform="linux", own_sources=False)[1].words


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        ("", False),
        (NOTHING, False),
        (NOTHING + "global.index-url='https://mirror.example.org/simple'\n", False),
        (NOTHING + "global.find-links=''\n", False),
        (NOTHING + "global.find-links='/wheels'\n", True),
        (NOTHING + ":env:.find-links='/wheels'\n", True),
        ("install.extra-index-url='https://example.org/simple?a=b'\n", True),
        ("global.proxy='http://example.org/find-links'\n", False),
    ],
)
def test_own_sources_are_read_off_pip_config_list(dev, config, answer):
    assert dev.has_own_sources(config) is answer


# ------------------------------------------------------------------------------------------------------ stamp


def test_the_stamp_follows_project_python_and_place(dev):
    base = (b"[project]", (3, 11), Path("/a"))
    others = [
        (b"[project] ", (3, 11), Path("/a")),
        (b"[project]", (3, 12), Path("/a")),
        (b"[project]", (3, 11), Path("/b")),
    ]
    assert dev.stamp(*base) == dev.stamp(*base)
    assert len({dev.stamp(*each) for each in [base, *others]}) == 4


def pretend(dev, monkeypatch, *, import_torch=0, pip=lambda command: (0, "")):
    """Replace every process that dev.py would start for the set-up; returns the pip command lines it asked for."""
    commands = []

    def call(command, *, stdout=None, **_):
        if "venv" in command:
            dev.PYTHON.parent.mkdir(parents=True)
            dev.PYTHON.touch()
            (dev.VENV / "pyvenv.cfg").touch()
            return 0
        commands.append(command[command.index("install") + 1 :])
        status, words = pip(command)
        os.write(stdout, words.encode())
        return status

    def run(command, **_):
        usable = "-c" in command and dev.PYTHON.exists()
        return subprocess.CompletedProcess(command, 0 if usable else 1, stdout="", stderr="")

    monkeypatch.setattr(dev, "call", call)
    monkeypatch.setattr(dev.subprocess, "run", run)
    monkeypatch.setattr(dev.subprocess, "call", lambda command, **_: import_torch)
    monkeypatch.setattr(dev, "has_gpu", lambda: False)
    monkeypatch.delenv("TORCH_SPEC", raising=False)
    return commands


def test_a_finished_installation_is_not_repeated(dev, monkeypatch):
    commands = pretend(dev, monkeypatch)
    dev.ensure_environment()
    assert [command[-2:] for command in commands] == [["-e", ".[dev]"]]
    dev.ensure_environment()
    assert len(commands) == 1
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    marker = dev.VENV / "kept"
    marker.touch()
    dev.ensure_environment()
    assert len(commands) == 2
    assert marker.exists(), "an environment of the same Python is brought up to date, not thrown away"


def test_a_failed_installation_leaves_no_stamp_and_one_line(dev, monkeypatch, capfd):
    pretend(dev, monkeypatch, pip=lambda command: (1, "ERROR: the disk is full\n"))
    monkeypatch.setitem(dev.VERBS, "types", dev.Verb(lambda extra: dev.ensure_environment(), ""))
    assert dev.main(["types"]) == 1
    assert not dev.STAMP.exists()
    *_, shown, line = capfd.readouterr().err.splitlines()
    assert "the disk is full" in shown
    assert line.startswith("dev.py: could not install sfumato and its tools")
    assert "install.log" in line


def test_a_failure_after_a_success_takes_the_stamp_away(dev, monkeypatch):
    pretend(dev, monkeypatch)
    dev.ensure_environment()
    stamp = dev.STAMP.read_text()
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    pretend(dev, monkeypatch, pip=lambda command: (1, "no"))
    with pytest.raises(dev.Failed):
        dev.ensure_environment()
    (dev.ROOT / "pyproject.toml").write_text("[project]\n")
    assert not dev.STAMP.exists()
    pretend(dev, monkeypatch)
    dev.ensure_environment()
    assert dev.STAMP.read_text() == stamp


def test_an_index_without_the_cpu_build_is_followed_by_the_next_attempt(dev, monkeypatch, capfd):
    def pip(command):
        missing = dev.CPU_INDEX in command
        return (1, "ERROR: No matching distribution found for torch==2.13.*\n") if missing else (0, "")

    commands = pretend(dev, monkeypatch, import_torch=1, pip=pip)
    dev.ensure_environment()
    assert [dev.CPU_INDEX in command for command in commands] == [True, False, False]
    assert commands[1][-1] == "torch>=2.10"
    assert "about 3 GB" in capfd.readouterr().err


def test_a_broken_download_is_not_followed_by_a_larger_one(dev, monkeypatch):
    commands = pretend(dev, monkeypatch, import_torch=1, pip=lambda command: (1, "ERROR: Read timed out\n"))
    with pytest.raises(dev.Failed, match="could not install torch"):
        dev.ensure_environment()
    assert len(commands) == 1


def test_torch_spec_is_read_from_the_environment(dev, monkeypatch):
    commands = pretend(dev, monkeypatch, import_torch=1)
    monkeypatch.setenv("TORCH_SPEC", "torch==2.12.*")
    dev.ensure_environment()
    assert commands[0][-1] == "torch==2.12.*"


def test_a_python_without_the_venv_module_is_told_the_package(dev, monkeypatch):
    commands = pretend(dev, monkeypatch)
    monkeypatch.setattr(dev.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(dev.Failed, match=r"apt-get install python3\.\d+-venv"):
        dev.ensure_environment()
    assert commands == []


def test_a_folder_that_is_no_environment_is_not_removed(dev, monkeypatch):
    pretend(dev, monkeypatch)
    (dev.VENV / "thesis").mkdir(parents=True)
    with pytest.raises(dev.Failed, match="not a Python environment"):
        dev.ensure_environment()
    assert (dev.VENV / "thesis").exists()


# ------------------------------------------------------------------------------------------------------ verbs


def test_arguments_leave_only_the_tests(dev):
    names = [check.name for check in dev.checks([], 2)]
    assert names == ["ruff check", "ruff format --check", "mypy", "pytest"]
    (check,) = dev.checks(["tests/core", "-k", "posterior"], 3)
    assert check.words[:3] == ["pytest", "-n", "3"]
    assert check.words[-3:] == ["tests/core", "-k", "posterior"]
    assert "--jaxtyping-packages=sfumato,beartype.beartype" in check.words


def test_every_check_runs_and_one_failure_is_enough(dev, monkeypatch, capfd):
    seen = []

    def call(command, *, env, **_):
        seen.append((command[2], env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"]))
        return 1 if command[2] == "mypy" else 0

    monkeypatch.setattr(dev, "ensure_environment", lambda: None)
    monkeypatch.setattr(dev, "call", call)
    assert dev.main(["test"]) == 1
    assert seen == [(name, "1", "1") for name in ("ruff", "ruff", "mypy", "pytest")]
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2:] == ["== pytest", lines[-1]]
    assert lines[-1].startswith("dev.py test: FAILED: mypy (")
    monkeypatch.setattr(dev, "call", lambda command, **_: 0)
    assert dev.main(["test"]) == 0


def test_clean_keeps_runs_and_what_links_point_to(dev):
    kept = [dev.ROOT / name for name in ("runs/a/__pycache__/x", "src/sfumato/a.py", "elsewhere/bin/python")]
    gone = [dev.ROOT / name for name in (".mypy_cache/x", "src/sfumato/__pycache__/x", "dist/x", "site/x")]
    for path in kept + gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    dev.VENV.symlink_to(dev.ROOT / "elsewhere")
    assert dev.main(["clean"]) == 0
    assert all(path.exists() for path in kept)
    assert not any(path.parent.exists() for path in [*gone, dev.VENV / "x"])


def test_usage_has_one_line_for_each_verb(dev, capfd):
    assert dev.main([]) == dev.main(["--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    for name in ("demo", "test", "lint", "types", "docs", "bench", "clean"):
        assert sum(line.startswith(f"  {name} ") for line in lines) == 2


@pytest.mark.parametrize("arguments", [["tset"], ["bench", "no-such-script"], ["clean", "runs"]])
def test_bad_usage_is_one_line_and_status_2(dev, capfd, arguments):
    assert dev.main(arguments) == 2
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert arguments[-1] in line


# -------------------------------------------------------------------------------------------------- processes


def test_ctrl_c_is_status_130_without_a_traceback(dev, monkeypatch, capfd):
    def interrupted(extra):
        raise KeyboardInterrupt

    monkeypatch.setitem(dev.VERBS, "types", dev.Verb(interrupted, ""))
    assert dev.main(["types"]) == 130
    assert capfd.readouterr().err.split() == ["dev.py:", "interrupted"]


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 143)])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to end by")
def test_the_status_of_a_command_is_handed_on(dev, code, status):
    assert dev.call([sys.executable, "-c", code]) == status


def test_the_lock_keeps_a_second_process_out_until_the_first_is_done(dev):
    code = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('dev', sys.argv[1]);"
        "dev = importlib.util.module_from_spec(spec); spec.loader.exec_module(dev);"
        "file = open(sys.argv[1], 'r+b'); sys.exit(0 if dev.try_lock(file.fileno()) else 3)"
    )
    command = [sys.executable, "-c", code, dev.__file__]
    with dev.locked():
        assert subprocess.call(command) == 3
    assert subprocess.call(command) == 0


def test_an_old_python_could_still_read_the_file():
    """The line that refuses Python 3.9 and older must not be a SyntaxError there."""
    ast.parse(PATH.read_text(encoding="utf-8"), feature_version=(3, 7))
