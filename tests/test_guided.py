"""Guidance of models: what is drawn, what is refused, and what the command line makes of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato import Model, kinds, recipes
from sfumato.cli.main import main
from sfumato.data import Dataset, load
from sfumato.denoisers import Clamped, Condition, NormBounded
from sfumato.errors import InputError
from sfumato.generate import generate
from sfumato.guidance import Autoguided, ClassifierFree, Interval
from sfumato.guided import Guidance, store
from sfumato.model_folder import TableKey
from sfumato.runs import lifecycle
from sfumato.runs.folder import RunFolder
from sfumato.runs.loading import load_early
from sfumato.training import Keep, Options, Trainer

SMALL = ["network.kind=mlp", "network.width=16", "network.depth=1"]


def labelled(path: Path, classes: int = 2) -> Dataset:
    random = np.random.default_rng(0)
    labels = np.arange(60) % classes
    np.savez(path, x=(random.normal(size=(60, 2)) + 3 * labels[:, None]).astype(np.float32), labels=labels)
    return load(str(path))


def untrained(path: Path, *settings: str, classes: int = 2, seed: int = 0) -> Model:
    """A model with random weights, also in its last layer, so that conditions matter."""
    torch.manual_seed(seed)
    model = kinds.fresh(recipes.read("flow", [*SMALL, *settings]), labelled(path, classes).spec)
    assert isinstance(model, Model)
    for weight in model.denoiser.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.denoiser.eval().requires_grad_(False)
    return model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return untrained(tmp_path / "x.npz")


def test_samples_are_those_of_the_guided_denoiser(model: Model) -> None:
    cond = model.condition(6, "1")
    denoiser = NormBounded(ClassifierFree(model.denoiser, 2.5, Interval(-2, 3)), model.spec.radius)
    drawn = generate(denoiser, model.tableau("heun", 8), 6, model.spec.model_shape, 3, cond=cond)
    guided = model.with_guidance(2.5, Interval(-2, 3))
    found = guided.sample(6, classes="1", seed=3, sampler="heun", steps=8)
    assert torch.equal(found, model.spec.decode(drawn))
    assert not torch.equal(found, guided.sample(6, classes="0", seed=3, sampler="heun", steps=8))


def test_the_weight_alone_is_an_argument_of_sample(model: Model) -> None:
    given = {"classes": "0", "sampler": "heun", "steps": 8}
    plain = model.sample(5, **given)
    assert torch.equal(model.sample(5, guidance=1, **given), plain)
    assert torch.equal(model.sample(5, guidance=3, **given), model.with_guidance(3).sample(5, **given))
    assert not torch.allclose(model.sample(5, guidance=3, **given), plain)


def test_a_sample_does_not_depend_on_its_batch(model: Model) -> None:
    guided = model.with_guidance(2, guide=untrained_like(model, 1))
    together = guided.sample(7, classes=list("0110100"), sampler="heun", steps=8)
    parts = guided.sample(7, classes=list("0110100"), sampler="heun", steps=8, batch=3)
    # The random weights magnify rounding; a norm over the batch would change the first digit.
    assert torch.allclose(together, parts, rtol=1e-3, atol=1e-3)


def untrained_like(model: Model, seed: int) -> Model:
    other = kinds.fresh(model.recipe, model.spec)
    torch.manual_seed(seed)
    for weight in other.module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    other.module.eval().requires_grad_(False)
    assert isinstance(other, Model)
    return other


def test_a_guide_is_led_away_from(model: Model) -> None:
    guide = untrained_like(model, 1)
    denoiser = NormBounded(Autoguided(model.denoiser, guide.denoiser, 1.8), model.spec.radius)
    drawn = generate(denoiser, model.tableau("heun", 8), 4, model.spec.model_shape, 0, cond=model.condition(4, "1"))
    found = model.with_guidance(1.8, guide=guide).sample(4, classes="1", sampler="heun", steps=8)
    assert torch.equal(found, model.spec.decode(drawn))


def test_bounded_data_is_clamped_after_guidance() -> None:
    digits = kinds.fresh(recipes.read("flow", ["network.kind=mlp"]), load("digits").spec)
    assert isinstance(digits, Model)
    outer = digits.with_guidance(2).sampling_denoiser()
    assert isinstance(outer, Clamped)
    assert isinstance(outer.denoiser, ClassifierFree)


def test_what_guidance_cannot_lead_is_refused(tmp_path: Path, model: Model) -> None:
    without = untrained(tmp_path / "x.npz", "conditioning=none")
    always = untrained(tmp_path / "x.npz", "conditioning.kind=classes", "conditioning.dropout=0")
    with pytest.raises(InputError, match="trained without classes, so there is nothing to lead towards"):
        without.sample(2, guidance=2)
    with pytest.raises(InputError, match=r"trained with every label.*conditioning\.dropout=0\.1"):
        always.sample(2, guidance=2)
    with pytest.raises(InputError, match="a weight of inf is not finite"):
        model.with_guidance(float("inf"))
    with pytest.raises(InputError, match="has other classes"):
        model.with_guidance(2, guide=without)
    with pytest.raises(InputError, match="worse was trained on other data"):
        model.with_guidance(2, guide=untrained(tmp_path / "other.npz", classes=3), name="worse")
    with pytest.raises(InputError, match="the guide has another process"):
        model.with_guidance(2, guide=replace(model.with_process(recipes.read("ddpm").build_process()), fitted={}))
    assert without.with_guidance(2, guide=without).guidance is not None
    assert always.with_guidance(2, guide=always).guidance is not None


def test_a_guided_model_has_no_likelihood_and_is_not_saved(tmp_path: Path, model: Model) -> None:
    guided, x_0 = model.with_guidance(2), torch.zeros(2, 2)
    assert not guided.can("flow")
    for measure in (guided.bound, guided.flow):
        with pytest.raises(InputError, match="is guided, and no distribution that is known is sampled"):
            measure(x_0, cond=Condition(classes=torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(InputError, match="guided or under another process"):
        guided.save_pretrained(tmp_path / "saved")


def test_tables_of_other_guidance_are_not_used(model: Model) -> None:
    table = model.tableau("heun", 8)
    fitted = replace(model, fitted={TableKey(8, model.with_guidance(2).sampled()): table}, chosen={8: "ddim"})
    assert fitted.with_guidance(2).plan("auto", 8).table is table
    # otherwise "auto" is what was chosen without guidance
    for other in (fitted, fitted.with_guidance(2.5), fitted.with_guidance(2, Interval(-1, 1))):
        assert other.plan("auto", 8).method == "ddim"


def test_the_command_draws_what_python_draws(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.save_pretrained(tmp_path / "run")
    out = tmp_path / "some.npz"
    words = ["sample", str(tmp_path / "run"), "--class", "1", "-n", "3", "--sampler", "heun", "--out", str(out)]
    more = ["--guidance", "2", "--guide-from", "-2", "--guide-until", "3", "--device", "cpu"]
    assert main([*words, *more, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["guidance"] == {"weight": 2.0, "from": -2.0, "until": 3.0, "guide": None}
    with np.load(out) as file:
        expected = (
            sfumato.load(tmp_path / "run").with_guidance(2, Interval(-2, 3)).sample(3, classes="1", sampler="heun")
        )
        np.testing.assert_allclose(file["samples"], expected.numpy(), atol=1e-6)
    assert main([*words, "--guidance", "2", "--guide-with", str(tmp_path / "run")]) == 0
    assert f"guidance 2 away from {tmp_path / 'run'}, two networks in each evaluation" in capsys.readouterr().out
    assert main([*words, "--guide-from", "-2"]) == 2
    assert "add --guidance 1.5" in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "run"), "-n", "2", "--guidance", "1.5", "--sampler", "heun"]) == 0
    assert "heun-20-guided1.5-n2-seed0.npz" in capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two classes, with a network that has hardly begun to learn."""
    folder = tmp_path_factory.mktemp("guided")
    labelled(folder / "x.npz")
    words = ["train", str(folder / "x.npz"), *SMALL, "training.held_out=0.7", "--steps", "40", "--out"]
    assert main([*words, str(folder / "run"), "--device", "cpu"]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def test_a_chosen_guidance_is_stored_or_removed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "guidance.json").write_text("{}")
    capsys.readouterr()
    assert main(["tune", str(run), "--guidance", "--count", "30", "--json", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)["guidance"]
    assert len(record["tried"]) == 8
    assert record["kept"] == (record["checked"]["gain"] > 1.645 * record["checked"]["error"])
    assert "energy distance to held-out data of the same class, in values" in captured.err
    assert record["kept"] == (run / "guidance.json").is_file()
    assert ("sample uses it from now on" in captured.err) == record["kept"]
    assert not list(run.glob("sampler-*.json"))


def test_a_chosen_guidance_is_used_and_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sfumato.load(run)
    assert isinstance(model, Model)
    plain = model.sample(4, sampler="heun", steps=8)
    store(run, Guidance(2.0, Interval(-2, 3)), model.fitted_to)
    chosen = sfumato.load(run)
    assert isinstance(chosen, Model)
    expected = model.with_guidance(2, Interval(-2, 3))
    assert torch.equal(chosen.sample(4, sampler="heun", steps=8), expected.sample(4, sampler="heun", steps=8))
    assert torch.equal(chosen.sample(4, sampler="heun", steps=8, guidance=1), plain)
    assert chosen.plan().record == expected.plan().record
    assert chosen.can("flow")  # the model itself has its likelihood
    chosen.save_pretrained(run.parent / "copy")
    copy = sfumato.load(run.parent / "copy")
    assert isinstance(copy, Model)
    assert copy.plan().record == expected.plan().record
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "2", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "guidance 2 at log-SNRs from -2 until 3, as 'sfumato tune' chose; --guidance 1 draws without" in told
    assert main(["sample", str(run), "-n", "2", "--guidance", "1", "--device", "cpu"]) == 0
    assert "tune" not in capsys.readouterr().out


def test_tables_are_fitted_under_the_chosen_guidance(run: Path) -> None:
    model = sfumato.load(run)
    assert isinstance(model, Model)
    store(run, Guidance(2.0), model.fitted_to)
    assert main(["tune", str(run), "--nfe", "3", "--count", "48", "--iterations", "3", "--device", "cpu"]) == 0
    fitted = sfumato.load(run)
    assert isinstance(fitted, Model)
    assert {key.sampled.guidance for key in fitted.fitted} == {"guidance 2"}
    assert fitted.plan("auto", 3).method == "fitted(3)"
    assert fitted.with_guidance(1).plan("auto", 3).method != "fitted(3)"


def test_a_guidance_of_other_weights_is_not_used(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(run, Guidance(2.0), "of other weights")
    model = sfumato.load(run)
    assert isinstance(model, Model)
    assert model.tuned is None
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "2", "--device", "cpu"]) == 0
    assert "guidance.json was chosen for other weights and is not used; 'sfumato tune" in capsys.readouterr().err


