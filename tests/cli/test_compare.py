"""``sfumato compare``: alike for each, taken up where it ended, and refused where it would not be alike."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.cli.main import main
from sfumato.data import LAYOUTS
from sfumato.evaluation import progressive
from sfumato.evaluation.comparison import paired
from sfumato.model import Model
from sfumato.recipes.networks import AutoNetwork
from sfumato.runs import comparison, experiment
from sfumato.runs.comparison_text import verdicts
from sfumato.runs.folder import RunFolder
from sfumato.runs.selection import select
from sfumato.runs.settings import CompareSettings
from sfumato.training import Engine, NonFiniteError, Trainer
from sfumato.training.lock import Lock

TINY = ["network.kind=mlp", "network.width=8", "network.depth=1", "training.batch=8", "sampling.steps=4"]
MOONS = ["compare", "moons", *TINY, "data.count=200", "--steps", "3", "-n", "6"]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Few samples and few frames: the numbers mean nothing here, and the pages need not be long in the making."""
    with pytest.MonkeyPatch.context() as patch:
        layouts = {name: replace(layout, compared_samples=100) for name, layout in LAYOUTS.items()}
        layouts["image"] = replace(layouts["image"], compared_samples=40)
        patch.setattr("sfumato.data.assemble.LAYOUTS", layouts)
        patch.setattr("sfumato.data.spec.LAYOUTS", layouts)
        patch.setattr(progressive, "FRAMES", 2)
        yield


