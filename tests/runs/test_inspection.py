"""What ``inspect`` finds in data, and that it writes nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato import data
from sfumato.cli.main import main
from sfumato.runs.inspection import blocks, warnings


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dataset(counts: list[int], shape: tuple[int, ...] = (2,)) -> data.Dataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    np.savez("d.npz", x=np.random.default_rng(0).standard_normal((len(labels), *shape)).astype("f4"), y=labels)
    return data.load("d.npz", data.DataOptions(labels="y"))


def test_data_is_described_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["a,b,kind", *(f"{i},{i * i},{'xy'[i % 2]}" for i in range(40))]
    Path("t.csv").write_text("\n".join(lines))
    assert main(["inspect", "t.csv", "network.width=8", "--out", "sheet.png"]) == 0
    text = capsys.readouterr().out
    for words in ("vector", "a, b", "x (20), y (20)", "a pass over the data", "40 samples are few", "█"):
        assert words in text
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 100
    assert {path.name for path in Path().iterdir()} == {"t.csv", "sheet.png"}
    assert main(["inspect", "t.csv", "network.width=8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["histogram"]) == 80
    assert found["data"]["class_counts"] == [20, 20]


def test_what_may_go_wrong_is_said_with_a_remedy() -> None:
    assert warnings(dataset([100, 120]), 1.0) == []
    assert "1 has 30 samples, the largest 120" in warnings(dataset([120, 30]), 1.0)[0]
    assert "class 1 has one sample" in warnings(dataset([120, 1]), 1.0)[0]
    assert "--budget" in warnings(dataset([100, 120]), 4000.0)[0]
    (slow,) = warnings(dataset([100, 120], (3, 64, 128)), 4000.0)
    assert "data.size=32x64 takes about 16 min 40 s" in slow  # a quarter of the pixels


def test_a_histogram_is_a_line() -> None:
    assert blocks(np.array([0, 1, 400, 800])) == " ▁▄█"


@pytest.mark.parametrize("argv", [["nothere"], ["moons", "--out", "x.pdf"], ["moons", "data.key=x"]])
def test_bad_input_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *argv]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_whole_numbers_that_are_rounded_are_named_and_shown_in_full(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["id,size,step", *(f"{16777216 + 7 * i},{i % 31},{i % 10}" for i in range(200))]))
    dataset = data.load(str(path), data.DataOptions())
    said = [line for line in warnings(dataset, 0.0) if "7 digits" in line]
    assert len(said) == 1
    assert "the column id has whole numbers beyond 16,777,216" in said[0]
    shown = dict(dataset.spec.transform.describe())
    assert shown["column id"] == "whole, 16777216 to 16778609"
    assert shown["column step"].endswith("10 values: 0, 1, 2, 3, 4, 5, 6, 7, ..., 9")
