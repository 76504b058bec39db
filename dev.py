"""Set up Sfumato on a bare machine and run it: `python3 dev.py demo`, `python3 dev.py test`.

Only the standard library is used, so that neither make nor uv nor torch need be there. The first call makes `.venv`
and installs the project into it; a stamp (of pyproject.toml, the Python version and this folder) lets later calls go
straight on. What pip says goes to .venv/install.log.
"""

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# Nothing in this file may be newer than the syntax of Python 3.6, or an old Python answers with a SyntaxError instead.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"dev.py: Sfumato needs Python 3.10 or newer, and this is {sys.version.split()[0]}: try python3.12 dev.py")

WINDOWS = os.name == "nt"
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
SFUMATO = VENV / ("Scripts/sfumato.exe" if WINDOWS else "bin/sfumato")
STAMP = VENV / "sfumato.stamp"
LOG = VENV / "install.log"

ANY_TORCH = "torch>=2.10"
# A local version sorts higher (2.13.0+cpu > 2.13.0), so this pin takes a CPU wheel wherever pip is shown one.
CPU_TORCH = "torch==2.13.*"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Failed(Exception):
    """Something that the reader of its one line can mend; the exit status is 1."""


def say(text: str, end: str = "\n") -> None:
    """Print progress on standard error, which leaves standard output to the command that is run."""
    print(text, end=end, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------- the environment


class Attempt(NamedTuple):
    """One way of asking pip for torch, and what to tell the reader about it."""

    arguments: list[str]
    words: str


def torch_attempts(spec: str, *, gpu: bool, platform: str, own_sources: bool) -> list[Attempt]:
    """What to ask pip for, in order of preference; the next one is asked for where pip finds no match.

    Args:
        spec: the value of TORCH_SPEC, words of a pip command line; empty where unset.
        gpu: whether an NVIDIA driver answers.
        platform: `sys.platform`.
        own_sources: whether pip is configured with find-links or an extra index, which may serve CPU wheels.
    """
    if spec:
        return [Attempt(shlex.split(spec, posix=platform != "win32"), "what TORCH_SPEC says")]
    if gpu:
        return [Attempt([ANY_TORCH], "the build for this GPU, about 3 GB")]
    if platform in ("darwin", "win32"):
        return [Attempt([ANY_TORCH], "the build for this system")]
    if own_sources:
        return [
            Attempt([CPU_TORCH], "the CPU build, about 200 MB, if the sources that pip is configured with have it"),
            Attempt([ANY_TORCH], "PyPI's build, with about 3 GB of CUDA libraries"),
        ]
    # Without dependencies: these come from PyPI with the project, and an index that does not answer is then asked
    # once, for 20 s at most, and not once a package with five retries each.
    once = ["--no-deps", "--index-url", CPU_INDEX, "--retries", "0", "--timeout", "20"]
    return [
        Attempt([CPU_TORCH, *once], "the CPU build, about 200 MB, from PyTorch's own index"),
        Attempt([ANY_TORCH], "PyPI's build, with about 3 GB of CUDA libraries"),
    ]


def has_own_sources(pip_config: str) -> bool:
    """Whether the output of `pip config list`, which includes PIP_* variables, names find-links or an extra index."""
    settings = (line.partition("=") for line in pip_config.splitlines())
    return any(
        key.rpartition(".")[2] in ("find-links", "extra-index-url") and value.strip("'\" ")
        for key, _, value in settings
    )


def has_gpu() -> bool:
    """Whether a working `nvidia-smi` lists a GPU."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def stamp(pyproject: bytes, version: tuple[int, int], root: Path) -> str:
    """Name the environment that is wanted; it is made again when the project, the Python or the place changes."""
    # The place, since an editable install and the scripts in .venv hold absolute paths.
    parts = (pyproject, "{}.{}".format(*version).encode(), str(root).encode())
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def is_ready(wanted: str) -> bool:
    """Whether the last installation was finished and is the wanted one."""
    try:
        return PYTHON.exists() and STAMP.read_text(encoding="ascii") == wanted
    except (OSError, UnicodeDecodeError):
        return False


def ensure_environment() -> None:
    """Make `.venv` with the project in it, unless the stamp says that it is there."""
    wanted = stamp((ROOT / "pyproject.toml").read_bytes(), sys.version_info[:2], ROOT)
    if is_ready(wanted):
        return
    with locked():
        if not is_ready(wanted):  # the process that held the lock may have made it
            install(wanted)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep a second dev.py from touching `.venv` until this one is done.

    The lock is the system's, on this file itself: it ends with the process and leaves nothing behind.
    """
    with open(__file__, "r+b") as handle:
        waiting = False
        while not try_lock(handle.fileno()):
            if not waiting:
                say("Another dev.py is at work on .venv; waiting for it ...")
                waiting = True
            time.sleep(0.2)
        yield


def try_lock(descriptor: int) -> bool:
    """Take the lock until the descriptor is closed; False where another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far past the end, or no other process could read this file
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: better unlocked than not at all
            return True
        return True


def install(wanted: str) -> None:
    """Make the environment and install torch, then the project; the stamp is written last."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise Failed(
            "this Python has no venv module: on Debian and Ubuntu, run `sudo apt-get install "
            "python{}.{}-venv` and try again".format(*sys.version_info[:2])
        )
    start = time.monotonic()
    say("Setting up .venv with Python {}.{}.{}, once (pip's words: .venv/install.log)".format(*sys.version_info[:3]))
    reuse = is_usable()
    if reuse:
        STAMP.unlink(missing_ok=True)
    else:
        if VENV.is_dir() and any(VENV.iterdir()) and not (VENV / "pyvenv.cfg").exists() and not LOG.exists():
            raise Failed(f"{VENV} is there and is not a Python environment: move it away and try again")
        remove(VENV)
        VENV.mkdir()
    with LOG.open("w", encoding="utf-8") as log:
        if not reuse:
            logged("the environment", [sys.executable, "-m", "venv", str(VENV)], log.fileno())
        if subprocess.call([PYTHON, "-c", "import torch"], stdout=log, stderr=log) != 0:
            install_torch(log.fileno())
        logged("sfumato and its tools", [*pip_install(), "-e", ".[dev]"], log.fileno())
    temporary = STAMP.with_suffix(".new")
    temporary.write_text(wanted, encoding="ascii")
    temporary.replace(STAMP)
    say(f"Ready after {time.monotonic() - start:.0f} s.")