def test_a_choice_that_cannot_be_made_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(run), "--guidance", "--count", "3"]) == 2
    assert "--count: 3 samples are too few" in capsys.readouterr().err
    untrained(run.parent / "x.npz", "conditioning=none").save_pretrained(run.parent / "without")
    assert main(["tune", str(run.parent / "without"), "--guidance"]) == 2
    assert "there is nothing to lead towards" in capsys.readouterr().err


def test_a_run_is_guided_away_from_its_own_early_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))
    recipe = recipes.read("flow", ["network.width=16", "training.batch=16", "base=none"])
    dataset = load(str(tmp_path / "x.npy"))
    model, run = lifecycle.untrained(str(tmp_path / "x.npy"), recipe, dataset), RunFolder(tmp_path / "run")
    run.path.mkdir()
    lifecycle.begin(str(tmp_path / "x.npy"), run, model, None)
    Trainer(model, dataset.samples(), run, Options(keep=Keep(9, 32), keep_finished=Keep(9, 32))).train(steps=8)
    kept = sorted(run.checkpoints.iterdir(), key=lambda path: int(path.name))
    early = load_early(run.path)
    tensors = load_file(kept[0] / "averages.safetensors")
    for name, weights in early.denoiser.named_parameters():
        assert torch.equal(weights, tensors[f"0.2/{name}"])
    base = ["sample", str(run.path), "-n", "3", "--steps", "4", "--guidance", "2", "--guide-with"]
    assert main([*base, "early", "--out", str(tmp_path / "a.npz")]) == 0
    assert "away from its own early weights" in capsys.readouterr().out
    expected = sfumato.load(run.path).with_guidance(2, None, early).sample(3, steps=4)
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_allclose(file["samples"], expected.numpy(), rtol=1e-5)
    shutil.rmtree(run.checkpoints)
    assert main([*base, "early", "--out", str(tmp_path / "b.npz")]) == 2
    assert "has no checkpoints with early weights" in capsys.readouterr().err
