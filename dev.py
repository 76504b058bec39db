"""Set up Sfumato on a bare machine and run it: `python3 dev.py demo`, `python3 dev.py test`.

This script needs only the standard library. The first call creates `.venv` and installs the project into it; a stamp
(of pyproject.toml, the Python version and this folder) lets later calls start at once. The output of pip is in
.venv/install.log.
"""

import contextlib
import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Nothing in this file may be newer than the syntax of Python 3.7, or an old Python answers with a SyntaxError instead.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"dev.py: Sfumato needs Python 3.10 or newer, and this is {sys.version.split()[0]}: try python3.12 dev.py")

WINDOWS = os.name == "nt"
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
STAMP = VENV / "sfumato.stamp"
LOG = VENV / "install.log"

ANY_TORCH = ["torch>=2.10"]
# PyPI's build for Linux brings 3 GB of CUDA libraries. The CPU build comes from PyTorch's own index, or from wherever
# pip is configured to look. Without dependencies, or an index that does not answer is asked once per package.
CPU_TORCH = ["torch==2.13.0+cpu", "--no-deps", "--retries", "0", "--timeout", "20"]
CPU_TORCH += ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]


class Failed(Exception):
    """A failure that the user can fix, explained in one line; the exit status is 1."""


def say(text: str, end: str = "\n") -> None:
    """Print progress to standard error; standard output belongs to the command that runs."""
    print(text, end=end, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------- the environment


def torch_attempts(spec: str, *, gpu: bool, platform: str) -> list[list[str]]:
    """Arguments for `pip install` that bring torch, in order of preference; the next follows if pip finds no match.

    Arguments:
        spec: the value of TORCH_SPEC, words of a pip command line; empty if unset.
        gpu: whether an NVIDIA driver answers.
        platform: `sys.platform`.
    """
    if spec:
        return [shlex.split(spec, posix=platform != "win32")]
    if gpu or platform in ("darwin", "win32"):
        return [ANY_TORCH]
    return [CPU_TORCH, ANY_TORCH]


def has_gpu() -> bool:
    """Whether a working `nvidia-smi` lists a GPU."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def stamp() -> str:
    """The name of the environment that is needed: it changes with the project, the Python version and the folder."""
    # The folder, because an editable install and the scripts in .venv hold absolute paths.
    parts = [(ROOT / "pyproject.toml").read_bytes(), repr((sys.version_info[:2], str(ROOT))).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ensure_environment() -> None:
    """Create `.venv` with the project in it, unless the stamp shows that it is there."""
    wanted = stamp()
    if is_ready(wanted):
        return
    with locked():
        if not is_ready(wanted):  # another process may have created it
            install(wanted)


def is_ready(wanted: str) -> bool:
    """Whether the last installation was completed and is the needed one."""
    return PYTHON.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep a second dev.py from touching `.venv` until this one is done (not on Windows)."""
    with open(__file__, "rb") as handle:
        if not WINDOWS:
            import fcntl

            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(wanted: str) -> None:
    """Create the environment and install torch, then the project; the stamp is written last."""
    start = time.monotonic()
    version = ".".join(str(number) for number in sys.version_info[:2])
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Failed(
            "this Python has no venv module: on Debian and Ubuntu, run "
            f"`sudo apt-get install python{version}-venv` and try again"
        )
    say(f"Setting up .venv with Python {version}, once (the output of pip: .venv/install.log)")
    if not runs(f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"):
        say("  the environment ...")
        if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)]).returncode != 0:
            raise Failed(f"could not create {VENV}: the reason is above")
    STAMP.unlink(missing_ok=True)
    LOG.write_bytes(b"")
    if not runs("import torch"):
        spec = os.environ.get("TORCH_SPEC", "").strip()
        attempts = torch_attempts(spec, gpu=not spec and has_gpu(), platform=sys.platform)
        for arguments in attempts:
            if pip_install(arguments, may_miss=arguments is not attempts[-1]):
                break
    pip_install(["-e", ".[dev]"])
    STAMP.write_text(wanted, encoding="utf-8")
    say(f"Ready after {time.monotonic() - start:.0f} s.")


def runs(code: str) -> bool:
    """Whether the environment's Python is there and runs `code` without an error."""
    return PYTHON.exists() and subprocess.run([str(PYTHON), "-c", code], capture_output=True).returncode == 0


def pip_install(arguments: list[str], *, may_miss: bool = False) -> bool:
    """Install into the environment; the output goes to the log.

    Returns False if `may_miss` and pip found no match. Every other failure raises Failed, after the end of the log.
    """
    say(f"  {arguments[0] if arguments[0] != '-e' else 'sfumato and its tools'} ...", end=" ")
    # Half of pip's time goes into compiling modules, most of which nobody imports; Python does it on import, if it may.
    compiling = [] if sys.dont_write_bytecode else ["--no-compile"]
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--progress-bar", "off", *compiling, *arguments]
    start = time.monotonic()
    # PIP_USER=0: with `user = true` in a pip.conf, every install into an environment fails.
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PIP_USER": "0"}, stdout=-1, stderr=-2)
    with LOG.open("ab") as log:
        log.write(done.stdout)
    if done.returncode == 0:
        say(f"{time.monotonic() - start:.0f} s")
        return True
    output = done.stdout.decode("utf-8", "replace")
    if may_miss and "No matching distribution found" in output:
        say("not found")
        return False
    say("failed\n" + "\n".join(f"    {line}" for line in output.splitlines()[-25:]))
    raise Failed(
        f"pip could not install {' '.join(arguments)} (the end of {LOG} is above): fix that and run this again"
    )


