"""Every code block of README and site runs, every command parses, every flag and setting in the text exists.

Blocks of one page share a namespace and a folder, which holds small stand-ins for the data and the runs that the pages
speak of. A block behind ``<!-- minutes -->`` would take too long: its Python is compiled and its commands are parsed.
"""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato import recipes
from sfumato.cli import main as command_line
from sfumato.errors import InputError
from sfumato.recipes.networks import NETWORKS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LANGUAGES = {"python", "sh", "console", "bash", "yaml", "text", "bibtex"}
TINY = ["--steps", "2", "training.batch=16", "--device", "cpu"]
SMALL_NETWORK = ["network.width=16", "sampling.steps=4"]
RUNS = {  # the runs that the pages speak of: source and settings
    "demo": ["digits", "--recipe", "digits", *SMALL_NETWORK],
    "photos-flow": ["photos", *SMALL_NETWORK],
    "digits-vdm": ["digits", "--recipe", "vdm", *SMALL_NETWORK],
    "digits-mhvae": ["digits", "--recipe", "mhvae", "hierarchy.hidden=16"],
}


@dataclass(frozen=True)
class Block:
    """One fenced block; ``minutes`` if it takes too long to run."""

    language: str
    text: str
    line: int
    minutes: bool


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"(<!-- minutes -->\n)?^```(.*)\n(?s:(.*?))^```$", text, re.MULTILINE):
        line = text.count("\n", 0, match.start(3)) + 1
        yield Block(match[2].strip(), match[3], line, bool(match[1]))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------------ stand-ins


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data, in which the runs are trained when a page needs them."""
    folder = tmp_path_factory.mktemp("workshop")
    values = np.random.default_rng(0)
    for pictures in ("photos", "other_scans"):
        (folder / pictures).mkdir()
        for i in range(40):
            pixels = values.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / pictures / f"{i}.png")
    np.save(folder / "spectra.npy", values.normal(size=(64, 1, 16)).astype(np.float32))
    return folder


def trained(workshop: Path, run: str) -> Path:
    """The tiny run of that name."""
    folder = workshop / "runs" / run
    if not folder.exists():
        source, *settings = RUNS[run]
        source = str(workshop / source) if (workshop / source).exists() else source
        status, output = call(["train", source, *settings, *TINY, "--out", str(folder)])
        assert status == 0, output
    return folder


@pytest.fixture
def folder(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Change to a folder with the data and the runs that some text names; make ``sfumato.train`` quick."""

    def prepare(text: str) -> Path:
        for data in ("photos", "other_scans", "spectra.npy"):
            (tmp_path / data).symlink_to(workshop / data)
        for run in RUNS:
            if f"runs/{run}" in text:
                shutil.copytree(trained(workshop, run), tmp_path / "runs" / run)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    train = sfumato.train

    def quick(source, recipe="flow", *, budget=None, steps=None, settings=None, **rest):
        tiny = {"training.batch": 16, "network.width": 16, "sampling.steps": 4}
        return train(source, recipe, steps=2, settings={**(settings or {}), **tiny}, **rest)

    monkeypatch.setattr(sfumato, "train", quick)
    return prepare


@pytest.fixture
def own_networks() -> Iterator[None]:
    """Forget the networks that a page registers."""
    known = dict(NETWORKS._sections)
    yield
    if NETWORKS._sections != known:
        NETWORKS._sections.clear()
        NETWORKS._sections.update(known)
        recipes.DiffusionRecipe.model_rebuild(force=True)


# ------------------------------------------------------------------------------------------------- commands


def call(argv: list[str]) -> tuple[int, str]:
    """Run a command line in this process; its exit status and all that it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = command_line.main(argv)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.getvalue()


def commands(block: Block) -> list[list[str]]:
    """The command lines of a block; in a console, the lines with a prompt."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def arguments(words: list[str]) -> list[str] | None:
    """The arguments of ``sfumato``, also where torchrun or srun starts it; None for other programs."""
    if words[0] == "sfumato":
        return words[1:]
    if words[0] in ("torchrun", "srun"):
        return words[words.index("sfumato") + 1 :]
    return None


def check_parses(argv: list[str]) -> None:
    """The parser and the recipe accept the arguments."""
    output = io.StringIO()
    with contextlib.redirect_stderr(output):
        try:
            args = command_line.parse(command_line.parser(), argv)
        except SystemExit:
            raise AssertionError(output.getvalue()) from None
    if getattr(args, "overrides", None) and isinstance(getattr(args, "recipe", None), str):
        recipes.read(args.recipe, args.overrides)


def check_other(words: list[str]) -> None:
    """A program other than sfumato: one that we know, with a script that exists."""
    program = words[0]
    if program in ("python", "python3"):
        assert (ROOT / words[1]).is_file(), f"no script {words[1]}"
        if words[1] == "dev.py":
            assert words[2] in ("demo", "test", "lint", "types", "docs", "bench")
    elif program == "sbatch":
        assert (ROOT / words[1]).is_file(), f"no script {words[1]}"
    else:
        assert words[:2] in (["pip", "install"], ["git", "clone"]) or program == "cd", f"unknown program {program}"


# ------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    fences = re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(list(blocks(page)))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language in ("python", "sh") for block in blocks(page))], ids=name
)
def test_every_block_runs(page: Path, folder: Callable[[str], Path], no_pages: None, own_networks: None) -> None:
    folder("".join(block.text for block in blocks(page) if not block.minutes))
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            if not block.minutes:
                exec(code, namespace)
        elif block.language in ("sh", "console"):
            for words in commands(block):
                argv = arguments(words)
                if argv is None:
                    check_other(words)
                elif words[0] != "sfumato" or block.minutes:
                    check_parses(argv)
                else:
                    status, output = call(argv)
                    assert status == 0, f"{where}: {shlex.join(words)}: {output}"
        elif block.language == "yaml":
            Path("page.yaml").write_text(block.text)
            recipes.read("page.yaml")


def flags() -> set[str]:
    """Every flag of every verb."""
    help_texts = [call([verb, "--help"])[1] for verb in command_line.VERBS]
    return {flag for text in help_texts for flag in re.findall(r"--[a-z][a-z-]*", text)} | {"--version"}


ELSEWHERE = {  # flags of other programs
    "--fix",
    "--quick",
    "--signal",
    "--retries",
    "--strict",
}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_flag_in_the_text_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    named = {flag for code in re.findall(r"`([^`\n]+)`", prose) for flag in re.findall(r"--[a-z][a-z-]+", code)}
    assert named - flags() - ELSEWHERE == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_in_the_text_is_one(page: Path) -> None:
    """``section.key=value`` between backticks is accepted by a recipe."""
    settings = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+=[^`\s]+)`", page.read_text(encoding="utf-8"))
    for setting in settings:
        answers = []
        for preset in ("ddpm", "mhvae", "edm"):
            try:
                recipes.read(preset, [setting])
            except InputError as error:
                answers.append(str(error))
        assert len(answers) < 3, answers


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_the_cluster_script_on_its_page_is_the_one_in_examples() -> None:
    (script,) = [block.text for block in blocks(ROOT / "docs" / "cluster.md") if block.language == "bash"]
    assert script == (ROOT / "examples" / "slurm.sh").read_text(encoding="utf-8")
