"""Folders of new runs: made for one process alone, and gone again if nothing starts in them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from sfumato import InputError
from sfumato.cli.main import main
from sfumato.runs.lifecycle import claimed, require_free


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_name_that_is_taken_gets_a_number() -> None:
    found = []
    for _ in range(3):
        with claimed(None, "moons-ddpm") as folder:
            found.append(folder.path)
    assert found == [Path("runs/moons-ddpm"), Path("runs/moons-ddpm-2"), Path("runs/moons-ddpm-3")]
    assert all(path.is_dir() for path in found)


def test_who_loses_a_race_takes_the_next_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Path.mkdir

    def raced(path: Path, *args: object, **options: object) -> None:
        if path.name == "a" and not path.exists():
            made(path, parents=True)  # another process, between the look and the making
        made(path, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", raced)
        with claimed(None, "a") as folder:
            assert folder.path == Path("runs/a-2")
    assert Path("runs/a").is_dir()


def test_a_folder_is_not_named_like_a_table() -> None:
    with pytest.raises(
        InputError, match=r"--out filled.csv: is the name of a file, and a folder is written; leave out"
    ):
        require_free(Path("filled.csv"))
    require_free(Path("v1.5"))
    assert not list(Path().iterdir())


def test_a_folder_that_is_not_used_is_removed() -> None:
    Path("kept").mkdir()
    for wanted in (Path("a/b/c"), Path("kept"), Path("kept/d")):
        with pytest.raises(InputError, match="no"), claimed(wanted, "x"):
            raise InputError("no")
    assert list(Path().iterdir()) == [Path("kept")]  # it was there before


def test_a_batch_that_no_memory_holds_is_refused_before_a_folder_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "moons", "training.batch=99999999999", "--steps", "3"]) == 2
    error = capsys.readouterr().err
    assert "training.batch: 99,999,999,999 is more than this machine can hold; give at most " in error
    assert not list(Path().iterdir())


def test_a_folder_that_is_used_stays() -> None:
    def use() -> None:
        with claimed(Path("a"), "x") as folder:
            folder.card.write_text("mine")
            raise InputError("no")

    with pytest.raises(InputError, match="no"):
        use()
    assert Path("a/README.md").read_text() == "mine"


def test_a_folder_that_holds_something_is_refused() -> None:
    Path("a").mkdir()
    Path("a/b").write_text("")
    for wanted in (Path("a"), Path("a/b")):
        with pytest.raises(InputError, match="is not an empty folder"), claimed(wanted, "x"):
            pass
    with pytest.raises(InputError, match="cannot be written"), claimed(Path("a/b/c"), "x"):
        pass


@pytest.mark.parametrize("wanted", [None, "new", "empty"])
def test_many_at_once_never_share_a_folder(wanted: str | None) -> None:
    """An empty folder that exists is as exclusive as one that is made."""
    together = Barrier(8)
    for attempt in range(10):
        out = None if wanted is None else Path(f"{wanted}-{attempt}")
        if wanted == "empty":
            Path(f"empty-{attempt}").mkdir()

        def claim(_: int, out: Path | None = out, attempt: int = attempt) -> Path | None:
            together.wait()
            try:
                with claimed(out, f"run-{attempt}") as folder:
                    return folder.path
            except InputError:
                return None

        with ThreadPoolExecutor(8) as pool:
            found = [path for path in pool.map(claim, range(8)) if path is not None]
        assert len(found) == len(set(found)) == (8 if wanted is None else 1)


def test_a_loser_leaves_the_winners_folder_alone() -> None:
    Path("a").mkdir()
    with claimed(Path("a"), "x") as winner:
        with pytest.raises(InputError, match="a: "), claimed(Path("a"), "x"):
            pass
        assert winner.checkpoints.is_dir()
