"""``sfumato denoise`` and ``interpolate``: one folder with everything, or one line and nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on small digits with a tiny network."""
    folder = tmp_path_factory.mktemp("denoise") / "r"
    settings = ["network.kind=mlp", "network.width=24", "network.depth=1", "data.count=300"]
    assert main(["train", "digits", *settings, "--steps", "40", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two digits, three noisy ones, and a file of another shape."""
    g = np.random.default_rng(0)
    digit = np.zeros((8, 8))
    digit[1:7, 3:5] = 14
    np.save(tmp_path / "a.npy", digit)
    np.save(tmp_path / "b.npy", digit.T.copy())
    np.save(tmp_path / "noisy.npy", digit + 3 * g.standard_normal((3, 1, 8, 8)))
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    return tmp_path


@pytest.mark.parametrize(("sigma", "draws"), [("3", 2), ("auto", 0)])
def test_noisy_samples_become_one_folder(
    run: Path, files: Path, sigma: str, draws: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(files / "noisy.npy"), str(files / "a.npy"), "--sigma", sigma, "--draws", str(draws), "--steps", "4"]
    assert main(["denoise", str(run), *words, "--json", "--out", str(files / "out")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in (files / "out").iterdir()) == ["denoised.npz", "denoised.png", "result.json"]
    assert [row["file"] for row in record["samples"]] == ["noisy.npy"] * 3 + ["a.npy"]
    assert record["estimated"] == (sigma == "auto")
    with np.load(files / "out" / "denoised.npz") as found:
        assert found["mean"].shape == found["noisy"].shape == (4, 1, 8, 8)
        assert found["draws"].shape == (4, draws, 1, 8, 8)
        assert found["mean"].min() >= 0
        assert found["noisy"].min() < 0
        assert found["sigma"].tolist() == [row["sigma"] for row in record["samples"]]


def test_two_samples_become_frames(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(files / "a.npy"), str(files / "b.npy"), "--at", "500/1000", "--frames", "4", "--mode", "shared"]
    assert main(["interpolate", str(run), *words, "--steps", "4", "--json", "--out", str(files / "out")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["at"] == 0.5
    assert len(record["end_errors"]) == 2
    assert sorted(p.name for p in (files / "out").iterdir()) == ["frames.npz", "frames.png", "result.json"]
    with np.load(files / "out" / "frames.npz") as found:
        assert found["frames"].shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["denoise", "RUN", "noisy.npy", "--sigma", "300"], "far above the data"),
        (["denoise", "RUN", "noisy.npy", "--sigma", "0"], "no standard deviation"),
        (["denoise", "RUN", "wide.npy"], "trained on 1 x 8 x 8"),
        (["denoise", "RUN", "none.npy"], "no such file"),
        (["denoise", "RUN", "noisy.npy", "--out", "."], "exists"),
        (["interpolate", "RUN", "a.npy", "wide.npy"], "trained on 1 x 8 x 8"),
        (["interpolate", "RUN", "a.npy", "b.npy", "--at", "500"], "fraction in (0, 1]"),
        (["interpolate", "RUN", "a.npy", "b.npy", "--mode", "linear"], "choose one of latent"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    run: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(files)
    before = sorted(p.name for p in files.iterdir())
    assert main([str(run) if word == "RUN" else word for word in words]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(p.name for p in files.iterdir()) == before


@pytest.mark.parametrize(
    "words", [["denoise", "r", "x.npy", "--sigma", "much"], ["interpolate", "r", "a", "b", "--at", "1/0"]]
)
def test_words_that_are_no_numbers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "write" in capsys.readouterr().err
