"""``sfumato.train`` in Python: the example of its docstring, arrays, settings, and what it refuses."""

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
import sfumato.data
from sfumato import InputError
from sfumato.cli.main import main
from sfumato.reporting import SILENT
from sfumato.runs import entry, training

TINY = {"network.kind": "mlp", "network.width": 8, "network.depth": 1, "training.batch": 8, "sampling.steps": 4}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "write_report", lambda folder, **_: folder.report)  # a page takes seconds


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "Console", lambda: SILENT)
    failed, attempted = doctest.testmod(entry)
    assert (failed, attempted > 6) == (0, True)
    assert Path("runs/moons/model.safetensors").is_file()


def test_it_trains_what_the_command_trains(capsys: pytest.CaptureFixture[str]) -> None:
    model = sfumato.train("moons", "edm", steps=3, settings={**TINY, "data.count": 60}, out="a", device="cpu")
    assert "done after 3 steps" in capsys.readouterr().out
    words = [f"{key}={value}" for key, value in TINY.items()]
    assert main(["train", "moons", "data.count=60", *words, "--recipe", "edm", "--steps", "3", "--out", "b"]) == 0
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert torch.equal(model.sample(3, seed=1), sfumato.Model.from_pretrained("b").sample(3, seed=1))


def test_a_run_inside_of_its_data_does_not_become_data(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(10):
        for kind in ("cat", "dog"):
            path = Path(kind, f"{i}.png")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(path)
    sfumato.train(".", steps=2, settings=TINY, out="zoo", device="cpu", reporter=SILENT)
    assert main(["sample", "zoo", "-n", "4", "--steps", "2"]) == 0  # draws a picture into the run
    assert list(Path("zoo").rglob("*.png"))
    assert main(["train", "--resume", "zoo", "--steps", "3"]) == 0
    assert "not read as data, because Sfumato wrote it: zoo\n" in capsys.readouterr().out
    dataset = sfumato.data.load(".")
    assert (len(dataset), dataset.spec.class_names) == (20, ("cat", "dog"))


def test_an_array_is_kept_so_that_its_run_can_be_resumed() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    sfumato.train(torch.from_numpy(values), steps=2, settings=TINY, out="a", device="cpu", reporter=SILENT)
    (kept,) = Path("runs/data").iterdir()
    np.testing.assert_array_equal(np.load(kept), values)
    assert main(["train", "--resume", "a", "--steps", "3"]) == 0
    assert entry._path_of(values) == str(kept)
    assert entry._path_of(values + 1) != str(kept)


def test_it_scores_what_the_command_scores(capsys: pytest.CaptureFixture[str]) -> None:
    model = sfumato.train("moons", steps=3, settings={**TINY, "data.count": 80}, out="a", reporter=SILENT)
    capsys.readouterr()
    assert main(["likelihood", "a", "-n", "5", "--evaluations", "20", "--against", "digits", "--json"]) == 2
    assert main(["likelihood", "a", "-n", "5", "--evaluations", "20", "--against", "checkerboard", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = sfumato.score("a", count=5, evaluations=20, against="checkerboard", reporter=SILENT)
    assert found.bits_per_dim == record["bound"]["bits_per_dim"]
    assert found.flow is not None
    assert found.flow.estimate.mean == record["flow"]["bits_per_dim"]
    assert {name: each.value for name, each in found.auroc.items()} == {
        name: each["value"] for name, each in record["against"]["auroc"].items()
    }
    assert set(found.scores) == {"bits", "typicality", "norms"}
    assert "bound (-ELBO)" in str(found)
    # A model alone knows no training data to compare with; its samples are data like any other.
    alone = sfumato.score(model, model.sample(9, seed=1), flow=False, evaluations=20, reporter=SILENT)
    assert set(alone.scores) == {"bits"}
    assert (len(alone.bound.bits), alone.flow, alone.auroc) == (9, None, {})
    with pytest.raises(InputError, match="data: is missing"):
        sfumato.score(model, reporter=SILENT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 3, "budget": 1.0}, "--steps and --budget"),
        ({"settings": {"network.wdith": 3}}, "network.width"),
        ({"settings": {"network.width": object()}}, r"settings\['network.width'\]: object is not allowed"),
        ({"recipe": "nothing"}, "'nothing' is not a preset"),
        ({"source": np.array([[None]])}, "Python objects"),
        ({"source": "nowhere"}, "nowhere"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_mistakes_are_one_line(change, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sfumato.train(**{"source": "moons", "reporter": SILENT, **change})
    assert "\n" not in str(caught.value)
    assert list(Path().iterdir()) == []
