import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import Model, best_methods, recipes
from sfumato.core import (
    VE,
    VP,
    Cosine,
    Cut,
    LinearLogSNR,
    Logistic,
    Process,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    geometric_betas,
    linear_betas,
)
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser, GaussianMixture, NormBounded, Reprocessed
from sfumato.errors import InputError
from sfumato.hierarchical_model import HierarchicalModel
from sfumato.kinds import load
from sfumato.model_folder import TableKey
from sfumato.objectives import Batch
from sfumato.sampling import methods, solve
from sfumato.sampling_plan import SamplerChoice


def spec(**changes: object) -> DataSpec:
    fields = {
        "layout": LAYOUTS["image"],
        "shape": (1, 8, 8),
        "dtype": "uint8",
        "transform": Affine((8.0,), (8.0,), 0.0, 16.0, 17),
        "channels": ("gray",),
        "second_moment": 0.6,
        "diameter": 4.0,
        "class_names": (),
        "class_counts": (),
        "count": 10,
        "fingerprint": "0" * 64,
        "source": "digits",
    }
    return DataSpec(**{**fields, **changes})  # type: ignore[arg-type]


def shaken(network: torch.nn.Module, seed: int = 0) -> None:
    """Fresh networks output zero; samples that depend on nothing would test nothing."""
    generator = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data.add_(0.05 * torch.randn(p.shape, generator=generator))


@pytest.fixture(scope="module")
def model() -> Model:
    recipe = recipes.read("ddpm", ["network.width=8", "sampling.steps=5"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Model.fresh(recipe, spec())
        shaken(made.denoiser.network)
    return made


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_sample_i_depends_on_its_seed_alone(model: Model, sampler: str) -> None:
    # Under a contract whose units are the model's.
    unrounded = spec(dtype="float32", transform=Affine((0.0,), (1.0,), -1.0, 1.0))
    free = Model(model.denoiser, unrounded, model.recipe)
    whole = free.sample(64, seed=3, sampler=sampler)
    sevens = free.sample(64, seed=3, sampler=sampler, batch=7)
    single = torch.cat([free.sample(1, seed=3, sampler=sampler, first=i) for i in range(64)])
    assert whole.std() > 0.1
    # Batches are summed in other orders. Of a network that knows nothing, x_0-hat at the first level is its float32
    # rounding, some 2e-7, divided by alpha = 1/157.
    torch.testing.assert_close(sevens, whole, atol=5e-5, rtol=0)
    torch.testing.assert_close(single, whole, atol=5e-5, rtol=0)


def test_seeds_and_samples_differ(model: Model) -> None:
    samples = torch.cat((model.sample(8, seed=0), model.sample(8, seed=1)))
    assert len(samples.flatten(1).unique(dim=0)) == 16


def test_samples_are_in_the_datas_own_units(model: Model) -> None:
    samples = model.sample(16, seed=0)
    assert samples.shape == (16, 1, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 16
    array = model.spec.to_array(model.spec.encode(samples))
    assert array.dtype == "uint8"
    assert abs(array - samples.numpy()).max() <= 0.5 + 1e-5


def test_sampling_leaves_the_model_as_it_was(model: Model) -> None:
    model.denoiser.train()
    first = model.sample(2, seed=0)
    assert model.denoiser.training
    assert torch.equal(first, model.sample(2, seed=0))


def test_progress_is_told_after_each_batch_and_a_failure_leaves_the_model_as_it_was(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    model.sample(5, steps=2, batch=2, first=7, progress=lambda done, count: seen.append((done, count)))
    assert seen == [(2, 5), (4, 5), (5, 5)]

    def fails(*told: object) -> None:
        raise FloatingPointError("mine")

    model.module.train()
    with pytest.raises(FloatingPointError, match="mine"):
        model.sample(2, steps=2, watch=fails)
    assert model.module.training
    model.module.eval()


def test_a_saved_model_comes_back_the_same(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    again = Model.from_pretrained(tmp_path / "m")
    assert again.recipe == model.recipe
    assert again.spec == model.spec
    assert torch.equal(again.sample(16, seed=0), model.sample(16, seed=0))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "settings",
    [
        ["process.scaling=ve", "process.schedule=geometric", "label=log-ratio", "sigma_data=0.7"],
        ["process.scaling=straight", "process.schedule=logistic", "target=velocity", "label=logsnr"],
        ["process.schedule=continuous-beta", "target=v"],
        ["process.schedule=cosine", "target=x_0"],
        ["process.schedule=linear-logsnr", "target=score"],
        ["target=edm", "process.schedule=sigmoid-betas"],
        ["process.schedule=quadratic-betas", "process.schedule.steps=10"],
    ],
)
@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_every_formulation_samples_and_trains_a_loss(settings: list[str], sampler: str) -> None:
    recipe = recipes.read("ddpm", ["network.width=8", "sampling.steps=5", *settings])
    made = Model.fresh(recipe, spec())
    shaken(made.denoiser.network)
    assert made.sample(2, sampler=sampler).isfinite().all()
    x_0 = torch.randn(4, 1, 8, 8)
    uniform = torch.linspace(0.05, 0.95, 4, dtype=torch.float64)
    batch = Batch(x_0, uniform, lambda draw, like: torch.randn_like(like))
    loss = recipe.build_loss(spec())(made.denoiser, batch)
    assert loss.shape == (4,)
    assert loss.isfinite().all()


def test_a_target_without_a_solution_is_refused_before_training() -> None:
    recipe = recipes.read("ddpm", ["target=noise", "process.scaling=straight", "process.schedule=logistic"])
    with pytest.raises(InputError, match="does not determine x_0 at t = 1"):
        Model.fresh(recipe, spec())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"sampler": "dimd"}, "'dimd' is not known"),
        ({"sampler": "ddim", "steps": 1001}, "1001"),
        ({"steps": 0}, "0"),
        ({"eta": 2.0}, "eta"),
        ({"sampler": "ancestral", "eta": 0.5}, "eta"),
    ],
)
def test_bad_arguments_are_named(model: Model, arguments: dict[str, object], part: str) -> None:
    with pytest.raises(InputError, match=part):
        model.sample(2, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="count 0"):
        model.sample(0)


