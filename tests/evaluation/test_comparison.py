"""Paired differences by hand; what models are measured on does not depend on them."""

import json
import math
from dataclasses import replace

import pytest
import torch

from sfumato import Model, data, kinds
from sfumato.evaluation import comparison
from sfumato.evaluation.comparison import Yardstick, measure, paired, standings
from sfumato.generative_model import GenerativeModel
from sfumato.recipes import read

SMALL = ["network.kind=mlp", "network.width=8", "network.depth=1", "sampling.steps=4"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = {name: replace(layout, compared_samples=100) for name, layout in data.LAYOUTS.items()}
    layouts["image"] = replace(layouts["image"], compared_samples=40)
    monkeypatch.setattr("sfumato.data.assemble.LAYOUTS", layouts)


def model(recipe: str, dataset: data.Dataset, *settings: str) -> GenerativeModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = kinds.fresh(read(recipe, [*SMALL, *settings] if recipe != "mhvae" else []), dataset.spec)
    made.module.eval().requires_grad_(False)
    return made


def test_differences_by_hand() -> None:
    found = paired([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])  # 2, 3, 1
    assert found.mean == pytest.approx(2)
    assert found.error == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(paired([1.0], [0.5]).error)


def test_what_samples_have_in_common_is_no_error() -> None:
    hard = torch.linspace(0, 100, 50)
    assert paired((hard + 0.25).tolist(), hard.tolist()).error == pytest.approx(0, abs=1e-12)


def row(bits: list[float] | None, ratio: float | None) -> comparison.Row:
    bound = None if bits is None else {"bits_per_dim": sum(bits) / len(bits), "bits": bits}
    samples = {"ratio": ratio, "distance_error": 0.3, "floor": 2.0}
    return {"bound": bound, "flow": None, "samples": samples}


def test_standings_name_the_best_of_those_that_have_a_value() -> None:
    found = standings({"a": row([2.0, 4.0], 1.5), "b": row([1.0, 2.0], 1.2), "c": row(None, None)})
    assert set(found) == {"bound", "samples"}
    assert found["bound"]["best"] == "b"
    assert found["bound"]["over"] == {"a": {"mean": 1.5, "error": pytest.approx(0.5)}}
    assert found["samples"]["best"] == "b"
    assert found["samples"]["over"]["a"] == {
        "mean": pytest.approx(0.3),
        "error": pytest.approx(math.hypot(0.3, 0.3) / 2),
    }


def test_the_scored_are_held_out_and_a_prefix_of_one_order() -> None:
    dataset = data.load("digits")
    _, held_out = data.split(1797, 0.1, 3)
    few, more = (Yardstick.of(dataset, 0.1, 3, count, None).rows.tolist() for count in (10, 50))
    assert len(few) == 10
    assert set(few) < set(more) < set(held_out.tolist())


def test_true_digits_stand_on_the_floor() -> None:
    dataset = data.load("digits")
    yardstick = Yardstick.of(dataset, 0.5, 0, 10, None)  # half are held out: enough for other true sets
    others = yardstick.train[torch.randperm(898, generator=torch.Generator().manual_seed(0))[:40]]
    found = yardstick.ruler.measure(dataset.spec.encode(dataset.values[others]))
    assert found.count == 40
    assert abs(found.ratio - 1) < 4 * found.ratio_error
    assert found.ratio_error < 0.3


def test_the_floor_of_a_toy_is_that_of_fresh_samples() -> None:
    dataset = data.load("moons", data.DataOptions(count=60))
    yardstick = Yardstick.of(dataset, 0.1, 0, 128, "moons")
    assert len(yardstick.rows) == 6
    fresh = dataset.spec.encode(data.TOYS["moons"].sample(100, 77))
    assert abs(yardstick.ruler.measure(fresh).ratio - 1) < 4 * yardstick.ruler.measure(fresh).ratio_error
    assert Yardstick.of(dataset, 0.1, 0, 128, None).ruler.count == 27  # as a file, of which there is no more


def test_a_row_is_the_librarys_numbers() -> None:
    dataset = data.load("digits")
    yardstick = Yardstick.of(dataset, 0.1, 0, 6, None)
    made = model("digits", dataset)
    parts = set()
    found = measure(made, yardstick, lambda part, done, total: parts.add((part, done <= total)))
    x_0 = dataset.spec.encode(dataset.values[yardstick.rows])
    bound = made.bound(x_0, yardstick.options())
    assert found["bound"]["bits"] == pytest.approx(bound.bits.tolist())
    assert found["bound"]["standard_error"] == pytest.approx(float(bound.bits.std()) / math.sqrt(6))
    assert found["samples"]["count"] == 40
    assert found["samples"]["evaluations"] == 4
    assert found["recognition"]["held_out_confidence"] > 0.8
    assert found["reasons"] == {}
    assert parts == {("bound", True), ("flow", True), ("samples", True)}
    json.dumps(found, allow_nan=False)


def test_what_a_model_has_not_is_left_empty() -> None:
    dataset = data.load("moons", data.DataOptions(count=60))
    yardstick = Yardstick.of(dataset, 0.1, 0, 4, "moons")
    pairs = measure(model("flow", dataset, "objective.pairing=optimal-transport"), yardstick)
    assert pairs["bound"] is None
    assert pairs["flow"]["bits_per_dim"] == pytest.approx(sum(pairs["flow"]["bits"]) / 4)
    hierarchy = measure(model("mhvae", dataset), yardstick)
    assert hierarchy["flow"] is None
    assert hierarchy["samples"]["sampler"] == "latents"
    assert pairs["recognition"] is None
    assert pairs["reasons"] == hierarchy["reasons"] == {}


def test_what_fails_is_said_and_the_rest_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **settings: object) -> None:
        raise FloatingPointError("no finite value")

    monkeypatch.setattr(Model, "flow", fails)
    dataset = data.load("moons", data.DataOptions(count=60))
    found = measure(model("ddpm", dataset), Yardstick.of(dataset, 0.1, 0, 4, "moons"))
    assert found["flow"] is None
    assert found["reasons"] == {"flow": "no finite value"}
    assert found["bound"] is not None
    assert found["samples"] is not None