# ------------------------------------------------------------------------------------------------------- verbs


def call(*words: str, env: dict[str, str] | None = None) -> int:
    """Run the environment's Python at the root of the project; returns its status, 128 + n if signal n ended it."""
    process = subprocess.Popen([str(PYTHON), *words], cwd=ROOT, env=env)
    try:
        status = process.wait()
    except KeyboardInterrupt:  # the process got it too; it ends on its own, or a second one ends both
        status = process.wait()
    return status if status >= 0 else 128 - status


def workers() -> int:
    """Number of pytest's processes: the cores that this process may use, at most 8 (each holds a torch)."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, 8)


def checks(extra: list[str]) -> dict[str, list[str]]:
    """The checks of `dev.py test`, in order: name -> module and arguments. With arguments, the tests alone."""
    tests = {"pytest": ["pytest", "-n", str(workers()), "--jaxtyping-packages=sfumato,beartype.beartype", *extra]}
    if extra:
        return tests
    return {"ruff": ["ruff", "check"], "format": ["ruff", "format", "--check"], "mypy": ["mypy"], **tests}


def test(extra: list[str]) -> int:
    """Run every check, also after one that failed; the verdict is the last line."""
    # One thread per worker: two torch threads beside another busy process run several times slower than one.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    begin = time.monotonic()
    failed = []
    todo = checks(extra)
    for name, words in todo.items():
        print(f"== {name}", flush=True)
        if call("-m", *words, env=env) != 0:
            failed.append(name)
    verdict = f"FAILED: {', '.join(failed)}" if failed else f"ok: {', '.join(todo)}"
    print(f"dev.py test: {verdict} ({time.monotonic() - begin:.0f} s)", flush=True)
    return 1 if failed else 0


def demo(extra: list[str]) -> int:
    """Run `sfumato demo` in the caller's folder."""
    command = [str(PYTHON), "-m", "sfumato", "demo", *extra]
    if WINDOWS:  # exec returns to the shell at once there
        return subprocess.call(command)
    os.execv(command[0], command)


def lint(extra: list[str]) -> int:
    """Check style and format; --fix fixes."""
    fix = "--fix" in extra
    paths = [word for word in extra if word != "--fix"]
    style = call("-m", "ruff", "check", *(["--fix"] if fix else []), *paths)
    return call("-m", "ruff", "format", *([] if fix else ["--check"]), *paths) or style


def types(extra: list[str]) -> int:
    """Check the types of the package, or of the given paths."""
    return call("-m", "mypy", *extra)


def docs(extra: list[str]) -> int:
    """Build the site into site/, or pass the arguments to mkdocs; the first call installs its packages."""
    if not runs("import latex2mathml, material, mkdocs, mkdocstrings_handlers.python"):
        pip_install(["-e", ".[docs]"])
    # The theme prints a long notice about its own future, which no reader here can act on.
    return call("-m", "mkdocs", *(extra or ["build", "--strict"]), env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


def bench(extra: list[str]) -> int:
    """Run one script of benchmarks/, or list them."""
    scripts = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    if not extra:
        print("\n".join(scripts))
        return 0
    if extra[0] not in scripts:
        say(f"dev.py bench: unknown benchmark {extra[0]!r}; known are {', '.join(scripts)}")
        return 2
    return call(str(scripts[extra[0]]), *extra[1:])


class Verb(NamedTuple):
    """One command of this script; `run` gets the arguments after its name."""

    run: Callable[[list[str]], int]
    help: str


VERBS = {
    "demo": Verb(demo, "train, sample and report on a small data set; arguments such as --out FOLDER are passed on"),
    "test": Verb(test, "ruff, mypy and pytest; with arguments (tests/core -k posterior) only pytest"),
    "lint": Verb(lint, "ruff check and ruff format --check; --fix fixes"),
    "types": Verb(types, "mypy --strict on the package"),
    "docs": Verb(docs, "build the site into site/; `docs serve` shows it"),
    "bench": Verb(bench, "list the scripts in benchmarks/, or run one: bench NAME"),
}
USAGE = "usage: python3 dev.py VERB [ARGUMENT ...]\n\n{}\n\nThe first call creates .venv. {}".format(
    "\n".join(f"  {name:<6} {verb.help}" for name, verb in VERBS.items()),
    "TORCH_SPEC='torch==2.12.*' in the environment chooses another torch.",
)


def main(arguments: list[str]) -> int:
    """Run one verb; returns 0, 1 (failed), 2 (bad usage) or 130 (interrupted), or the status of the command."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    name, *extra = arguments
    if name not in VERBS:
        say(f"dev.py: unknown verb {name!r}; known are {', '.join(VERBS)}")
        return 2
    try:
        ensure_environment()
        return VERBS[name].run(extra)
    except KeyboardInterrupt:
        say("\ndev.py: interrupted")
        return 130
    except (Failed, OSError) as error:
        say(f"dev.py: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
