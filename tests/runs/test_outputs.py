"""Destinations are checked before the work, and a run that may only be read is still of use."""

import os
from pathlib import Path

import pytest

from sfumato import InputError
from sfumato.cli.main import main
from sfumato.runs import outputs
from sfumato.runs.outputs import may_write, require_writable, writable_or_here
from sfumato.runs.settings import CertifySettings, SampleSettings, TrainSettings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be written to folders called "closed"; a mode would not stop a test that root runs."""
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: "closed" not in Path(path).parts)


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the data was read first")

    monkeypatch.setattr("sfumato.data.load", refuse)


@pytest.mark.usefixtures("closed")
def test_a_folder_that_may_not_be_written_gives_way_to_the_current_one() -> None:
    Path("closed").mkdir()
    Path("open").mkdir()
    assert not may_write(Path("closed/not/there/yet"))
    assert may_write(Path("open/not/there/yet"))
    assert writable_or_here(Path("open")) == Path("open")
    assert writable_or_here(Path("closed/samples")) == Path()
    os.chdir("closed")
    with pytest.raises(InputError, match="neither can the current folder"):
        writable_or_here(Path())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_destination_and_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("x.png")
    with pytest.raises(InputError, match=r"x\.png: is a pipe or a device"):
        require_writable("--out", Path("x.png"))
    assert main(["train", "x.png"]) == 2
    assert "is a pipe or a device" in capsys.readouterr().err


@pytest.mark.usefixtures("closed", "nothing_is_read")
@pytest.mark.parametrize("verb", [["train", "moons"], ["demo"], ["compare", "moons"]])
def test_a_destination_is_refused_before_the_data_is_read(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir()
    Path("taken").write_text("")
    for out in ("closed/run", "taken"):
        assert main([*verb, "--out", out]) == 2
        assert f" {out}: " in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_is_read")
def test_an_empty_source_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("train", "compare"):
        assert main([verb, ""]) == 2
        assert "SOURCE is missing" in capsys.readouterr().err


def test_a_home_folder_is_one_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    sample = SampleSettings(Path("~/r"), out=Path("~/a.png"))
    assert (sample.run, sample.out) == (tmp_path / "r", tmp_path / "a.png")
    assert TrainSettings("moons", out=Path("~/r")).out == TrainSettings(resume=Path("~/r")).resume == tmp_path / "r"
    assert CertifySettings("~/r").target == str(tmp_path / "r")
    assert SampleSettings(Path("~nobody-of-this-name/r")).run == Path("~nobody-of-this-name/r")
