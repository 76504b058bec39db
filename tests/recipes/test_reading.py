from pathlib import Path

import pytest
from pydantic import ValidationError

from sfumato import core, data, objectives, recipes
from sfumato.errors import InputError
from sfumato.recipes import DiffusionRecipe, Recipe
from sfumato.recipes.networks import AutoNetwork, MLPNetwork, UNetNetwork


def spec(recipe: Recipe) -> data.DataSpec:
    return data.load("digits", recipe.data.options()).spec


@pytest.mark.parametrize(
    "name", [name for name in recipes.presets() if name not in ("trees", "mixture")]
)  # which have no loss
def test_every_preset_builds_its_process_and_objective(name: str) -> None:
    recipe = recipes.read(name)
    assert recipe.name == name
    of_the_data = spec(recipe)
    if recipe.has_process:
        recipe.resolved(of_the_data).build_process()
    else:
        with pytest.raises(InputError, match="has no process"):
            recipe.resolved(of_the_data).build_process()
    recipe.build_loss(of_the_data)
    recipe.build(of_the_data)


def test_ddpm_is_the_papers_process() -> None:
    process = recipes.read("ddpm").build_process()
    assert isinstance(process.schedule, core.Tabulated)
    betas = process.schedule.betas
    # Ho et al. 2020, section 4: T = 1000, beta_1 = 1e-4 to beta_T = 0.02, linearly.
    assert betas.tolist() == pytest.approx([1e-4 + k * (0.02 - 1e-4) / 999 for k in range(1000)], rel=1e-12)


@pytest.mark.parametrize("name", [name for name in recipes.presets() if name not in ("mhvae", "trees", "mixture")])
def test_a_recipe_survives_json(name: str) -> None:
    recipe = recipes.read(name, ["process.scaling=straight", "process.schedule=logistic", "target=v"])
    again = DiffusionRecipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert again.build_process() == recipe.build_process()  # infinite ends included


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipes.read("ddpm").name = "other"  # type: ignore[misc]


def test_overrides_reach_where_they_say_and_nothing_else() -> None:
    plain = recipes.read("ddpm")
    changed = recipes.read("ddpm", ["training.batch=7", "process.schedule.steps=20"])
    assert changed.training.batch == 7
    assert changed.process.schedule.steps == 20  # type: ignore[union-attr]
    assert changed.training.model_copy(update={"batch": plain.training.batch}) == plain.training
    assert changed.network == plain.network


@pytest.mark.parametrize(
    ("override", "kind"),
    [("process.schedule=cosine", "cosine"), ("process.schedule.kind=cosine-betas", "cosine-betas")],
)
def test_another_kind_drops_the_settings_of_the_old_one(override: str, kind: str) -> None:
    assert recipes.read("ddpm", [override]).process.schedule.kind == kind


def test_a_continuous_schedule_trains_at_uniform_times() -> None:
    for override, times in [
        ([], objectives.ChainTimes(1000)),
        (["process.schedule=cosine"], objectives.UniformTimes()),
        (["objective.times=uniform"], objectives.UniformTimes(0.001)),  # a chain's time begins at its first level
    ]:
        recipe = recipes.read("ddpm", override)
        assert recipe.build_loss(spec(recipe)).times == times


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("process.schedule=cosine-betas", "process.schedule.steps=20", {"kind": "cosine-betas", "steps": 20}),
        ("process.schedule.kind=geometric", "process.schedule.sigma_max=2", {"kind": "geometric", "sigma_max": 2.0}),
    ],
)
def test_overrides_apply_in_any_order(one: str, two: str, expected: dict[str, object]) -> None:
    first, second = recipes.read("ddpm", [one, two]), recipes.read("ddpm", [two, one])
    assert first == second
    assert expected.items() <= first.process.schedule.model_dump().items()  # type: ignore[attr-defined]
    assert recipes.read("ddpm", ["training.batch=3", "training.batch=5"]).training.batch == 5