def is_usable() -> bool:
    """Whether `.venv` runs, with this Python's version and a pip: then it is worth keeping."""
    code = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        return subprocess.run([PYTHON, "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def install_torch(log: int) -> None:
    """Install the build of torch that suits this machine."""
    spec = os.environ.get("TORCH_SPEC", "").strip()
    config = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    attempts = torch_attempts(
        spec, gpu=not spec and has_gpu(), platform=sys.platform, own_sources=has_own_sources(config)
    )
    for attempt in attempts:
        last = attempt is attempts[-1]
        title = f"torch: {attempt.words}"
        if logged(title, [*pip_install(), *attempt.arguments], log, may_miss=not last):
            return


def pip_install() -> list[str]:
    """The start of every pip command here."""
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    # Half of pip's time goes into compiling modules, most of which nobody imports; Python does it on import, if it may.
    if not sys.dont_write_bytecode:
        options.append("--no-compile")
    return [str(PYTHON), "-m", "pip", "install", *options]


def logged(title: str, command: list[str], log: int, *, may_miss: bool = False) -> bool:
    """Run one step of the set-up with its output in the log, and say how long it took.

    Returns False where `may_miss` and pip found no match for what was asked; every other failure raises Failed,
    after the end of the log was shown.
    """
    say(f"  {title} ...", end=" ")
    begin = LOG.stat().st_size
    start = time.monotonic()
    os.write(log, ("$ " + " ".join(command) + "\n").encode())
    # PIP_USER=0: a `user = true` in someone's pip.conf makes every install into an environment fail.
    status = call(command, stdout=log, stderr=log, env={**os.environ, "PIP_USER": "0"}, cwd=ROOT)
    if status == 0:
        say(f"{time.monotonic() - start:.0f} s")
        return True
    words = LOG.read_bytes()[begin:].decode("utf-8", "replace")
    if may_miss and "No matching distribution found" in words:
        say("not there")
        return False
    say("failed")
    say("\n".join("    " + line for line in words.splitlines()[-25:]))
    raise Failed(f"could not install {title.split(':')[0]} (the end of {LOG} is above): mend that and run this again")


# ------------------------------------------------------------------------------------------------- running things


def call(
    command: list[str],
    *,
    env: dict[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    cwd: Path | None = None,
) -> int:
    """Run a command to its end and return its status, 128 + n where signal n ended it.

    After Ctrl-C, which the child got too, it has ten seconds to end in its own way.
    """
    process = subprocess.Popen(command, env=env, stdout=stdout, stderr=stderr, cwd=cwd)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(10)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
        raise
    return status if status >= 0 else 128 - status


def module(*words: str) -> int:
    """Run a module of the environment at the root of the project."""
    return call([str(PYTHON), "-m", *words], cwd=ROOT)


class Check(NamedTuple):
    """One part of `dev.py test`: a module of the environment and its arguments."""

    name: str
    words: list[str]


def workers() -> int:
    """How many processes pytest gets: the cores that this process may use, at most 8 (each holds a torch)."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, 8)


def checks(extra: list[str], num_workers: int) -> list[Check]:
    """The parts of `dev.py test`, in order; with arguments of their own the tests run alone."""
    options = ["-n", str(num_workers), "--jaxtyping-packages=sfumato,beartype.beartype"]
    tests = Check("pytest", ["pytest", *options, *extra])
    if extra:
        return [tests]
    return [
        Check("ruff check", ["ruff", "check"]),
        Check("ruff format --check", ["ruff", "format", "--check"]),
        Check("mypy", ["mypy"]),
        tests,
    ]


def test(extra: list[str]) -> int:
    """Run every check, also after one that failed; pytest's summary comes last but for the verdict."""
    ensure_environment()
    failed = []
    todo = checks(extra, workers())
    # One thread a worker: two torch threads beside another busy process run several times slower than one.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    begin = time.monotonic()
    for check in todo:
        print(f"== {check.name}", flush=True)
        start = time.monotonic()
        status = call([str(PYTHON), "-m", *check.words], cwd=ROOT, env=env)
        if status != 0:
            failed.append(check.name)
        if check is not todo[-1]:
            print(f"== {check.name}: {'ok' if status == 0 else 'FAILED'}, {time.monotonic() - start:.1f} s", flush=True)
    verdict = f"FAILED: {', '.join(failed)}" if failed else f"ok: {', '.join(check.name for check in todo)}"
    print(f"dev.py test: {verdict} ({time.monotonic() - begin:.0f} s)", flush=True)
    return 1 if failed else 0


def demo(extra: list[str]) -> int:
    """Run `sfumato demo` in the caller's folder; its exit status is handed on."""
    ensure_environment()
    command = [str(SFUMATO), "demo", *extra]
    if WINDOWS:  # exec returns to the shell at once there
        return call(command)
    os.execv(command[0], command)


def lint(extra: list[str]) -> int:
    """Check style and format, or with --fix mend what can be mended."""
    ensure_environment()
    fix = "--fix" in extra
    paths = [word for word in extra if word != "--fix"]
    style = module("ruff", "check", *(["--fix"] if fix else []), *paths)
    layout = module("ruff", "format", *([] if fix else ["--check"]), *paths)
    return style or layout


def types(extra: list[str]) -> int:
    """Check the types of the package, or of the given paths."""
    ensure_environment()
    return module("mypy", *extra)


def docs(extra: list[str]) -> int:
    """Build the site into site/, or hand the arguments to mkdocs; its packages are installed on the first call."""
    ensure_environment()
    if subprocess.run([PYTHON, "-c", "import material, mkdocs"], capture_output=True).returncode != 0:
        with locked(), LOG.open("a", encoding="utf-8") as log:
            logged("the site's tools", [*pip_install(), "-e", ".[docs]"], log.fileno())
    # The theme's long notice about its own future is nothing that a reader of ours can act on.
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return call([str(PYTHON), "-m", "mkdocs", *(extra or ["build", "--strict"])], cwd=ROOT, env=env)


def bench(extra: list[str]) -> int:
    """Run one script of benchmarks/, or list them."""
    folder = ROOT / "benchmarks"
    scripts = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if not extra:
        print("\n".join(scripts) if scripts else "benchmarks/ holds no scripts")
        return 0
    name = extra[0]
    if name not in scripts:
        say(f"dev.py bench: no benchmark is named {name!r}; there is {', '.join(scripts) or 'none'}")
        return 2
    ensure_environment()
    return call([str(PYTHON), str(scripts[name]), *extra[1:]])


def clean(extra: list[str]) -> int:
    """Remove the environment, caches and build outputs; what was trained (runs/) stays."""
    if extra:
        say(f"dev.py clean: takes no arguments, and was given {' '.join(extra)}")
        return 2
    caches = [ROOT / f".{name}" for name in ("pytest_cache", "mypy_cache", "ruff_cache", "hypothesis")]
    outputs = [ROOT / name for name in ("build", "dist", "site")]
    compiled = [ROOT / "__pycache__"]
    for folder in ("src", "tests", "benchmarks", "examples", "docs"):
        compiled += [*(ROOT / folder).rglob("__pycache__"), *(ROOT / folder).rglob("*.egg-info")]
    with locked():
        removed = [path for path in [VENV, *caches, *outputs, *compiled] if remove(path)]
    print(f"removed {', '.join(str(path.relative_to(ROOT)) for path in removed) or 'nothing'}")
    return 0


def remove(path: Path) -> bool:
    """Remove a file, a link (not what it points to) or a folder; False where there was none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        return False
    return True


class Verb(NamedTuple):
    """One command of this script; `run` gets the arguments after its name."""

    run: Callable[[list[str]], int]
    words: str


VERBS = {
    "demo": Verb(demo, "train, sample and report on a small data set; --out FOLDER and the like are passed on"),
    "test": Verb(test, "ruff, mypy and pytest; with arguments (tests/core -k posterior) pytest alone"),
    "lint": Verb(lint, "ruff check and ruff format --check; --fix mends"),
    "types": Verb(types, "mypy --strict on the package"),
    "docs": Verb(docs, "build the site into site/; `docs serve` shows it"),
    "bench": Verb(bench, "list the scripts in benchmarks/, or run one: bench NAME"),
    "clean": Verb(clean, "remove .venv, caches and build outputs, never runs/"),
}


def usage() -> str:
    """One line for each verb."""
    rows = "\n".join(f"  {name:<6} {verb.words}" for name, verb in VERBS.items())
    return (
        "usage: python3 dev.py VERB [ARGUMENT ...]\n\n"
        f"{rows}\n\n"
        "The first call makes .venv. TORCH_SPEC='torch==2.12.*' in the environment chooses another torch."
    )


def main(arguments: list[str]) -> int:
    """Run one verb; returns 0, 1 (failed), 2 (bad usage) or 130 (interrupted), or the status of the command run."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *extra = arguments
    if name not in VERBS:
        say(f"dev.py: no verb is named {name!r}; there are {', '.join(VERBS)}")
        return 2
    try:
        return VERBS[name].run(extra)
    except KeyboardInterrupt:
        say("\ndev.py: interrupted")
        return 130
    except (Failed, OSError) as error:
        say(f"dev.py: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
