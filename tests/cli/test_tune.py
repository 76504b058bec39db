import json
import shutil
from pathlib import Path

import pytest
import torch

from sfumato.cli.main import main
from sfumato.model import Model
from sfumato.model_folder import TableKey
from sfumato.runs.folder import RunFolder
from sfumato.sampling import fitting
from sfumato.training.lock import Lock


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a toy with a tiny network."""
    folder = tmp_path_factory.mktemp("tune") / "r"
    settings = ["network.kind=mlp", "network.width=24", "network.depth=1", "data.count=300"]
    assert main(["train", "moons", *settings, "--steps", "60", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "r")


def tune(run: Path, *more: str) -> int:
    return main(["tune", str(run), "--count", "48", "--iterations", "4", *more])


def test_a_fitted_table_is_kept_used_and_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(run, "--nfe", "3,5", "--json", "--show") == 0
    captured = capsys.readouterr()
    fits = json.loads(captured.out)["fits"]
    assert [fit["evaluations"] for fit in fits] == [3, 5]
    kept = [fit for fit in fits if fit["kept"]]
    assert kept
    for fit in kept:
        assert fit["errors"]["rms"] < fit["classical"]["rms"] or fit["errors"]["median"] < fit["classical"]["median"]
        assert (run / f"sampler-{fit['evaluations']}.json").is_file()
        assert f"fitted({fit['evaluations']})" in captured.err
    model = Model.from_pretrained(run)
    assert set(model.fitted) == {TableKey(fit["evaluations"]) for fit in kept}
    budget = kept[0]["evaluations"]
    assert model.tableau("auto", budget).name == f"fitted({budget})"
    assert model.tableau("auto", 7).name.startswith("adams")
    assert model.tableau("ddim", budget).name.startswith("ddim")
    assert main(["sample", str(run), "-n", "2", "--steps", str(budget), "--out", str(run / "a.npz")]) == 0
    assert f"fitted({budget})" in capsys.readouterr().out


def test_a_budget_that_is_done_is_not_done_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(run, "--nfe", "4") == 0
    before = (run / "sampler-4.json").read_bytes()
    capsys.readouterr()
    assert tune(run, "--nfe", "4") == 0
    assert "done before" in capsys.readouterr().out
    assert (run / "sampler-4.json").read_bytes() == before
    assert tune(run, "--nfe", "4", "--seed", "1") == 0
    assert "done before" not in capsys.readouterr().out


def test_a_tuning_that_was_stopped_goes_on_to_the_same_table(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run, run.with_name("other"))
    assert tune(other, "--nfe", "4") == 0
    original = fitting.fit_tableau

    def stopped(*args, watch, **options):
        def until_two(progress, errors):
            watch(progress, errors)
            if progress.iteration == 2:
                raise KeyboardInterrupt

        return original(*args, watch=until_two, **options)

    monkeypatch.setattr(fitting, "fit_tableau", stopped)
    assert tune(run, "--nfe", "4") == 130
    assert not (run / "sampler-4.json").exists()
    assert json.loads((run / "tuning" / "4.json").read_text())["progress"]["iteration"] == 2
    begun = []

    def watched(*args, state, **options):
        begun.append(state.iteration)
        return original(*args, state=state, **options)

    monkeypatch.setattr(fitting, "fit_tableau", watched)
    assert tune(run, "--nfe", "4") == 0
    assert begun == [2]
    one, two = (Model.from_pretrained(folder).fitted[TableKey(4)] for folder in (run, other))
    assert torch.equal(one.estimates, two.estimates)
    assert torch.equal(one.times[1:], two.times[1:])


def test_a_table_fitted_to_other_weights_is_not_used(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(run, "--nfe", "4") == 0
    assert main(["train", "--resume", str(run), "--steps", "70"]) == 0
    assert Model.from_pretrained(run).fitted == {}
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "2", "--steps", "4", "--out", str(run / "a.npz")]) == 0
    captured = capsys.readouterr()
    assert "sampler-4.json was fitted to other weights" in captured.err
    assert "fitted(" not in captured.out
    assert tune(run, "--nfe", "4") == 0
    assert TableKey(4) in Model.from_pretrained(run).fitted


def test_a_model_that_is_saved_again_keeps_its_tables(run: Path, tmp_path: Path) -> None:
    assert tune(run, "--nfe", "4") == 0
    model = Model.from_pretrained(run)
    model.save_pretrained(tmp_path / "copy")
    assert set(Model.from_pretrained(tmp_path / "copy").fitted) == {TableKey(4)}
    # Weights that were changed since have no tables.
    with torch.no_grad():
        next(model.denoiser.network.parameters()).add_(1)
    model.save_pretrained(tmp_path / "changed")
    assert Model.from_pretrained(tmp_path / "changed").fitted == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nfe", "1"], "evaluations: 1"),
        (["--nfe", "4,64"], "evaluations: 64"),
        (["--nfe", "four"], "'four' is not a whole number"),
        (["--nfe", "0"], "0 is too small"),
        (["--nfe", "4", "--count", "11"], "count: 11"),
    ],
)
def test_nonsense_is_refused_in_one_line(
    run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["tune", str(run), *arguments])
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not list(run.glob("sampler-*"))


@pytest.mark.parametrize("damage", ['{"format": 1, "weights": "', "[]", '{"weights": 1}', "{}"])
def test_a_table_that_cannot_be_used_is_named_and_fitted_again(
    run: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "sampler-3.json").write_text(damage)
    assert main(["sample", str(run), "-n", "2", "--steps", "3", "--out", str(run / "a.npz")]) == 0
    assert "warning: sampler-3.json " in capsys.readouterr().err
    assert tune(run, "--nfe", "3") == 0
    assert TableKey(3) in Model.from_pretrained(run).fitted


@pytest.mark.parametrize(
    "damage",
    [
        {"done": True},
        {"done": True, "kept": True, "result": {}},
        {"done": False, "progress": []},
        {"done": False, "progress": {"a": 1}},
        {"done": False, "progress": {"iteration": 1, "numbers": [1.0], "damping": 1.0, "best": [1.0]}},
    ],
)
def test_a_record_of_tuning_that_is_damaged_is_passed_over(run: Path, damage: dict[str, object]) -> None:
    assert tune(run, "--nfe", "3") == 0
    place = run / "tuning" / "3.json"
    sound = json.loads(place.read_text())
    settings = {key: sound[key] for key in ("weights", "count", "seed", "iterations")}
    place.write_text(json.dumps({**settings, **damage}))
    assert tune(run, "--nfe", "3") == 0
    assert json.loads(place.read_text())["result"]["evaluations"] == 3


def test_a_poorer_fit_does_not_take_the_place_of_a_better_one(run: Path) -> None:
    assert tune(run, "--nfe", "4") == 0
    before = Model.from_pretrained(run).fitted[TableKey(4)]
    assert main(["tune", str(run), "--nfe", "4", "--count", "48", "--iterations", "1"]) == 0
    assert torch.equal(Model.from_pretrained(run).fitted[TableKey(4)].estimates, before.estimates)


def test_two_at_once_do_not_fit_to_the_same_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "tuning").mkdir()
    with Lock(RunFolder(run / "tuning"), "fitting samplers in it"):
        assert tune(run, "--nfe", "3") == 2
    assert "is fitting samplers in it; wait for it" in capsys.readouterr().err
    assert not (run / "sampler-3.json").exists()