def test_a_file_may_be_as_short_as_an_override(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(
        "process: {schedule: logistic, scaling: straight}\ntarget: velocity\nnetwork: mlp\n"
        "objective: {weight: flow, times: log-normal, log_ratio_mean: 0.5}\ndata: {size: 32x48}\n"
    )
    long = tmp_path / "long.yaml"
    long.write_text(
        "process: {schedule: {kind: logistic}, scaling: straight}\ntarget: {kind: velocity}\nnetwork: {kind: mlp}\n"
        "objective: {kind: denoising, weight: {kind: flow}, times: {kind: log-normal, log_ratio_mean: 0.5}}\n"
        "data: {size: [32, 48]}\n"
    )
    recipe = recipes.read(str(path))
    assert recipe == recipes.read(str(long))
    assert recipe.data.size == [32, 48]
    assert recipe.objective.times.log_ratio_mean == 0.5  # type: ignore[attr-defined]


def test_an_override_is_for_the_kinds_of_recipes_that_have_its_section() -> None:
    diffusion, hierarchy = recipes.read("ddpm"), recipes.read("mhvae")
    for override, of_diffusion, of_hierarchy in (
        ("network.width=8", True, False),
        ("target=v", True, False),
        ("hierarchy.hidden=8", False, True),
        ("training.batch=8", True, True),
        ("nonsense=1", True, True),  # an error for both, and not one to pass over
    ):
        assert recipes.applies(diffusion, override) is of_diffusion
        assert recipes.applies(hierarchy, override) is of_hierarchy


def test_a_network_of_ones_own_is_one_registered_section(monkeypatch: pytest.MonkeyPatch) -> None:
    from typing import Literal

    import torch
    from torch import nn

    from sfumato.recipes.networks import NETWORKS, NetworkSection

    monkeypatch.setattr(NETWORKS, "_sections", dict(NETWORKS._sections))  # type: ignore[attr-defined]

    class Linear(nn.Module):
        def __init__(self, count: int, gain: float) -> None:
            super().__init__()
            self.linear, self.gain = nn.Linear(count, count), gain

        def forward(self, x: torch.Tensor, label: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
            return self.gain * self.linear(x)

    class LinearNetwork(NetworkSection):
        """One layer."""

        kind: Literal["linear"] = "linear"
        gain: float = 1.0

        def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
            return Linear(shape[0], self.gain)

    with pytest.raises(InputError, match="'linear' is not allowed; give one of 'mlp', 'unet', 'auto'"):
        recipes.read("ddpm", ["network=linear"])
    recipes.register_network(LinearNetwork)
    try:
        recipe = recipes.read("ddpm", ["network=linear", "network.gain=2.5"])
        assert isinstance(recipe, DiffusionRecipe)
        assert DiffusionRecipe.model_validate_json(recipe.model_dump_json()) == recipe
        assert recipe.build(_spec("vector", (3,))).network.gain == 2.5  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"network.depth: network.kind=linear has no such setting; give .*=mlp"):
            recipes.read("ddpm", ["network=linear", "network.depth=2"])
    finally:
        monkeypatch.undo()
        DiffusionRecipe.model_rebuild(force=True)
    with pytest.raises(InputError, match="'linear' is not allowed"):
        recipes.read("ddpm", ["network=linear"])


@pytest.mark.parametrize(("text", "size"), [("32", [32, 32]), ("32x48", [32, 48]), ("[8, 9]", [8, 9])])
def test_sizes_as_people_write_them(text: str, size: list[int]) -> None:
    assert recipes.read("ddpm", [f"data.size={text}"]).data.size == size


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "0.0001", ".0001", "+1.0e-4"])
def test_yaml_numbers_are_numbers(number: str) -> None:
    # YAML 1.1, PyYAML's own, reads 1e-4 as a word.
    assert recipes.read("ddpm", [f"training.learning_rate={number}"]).training.learning_rate == 1e-4


def test_whole_numbers_are_decimal() -> None:
    # YAML 1.1 reads 010 as eight.
    assert recipes.read("ddpm", ["training.batch=010"]).training.batch == 10
    assert recipes.read("ddpm", ["training.warmup=20_000"]).training.warmup == 20_000


