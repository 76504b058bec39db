import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import Model, recipes
from sfumato.cli.main import main
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.model_folder import TableKey, write_fitted
from sfumato.runs import choosing
from sfumato.sampling import certification, choice
from sfumato.sampling.methods import METHODS

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fine solution that is coarse, few methods to choose from, and an empty folder to be in."""
    monkeypatch.setattr(certification, "FINE", 60)
    monkeypatch.setattr(choice, "CANDIDATES", {name: choice.CANDIDATES[name] for name in ("ddim", "dpm++2m", "adams2")})
    monkeypatch.setattr(choice, "FINE", 30)
    monkeypatch.setattr(choice, "STARTS", 32)
    monkeypatch.setattr(choosing, "BUDGETS", (4, 6))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; what it learnt does not matter here."""
    folder = tmp_path_factory.mktemp("trained") / "r"
    recipe = recipes.read("ddpm", ["network.kind=mlp", "network.width=16", "network.depth=1"])
    spec = DataSpec(
        layout=LAYOUTS["vector"],
        shape=(2,),
        dtype="float32",
        transform=Affine((0.0,), (1.0,), -1.0, 1.0),
        channels=(),
        second_moment=1.0,
        diameter=4.0,
        class_names=(),
        class_counts=(),
        count=10,
        fingerprint="0" * 64,
        source="x",
    )
    model, generator = Model.fresh(recipe, spec), torch.Generator().manual_seed(0)
    for p in model.denoiser.network.parameters():  # fresh networks output zero, which no sampler gets wrong
        p.data.add_(0.3 * torch.randn(p.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refused command prints."""
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    return captured.err


def numbers(line: str) -> list[str]:
    return line.split()[1:]


def test_an_oracle_by_default_and_nothing_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["certify", "--samples", "16", "--nfe", "6,4", "--methods", "ddim,ancestral,auto", "--json"]
    assert main(argv) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["target"] == "oracle modes"
    assert result["budgets"] == [4, 6]
    assert result["samples"] == 16
    assert result["files"] == []
    assert [row["method"] for row in result["methods"]] == ["auto", "ddim", "ancestral"]
    auto, ddim, ancestral = result["methods"]
    assert ddim["order"] == pytest.approx(1, abs=0.2)
    assert (auto["order"], ancestral["order"]) == (None, None)
    assert [cell["evaluations"] for cell in ddim["entries"]] == [4, 6]
    assert ddim["entries"][0]["rms"] > ddim["entries"][1]["rms"] > ddim["entries"][1]["median"] > 0
    assert set(ancestral["entries"][0]) == {"budget", "evaluations", "start_logsnr", "distance", "floor"}
    assert list(tmp_path.iterdir()) == []


def test_the_tables_fit_a_terminal_and_mark_the_best(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certification, "measured_order", lambda name: METHODS[name].order if name in METHODS else None)
    noisy, exact = ["euler-maruyama", "dpm++3m-sde", "langevin"], ["auto", "ddim", "heun", "unipc3"]
    argv = ["certify", "oracle", "--oracle", "flow4", "--samples", "8", "--methods", ",".join(noisy + exact)]
    assert main([*argv, "--nfe", "2,3,4,5,6,7,8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert lines[0].startswith("oracle flow4: 8 samples of 4, seed 0.")
    heads = [i for i, line in enumerate(lines) if line.split()[:3] == ["2", "3", "4"]]
    assert len(heads) == 3  # RMS, median, distance
    rms, median, distance = (lines[i + 1 : [*lines, ""].index("", i)] for i in heads)
    assert {line.split()[0] for line in rms} == {line.split()[0] for line in median} == set(exact)
    assert {line.split()[0] for line in distance} == set(noisy)
    assert rms[0].startswith("auto ")
    assert not any("*" in line for line in distance)
    for table in (rms, median):
        for column in range(7):
            shown = [numbers(line)[column] for line in table]
            least = min(float(cell.rstrip("*")) for cell in shown if cell != "-")
            assert next(float(cell[:-1]) for cell in shown if cell.endswith("*")) == least
    langevin = next(line for line in distance if line.startswith("langevin"))
    assert numbers(langevin)[:3] == ["-", "-", "-"]


def test_a_run_gets_the_numbers_and_the_figure(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["certify", str(trained), "--samples", "8", "--nfe", "4,6", "--methods", "auto,ddim,euler"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert str(trained / "certify.png") in out
    record = json.loads((trained / "certify.json").read_text())
    assert record["target"] == str(trained)
    assert record["shape"] == [2]
    with Image.open(trained / "certify.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0x3A, 0x86, 0xC8)).all(1).any()  # the line of auto


def test_fitted_tables_are_measured_at_their_budgets(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["certify", str(trained), "--samples", "8", "--nfe", "4,6", "--methods", "auto,fitted", "--json"]
    assert "no fitted tables" in fails(capsys, *argv)
    assert main([*argv[:-2], "auto", "--json"]) == 0  # auto is chosen now
    chosen = [cell["table"] for cell in json.loads(capsys.readouterr().out)["methods"][0]["entries"]]
    model = Model.from_pretrained(trained)
    assert chosen == [model.chosen[4], model.chosen[6]]
    path = write_fitted(trained, TableKey(4), model.tableau("auto", 4), model.fitted_to)
    try:
        assert main(argv) == 0
        auto, fitted = json.loads(capsys.readouterr().out)["methods"]
        assert [row["method"] for row in (auto, fitted)] == ["auto", "fitted"]
        # The same table under another name, so the same error.
        assert fitted["entries"][0]["rms"] == pytest.approx(auto["entries"][0]["rms"], rel=1e-9)
        assert fitted["entries"][1] == {"budget": 6, "reason": "no table for 6 evaluations"}
        assert main([*argv[:-3], "--methods", "auto", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["methods"]) == 1
    finally:
        path.unlink()


def test_the_figure_goes_where_it_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["certify", "--samples", "8", "--nfe", "4", "--methods", "ancestral", "--out", str(tmp_path / "x.png")]
    assert main(argv) == 0  # with nothing to draw, and one budget
    assert {path.name for path in tmp_path.iterdir()} == {"x.png", "x.json"}


def test_the_seed_is_the_starts(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for seed in ("0", "0", "1"):
        argv = ["certify", "--samples", "8", "--nfe", "4", "--methods", "auto", "--seed", seed, "--json"]
        assert main(argv) == 0
        found.append(json.loads(capsys.readouterr().out)["methods"][0]["entries"][0]["rms"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--oracle", "mods"], ["--oracle mods", "modes"]),
        (["nowhere"], ["nowhere", "no such folder"]),
        (["nowhere", "--oracle", "modes"], ["nowhere", "modes", "not an oracle"]),
        (["--methods", "auto,ddmi"], ["--methods", "ddmi", "ddim"]),
        (["--methods", ","], ["--methods"]),
        (["--methods", "fitted"], ["--methods fitted"]),
        (["--nfe", "5,x"], ["--nfe", "x"]),
        (["--nfe", "0"], ["--nfe", "at least 1"]),
        (["--nfe", "251"], ["--nfe", "251", "250"]),
        (["--samples", "3"], ["--samples", "at least 4"]),
        (["--out", "x.svg"], ["x.svg", ".png"]),
        (["--out", "no/such/x.png"], ["no/such", "does not exist"]),
        (["--device", "tpu"], ["--device tpu"]),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    argv: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = fails(capsys, "certify", *argv)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []
