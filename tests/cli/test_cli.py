import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.cli.main import VERBS, main
from sfumato.runs.folder import RunFolder
from sfumato.training import Engine

TINY = ["network.kind=mlp", "network.width=16", "network.depth=1", "data.count=300", "sampling.steps=5"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on digits with a tiny network."""
    folder = tmp_path_factory.mktemp("run") / "r"
    settings = ["network.width=8", "sampling.steps=5", "training.batch=16"]
    assert main(["train", "digits", "--recipe", "ddpm", *settings, "--steps", "30", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on moons."""
    folder = tmp_path_factory.mktemp("run") / "m"
    assert main(["train", "moons", *TINY, "--steps", "1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def begun(one_step: Path, tmp_path: Path) -> Path:
    """A copy of that run, to go on with."""
    return shutil.copytree(one_step, tmp_path / "begun")


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a refused command prints."""
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("sfumato")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_run_folder_holds_what_the_design_says(run: Path) -> None:
    found = {path.name for path in run.iterdir()}
    assert found >= {
        "README.md",
        "checkpoints",
        "config.json",
        "gallery.json",
        "gallery.npz",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "run.json",
        "tensorboard",
    }
    assert not [name for name in found if name.startswith(".")]


def test_sample_writes_what_its_ending_says(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "a.npz", "a.gif", "a.webp"):
        # Noise at each step, as a film leaves out a frame that is the same as the one before it.
        argv = ["sample", str(run), "-n", "5", "--steps", "4", "--eta", "1", "--out", str(tmp_path / name)]
        assert main(argv) == 0
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["samples"].shape == (5, 1, 8, 8)
        assert arrays["samples"].dtype == np.uint8
        assert arrays["samples"].max() <= 16
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    for name in ("a.gif", "a.webp"):
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 4  # type: ignore[attr-defined]
    assert str(tmp_path / "a.gif") in capsys.readouterr().out


def test_sample_without_a_file_writes_into_the_run(run: Path) -> None:
    assert main(["sample", str(run), "-n", "3", "--sampler", "ancestral", "--steps", "3", "--seed", "4"]) == 0
    assert {p.name for p in (run / "samples").iterdir()} >= {"ancestral-3-n3-seed4.png", "ancestral-3-n3-seed4.npz"}


def test_langevin_says_that_it_mixes_slowly(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sampler, noted in (("langevin", True), ("ddim", False)):
        capsys.readouterr()
        argv = ["sample", str(run), "-n", "2", "--sampler", sampler, "--steps", "10", "--out", str(tmp_path / "x.npz")]
        assert main([*argv, "--json"]) == 0
        captured = capsys.readouterr()
        assert ("langevin mixes slowly; with 2,000 evaluations" in captured.err) is noted
        assert json.loads(captured.out)["count"] == 2


def test_a_longer_run_of_a_seed_begins_the_same(run: Path, tmp_path: Path) -> None:
    arrays = []
    for n in ("4", "9"):
        out = tmp_path / f"{n}.npz"
        assert main(["sample", str(run), "-n", n, "--seed", "7", "--batch", n, "--out", str(out)]) == 0
        arrays.append(np.load(out)["samples"].astype(int))
    # The file holds whole grey levels; a value half-way between two may fall to either side.
    assert np.abs(arrays[0] - arrays[1][:4]).max() <= 1


def test_json_is_all_that_standard_output_holds(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run), "-n", "2", "--out", str(tmp_path / "x.png"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 2
    assert result["files"] == [str(tmp_path / "x.png")]
    assert main(["train", "moons", *TINY, "--steps", "3", "--out", str(tmp_path / "m"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 3
    assert result["stopped"] == "steps"


def test_settings_may_stand_anywhere(tmp_path: Path) -> None:
    argv = ["train", "moons", *TINY[:2], "--steps", "2", *TINY[2:], "--out", str(tmp_path / "m"), "training.batch=8"]
    assert main(argv) == 0
    recipe = json.loads((tmp_path / "m" / "config.json").read_text())["recipe"]
    assert recipe["training"]["batch"] == 8
    assert recipe["sampling"]["steps"] == 5


def test_train_on_files_and_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "signals.npy"
    np.save(source, np.random.default_rng(0).normal(size=(60, 1, 20)).astype(np.float32))
    out = tmp_path / "out"
    settings = ["network.width=8", "training.batch=8", "sampling.steps=3"]
    assert main(["train", str(source), *settings, "--steps", "5", "--out", str(out)]) == 0
    assert main(["train", "--resume", str(out), "--steps", "9"]) == 0
    assert "9 steps" in capsys.readouterr().out
    # The data may not change under a run.
    np.save(source, np.zeros((60, 1, 20), np.float32) + np.arange(20, dtype=np.float32))
    assert "has changed" in fails(capsys, "train", "--resume", str(out), "--steps", "10")


def test_a_folder_of_pictures_just_works(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 256, (13, 17, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    (tmp_path / "pictures" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = tmp_path / "out"
    argv = ["train", str(tmp_path / "pictures"), "--steps", "2", "network.width=8", "sampling.steps=2"]
    assert main([*argv, "--out", str(out)]) == 0
    spec = json.loads((out / "config.json").read_text())["data"]
    assert spec["shape"] == [3, 13, 17]
    assert spec["class_names"] == ["cat", "dog"]


def test_report_makes_what_is_missing(run: Path) -> None:
    (run / "report.html").unlink()
    (run / "gallery.npz").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["train"], ["SOURCE is missing"]),
        (["train", "training.batch=4"], ["SOURCE is missing before 'training.batch=4'"]),
        (["train", "diggits"], ["diggits", "digits"]),
        (["train", "digits", "--recipe", "nope"], ["nope", "ddpm"]),
        (["train", "digits", "--budget", "soon"], ["--budget", "soon", "90s"]),
        (["train", "digits", "--budget", "0s"], ["--budget"]),
        (["train", "digits", "--steps", "0"], ["--steps", "at least 1"]),
        (["train", "digits", "--stepz", "3"], ["--stepz"]),
        (["train", "digits", "--device", "tpu"], ["--device tpu"]),
        (["train", "digits", "training.held_out=2"], ["training.held_out", "2"]),
        (["train", "digits", "network.kind=unet", "--steps", "1"], ["attention"]),
        (["train", "--resume", "nowhere"], ["nowhere"]),
        (["train", "--resume", "x", "training.batch=3"], ["--resume"]),
        (["train", "--resume", "x", "--recipe", "ddpm"], ["--recipe"]),
        (["train", "digits", "--budget", "1h30"], ["--budget", "1h30m"]),
        (["train", "digits", "--step", "3"], ["--step"]),
        (["sample", ".", "--out", "."], ["--out"]),
        (["sample", ".", "-n", "9" * 30], ["-n", "too large"]),
        (["sample", "nowhere"], ["nowhere", "no such folder"]),
        (["sample", ".", "--out", "x.bmp"], ["x.bmp", ".png"]),
        (["sample", ".", "--out", "no/such/x.png"], ["no/such", "does not exist"]),
        (["sample", ".", "-n", "-3"], ["-n", "at least 1"]),
        (["report", "nowhere"], ["nowhere"]),
        (["smaple"], ["smaple", "sample"]),
        ([], ["VERB"]),
        (["sample", ".", "a=b"], ["a=b"]),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    argv: list[str],
    parts: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = fails(capsys, *argv)
    for part in parts:
        assert part in line
    assert list(tmp_path.iterdir()) == []  # nothing half-made


def test_sampling_mistakes_leave_no_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "x.png")
    assert "dimd" in fails(capsys, "sample", str(run), "--sampler", "dimd", "--out", out)
    assert "2000" in fails(capsys, "sample", str(run), "--sampler", "ddim", "--steps", "2000", "--out", out)
    assert "eta" in fails(capsys, "sample", str(run), "--eta", "7", "--out", out)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "model.safetensors").read_bytes()
    assert "--resume" in fails(capsys, "train", "digits", "--out", str(run), "--steps", "1")
    assert (run / "model.safetensors").read_bytes() == before


def test_a_short_chain_is_warned_about_with_the_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = ["--recipe", "ddpm", "process.schedule.steps=100"]
    argv = ["train", "moons", *TINY, *chain, "--steps", "1", "--out", str(tmp_path / "m")]
    assert main(argv) == 0
    error = capsys.readouterr().err
    assert "bits/dim" in error
    assert "cosine betas" in error


def test_what_cannot_be_sampled_is_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m"
    line = fails(
        capsys,
        "train",
        "moons",
        "--recipe",
        "ddpm",
        *TINY[:-1],
        "sampling.sampler=ddim",
        "sampling.steps=5000",
        "--steps",
        "1",
        "--out",
        str(out),
    )
    assert "sampling.steps" in line
    np.save(tmp_path / "one.npy", np.zeros((1, 3), np.float32))
    assert "1 sample" in fails(capsys, "train", str(tmp_path / "one.npy"), *TINY, "--steps", "1", "--out", str(out))
    assert not out.exists()


def test_a_run_goes_on_to_the_goal_it_was_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m"
    assert main(["train", "moons", *TINY, "--steps", "4", "--out", str(out)]) == 0
    state = json.loads((out / "run.json").read_text())
    assert state == {"source": "moons", "goal": {"steps": 4}}
    (out / "run.json").write_text(json.dumps({**state, "goal": {"steps": 6}}))
    (out / "results.json").write_text('{"rows": [{"label": "STALE", "value": "1"}]}')
    assert main(["train", "--resume", str(out)]) == 0
    assert "6 steps" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    assert "STALE" not in (out / "report.html").read_text()
    (out / "run.json").write_text(json.dumps({**state, "goal": {"seconds": 0.001}}))
    assert "used up" in fails(capsys, "train", "--resume", str(out))


def test_a_name_means_the_built_in_whatever_lies_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("moons").mkdir()
    assert main(["train", "moons", *TINY, "--steps", "1", "--out", "m"]) == 0
    assert main(["train", "--resume", "m", "--steps", "2"]) == 0


@pytest.mark.parametrize("line", ["5", "[]", '{"images": null}', '{"images": "a"}', "\udcff"])
def test_a_damaged_record_does_not_stop_a_run(begun: Path, line: str) -> None:
    out = begun
    with open(out / "metrics.jsonl", "ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    assert main(["train", "--resume", str(out), "--steps", "2"]) == 0


def test_a_resumed_run_of_another_recipe_is_one_line(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = begun
    path = out / "config.json"
    path.write_text(path.read_text().replace('"width": 16', '"width": 32'))
    said = fails(capsys, "train", "--resume", str(out), "--steps", "2")
    assert "belongs to another recipe" in said
    assert str(path) in said


def test_etas_do_not_overwrite_each_other(run: Path) -> None:
    for eta in ("0", "1"):
        assert main(["sample", str(run), "-n", "2", "--steps", "3", "--eta", eta]) == 0
    assert {"ddim-3-eta0-n2-seed0.npz", "ddim-3-eta1-n2-seed0.npz"} <= {p.name for p in (run / "samples").iterdir()}


def test_ctrl_c_ends_with_a_checkpoint_and_130(tmp_path: Path) -> None:
    out = tmp_path / "m"
    command = [sys.executable, "-m", "sfumato", "train", "moons", *TINY, "--steps", "1000000", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or "train" not in (out / "metrics.jsonl").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    said = output.decode()
    assert "finishing, about " in said
    assert f"--resume {out}" in said
    assert f"sfumato report {out}" in said
    assert not (out / "report.html").exists()  # nobody who stops a run waits for samples
    assert main(["train", "--resume", str(out), "--budget", "1s"]) == 0


def test_a_demo_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Engine.launch_step

    def stopped(engine: Engine) -> None:
        if engine.steps == 2:
            signal.raise_signal(signal.SIGINT)
        step(engine)

    monkeypatch.setattr("sfumato.runs.demo.planned", lambda recipe, *_: recipe)  # it makes steps too
    monkeypatch.setattr(Engine, "launch_step", stopped)
    assert main(["demo", "--budget", "60s", "--out", str(tmp_path / "demo")]) == 130
    assert f"--resume {tmp_path / 'demo'}" in capsys.readouterr().out
    assert not (tmp_path / "demo" / "report.html").exists()


def test_the_surface_of_the_command_line_is_frozen() -> None:
    """What people type in scripts. A change here is a change for them: say so in the CHANGELOG."""
    from sfumato.cli.main import parser

    sub = next(a for a in parser()._actions if a.dest == "verb")
    flags = {
        verb: sorted(f for action in p._actions for f in action.option_strings if f.startswith("--"))
        for verb, p in sub.choices.items()  # type: ignore[union-attr]
    }
    common = ["--debug", "--device", "--help", "--json"]
    posterior = ["--batch", "--draws", "--method", "--noise", "--out", "--particles", "--seed", "--steps", "--threads"]
    assert flags == {
        "demo": sorted([*common, "--budget", "--out"]),
        "train": sorted(
            [
                *(*common, "--budget", "--out", "--recipe", "--resume", "--steps", "--checkpoint-every", "--keep-last"),
                *("--keep-every", "--micro-batch", "--gradient-checkpointing", "--on-nonfinite", "--precision"),
                *("--threads", "--timeout", "--shard", "--compile", "--no-compile"),
            ]
        ),
        "sample": sorted(
            [
                *(
                    *common,
                    "--batch",
                    "--class",
                    "--count",
                    "--eta",
                    "--out",
                    "--pairs",
                    "--sampler",
                    "--seed",
                    "--steps",
                ),
                *("--per-class", "--threads", "--tolerance", "--under", "--condition", "--seen", "--mask"),
                *("--guidance", "--guide-from", "--guide-until", "--guide-with"),
            ]
        ),
        "likelihood": sorted(
            [
                *common,
                *("--against", "--batch", "--count", "--dequantisation", "--draws", "--evaluations", "--no-flow"),
                *("--out", "--per-sample", "--probes", "--seed", "--steps", "--threads", "--tolerance"),
                "--variance",
            ]
        ),
        "evaluate": sorted(
            [*common, "--against", "--count", "--features", "--inception", "--nfe", "--seed", "--threads"]
        ),
        "tune": sorted([*common, "--count", "--guidance", "--iterations", "--nfe", "--seed", "--show", "--threads"]),
        "certify": sorted(
            [
                *common,
                "--budget",
                "--methods",
                "--nfe",
                "--noise",
                "--operator",
                "--oracle",
                "--out",
                "--samples",
                "--seed",
                "--threads",
            ]
        ),
        "compare": sorted([*common, "--budget", "--count", "--out", "--recipes", "--steps"]),
        "runs": ["--debug", "--help", "--json", "--sort"],
        "balance": sorted(
            [
                "--budget",
                "--debug",
                "--evaluate",
                "--help",
                "--json",
                "--keep-copies",
                "--keep-implausible",
                "--learners",
                "--rows",
                "--out",
                "--overlap",
                "--run",
                "--seed",
                "--splits",
                "--target",
            ]
        ),
        "impute": sorted(["--debug", "--draws", "--help", "--json", "--out", "--seed"]),
        "denoise": sorted([*common, "--batch", "--draws", "--out", "--seed", "--sigma", "--steps", "--threads"]),
        "design": sorted([*common, "--check", "--count", "--filters", "--noise", "--out", "--seed", "--threads"]),
        "next": sorted(
            [
                *(*common, "--count", "--draws", "--measured", "--noise", "--operator", "--particles", "--seed"),
                *("--steps", "--threads"),
            ]
        ),
        "inpaint": sorted([*common, "--mask", *posterior]),
        "interpolate": sorted([*common, "--at", "--frames", "--mode", "--out", "--seed", "--steps", "--threads"]),
        "inspect": sorted([*common, "--out", "--recipe"]),
        "reconstruct": sorted(
            [*common, "--calibrate-operator", "--measurements", "--operator", "--simulations", *posterior]
        ),
        "report": sorted([*common, "--compare", "--threads"]),
    }


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"sfumato {verb} " in capsys.readouterr().out


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny hierarchical VAE on digits."""
    folder = tmp_path_factory.mktemp("run") / "vae"
    settings = ["hierarchy.levels=2", "hierarchy.hidden=8", "hierarchy.depth=1", "training.batch=16"]
    assert main(["train", "digits", "--recipe", "mhvae", *settings, "--steps", "30", "--out", str(folder)]) == 0
    return folder


def test_a_hierarchy_is_a_model_like_the_others(vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(vae), "-n", "3"]) == 0
    assert "3 samples through 2 latents, seed 0" in capsys.readouterr().out
    assert {p.name for p in (vae / "samples").iterdir()} == {"latents-2-n3-seed0.png", "latents-2-n3-seed0.npz"}
    with np.load(vae / "samples" / "latents-2-n3-seed0.npz") as arrays:
        assert arrays["samples"].shape == (3, 1, 8, 8)
        assert arrays["samples"].dtype == np.uint8
    assert main(["sample", str(vae), "-n", "3", "--out", str(tmp_path / "x.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latents"] == 2
    assert main(["train", "--resume", str(vae), "--steps", "40"]) == 0
    (vae / "gallery.npz").unlink()
    assert main(["report", str(vae)]) == 0
    with np.load(vae / "gallery.npz") as arrays:
        assert set(arrays.files) == {"samples", "real", "neighbours", "distances", "held_out_distances"}
    page = (vae / "report.html").read_text()
    assert "Drawn with 2 latents, seed 0" in page
    for absent in ("From noise to data", "The process", "Loss by noise level", "noise levels", "schedule"):
        assert absent not in page


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sample", "--sampler", "ddim"], "has no sampler to choose; leave out --sampler"),
        (["sample", "--steps", "9", "--eta", "1"], "leave out --steps, --eta"),
        (["sample", "--tolerance", "1e-3"], "leave out --tolerance"),
        (["sample", "--out", "x.gif"], "a movie shows the steps from noise to data"),
        (["tune"], "2 latents in turn and has no sampler to choose; give another model"),
        (["certify"], "2 latents in turn and has no sampler to choose; give another model"),
    ],
)
def test_what_a_hierarchy_has_not_is_refused(
    vae: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    before = sorted(vae.iterdir())
    assert message in fails(capsys, argv[0], str(vae), *argv[1:])
    assert sorted(vae.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", "moons", "--steps", "1", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be written (Not a directory); choose another with --out" in capsys.readouterr().err


def test_what_one_process_does_is_refused_to_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "sfumato demo: error: demo runs in a single process; start it without torchrun\n"


@pytest.mark.parametrize("flag", ["--shard", "--compile", "--gradient-checkpointing"])
def test_a_flag_that_does_not_apply_is_refused_before_a_folder_is_made(
    flag: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "moons", flag, "--steps", "1", "--out", str(tmp_path / "run")]) == 2
    assert f"error: {flag}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_data_that_has_moved_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, moved, run = tmp_path / "a.npy", tmp_path / "elsewhere" / "a.npy", tmp_path / "run"
    moved.parent.mkdir()
    np.save(data, np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    assert main(["train", str(data), "--steps", "2", "--out", str(run), "network.width=8", "training.batch=8"]) == 0
    capsys.readouterr()
    score = ["likelihood", str(run), "-n", "4", "--no-flow", "--evaluations", "20", "--json"]
    assert main(score) == 0
    before = json.loads(capsys.readouterr().out)
    data.rename(moved)
    RunFolder(run).gallery.unlink(missing_ok=True)
    for command in (["train", "--resume", str(run), "--steps", "3"], score, ["report", str(run)]):
        assert main(command) == 2
        gone = f"{data}: the data of {run} is not there any more; restore it, or give its new path after {run}"
        assert gone in capsys.readouterr().err
    assert main([*score, str(moved)]) == 0
    found = json.loads(capsys.readouterr().out)
    changing = {"files", "seconds"}
    assert {key: found[key] for key in found.keys() - changing} == {key: before[key] for key in found.keys() - changing}
    assert main(["report", str(run), str(moved)]) == 0
    other = tmp_path / "other.npy"
    np.save(other, np.ones((40, 3), dtype=np.float32))
    RunFolder(run).gallery.unlink()
    for command in (["train", str(other), "--resume", str(run), "--steps", "3"], ["report", str(run), str(other)]):
        assert main(command) == 2
        assert f"{other}: is not the data that {run} was trained on; give the path of" in capsys.readouterr().err
    np.save(data, np.ones((40, 3), dtype=np.float32))
    assert main(["train", "--resume", str(run), "--steps", "3"]) == 2
    assert "the data has changed since" in capsys.readouterr().err
    assert main(["train", str(moved), "--resume", str(run), "--steps", "3"]) == 0
    assert json.loads((run / "run.json").read_text())["source"] == str(moved)
    assert main(["train", "--resume", str(run), "--steps", "4"]) == 0
