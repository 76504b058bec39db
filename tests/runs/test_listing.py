"""`sfumato runs`: what is known of each run, in every order, also of damaged and unfinished ones."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato import InputError
from sfumato.cli.main import main
from sfumato.files import digest
from sfumato.reporting import SILENT
from sfumato.runs import training
from sfumato.runs.folder import RunFolder
from sfumato.runs.listing import listed
from sfumato.runs.settings import SORTS, RunsSettings

SETTINGS = {"network.kind": "mlp", "network.width": 8, "network.depth": 1, "training.batch": 8}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, one of them in a folder of its own; two are measured, one of these before more training."""
    monkeypatch.setattr(training, "write_report", lambda folder, **_: folder.report)  # a page takes seconds
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    for name, recipe, steps in (("a", "ddpm", 3), ("b", "edm", 2), ("group/c", "ddpm", 1)):
        out = tmp_path / "runs" / name
        sfumato.train(
            tmp_path / "v.npy", recipe, steps=steps, settings=SETTINGS, out=out, device="cpu", reporter=SILENT
        )
        measured = {"weights": digest(RunFolder(out).weights)}
        rows = [{"name": f"clipped_{kind}", "value": steps / d} for kind, d in (("density", 4), ("coverage", 2))]
        if name != "b":
            RunFolder(out).write_measurement("evaluation", {**measured, "rows": rows})
            RunFolder(out).write_measurement("likelihood", {"bound": {"bits_per_dim": -float(steps)}})
    RunFolder(tmp_path / "runs" / "group" / "c").write_measurement("evaluation", {"weights": "former", "rows": rows})
    return tmp_path / "runs"


def test_the_list(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs), "--sort", "run", "--json"]) == 0
    a, b, c = json.loads(capsys.readouterr().out)["runs"]
    assert [each["run"] for each in (a, b, c)] == ["a", "b", "group/c"]
    assert [each["recipe"] for each in (a, b, c)] == ["ddpm", "edm", "ddpm"]
    assert [each["images"] for each in (a, b, c)] == [24, 16, 8]
    assert [each["bound"] for each in (a, b, c)] == [-3, None, -1]
    assert [each["quality"] for each in (a, b, c)] == [0.75, None, None]
    assert {each["stopped"] for each in (a, b, c)} == {"steps"}
    assert a["goal"] == "3 steps"
    assert Path(a["data"]).name == "v.npy"
    assert main(["runs", str(runs)]) == 0
    assert "0.75" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sort", "first"), [("date", "group/c"), ("recipe", "group/c"), ("bound", "a"), ("quality", "a")]
)
def test_orders(runs: Path, sort: str, first: str) -> None:
    for name, later in (("a", 0), ("b", 1), ("group/c", 2)):
        for file in ("config.json", "metrics.jsonl", "model.safetensors"):
            os.utime(runs / name / file, (1e9 + later, 1e9 + later))
    assert listed(RunsSettings(runs, sort))[0].run == first
    for each in SORTS:
        assert len(listed(RunsSettings(runs, each))) == 3


def test_damaged_and_unfinished_runs_are_listed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "a" / "config.json").write_text("{")
    metrics = runs / "b" / "metrics.jsonl"
    rows = [line for line in metrics.read_text().splitlines() if '"stop"' not in line]
    metrics.write_text("\n".join([*rows, '{"kind": "train", "images": 99, "seco']))
    assert main(["runs", str(runs)]) == 0
    text = capsys.readouterr().out
    assert "a: " in text
    assert "(not ended)" in text


def test_nothing_to_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs below" in capsys.readouterr().out
    with pytest.raises(InputError, match="is no folder"):
        RunsSettings(tmp_path / "missing")
    with pytest.raises(InputError, match="--sort: 'size' is unknown"):
        RunsSettings(tmp_path, "size")
