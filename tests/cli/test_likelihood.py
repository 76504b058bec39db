"""``sfumato likelihood``: its numbers are the library's, and mistakes get a line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sfumato import data
from sfumato.bounds import standard_decoder
from sfumato.cli.main import main
from sfumato.denoisers import Condition
from sfumato.evaluation.scoring import encode
from sfumato.likelihood import LikelihoodOptions, walk, walk_times
from sfumato.model import Model

SMALL = ["network.kind=unet", "network.width=8", "network.multipliers=[1]", "network.blocks=1", "network.attention=[]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of 50 levels on digits, hardly trained."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = ["process.schedule.steps=50", "process.schedule.last=0.3", "target=v", "data.limit=300"]
    assert main(["train", "digits", "--recipe", "ddpm", *SMALL, *settings, "--steps", "30", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def roll(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small clock without levels on continuous data of two scales."""
    folder = tmp_path_factory.mktemp("runs") / "roll"
    points = data.load("swiss-roll", data.DataOptions(count=400)).values.numpy() * np.array([1.0, 30.0])
    np.save(folder.parent / "points.npy", points.astype(np.float32))
    settings = ["--recipe", "ddpm", "process.schedule=linear-logsnr", "target=v", "label=logsnr", "network.width=16"]
    assert main(["train", str(folder.parent / "points.npy"), *settings, "--steps", "30", "--out", str(folder)]) == 0
    return folder


