"""The examples run, with little training."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("weights", ["weights.png"]),
        ("score_ladder", ["--quick"]),
        ("hierarchy", ["--quick"]),
        ("spectrometer", ["s.png", "--steps", "5"]),
    ],
)
def test_it_runs(
    name: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert list(tmp_path.glob("*.png"))
    assert "nan" not in capsys.readouterr().out