def _break_truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _break_pickle(folder: Path) -> None:
    import pickle

    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))


def _break_huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((40 << 30).to_bytes(8, "little") + b"{}")


def _break_config(change: dict[str, object]) -> object:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return apply


def _break_target(folder: Path) -> None:
    """The same network, whose output would be read as something else."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["target"]["kind"] = "noise" if config["recipe"]["target"]["kind"] == "v" else "v"
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (_break_truncate, "model.safetensors"),
        (_break_pickle, "model.safetensors"),
        (_break_huge_header, "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: damaged"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a Sfumato model"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: damaged"),
        (_break_config({"format": 99}), "format 99"),
        (_break_config({"data": {}}), "config.json: data contract"),
        (_break_config({"recipe": {"version": 1, "evil": 1}}), "unknown key 'evil'"),
        (_break_config({"recipe": {"version": 1, "network": {"kind": "mlp"}}}), "of another network"),
        (_break_target, "model.safetensors: belongs to another config.json"),
    ],
)
def test_damaged_and_foreign_folders_are_one_line(model: Model, tmp_path: Path, damage: object, part: str) -> None:
    model.save_pretrained(tmp_path / "m")
    damage(tmp_path / "m")  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        Model.from_pretrained(tmp_path / "m")
    assert part in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Model.from_pretrained(tmp_path / "nowhere")


def test_importing_sfumato_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, sfumato, sfumato.cli.main as cli; cli.parser(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_adaptive_sampler_agrees_with_many_steps(model: Model) -> None:
    fine = model.sample(3, sampler="adams3", steps=80)
    near = model.sample(3, sampler="adaptive", tolerance=1e-6)
    # In units of 0 to 16; both solve one equation, a few pixels of which turn sharply where x_0 is clamped. The median
    # is 0.003; at a tolerance of 1e-5 it is 0.010, whatever the number of steps.
    assert float((near - fine).abs().median()) < 0.01
    torch.testing.assert_close(near, model.sample(3, tolerance=1e-6, batch=2), rtol=0, atol=0.1)


def test_a_setting_says_which_sampler(model: Model) -> None:
    assert model.plan().sampler == model.recipe.sampling.sampler
    assert model.plan(eta=0.5).sampler == "ddim"
    assert model.plan(tolerance=1e-3).sampler == "adaptive"
    assert model.plan("heun").sampler == "heun"
    for arguments in ({"sampler": "ddim", "tolerance": 1e-3}, {"sampler": "adaptive", "steps": 5}):
        with pytest.raises(InputError, match=r"adaptive"):
            model.sample(1, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def vae() -> HierarchicalModel:
    settings = ["hierarchy.widths=[6, 3]", "hierarchy.hidden=8", "hierarchy.depth=1"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = HierarchicalModel.fresh(recipes.read("mhvae", settings), spec())
        shaken(made.module)
    return made


def test_sample_i_of_a_hierarchy_depends_on_its_seed_alone(vae: HierarchicalModel) -> None:
    free = HierarchicalModel(vae.module, spec(dtype="float32", transform=Affine((8.0,), (8.0,), -1.0, 1.0)), vae.recipe)
    whole = free.sample(64, seed=3)
    assert whole.std() > 0.1
    assert len(whole.flatten(1).unique(dim=0)) == 64
    # A value that lies half-way between two of the 17 levels may fall to either side, in another batch.
    for other in (free.sample(64, seed=3, batch=7), torch.cat([free.sample(1, seed=3, first=i) for i in range(64)])):
        assert (other != whole).sum() <= 2
    assert not torch.equal(free.sample(64, seed=4), whole)


def test_samples_of_a_hierarchy_are_the_datas_own_levels(vae: HierarchicalModel) -> None:
    samples = vae.sample(32, seed=0)
    assert samples.shape == (32, 1, 8, 8)
    assert set(samples.unique().tolist()) <= set(range(17))
    vae.module.train()
    assert torch.equal(vae.sample(32, seed=0), samples)
    assert vae.module.training


def test_a_saved_hierarchy_comes_back_the_same(vae: HierarchicalModel, tmp_path: Path) -> None:
    vae.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.recipe == vae.recipe
    assert again.num_parameters == vae.num_parameters == sum(p.numel() for p in vae.module.parameters())
    assert torch.equal(again.sample(16, seed=1), vae.sample(16, seed=1))
    assert "hierarchical VAE" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "setting",
    [{"sampler": "ddim"}, {"steps": 5}, {"eta": 0.0}, {"tolerance": 1e-3}, {"watch": lambda *_: None}],
)
def test_a_hierarchy_has_no_sampler_to_set(vae: HierarchicalModel, setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(
        InputError, match=rf"^mhvae: .* draws its 2 latents in turn and has no sampler.* leave out {name}$"
    ):
        vae.sample(2, **setting)  # type: ignore[arg-type]


def test_a_folder_of_another_kind_is_refused(vae: HierarchicalModel, model: Model, tmp_path: Path) -> None:
    assert vae.denoiser is None
    vae.save_pretrained(tmp_path / "vae")
    model.save_pretrained(tmp_path / "diffusion")
    with pytest.raises(InputError, match=r"^mhvae: makes a hierarchical VAE, not a diffusion model"):
        Model.from_pretrained(tmp_path / "vae")
    with pytest.raises(InputError, match=r"^ddpm: makes a diffusion model, not a hierarchical VAE"):
        HierarchicalModel.from_pretrained(tmp_path / "diffusion")
    assert isinstance(load(tmp_path / "diffusion"), Model)


def test_weights_of_a_diffusion_model_keep_their_names(model: Model) -> None:
    assert model.module is model.denoiser
    assert all(name.startswith("network.") for name in model.module.state_dict())
    learned = Model.fresh(recipes.read("vdm", ["network.width=8"]), spec())
    assert {name.partition(".")[0] for name in learned.module.state_dict()} == {"network", "schedule"}


@pytest.mark.parametrize("schedule", ["learned-logsnr", "learned-betas"])
def test_a_learned_schedule_is_frozen_once_loaded_and_every_sampler_takes_it(schedule: str, tmp_path: Path) -> None:
    settings = [f"process.schedule={schedule}", "objective.kind=bound", "target=v", "network.width=8"]
    made = Model.fresh(recipes.read("ddpm", settings), spec())
    for p in made.module.schedule.parameters():
        p.data += 0.03 * torch.randn_like(p)
    made.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert not any(p.requires_grad for p in loaded.module.parameters())
    t = torch.linspace(0.1, 1, 7, dtype=torch.float64)
    learned = made.denoiser.process.level(t).logsnr.detach()
    torch.testing.assert_close(loaded.denoiser.process.level(t).logsnr, learned)
    for name in methods.METHODS:
        assert not methods.tableau(loaded.denoiser.process, name, 12).times.requires_grad


# --- under another process -------------------------------------------------------------------------------------------


PROCESSES = {
    "VP": Process(VP(), LinearLogSNR(-12.0, 12.0)),
    "VE": Process(VE(), LinearLogSNR(-12.0, 12.0)),
    "straight": Process(Straight(), Logistic()),
    "sub-VP": Process(SubVP(), SubVPBeta()),
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
    "NCSN's chain": Process(VE(), Tabulated(geometric_betas(50, 0.05, 60.0))),
}


@pytest.fixture(scope="module")
def cosine() -> Model:
    """In continuous time, from -9 to 9, of unbounded data: nothing is clamped."""
    settings = ["network.width=8", "sampling.steps=5", "target=v", "label=logsnr", "process.schedule=cosine"]
    settings += ["process.schedule.logsnr_min=-9", "process.schedule.logsnr_max=9"]
    transform = Affine((0.0, 0.0), (1.0, 1.0))
    free = spec(layout=LAYOUTS["vector"], shape=(2,), channels=(), dtype="float32", transform=transform)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Model.fresh(recipes.read("ddpm", settings), free)
        shaken(made.denoiser.network)
    return made


def ends(process: Process) -> list[float]:
    return process.level(torch.tensor([1.0, 0.0], dtype=torch.float64)).logsnr.tolist()


@pytest.mark.parametrize("name", PROCESSES)
def test_the_ode_leads_from_a_start_to_the_same_sample_under_any_process(cosine: Model, name: str) -> None:
    process = PROCESSES[name]
    other = cosine.with_process(process)
    assert other.denoiser.process.scaling == process.scaling
    low = max(-9.0, ends(process)[0])
    assert ends(other.denoiser.process) == pytest.approx([low, 9], rel=1e-6)
    # Both begin at the same noise in units of their own width, and at the same level: the noisiest that both have.
    part = cosine.with_process(Process(VP(), Cut(Cosine(-9.0, 9.0), low, 9.0)))
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        theirs, ours = (
            solve(m.sampling_denoiser(), m.denoiser.process.prior().variance.sqrt() * z, tolerance=1e-6)
            for m in (other, part)
        )
    assert ours.std() > 0.5
    # The network and its label are float32; at log-SNR -9 x_0 is its error enlarged by e^4.5.
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-3)


def test_samples_under_another_process_are_the_same_ones(cosine: Model) -> None:
    theirs, ours = (m.sample(8, seed=1, tolerance=1e-4) for m in (cosine.with_process(PROCESSES["straight"]), cosine))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.01)


MIXTURE = GaussianMixture.isotropic(torch.tensor([[1.2, -0.4], [-1.0, 0.8], [0.1, 1.9]], dtype=torch.float64), 0.35)


@pytest.mark.parametrize("name", ["VE", "straight", "sub-VP"])
def test_the_exact_ode_of_a_mixture_ends_at_the_same_points_under_any_process(name: str) -> None:
    own = Process(VP(), Cosine(-9.0, 11.0))
    process = PROCESSES[name]
    low = max(-9.0, ends(process)[0])
    process = Process(process.scaling, Cut(process.schedule, low, 11.0))
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = ExactDenoiser(Process(VP(), Cut(own.schedule, low, 11.0)), MIXTURE)
    theirs = Reprocessed(ExactDenoiser(own, MIXTURE), process)
    samples = [
        solve(denoiser, denoiser.process.prior().variance.sqrt() * z, tolerance=1e-8) for denoiser in (ours, theirs)
    ]
    torch.testing.assert_close(samples[1], samples[0], rtol=0, atol=1e-5)


def test_infinite_ends_are_cut_and_finite_ones_inside_are_kept(cosine: Model, model: Model) -> None:
    flow = cosine.with_process(Process(Straight(), Logistic())).denoiser.process
    assert ends(flow) == pytest.approx([-9, 9], rel=1e-9)
    assert isinstance(flow.schedule, Cut)
    inside = Process(VE(), LinearLogSNR(-3.0, 4.0))
    assert cosine.with_process(inside).denoiser.process == inside
    # A chain was never trained below its first level, though its clock goes on to data.
    levels = model.denoiser.process.level(torch.tensor([1.0, 0.001], dtype=torch.float64)).logsnr.tolist()
    assert ends(model.with_process(Process(VE(), LinearLogSNR(-20.0, 20.0))).denoiser.process) == pytest.approx(levels)


def test_under_starts_from_the_models_own_process_however_often(cosine: Model) -> None:
    once = cosine.with_process(PROCESSES["VE"])
    again = cosine.with_process(Process(VP(), LinearLogSNR(-1.0, 1.0))).with_process(PROCESSES["VE"])
    assert again.denoiser.process == once.denoiser.process
    assert isinstance(once.denoiser, Reprocessed)
    assert isinstance(again.denoiser, Reprocessed)
    assert once.denoiser.denoiser is again.denoiser.denoiser is cosine.module


def test_tables_are_those_of_the_other_process(cosine: Model) -> None:
    process = Process(Straight(), Logistic(-8.0, 8.0))
    other = cosine.with_process(process)
    for sampler in ("euler", "heun", "auto", "ancestral"):
        got, expected = other.tableau(sampler, 8), methods.tableau(process, sampler, 8)
        assert got.name == expected.name
        torch.testing.assert_close(got.states, expected.states, rtol=0, atol=0)
        assert other.sample(2, sampler=sampler, steps=8).isfinite().all()


def test_a_table_fitted_under_one_process_is_not_used_under_another(cosine: Model) -> None:
    table = methods.tableau(cosine.denoiser.process, "euler", 5)
    fitted = replace(cosine, fitted={TableKey(5): table})
    assert fitted.tableau("auto", 5) is table
    assert fitted.with_process(PROCESSES["VE"]).tableau("auto", 5).name != table.name


def test_auto_of_an_exact_denoiser_is_measured_once_per_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def found(denoiser: object, shape: tuple[int, ...], budgets: list[int], seconds: float) -> dict[int, str]:
        assert shape == (2,)
        asked.append(budgets)
        return {n: "ddim" for n in budgets if n != 7}

    monkeypatch.setattr(best_methods, "best_methods", found)
    mixture = GaussianMixture.isotropic(torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64), 0.3)
    plane = spec(layout=LAYOUTS["vector"], shape=(2,), channels=(), dtype="float32", transform=Affine((0.0,), (1.0,)))
    exact = Model(ExactDenoiser(Process(VP(), Cosine()), mixture), plane)
    ends = exact.sample(4, sampler="auto", steps=6)
    assert torch.equal(exact.sample(4, steps=6), ends)
    assert asked == [[6]]
    assert (exact.tableau("auto", 6).name, exact.plan(steps=6).text) == ("ddim", "by auto: ddim")
    assert ends.isfinite().all()
    # Where nothing could be measured, it is the fixed rule; and a named sampler is no question.
    assert exact.tableau("auto", 7).name == methods.auto(exact.denoiser.process, 7).name
    assert exact.tableau("heun", 9).name != "ddim"
    assert asked == [[6], [7]]


def test_a_schedule_without_the_models_levels_is_refused(cosine: Model) -> None:
    with pytest.raises(InputError, match=r"^process: its log-SNRs, 9.5 to 12, are none of the model's, -9 to 9$"):
        cosine.with_process(Process(VP(), LinearLogSNR(9.5, 12.0)))
    with pytest.raises(InputError, match=r"^process: .*-20 to -10"):
        cosine.with_process(Process(VE(), LinearLogSNR(-20.0, -10.0)))


def test_a_model_under_another_process_is_not_saved(cosine: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^save_pretrained: .*save the model that it was made from") as caught:
        cosine.with_process(PROCESSES["VE"]).save_pretrained(tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_a_learned_schedule_can_be_left() -> None:
    learned = Model.fresh(recipes.read("vdm", ["network.width=8"]), spec())
    shaken(learned.module.network)  # type: ignore[union-attr]
    other = learned.with_process(Process(Straight(), Logistic()))
    own = ends(learned.denoiser.process)
    assert ends(other.denoiser.process) == pytest.approx(own, rel=1e-6)
    assert other.sample(2, steps=4).isfinite().all()


# --- flows that were learned from pairs ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ancestral", "euler-maruyama", "pc", "langevin", "reverse-diffusion", "edm-churn"])
def test_a_flow_of_pairs_takes_no_sampler_that_adds_noise(sampler: str) -> None:
    settings = ["network.width=8", "objective.pairing=optimal-transport", f"sampling.sampler={sampler}"]
    paired = Model.fresh(recipes.read("flow", settings), spec())
    for ask in (lambda: paired.sample(1, steps=10), lambda: paired.tableau(sampler, 10)):
        with pytest.raises(InputError, match=rf"^sampler: {sampler} adds noise.*choose auto, euler, heun") as caught:
            ask()
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^sampler: ddim adds noise"):
        paired.tableau("ddim", 10, eta=1.0)
    for deterministic in ("auto", "euler", "heun", "ddim"):
        assert not paired.tableau(deterministic, 10).stochastic
    with pytest.raises(InputError, match=r"^sampler: ancestral adds noise"):  # under another process as well
        paired.with_process(PROCESSES["VE"]).tableau("ancestral", 10)


def test_a_flow_of_independent_noise_takes_any_sampler() -> None:
    independent = Model.fresh(recipes.read("flow", ["network.width=8"]), spec())
    assert independent.tableau("ancestral", 10).stochastic


def test_beliefs_about_signals_of_one_shape_are_left_alone(tmp_path: Path) -> None:
    """Centred by one number, they lie farther from the origin than from each other: no true one may be cut."""
    from sfumato.data import load

    shape = 3 * np.sin(np.linspace(0, 6, 50))
    np.save(tmp_path / "a.npy", (shape + 0.01 * np.random.default_rng(0).normal(size=(40, 1, 50))).astype(np.float32))
    dataset = load(str(tmp_path / "a.npy"))
    x = dataset.spec.encode(dataset.values)
    assert float(x.flatten(1).norm(dim=1).min()) > 5 * dataset.spec.diameter
    model = Model.fresh(recipes.read("flow", ["network.kind=mlp", "network.width=8"]), dataset.spec)
    beliefs = model.sampling_denoiser()
    assert isinstance(beliefs, NormBounded)
    assert float(x.flatten(1).norm(dim=1).max()) < beliefs.radius


def test_steps_that_no_table_can_hold_are_refused() -> None:
    choice = SamplerChoice(steps=5_000)
    assert choice.completed("ddim", 20).steps == 5_000
    for steps in (5_001, 10**15):
        with pytest.raises(InputError, match=r"steps: .* is too many, .* give at most 5,000"):
            SamplerChoice(steps=steps).completed("auto", 20)


def test_integers_of_numpy_and_torch_are_integers(model: Model) -> None:
    expected = model.sample(2, seed=3, steps=4, batch=2, first=1)
    found = model.sample(np.int64(2), seed=torch.tensor(3), steps=np.int32(4), batch=np.array(2), first=np.uint8(1))
    assert found.equal(expected)
    wrong = ("seed", None), ("seed", 1.5), ("seed", True), ("steps", 2.0), ("batch", None), ("first", 0.0)
    for name, value in wrong:
        # The test run checks annotations first, with an error of its own.
        with pytest.raises((InputError, TypeError), match=name):
            model.sample(1, **{name: value})


def test_a_home_folder_is_one(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    model.save_pretrained("~/m")
    assert (tmp_path / "m" / "config.json").is_file()
    for read in (Model.from_pretrained, load):
        assert read("~/m").sample(1, steps=2).equal(model.sample(1, steps=2))
