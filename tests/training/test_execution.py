"""How steps are computed: chosen by the clock, remembered, taken up again; what bfloat16 may touch."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sfumato import recipes
from sfumato.data import DataOptions, Dataset, load
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer, autotune, trials
from sfumato.training.autotune import candidates
from sfumato.training.execution import Execution
from sfumato.training.trials import choose

DEFAULTS = Compute()
SLOW, FAST = Execution(1, "float32"), Execution(1, "bfloat16")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


ROUND = {"precision": "bfloat16"}
LAST, BOTH = Execution(1, "float32", "channels_last"), Execution(1, "bfloat16", "channels_last")
TWO = Execution(2, "float32")
TINY = ("network.kind=unet", "network.width=8", "network.multipliers=[1,2]", "network.blocks=1", "network.attention=[]")


def takes(seconds: dict[Execution, float]) -> Callable[[Execution], None]:
    return lambda way: time.sleep(seconds[way])


def test_the_faster_way_is_taken_and_remembered() -> None:
    trial = takes({SLOW: 0.03, FAST: 0.005})
    assert choose(SLOW, [ROUND], trial, "net") == FAST
    assert choose(SLOW, [ROUND], lambda way: pytest.fail("tried again"), "net") == FAST
    # Another network has its own trial, and so has another choice.
    assert choose(SLOW, [ROUND], takes({SLOW: 0.001, FAST: 0.02}), "other") == SLOW
    assert choose(SLOW, [{"threads": 2}], takes({SLOW: 0.001, TWO: 0.02}), "net") == SLOW
    assert choose(SLOW, [ROUND], lambda way: pytest.fail("tried again"), "net") == FAST


def test_each_change_is_tried_on_the_best_so_far() -> None:
    changes = [ROUND, {"layout": "channels_last"}]
    assert choose(SLOW, changes, takes({SLOW: 0.03, FAST: 0.01, BOTH: 0.005}), "a") == BOTH
    assert choose(SLOW, changes, takes({SLOW: 0.01, FAST: 0.02, LAST: 0.005}), "b") == LAST
    assert choose(SLOW, changes, takes({SLOW: 0.01, FAST: 0.02, LAST: 0.03}), "c") == SLOW


def test_what_is_hopeless_is_tried_once() -> None:
    seen = []

    def trial(way: Execution) -> None:
        seen.append(way)
        time.sleep(0.2 if way == FAST else 0.002)

    assert choose(SLOW, [ROUND], trial, "a") == SLOW
    assert seen.count(FAST) == 1


def test_what_was_compiled_is_not_where_it_cannot_be_any_more() -> None:
    compiled = Execution(1, "float32", compiled=True)
    change = {"compiled": True}
    assert choose(SLOW, [change], takes({SLOW: 0.03, compiled: 0.001}), "a") == compiled
    assert choose(SLOW, [change], lambda way: None, "a") == compiled
    assert choose(SLOW, [change], lambda way: (_ for _ in ()).throw(RuntimeError("no compiler")), "a") == SLOW


def test_what_cannot_be_compiled_is_passed_over() -> None:
    def trial(way: Execution) -> None:
        if way.compiled:
            raise RuntimeError("no compiler")

    assert choose(SLOW, [{"compiled": True}], trial, "a") == SLOW
    with pytest.raises(RuntimeError, match="mine"):
        choose(SLOW, [ROUND], lambda way: (_ for _ in ()).throw(RuntimeError("mine")), "b")


def test_more_threads_have_to_pay() -> None:
    one, two = SLOW, TWO
    assert choose(one, [{"threads": 2}], takes({one: 0.030, two: 0.028}), "a") == one
    assert choose(one, [{"threads": 2}], takes({one: 0.030, two: 0.010}), "b") == two


def test_a_trial_runs_on_its_threads_and_leaves_them_as_they_were() -> None:
    torch.set_num_threads(1)
    seen = []
    choose(SLOW, [{"threads": 2}], lambda way: seen.append(torch.get_num_threads()), "c")
    assert set(seen) == {1, 2}
    assert torch.get_num_threads() == 1


def test_the_only_way_is_not_tried() -> None:
    assert choose(SLOW, [], lambda way: pytest.fail("tried"), "net") == SLOW


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"x": 3}'])
def test_a_damaged_memory_is_no_memory(text: str, tmp_path: Path) -> None:
    place = trials._memory_file()
    place.parent.mkdir(parents=True)
    place.write_text(text)
    assert choose(SLOW, [ROUND], takes({SLOW: 0.02, FAST: 0.001}), "net") == FAST
    assert asdict(FAST) in json.loads(place.read_text()).values()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", DataOptions(limit=100))


def trainer(run: Path, dataset: Dataset, *settings: str, compute: Compute = DEFAULTS) -> Trainer:
    run.mkdir(exist_ok=True)
    recipe = recipes.read("ddpm", [*settings, "training.batch=8"])
    torch.manual_seed(0)
    return Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(run), Options(compute=compute))


def test_points_are_never_rounded_nor_networks_that_are_differentiated(digits: Dataset, tmp_path: Path) -> None:
    moons = load("moons", DataOptions(count=100))

    def precisions(t: Trainer) -> set[str]:
        first, changes = candidates(t.engine)
        return {first.precision, *(change.get("precision", first.precision) for change in changes)}

    assert precisions(trainer(tmp_path / "a", moons, "network.width=8")) == {"float32"}
    sliced = ("objective.kind=sliced", "network.width=8")
    assert precisions(trainer(tmp_path / "b", digits, *sliced)) == {"float32"}
    assert precisions(trainer(tmp_path / "c", digits, "network.width=8")) == {"float32", "bfloat16"}
    asked = Compute(precision="bfloat16", threads=1)
    assert candidates(trainer(tmp_path / "d", moons, "network.width=8", compute=asked).engine) == (FAST, [])


def test_bfloat16_keeps_weights_and_the_answer_in_float32_and_the_loss_near(digits: Dataset, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        compute = Compute(precision=precision, threads=1)  # type: ignore[arg-type]
        t = trainer(tmp_path / precision, digits, "network.width=16", compute=compute)
        t.engine.apply(Execution(1, precision), None)  # type: ignore[arg-type]
        seen: dict[str, torch.dtype] = {}
        for name, module in t.engine.state.module.named_modules():
            module.register_forward_hook(lambda module, args, y, name=name, seen=seen: seen.update({name: y.dtype}))
        losses[precision] = [t.engine.step()[0] for _ in range(30)]
        middle = torch.bfloat16 if precision == "bfloat16" else torch.float32
        assert seen["network.middle.0.residual.conv1"] == middle
        assert seen["network.conv_in"] == seen["network.conv_out"] == seen["network.embed"] == torch.float32
        assert {p.dtype for p in t.engine.state.module.parameters()} == {torch.float32}
    # The same noises at the same levels: apart by rounding alone, which is 2^-9 in each product.
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.03)
    assert losses["bfloat16"] != losses["float32"]


def test_every_way_computes_the_same_step(digits: Dataset, tmp_path: Path) -> None:
    """Attention fused, channels last; with parts that were written in one way and are taken up in another."""
    small = ("network.kind=unet", "network.width=16", "network.multipliers=[1,2]", "network.attention=[4,8]")
    first = Execution(1, "float32")
    ways = [first, Execution(1, "float32", "channels_last"), Execution(1, "float32", "channels_last", "fused", True)]
    engines = [trainer(tmp_path / str(i), digits, *small).engine for i in range(len(ways))]
    found = []
    for engine, way in zip(engines, ways, strict=True):
        with torch.no_grad():
            for p in engine.state.module.parameters():
                p.copy_(torch.linspace(-0.2, 0.2, p.numel()).view_as(p))
        engine.apply(way, None)
        found.append([engine.step() for _ in range(4)])
        assert engine.network.middle[0].residual.conv1.weight.is_contiguous() == (way.layout == "channels_first")
    for other in found[1:]:
        torch.testing.assert_close(torch.tensor(other), torch.tensor(found[0]), rtol=1e-4, atol=1e-6)
    plain, last, fused = engines
    last.state.load(
        {k: {n: x.clone() for n, x in part.items()} for k, part in plain.state.tensors().items()},
        32,
        0,
        plain.state.schedule,
        tmp_path,
    )
    plain.apply(ways[1], None)  # with averages and moments that are there already
    assert last.step() == plain.step()
    theirs = last.state.tensors()
    for part, tensors in plain.state.tensors().items():
        for name, value in tensors.items():
            torch.testing.assert_close(theirs[part][name], value, rtol=0, atol=0)
    # The averages can be differentiated forwards.
    x, network = torch.randn(1, 1, 8, 8), fused.state.averaged_model().module.network
    torch.func.jvp(lambda y: network(y, torch.ones(1)), (x,), (x,))


def test_what_is_taken_up_is_what_this_machine_and_the_options_leave(digits: Dataset, tmp_path: Path) -> None:
    bits = {
        **asdict(Execution(2, "bfloat16", attention="fused")),
        **{"device": "cpu", "processes": 1, "sharded": False, "micro_batch": 4},
    }

    def taken(available: int, compute: Compute = DEFAULTS, **other: object) -> Execution:
        torch.set_num_threads(available)
        engine = trainer(tmp_path / "run", digits, *TINY, compute=compute).engine
        autotune.restore(engine, {**bits, **other})
        assert engine.execution is not None
        assert engine.micro_batch == (None if other else 4)
        return engine.execution

    assert taken(2) == Execution(2, "bfloat16", attention="fused")
    assert taken(2, Compute(precision="float32")) == Execution(2, "float32", attention="fused")
    assert taken(2, Compute(threads=1)) == Execution(1, "bfloat16", attention="fused")
    assert taken(1) == Execution(1, "bfloat16", attention="fused")
    assert taken(2, processes=4, threads="two", layout=7) == Execution(1, "bfloat16", attention="fused")
    for strange in ({"sharded": True}, {"micro_batch": 0}, {"micro_batch": "all"}):
        assert taken(2, **strange) == Execution(2, "bfloat16", attention="fused")


def test_a_run_goes_on_as_it_was_computed(digits: Dataset, tmp_path: Path) -> None:
    compute = Compute(precision="bfloat16", threads=1)
    trainer(tmp_path, digits, *TINY, compute=compute).train(steps=2)
    again = trainer(tmp_path, digits, *TINY)
    again.resume(pytest.fail)
    assert again.engine.execution is not None
    assert again.engine.execution.precision == "bfloat16"
    said: list[str] = []
    other = trainer(tmp_path, digits, *TINY, compute=Compute(precision="float32"))
    other.resume(said.append)
    assert other.engine.execution is not None
    assert other.engine.execution.precision == "float32"
    assert len(said) == 1
    assert "precision was bfloat16 and is float32 now" in said[0]
