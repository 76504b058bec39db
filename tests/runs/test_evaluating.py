"""`sfumato evaluate`: a planted memoriser is named, real data stands beside the samples, files hold what is printed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sfumato
from sfumato import InputError
from sfumato.cli.main import main
from sfumato.evaluation.wasserstein import sliced_wasserstein
from sfumato.model import Model
from sfumato.reporting import SILENT
from sfumato.runs import training
from sfumato.runs.evaluating import own_parts
from sfumato.runs.folder import RunFolder

SETTINGS = {"network.kind": "mlp", "network.width": 8, "network.depth": 1, "training.batch": 8, "sampling.steps": 2}


def data(count: int, seed: int) -> np.ndarray:
    """Two clusters of vectors."""
    random = np.random.default_rng(seed)
    return (random.choice([-3, 3], (count, 1)) + 0.3 * random.normal(size=(count, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of vectors that has hardly been trained."""
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "v.npy", data(300, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "write_report", lambda folder, **_: folder.report)  # a page takes seconds
        settings = {**SETTINGS, "training.held_out": 0.3}
        sfumato.train(folder / "v.npy", steps=2, settings=settings, out=folder / "run", device="cpu", reporter=SILENT)
    return folder / "run"


def returns(values: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models return these values as their samples."""

    def sample(self: Model, count: int, *, first: int = 0, **others: object) -> Tensor:
        return values[first : first + count]

    monkeypatch.setattr(Model, "sample", sample)


def test_the_command_writes_what_it_prints(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "-n", "60", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    record = RunFolder(run).measurement("evaluation")
    assert record == {key: value for key, value in printed.items() if key != "files"}
    assert record is not None
    assert (record["count"], len(record["weights"])) == (60, 64)
    assert record["verdict"].startswith("These are not yet samples")
    rows = {row["name"]: row for row in record["rows"]}
    assert {"sliced", "mmd", "energy", "marginals", "correlations", "classifier", "clipped_density"} <= rows.keys()
    for name, row in rows.items():
        assert row["space"] == "values", name
        assert row["low"] <= row["value"] <= row["high"], name
    assert rows["classifier"]["low"] > rows["classifier"]["real_high"]
    assert rows["clipped_density"]["high"] < rows["clipped_density"]["real_low"]
    with np.load(RunFolder(run).evaluation) as pairs:
        assert pairs["samples"].shape == pairs["neighbours"].shape == (16, 6)
        assert pairs["held_out_distances"].shape == (90,)


def test_more_evaluations_and_what_the_report_shows_of_them(run: Path) -> None:
    """Samples by a number of evaluations are those that ``sample`` draws by it; the report has a figure of them."""
    from sfumato.report import write_report

    assert main(["evaluate", str(run), "-n", "60", "--nfe", "1,3"]) == 0
    record = RunFolder(run).measurement("evaluation") or {}
    assert [each["evaluations"] for each in record["budgets"]] == [1, 3]
    expected = sfumato.load(run).sample(60, steps=1)
    train, _ = own_parts(RunFolder(run), sfumato.load(run), 0) or ((), ())
    missing = 0  # 90 held-out samples stand beside the 60
    own = sliced_wasserstein(*(sfumato.load(run).spec.encode(x) for x in (expected, train[missing : missing + 60])))
    (first,) = [row for row in record["budgets"][0]["rows"] if row["name"] == "sliced"]
    assert first["value"] == pytest.approx(own, rel=1e-6)
    page = write_report(RunFolder(run)).read_text()
    assert 'id="quality"' in page
    assert (RunFolder(run).figures / "quality.csv").is_file()


def test_a_run_that_returns_its_training_data_is_found(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sfumato.kinds import load

    train, _ = own_parts(RunFolder(run), load(run, "cpu"), 0) or ((), ())
    returns(torch.cat((torch.as_tensor(train[:30]), torch.from_numpy(data(30, 7)))), monkeypatch)
    found = sfumato.evaluate(run, count=60, reporter=SILENT)
    (copies,) = found.copies
    assert copies.copies == 30
    assert copies.low < 0.5 < copies.high
    assert found.verdict.startswith("The model copies: about ")
    assert found.neighbours is not None
    assert torch.equal(found.samples[found.closest].float(), found.neighbours)


def test_real_samples_are_as_good_as_real_data(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returns(torch.from_numpy(data(100, 5)), monkeypatch)
    found = sfumato.evaluate(sfumato.load(run), data(200, 3), train=data(60, 4), reporter=SILENT)
    assert found.verdict.startswith("No sign of copying")
    for row in found.rows:
        if row.ideal is not None:
            assert row.samples.low - 0.02 <= row.ideal <= row.samples.high + 0.02, row.name
    assert "100 samples against the given array" in str(found)


def test_the_report_judges_in_the_words_of_the_evaluation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sfumato.report.run import read_run
    from sfumato.report.verdict import verdict

    assert main(["evaluate", str(run), "-n", "60"]) == 0
    first = verdict(read_run(RunFolder(run)))[0]
    assert first.startswith("These are not yet samples: ")
    assert first in capsys.readouterr().out.splitlines()


def test_heavy_tails_are_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heavy = np.exp(2 * data(300, 5))
    returns(torch.from_numpy(heavy[:100]), monkeypatch)
    found = sfumato.evaluate(sfumato.load(run), heavy[100:], reporter=SILENT)
    (warning,) = found.to_dict()["warnings"]
    assert "tails are heavy, and intervals of distances and moments are too narrow" in warning
    assert warning in str(found)


def test_what_cannot_be_evaluated_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give at least 40, and a count of at least 20"):
        sfumato.evaluate(sfumato.load(run), np.zeros((30, 6)), reporter=SILENT)
    with pytest.raises(InputError, match="features: 'fid' is unknown"):
        sfumato.evaluate(run, features=["fid"], reporter=SILENT)
    with pytest.raises(InputError, match="data: is missing"):
        sfumato.evaluate(sfumato.load(run), reporter=SILENT)
    with pytest.raises(InputError, match="samples have shape 5"):
        sfumato.evaluate(run, np.zeros((100, 5)), reporter=SILENT)


def test_a_source_to_compare_with(run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "far.npy", data(80, 3) + 9)
    assert main(["evaluate", str(run), "-n", "100", "--against", str(tmp_path / "far.npy")]) == 0
    record = RunFolder(run).measurement("evaluation") or {}
    assert record["count"] == 40
    values = {row["name"]: row["value"] for row in record["rows"]}
    assert values["clipped_density"] == 0
    assert values["classifier"] > 0.99
    assert record["memorisation"][0]["held_out_copies"] == 0