@pytest.fixture(autouse=True)
def pages_are_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the runs of ``done`` get a real page each, which takes seconds."""
    monkeypatch.setattr(experiment, "write_report", lambda folder, **_: folder.report.touch())


def run(out: Path, recipes: str, *argv: str, base: list[str] = MOONS) -> int:
    return main([*base, "--recipes", recipes, "--out", str(out), *argv])


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refused command prints."""
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    lines = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert lines[-1].startswith("sfumato compare")
    return lines[-1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes, compared."""
    out = tmp_path_factory.mktemp("compare") / "two"
    assert run(out, "ddpm,flow") == 0
    return out


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return found


def test_each_is_a_complete_run_on_the_same_network(done: Path) -> None:
    sizes = set()
    for name in ("ddpm", "flow"):
        found = {path.name for path in (done / name).iterdir()}
        wanted = {"README.md", "config.json", "gallery.npz", "metrics.jsonl", "model.safetensors", "report.html"}
        assert found >= wanted | {"run.json", "comparison.json", "results.json", "checkpoints"}
        config = json.loads((done / name / "config.json").read_text())
        assert config["recipe"]["network"]["width"] == 8
        sizes.add(config["parameters"])
        assert "bits/dim" in (done / name / "README.md").read_text()
    assert len(sizes) == 1
    assert not list(done.rglob(".*"))


def test_the_record_holds_all_of_it(done: Path) -> None:
    record = read(done)
    assert [row["recipe"] for row in record["recipes"]] == ["ddpm", "flow"]
    assert record["goal"] == {"steps": 3}
    assert record["scored"] == 6
    assert set(record["versions"]) == {"sfumato", "torch", "python"}
    assert record["threads"] >= 1
    for row in record["recipes"]:
        assert row["training"]["images"] == 24
        assert row["reasons"] == {}
        assert len(row["bound"]["bits"]) == len(row["flow"]["bits"]) == 6
    first, second = (row["bound"]["bits"] for row in record["recipes"])
    standing = record["standings"]["bound"]
    worse, best = (first, second) if standing["best"] == "flow" else (second, first)
    expected = paired(worse, best)
    assert next(iter(standing["over"].values())) == pytest.approx({"mean": expected.mean, "error": expected.error})
    with Image.open(done / "comparison.png") as picture:
        assert picture.size[0] == 1440


def test_the_same_command_again_does_nothing_again(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train", lambda *args: pytest.fail("trained again"))
    before = {name: stamps(done / name) for name in ("ddpm", "flow")}
    capsys.readouterr()
    assert run(done, "ddpm,flow", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert {name: stamps(done / name) for name in before} == before
    assert record["recipes"] == read(done)["recipes"]
    assert record["files"] == [str(done / "comparison.png"), str(done / "comparison.json")]


def test_recipes_can_be_added_and_the_table_is_as_given(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stamps(done / "flow")
    settings = ["hierarchy.levels=1", "hierarchy.hidden=8"]
    assert run(done, "mhvae,flow", *settings) == 0  # network.width has nothing to say to a hierarchical VAE
    assert stamps(done / "flow") == before
    assert (done / "mhvae" / "report.html").exists()
    lines = capsys.readouterr().out.splitlines()
    assert "mhvae, 1 of 2" in "\n".join(lines)
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("recipe")) :]
    assert [line.split()[0] for line in table[1:3]] == ["mhvae", "flow"]
    assert max(map(len, lines[3:-4])) <= 120
    row = next(row for row in read(done)["recipes"] if row["recipe"] == "mhvae")
    assert row["flow"] is None
    assert row["bound"] is not None


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (["--steps", "4"], ["--steps 3", "--steps 4"]),
        (["--budget", "9s"], ["--steps 3", "--budget 9s"]),
        (["network.width=16"], ["network.width", "8", "16"]),
        (["training.seed=1"], ["training.seed", "0", "1"]),
        (["data.count=100"], ["data.count", "200", "100"]),
        (["swiss-roll"], ["SOURCE", "moons", "swiss-roll"]),
    ],
)
def test_what_has_changed_is_named(
    done: Path, capsys: pytest.CaptureFixture[str], change: list[str], parts: list[str]
) -> None:
    before = {name: stamps(done / name) for name in ("ddpm", "flow")}
    base = [change[0] if word == "moons" and change[0] == "swiss-roll" else word for word in MOONS]
    if change[0] == "--budget":
        base = [word for word in base if word not in ("--steps", "3")]
    argv = [*base, "--recipes", "ddpm,flow,edm", "--out", str(done), *(change if change[0] != "swiss-roll" else [])]
    line = fails(capsys, *argv)
    for part in [*parts, str(done / "ddpm"), "another --out"]:
        assert part in line
    assert {name: stamps(done / name) for name in before} == before
    assert not (done / "edm").exists()


def test_a_changed_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "points.npy"
    np.save(source, np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    base = ["compare", str(source), *TINY, "--steps", "2", "-n", "4"]
    assert run(tmp_path / "c", "flow", base=base) == 0
    np.save(source, np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32))
    assert "the data has changed" in fails(capsys, *base, "--recipes", "flow", "--out", str(tmp_path / "c"))


def test_another_count_is_measured_anew_and_not_trained(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (done / "flow" / "model.safetensors").read_bytes()
    monkeypatch.setattr(Trainer, "train", lambda *args: pytest.fail("trained again"))
    assert run(done, "flow", "-n", "4") == 0
    assert read(done)["scored"] == len(read(done)["recipes"][0]["bound"]["bits"]) == 4
    assert (done / "flow" / "model.safetensors").read_bytes() == weights


def test_a_training_that_was_interrupted_goes_on_to_the_same_end(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.launch_step

    def interrupted(engine: Engine) -> None:
        if engine.model.recipe.name == "flow" and engine.steps == 1:
            signal.raise_signal(signal.SIGINT)
        step(engine)

    out = tmp_path / "a folder"
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "launch_step", interrupted)
        assert run(out, "ddpm,flow") == 130
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("continue with: sfumato compare moons --recipes ddpm,flow --steps 3 --out")
    assert "'" in said  # a folder with a blank in its name
    assert not (out / "comparison.json").exists()
    before = stamps(out / "ddpm")
    assert run(out, "ddpm,flow") == 0
    assert "continuing" in capsys.readouterr().out
    assert stamps(out / "ddpm") == before
    ours, theirs = (json.loads((place / "flow" / "config.json").read_text()) for place in (out, done))
    assert ours == theirs
    assert (out / "flow/model.safetensors").read_bytes() == (done / "flow/model.safetensors").read_bytes()


def test_an_interruption_while_measuring_costs_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    budget = ["0.5s" if word == "3" else "--budget" if word == "--steps" else word for word in MOONS]
    out = tmp_path / "c"
    with monkeypatch.context() as patch:
        patch.setattr(Model, "flow", interrupted)
        assert run(out, "flow", base=budget) == 130
    assert "--budget 0.5s" in capsys.readouterr().out.splitlines()[-1]
    weights = (out / "flow" / "model.safetensors").read_bytes()
    monkeypatch.setattr(Trainer, "train", lambda *args: pytest.fail("trained again"))
    assert run(out, "flow", base=budget) == 0
    assert (out / "flow" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 1]])
def test_two_or_three_samples_are_enough(
    labels: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("few.npz", x=np.array([[0.0, 1.0], [1.0, -1.0], [0.5, 2.0]], np.float32)[: len(labels)], y=labels)
    argv = ["compare", "few.npz", *TINY, "--steps", "2", "--recipes", "ddpm,edm", "--out", "c", "--json"]
    assert main(argv) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    for row in record["recipes"]:
        assert row["samples"]["count"] == 1
        assert row["samples"]["distance"] > 0
        assert row["samples"]["distance_error"] is row["samples"]["ratio_error"] is None
    assert Path("c/comparison.png").is_file()


def test_only_the_seconds_that_are_left_are_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    train = Trainer.train

    def noted(trainer: Trainer, steps: int | None, seconds: float | None, watch: object, **_: object) -> str:
        given.append(seconds)
        if len(given) == 1:
            train(trainer, 3, None)
            trainer.seconds = 7.5
            trainer.engine.state.images += 8
            trainer.save()
            return "interrupted"
        return train(trainer, trainer.steps, None)

    monkeypatch.setattr(Trainer, "train", noted)
    base = ["9s" if word == "3" else "--budget" if word == "--steps" else word for word in MOONS]
    assert run(tmp_path / "c", "flow", base=base) == 130
    assert run(tmp_path / "c", "flow", base=base) == 0
    assert given == [9.0, 1.5]


def test_a_run_that_had_not_begun_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "c" / "flow"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("")
    (folder / ".config.1.json").write_text("half of")
    assert run(tmp_path / "c", "flow") == 0
    (tmp_path / "d" / "flow").mkdir(parents=True)
    (tmp_path / "d" / "flow" / "README.md").write_text("mine")
    assert str(tmp_path / "d" / "flow") in fails(capsys, *MOONS, "--recipes", "flow", "--out", str(tmp_path / "d"))
    assert (tmp_path / "d" / "flow" / "README.md").read_text() == "mine"


def test_one_that_diverges_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.launch_step

    def diverges(engine: Engine) -> None:
        if engine.model.recipe.name == "ddpm":
            raise NonFiniteError("non-finite loss at step 1")
        step(engine)

    monkeypatch.setattr(Engine, "launch_step", diverges)
    assert run(tmp_path / "c", "ddpm,flow") == 0
    assert "ddpm: no training: non-finite loss at step 1" in capsys.readouterr().out
    rows = read(tmp_path / "c")["recipes"]
    assert rows[0]["bound"] is None
    assert rows[1]["bound"] is not None
    assert run(tmp_path / "c", "ddpm,flow") == 0  # it is known, and not tried again
    assert "1 of 2" not in capsys.readouterr().out


def test_a_recipe_of_ones_own_beside_a_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("version: 1\nname: custom\ntarget: {kind: v}\nnetwork: {kind: mlp, width: 99}\n")
    monkeypatch.chdir(tmp_path)
    assert main([*MOONS, "--recipes", "ddpm,mine.yaml"]) == 0
    rows = read(Path("runs/compare-moons"))["recipes"]
    assert [row["recipe"] for row in rows] == ["ddpm", "mine"]
    assert rows[0]["parameters"] == rows[1]["parameters"]
    mine.write_text("version: 1\nname: custom\ntraining: {seed: 5}\n")
    assert "ddpm and mine differ in training.seed" in fails(capsys, *MOONS, "--recipes", "ddpm,mine.yaml")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ([], ["SOURCE"]),
        (["network.width=3"], ["SOURCE is missing before 'network.width=3'"]),
        (["diggits"], ["diggits", "digits"]),
        (["moons", "--recipes", "ddpm,nope,neither"], ["'nope', 'neither'", "edm", "vdm"]),
        (["moons", "--recipes", "ddpm,edm,ddpm"], ["'ddpm' comes twice"]),
        (["moons", "--recipes", " , "], ["names no recipe"]),
        (["moons", "--budget", "1m", "--steps", "3"], ["--steps and --budget"]),
        (["moons", "--recipes", "ddpm", "hierarchy.hidden=3"], ["hierarchy.hidden=3", "none of these recipes"]),
        (["moons", "--recipes", "mhvae", "network.width=3"], ["network.width=3", "none of these recipes"]),
        (["moons", "--recipes", "ddpm", "network.wdith=3"], ["ddpm: ", "network.width"]),
        (["moons", "--recipes", "ddpm", "sampling.steps=5000", "sampling.sampler=ddim"], ["ddpm: ", "5000"]),
        (["moons", "-n", "0"], ["-n", "at least 1"]),
        (["moons", "--out", "taken"], ["--out taken", "is a file"]),
        (["moons", "--device", "tpu"], ["--device tpu"]),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    argv: list[str],
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    line = fails(capsys, "compare", *argv)
    for part in parts:
        assert part in line
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_every_recipe_gets_the_network_of_the_data() -> None:
    """vdm's own has Fourier features, and that of digits and thermodynamics is chosen by hand."""
    found = select(["ddpm", "vdm", "digits", "thermodynamics"], ["network.dropout=0.1"])
    assert {recipe.network.model_dump_json() for recipe in found.values()} == {
        AutoNetwork(dropout=0.1).model_dump_json()
    }


def test_the_default_recipes_are_presets() -> None:
    from sfumato.recipes.reading import presets

    assert set(CompareSettings.recipes) <= set(presets())


def standing(**over: tuple[float, float | None]) -> dict[str, Any]:
    cells = {name: {"mean": mean, "error": error} for name, (mean, error) in over.items()}
    return {"bound": {"best": "a", "over": cells}}


def test_sentences_weigh_differences_by_their_errors() -> None:
    rows = [{"recipe": "a", "bound": {"bits_per_dim": 1.5}}]
    (clear,) = verdicts(rows, standing(b=(0.3, 0.1), c=(0.2, 0.05)))
    assert clear == "best by bound: a, 1.5000 bits/dim; clearly: next is c, +0.2000 ± 0.0500, 4 standard errors"
    (near,) = verdicts(rows, standing(b=(0.01, 0.1), c=(0.2, 0.05), d=(0.05, 0.04)))
    assert near.endswith("not clearly: b (+0.0100 ± 0.1000), d (+0.0500 ± 0.0400) are within 2 standard errors")
    (one,) = verdicts(rows, standing(b=(0.01, None)))
    assert "one sample has no error" in one
    assert verdicts(rows, standing()) == []


def test_help_does_not_wait_for_torch() -> None:
    import subprocess

    code = "import sys; from sfumato.cli.main import parser; parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_at_once_do_not_compare_in_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one would remove the runs that the first has begun."""
    out = tmp_path / "c"
    out.mkdir()
    with Lock(RunFolder(out), "comparing recipes in it"):
        assert run(out, "ddpm,flow") == 2
    assert "is comparing recipes in it; wait for it" in capsys.readouterr().err
    assert not any(out.iterdir())


def test_the_second_of_two_at_once_takes_the_next_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = [Path("runs/compare-moons"), Path("runs/compare-moons-2")]
    with ExitStack() as stack:
        for folder in taken:
            folder.mkdir(parents=True)
            stack.enter_context(Lock(RunFolder(folder), "comparing recipes in it"))
        monkeypatch.setattr(comparison, "_compare_in", interrupted)
        assert main(["compare", "moons", "--recipes", "ddpm", "--steps", "1"]) == 130
        said = capsys.readouterr()
        assert "comparing recipes in runs/compare-moons; this one takes runs/compare-moons-3" in said.out
        assert "continue with: sfumato compare moons --recipes ddpm --steps 1 --out runs/compare-moons-3" in said.out
    assert main(["compare", "moons", "--recipes", "ddpm", "--steps", "1"]) == 130
    assert capsys.readouterr().out.endswith("continue with: sfumato compare moons --recipes ddpm --steps 1\n")


def interrupted(*args: Any) -> Any:
    raise KeyboardInterrupt


def test_a_budget_is_planned_once_for_all(tmp_path: Path) -> None:
    """What recipes leave open is the same for each, kept with the comparison, and what the user says stays."""
    out = tmp_path / "out"
    argv = [word for word in MOONS if word != "training.batch=8"]
    argv = ["0.5s" if word == "3" else "--budget" if word == "--steps" else word for word in argv]
    assert run(out, "ddpm,flow", "training.warmup=7", base=argv) == 0
    plan = json.loads((out / "plan.json").read_text())["training"]
    for name in ("ddpm", "flow"):
        training = RunFolder(out / name).config().recipe.training
        assert (training.batch, training.learning_rate) == (plan["batch"], plan["learning_rate"])
        assert (training.warmup, training.cooldown) == (7, plan["cooldown"])
    (out / "plan.json").write_text("{")
    assert run(out, "ddpm,flow", "training.warmup=7", base=argv) == 2