def record(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["likelihood", *argv, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_the_table_is_the_librarys_walk_over_every_level(run, capsys, tmp_path):
    csv = tmp_path / "bits.csv"
    found = record(capsys, str(run), "-n", "20", "--evaluations", "all", "--no-flow", "--per-sample", str(csv))
    model = Model.from_pretrained(run)
    dataset = data.load("digits", model.recipe.data.options())
    lines = [line.split(",") for line in csv.read_text().splitlines()]
    rows = [int(line[0]) for line in lines[1:]]
    assert len(rows) == 20
    assert set(rows) <= set(data.split(300, 0.1, 0)[1].tolist())  # of the held-out part
    x_0 = model.spec.encode(dataset.values[rows])
    expected = walk(
        model.denoiser,
        x_0,
        standard_decoder(model.denoiser.process, model.spec.grid),
        walk_times(model.denoiser.process),
        draws=1,
        cond=Condition(classes=dataset.labels[rows]),
    )
    assert found["bound"]["bits_per_dim"] == pytest.approx(expected.estimate.mean, rel=1e-6)
    assert [float(line[1]) for line in lines[1:]] == pytest.approx(expected.bits.tolist(), rel=1e-5)
    assert found["flow"] is None
    terms = found["bound"]["terms"]
    total = sum(terms[name]["bits_per_dim"] for name in ("prior", "steps", "decoder"))
    assert total == pytest.approx(found["bound"]["bits_per_dim"], rel=1e-12)
    assert {"complexity", "typicality", "norms"} <= set(lines[0])


def test_the_picture_and_both_numbers_are_written(run, capsys):
    found = record(capsys, str(run), "-n", "12", "--evaluations", "30", "--tolerance", "1e-2", "--probes", "1")
    assert found["flow"]["bits_per_dim"] > 0
    assert found["flow"]["method_error"] is None  # one draw and one probe show no spread
    files = [Path(name) for name in found["files"]]
    assert [file.name for file in files] == ["likelihood.png", "likelihood.json"]
    with Image.open(files[0]) as picture:
        assert picture.size[0] > 1000
    assert json.loads(files[1].read_text())["bound"] == found["bound"]
    order = found["bits"]
    assert found["most"]["bits"] == sorted(order)
    assert found["least"]["bits"] == sorted(order, reverse=True)


def test_foreign_data_is_told_apart(run, capsys, tmp_path):
    noise = np.random.default_rng(0).integers(0, 17, (40, 1, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    found = record(
        capsys, str(run), "-n", "30", "--evaluations", "30", "--no-flow", "--against", str(tmp_path / "noise.npy")
    )
    assert set(found["against"]["auroc"]) == {"bits", "typicality", "complexity", "norms"}
    assert found["against"]["auroc"]["norms"]["value"] > 0.9


def test_densities_are_in_the_datas_own_units(roll, capsys):
    model = Model.from_pretrained(roll)
    scale = model.spec.transform.scale
    assert scale[1] > 20 * scale[0]
    x = torch.from_numpy(np.load(roll.parent / "points.npy"))[:40]
    x_0 = encode(model, x, "points")
    gained = model.spec.log_det(x_0)
    assert gained.tolist() == pytest.approx([math.log(scale[0]) + math.log(scale[1])] * 40)
    settings = LikelihoodOptions(evaluations=60)
    assert main(["likelihood", str(roll), "--dequantisation", "uniform"]) == 2
    assert "--dequantisation: this data is continuous" in capsys.readouterr().err
    plain = walk_in_model_units(model, x_0, settings)
    assert model.bound(x_0, settings).estimate.mean == pytest.approx(
        plain + gained[0].item() / (2 * math.log(2)), rel=1e-9
    )
    found = record(capsys, str(roll), str(roll.parent / "points.npy"), "-n", "40", "--evaluations", "60")
    assert found["density"] is True
    assert found["samples"] == 40
    # The bound lies above the exact value, and both are of one density.
    assert found["bound"]["bits_per_dim"] > found["flow"]["bits_per_dim"] - 3 * found["bound"]["method_error"] - 0.1
    exact = model.flow(x_0, settings)
    assert exact.variance.max() == 0


def walk_in_model_units(model: Model, x_0: torch.Tensor, settings: LikelihoodOptions) -> float:
    from sfumato.likelihood import Span, estimate, finest_time

    decoder, span = standard_decoder(model.denoiser.process, model.spec.grid), Span(finest_time(model.denoiser.process))
    return estimate(model.denoiser, x_0, decoder, span, evaluations=settings.evaluations).estimate.mean


def digits() -> np.ndarray:
    return load_digits().images[:30, None].astype(np.float32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda: digits() * 15, "values from 0 to 240, but the model was trained on 0 to 16"),
        (lambda: digits() * 0.77, "lie between the 17 levels"),
        (lambda: np.where(np.arange(8) == 3, np.nan, digits()), "NaN"),
        (lambda: digits()[..., :7], "its samples have shape 1 x 8 x 7, but the model was trained on 1 x 8 x 8"),
        (lambda: digits().repeat(3, axis=1), "its samples have shape 3 x 8 x 8"),
    ],
    ids=["range", "between", "nan", "size", "channels"],
)
def test_data_of_another_kind_gets_a_line(run, capsys, tmp_path, values, message):
    np.save(tmp_path / "x.npy", values().astype(np.float32))
    assert main(["likelihood", str(run), str(tmp_path / "x.npy")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not (run / "bits.csv").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--evaluations", "5"], "evaluations: 5 are too few"),
        (["--steps", "50"], "steps: 50 are too many for a chain of 50 levels; give at most 49"),
        (["--tolerance", "2"], "--tolerance 2.0"),
        (["--per-sample", "x.txt"], "end it in .csv"),
        (["--out", "nowhere/x.png"], "does not exist"),
        (["--no-flow", "--probes", "3"], "--probes: only the flow uses it, and --no-flow is given; leave it out"),
    ],
)
def test_settings_that_cannot_be_get_a_line(run, capsys, argv, message):
    assert main(["likelihood", str(run), "-n", "10", *argv]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_every_level_of_a_continuum_is_refused(roll, capsys):
    assert main(["likelihood", str(roll), "--evaluations", "all"]) == 2
    assert "--evaluations all" in capsys.readouterr().err


def test_one_sample_has_no_error_of_its_own(run, capsys):
    capsys.readouterr()
    assert main(["likelihood", str(run), "-n", "1", "--evaluations", "30", "--no-flow", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["bound"]["standard_error"] is None
    assert "nan" not in err
    assert "scoring 1 sample of" in err


def test_an_error_that_cannot_be_trusted_is_told(run, capsys):
    """One sample shows no spread of its error; of 20, the record and the table say nothing more."""
    for count, marked in ((1, True), (20, False)):
        argv = ["likelihood", str(run), "-n", str(count), "--evaluations", "30", "--no-flow"]
        assert record(capsys, *argv[1:])["bound"]["method_error_trusted"] is not marked
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert (") ?   " in out) is marked
        assert ("cannot be trusted: few samples make most of it" in out) is marked