def test_yaml_words_are_words(tmp_path: Path) -> None:
    # YAML 1.1 reads no as false.
    path = tmp_path / "norway.yaml"
    path.write_text("version: 1\nname: no\n")
    assert recipes.read(str(path)).name == "no"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["training.bach=4"], ["unknown key 'training.bach'", "did you mean training.batch?"]),
        (["trainin.batch=4"], ["unknown key 'trainin'", "did you mean training?"]),
        (["training.batch=abc"], ["training.batch", "'abc'", "integer"]),
        (["training.batch=0"], ["training.batch", "0", "greater than or equal to 1"]),
        (["training.batch=true"], ["training.batch", "True", "integer"]),
        (["training.learning_rate=nan"], ["training.learning_rate", "nan"]),
        (["process.schedule=fuo"], ["process.schedule.kind", "'fuo'", "'cosine'", "'logistic'"]),
        (["network.depth=3"], ["network.depth", "network.kind=auto", "no such setting"]),
        (["network=3"], ["network", "3"]),
        (["process.schedule.first=2"], ["process.schedule.first", "2", "less than 1"]),
        (["nonsense"], ["'nonsense'", "key=value"]),
        (["training.batch=[1"], ["training.batch", "[1"]),
        (["version=2"], ["version", "2"]),
        (["training.batch=1:30"], ["training.batch", "1:30"]),
        (["training.batch=!!int x"], ["training.batch"]),
        (["objective=null"], ["objective: None is not allowed", "'denoising', 'hybrid', 'bound'"]),
        (["process.schedule=[1]"], ["process.schedule: [1] is not allowed", "'cosine'"]),
        (["training=null"], ["training: None is not allowed", "a mapping of settings"]),
        (["data.size=4x"], ["data.size: '4x' is not allowed", "32x48"]),
        (["data.size=0"], ["data.size: 0 is not allowed", "32x48"]),
        (["objective.times.knd=uniform"], ["objective.times.knd", "did you mean objective.times.kind?"]),
        (["name=../../up"], ["name", "../../up"]),
    ],
)
def test_mistakes_are_one_line_that_helps(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        recipes.read("ddpm", overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^recipe: 'ddmp' is not a preset; did you mean ddpm\?"):
        recipes.read("ddmp")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n- b\n", "mapping"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['touch canary']", "not YAML"),
        ("process: 3\n", "process: 3"),
        ("1: x\n", "key 1 is not allowed"),
        ("training: {batch: 4, batch: 8}\n", "'batch' comes twice"),
        ("a: " + "[" * 5000, "not YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=part) as caught:
        recipes.read(str(path))
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"^nowhere.yaml: no such recipe file"):
        recipes.read("nowhere.yaml")


def _spec(layout: str, shape: tuple[int, ...]) -> object:
    from sfumato.data import LAYOUTS, Affine, DataSpec

    return DataSpec(
        layout=LAYOUTS[layout],
        shape=shape,
        dtype="float32",
        transform=Affine((0.0,), (1.0,)),
        channels=(),
        second_moment=1.0,
        diameter=4.0,
        class_names=(),
        class_counts=(),
        count=10,
        fingerprint="0" * 64,
        source="test",
    )


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("vector", (1,)),
        ("vector", (700,)),
        ("signal", (1, 36)),
        ("signal", (3, 701)),
        ("signal", (2, 3)),
        ("image", (1, 8, 8)),
        ("image", (3, 33, 47)),
        ("image", (1, 1, 1)),
        ("image", (1, 5, 200)),
        ("image", (4, 128, 96)),
    ],
)
def test_the_automatic_network_fits_any_shape(layout: str, shape: tuple[int, ...]) -> None:
    import torch

    spec = _spec(layout, shape)
    resolved = DiffusionRecipe(network=AutoNetwork(width=8)).resolved(spec)  # type: ignore[arg-type]
    assert isinstance(resolved.network, MLPNetwork if layout == "vector" else UNetNetwork)
    network = resolved.network.build(shape)
    assert network(torch.zeros(2, *shape), torch.zeros(2)).shape == (2, *shape)
    assert resolved.resolved(spec) == resolved  # type: ignore[arg-type]
