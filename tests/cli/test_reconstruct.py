"""``sfumato reconstruct`` and ``inpaint``: one folder with everything, or one line and nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato.cli.main import main

QUICK = ["--steps", "4", "--particles", "16", "--draws", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a toy with a tiny network."""
    folder = tmp_path_factory.mktemp("reconstruct") / "r"
    settings = ["network.kind=mlp", "network.width=24", "network.depth=1", "data.count=300"]
    assert main(["train", "moons", *settings, "--steps", "60", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A matrix, readings in two formats, a point, a mask, and readings that are none."""
    np.save(tmp_path / "matrix.npy", np.array([[1.0, 0.5]]))
    (tmp_path / "y.csv").write_text("reading\n0.3\n0.7\n")
    (tmp_path / "far.csv").write_text("reading\n0.3\n40\n")
    np.savez(tmp_path / "nan.npz", x=np.array([[np.nan]]))
    np.savez(tmp_path / "two.npz", first=np.ones((2, 2)), second=np.ones((2, 2)))
    np.save(tmp_path / "point.npy", np.array([0.4, 0.3]))
    np.save(tmp_path / "mask.npy", np.array([0, 1]))
    np.save(tmp_path / "wide.npy", np.ones((1, 5)))
    return tmp_path


def test_readings_become_one_folder_with_everything(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--operator", files / "matrix.npy", "--measurements", files / "y.csv", "--noise", 0.1, *QUICK, "--json"]
    assert main(["reconstruct", str(run), *map(str, words), "--out", str(files / "out")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(p.name for p in (files / "out").iterdir()) == [
        "reconstruction.npz",
        "reconstruction.png",
        "result.json",
    ]
    assert len(record["measurements"]) == 2
    assert json.loads((files / "out" / "result.json").read_text())["settings"]["noise"] == "0.1"
    with np.load(files / "out" / "reconstruction.npz") as found:
        assert found["draws"].shape == (2, 8, 2)
        readings = found["draws"] @ [1.0, 0.5]
        assert np.abs(readings.mean(1) - [0.3, 0.7]).max() < 0.3
        assert (found["low"] <= found["high"]).all()


@pytest.mark.parametrize(
    ("noise", "found"), [("deviations.csv", [0.1, 0.2]), ("20dB", [0.3 / 101**0.5, 0.7 / 101**0.5])]
)
def test_noise_is_given_by_a_file_or_a_ratio(
    run: Path,
    files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    noise: str,
    found: list[float],
) -> None:
    monkeypatch.chdir(files)
    Path("deviations.csv").write_text("0.1\n0.2\n")
    words = ["--operator", "matrix.npy", "--measurements", "y.csv", "--noise", noise, *map(str, QUICK), "--json"]
    assert main(["reconstruct", str(run), *words, "--out", "out"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["noise"] for row in record["measurements"]] == pytest.approx(found)


def test_what_is_unlike_the_data_is_pointed_out(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--operator", files / "matrix.npy", "--measurements", files / "far.csv", "--noise", 0.1, *QUICK]
    assert main(["reconstruct", str(run), *map(str, words), "--simulations", "9", "--out", str(files / "out")]) == 0
    out = capsys.readouterr()
    rows = json.loads((files / "out" / "result.json").read_text())["measurements"]
    assert rows[0]["evidence_p_value"] > rows[1]["evidence_p_value"] == pytest.approx(0.1)
    assert "(p = 0.1)" in out.out
    assert "less likely" not in out.err  # nine simulations are too few to say so
    wrong = ["--simulations", "-1", "--out", str(files / "d")]
    assert main(["reconstruct", str(run), *map(str, words), *wrong]) == 2
    assert "--simulations: -1" in capsys.readouterr().err


def test_an_instrument_is_calibrated_from_pairs(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    g = np.random.default_rng(0)
    x = g.normal(size=(200, 2))
    np.savez(files / "pairs.npz", x=x, y=x @ [[1.0], [0.5]] + 2 + 0.1 * g.normal(size=(200, 1)))
    (files / "shifted.csv").write_text("2.3\n2.7\n")
    words = ["--calibrate-operator", files / "pairs.npz", "--measurements", files / "shifted.csv", *QUICK, "--json"]
    assert main(["reconstruct", str(run), *map(str, words), "--out", str(files / "out")]) == 0
    with np.load(files / "out" / "reconstruction.npz") as found:
        assert np.abs((found["draws"] @ [1.0, 0.5]).mean(1) - [0.3, 0.7]).max() < 0.3
    capsys.readouterr()
    for wrong, message in (
        (["--noise", "1"], "leave out"),
        (["--calibrate-operator", str(files / "point.npy")], "arrays x and y"),
        (["--calibrate-operator", str(files / "nan.npz")], "arrays x and y"),
    ):
        assert main(["reconstruct", str(run), *map(str, words[:4]), *wrong, "--out", str(files / "d")]) == 2
        assert message in capsys.readouterr().err


def test_readings_may_be_one_flat_array(run: Path, files: Path) -> None:
    np.savez(files / "flat.npz", readings=np.array([0.5]))
    (files / "flat.csv").write_text("0.5\n")
    draws = []
    for name in ("flat.npz", "flat.csv"):
        words = ["--measurements", files / name, "--operator", files / "matrix.npy", "--noise", 0.1, *QUICK]
        assert main(["reconstruct", str(run), *map(str, words), "--out", str(files / name[-3:])]) == 0
        with np.load(files / name[-3:] / "reconstruction.npz") as found:
            draws.append(found["draws"])
    assert np.array_equal(*draws)


def test_the_next_reading_is_named(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(files / "seen.npy", np.array([0.4, np.nan]))
    words = ["--measured", str(files / "seen.npy"), "--noise", "0.05", "--steps", "3", "--particles", "64"]
    assert main(["next", str(run), *words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["reading"] for row in record["next"]] == [2]
    assert record["next"][0]["error"] < 0.5 * record["error"]
    np.save(files / "seen.npy", np.array([0.4, 0.1]))
    assert main(["next", str(run), *words]) == 2
    assert "every reading is taken" in capsys.readouterr().err


def test_a_reconstruction_is_certified(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--operator", files / "matrix.npy", "--noise", 0.1, "--methods", "mmps,dps", "--samples", 2]
    assert main(["certify", str(run), *map(str, words), "--out", str(files / "c.png"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in record["twin"]] == ["mmps", "dps"]
    assert record["held_out"]["problems"] == 4
    assert record["verdict"]
    assert json.loads((files / "c.json").read_text())["noise"] == 0.1
    assert (files / "c.png").stat().st_size > 5000
    assert main(["certify", "--budget", "9s", "--out", str(files / "d.png")]) == 2
    assert "--budget 9: is for reconstructions" in capsys.readouterr().err
    for wrong, message in ((["--methods", "heun"], "heun"), (["--nfe", "5"], "--nfe"), (["--noise", "0"], "--noise 0")):
        given = [*map(str, words[:4]), *wrong]
        assert main(["certify", str(run), *given, "--out", str(files / "d.png")]) == 2
        assert message in capsys.readouterr().err


def test_a_point_is_filled_in_and_what_is_known_stays(run: Path, files: Path) -> None:
    words = [str(files / "point.npy"), "--mask", str(files / "mask.npy"), *QUICK, "--out", str(files / "out")]
    assert main(["inpaint", str(run), *words]) == 0
    with np.load(files / "out" / "reconstruction.npz") as found:
        assert np.abs(found["draws"][0, :, 0] - 0.4).max() < 0.3
        assert found["std"][0, 1] > 2 * found["std"][0, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--operator": "wide.npy"}, "does not act on samples"),
        ({"--operator": "none.npy"}, "no such file"),
        ({"--operator": "downsample:x"}, "is not a number"),
        ({"--operator": "blur:1"}, "neither signals"),
        ({"--operator": "response:y.csv"}, "no axis"),
        ({"--measurements": "nan.npz"}, "NaN"),
        ({"--measurements": "two.npz"}, "holds several arrays, first, second; give a file with one"),
        ({"--measurements": "point.npy"}, "does not fit the operator"),
        ({"--noise": "30000"}, "data's units"),
        ({"--noise": "0"}, "--noise 0"),
        ({"--noise": "loud"}, "25dB"),
        ({"--noise": "wide.npy"}, "5 deviations"),
        ({"--method": "best"}, "is not known"),
        ({"--draws": "1"}, "at least 2 draws"),
        ({"--out": "."}, "exists"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    run: Path,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(files)
    before = sorted(p.name for p in files.iterdir())
    given = {"--operator": "matrix.npy", "--measurements": "y.csv", "--noise": "0.1", "--out": "out", **changed}
    assert main(["reconstruct", str(run), *(word for pair in given.items() for word in pair)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert sorted(p.name for p in files.iterdir()) == before
