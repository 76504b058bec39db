"""``sfumato design``: the filters that a model's data needs, as a table that ``reconstruct`` takes; or one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on spectra whose values differ at the first half of the axis alone."""
    folder = tmp_path_factory.mktemp("design")
    g = np.random.default_rng(0)
    spectra = np.concatenate((g.normal(size=(64, 1, 8)), 0.01 * g.normal(size=(64, 1, 8))), axis=2)
    np.savez(folder / "spectra.npz", x=spectra.astype(np.float32), nm=np.linspace(400, 700, 16))
    settings = ["data.axis=nm", "network.kind=mlp", "network.width=16", "network.depth=1", "training.batch=16"]
    assert main(["train", str(folder / "spectra.npz"), *settings, "--steps", "20", "--out", str(folder / "r")]) == 0
    return folder / "r"


@pytest.fixture
def filters(tmp_path: Path) -> Path:
    """Four filters, of which the two on the first half see what differs."""
    rows = [f"{at},{int(at < 480)},{int(at >= 560)},{int(480 <= at < 540)},0.001" for at in range(400, 701, 10)]
    (tmp_path / "filters.csv").write_text("nm,blue,red,cyan,dark\n" + "\n".join(rows) + "\n")
    return tmp_path / "filters.csv"


def test_the_filters_that_see_what_differs_are_chosen(
    run: Path, filters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--filters", str(filters), "-k", "2", "--noise", "0.001", "--check", "2", "--json"]
    assert main(["design", str(run), *words, "--out", str(filters.parent / "two.csv")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["linear_errors"][1] < record["linear_errors"][0] < record["deviation"]
    assert record["band"] > 0
    table = (filters.parent / "two.csv").read_text().splitlines()
    assert table[0].split(",") == ["nm", *(each["name"] for each in record["chosen"])]
    np.save(filters.parent / "y.npy", np.zeros((1, 2)))
    again = ["--operator", f"response:{filters.parent / 'two.csv'}", "--measurements", str(filters.parent / "y.npy")]
    quick = ["--noise", "0.1", "--draws", "4", "--particles", "8", "--steps", "2", "--out", str(filters.parent / "r")]
    assert main(["reconstruct", str(run), *again, *quick]) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"-k": "5"}, "has 4 filters"),
        ({"--noise": "0"}, "--noise 0"),
        ({"--filters": "none.csv"}, "no such file"),
        ({"--filters": "y.npy"}, "no table"),
        ({"--filters": "narrow.csv"}, "covers 500 to 600"),
        ({"--out": "x.txt"}, "--out"),
    ],
)
def test_bad_input_is_one_line(
    run: Path,
    filters: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(filters.parent)
    np.save("y.npy", np.zeros((2, 2)))
    Path("narrow.csv").write_text("500,1\n600,1\n")
    given = {"--filters": "filters.csv", "-k": "2", "--noise": "0.1", **changed}
    assert main(["design", str(run), *(word for pair in given.items() for word in pair)]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not Path("x.txt").exists()
