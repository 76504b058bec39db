import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato import recipes
from sfumato.data import Dataset, Order, Samples, Subset, load
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.model_folder import load_weights
from sfumato.runs.folder import RunFolder
from sfumato.training import NonFiniteError, Trainer, TrainingProgress, checkpoint
from sfumato.training.held_out import HeldOut
from sfumato.training.metrics import rewinds
from sfumato.training.optimizer import learning_rate

from .conftest import SMALL_MLP

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    from sfumato.data import DataOptions

    return load("moons", DataOptions(count=500))


def trainer(run: Path, dataset: Dataset, *settings: str) -> Trainer:
    run.mkdir(exist_ok=True)
    recipe = recipes.read("ddpm", [*SMALL_MLP, *settings])
    torch.manual_seed(0)
    return Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(run))


def poison(t: Trainer, row: Tensor) -> None:
    """Make a training sample NaN."""
    data = t.engine.data
    assert isinstance(data, Subset)
    assert isinstance(data.source, Samples)
    data.source.values[data.index[row]] = float("nan")


def state(t: Trainer) -> dict[str, Tensor]:
    parts = t.engine.state.tensors()
    return {f"{part}.{key}": value.clone() for part, tensors in parts.items() for key, value in tensors.items()}


def rate(t: Trainer) -> float:
    state = t.engine.state
    return learning_rate(t.model.recipe.training, 10_000, state.rewinds, state.schedule)


def rows(run: Path, kind: str) -> list[dict[str, object]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_a_resumed_run_is_the_run_to_the_bit(tmp_path: Path, dataset: Dataset) -> None:
    whole = trainer(tmp_path / "a", dataset)
    whole.train(steps=60)
    first = trainer(tmp_path / "b", dataset)
    first.train(steps=27)
    second = trainer(tmp_path / "b", dataset)
    torch.manual_seed(123)  # torch's own generator has no say in it
    second.resume(pytest.fail)
    assert second.steps == 27
    second.train(steps=60)
    expected, found = state(whole), state(second)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    steps = [row["step"] for row in rows(tmp_path / "b", "train")]
    assert steps == sorted(set(steps))


def test_the_cooldown_of_a_resumed_run_is_that_of_the_whole_run(tmp_path: Path, dataset: Dataset) -> None:
    cooling = "training.cooldown=0.5"
    whole = trainer(tmp_path / "whole", dataset, cooling)
    whole.train(steps=20)
    part = trainer(tmp_path / "part", dataset, cooling)

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 15:
            os.kill(os.getpid(), signal.SIGTERM)

    assert part.train(steps=20, watch=interrupt) == "terminated"
    rest = trainer(tmp_path / "part", dataset, cooling)
    rest.resume(lambda text: None)
    assert rest.learning_rate() == part.learning_rate() < whole.model.recipe.training.learning_rate
    rest.train(steps=20)
    assert rest.engine.state.schedule == whole.engine.state.schedule
    assert all(torch.equal(value, state(rest)[name]) for name, value in state(whole).items())


def test_going_on_after_the_goal_warms_up_again(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset, "training.cooldown=0.5")
    t.train(steps=20)
    cooled = t.learning_rate()
    again = trainer(tmp_path, dataset, "training.cooldown=0.5")
    again.resume(lambda text: None)
    rates: list[float] = []
    again.train(steps=40, watch=lambda progress: rates.append(again.learning_rate()))
    assert again.engine.state.schedule.legs[:2] == ((0, 640), (640, 1280))
    assert max(rates) == pytest.approx(1e-3 / 2**0.5)  # a leg of half the run
    assert rates[0] > cooled
    assert rates[-1] < max(rates) / 5


def test_the_end_of_a_budget_is_forecast_and_kept_in_the_checkpoint(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset, "training.cooldown=0.5", "training.warmup=0")
    rates: list[float] = []
    t.train(seconds=1.0, watch=lambda progress: rates.append(t.learning_rate()))
    ends = [row["end"] for row in rows(tmp_path, "forecast")]
    assert len(ends) > 3
    assert all(isinstance(end, int) for end in ends)
    saved = checkpoint.load(checkpoint.checkpoints(t.run.checkpoints)[-1])[1]["schedule"]
    assert saved == [[0, t.images], [t.images, t.images]]
    assert rates[0] > 5 * min(rates)


def test_rows_beyond_the_checkpoint_are_dropped_on_resume(tmp_path: Path, dataset: Dataset) -> None:
    trainer(tmp_path, dataset).train(steps=25)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "train", "images": 99999999, "step": 9}\n{"kind": "tr')
    again = trainer(tmp_path, dataset)
    again.resume(pytest.fail)
    again.train(steps=50)
    assert [row["step"] for row in rows(tmp_path, "train")] == [25, 50]


def test_training_learns(tmp_path: Path, dataset: Dataset) -> None:
    learner = trainer(tmp_path, dataset, "training.learning_rate=0.01")
    learner.train(steps=300)
    losses = [row["loss"] for row in rows(tmp_path, "held_out")]
    assert len(losses) > 3
    # Answering zero has a loss of E eps^2 = 1. For data of unit variance the best linear answer, sigma x_t, has
    # alpha^2 at each level; to come half of the way from the one to the other is to have learnt.
    t = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    linear = float((learner.model.denoiser.process.level(t).alpha ** 2).mean())
    assert float(losses[-1]) < 0.5 * (1 + linear)  # type: ignore[arg-type]


def test_the_held_out_measurement_moves_only_with_the_model(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset, "target=noise")
    first = t.held_out.measure(t.engine.state.module)
    torch.manual_seed(99)
    assert t.held_out.measure(t.engine.state.module) == first
    levels = first["levels"]
    assert [level["t"] for level in levels] == sorted(level["t"] for level in levels)
    # The untrained network answers zero: the loss is the mean of eps^2 over 128 x 2 numbers, 1 within 5 sqrt(2/256).
    assert all(abs(level["loss"] - 1) < 5 * (2 / 256) ** 0.5 for level in levels)


def test_what_is_measured_is_even_however_times_are_drawn(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset, "objective.times=loss-aware", "target=v")
    first = t.held_out.measure(t.engine.state.module)
    for p in t.engine.loss.parameters():
        p.data.add_(torch.linspace(-2, 2, p.numel()).view_as(p))
    uniform = torch.linspace(0.05, 0.95, 9, dtype=torch.float64)
    drawn, even = (t.engine.loss.noise_levels(t.engine.state.module, uniform, even) for even in (False, True))
    assert (drawn[0] - even[0]).abs().max() > 0.1  # type: ignore[index]
    assert t.held_out.measure(t.engine.state.module) == first


def test_a_budget_ends_in_time_with_everything_on_disk(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    assert t.train(seconds=0.5) == "budget"
    assert t.steps > 1
    assert checkpoint.newest(tmp_path / "checkpoints", pytest.fail).name == f"{t.images:012d}"  # type: ignore[union-attr]
    assert rows(tmp_path, "stop")[-1]["reason"] == "budget"
    assert (tmp_path / "model.safetensors").exists()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_ctrl_c_ends_at_a_step_with_a_checkpoint(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)

    def watch(progress: TrainingProgress) -> None:
        if progress.step == 7 and progress.phase == "training":
            os.kill(os.getpid(), signal.SIGINT)

    assert t.train(steps=1000, watch=watch) == "interrupted"
    assert t.steps == 7
    assert checkpoint.newest(tmp_path / "checkpoints", pytest.fail).name == f"{7 * 32:012d}"  # type: ignore[union-attr]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_the_closing_measurement_loses_nothing(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = trainer(tmp_path, dataset)
    measure = t.held_out.measure

    def interrupted(*args: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(HeldOut, "measure", lambda self, *args: interrupted(*args))
    t.train(steps=9)
    assert checkpoint.newest(tmp_path / "checkpoints", pytest.fail).name == f"{9 * 32:012d}"  # type: ignore[union-attr]
    assert rows(tmp_path, "stop")[-1]["step"] == 9


class Poisoned(nn.Module):
    """Passes its input on until told otherwise; then NaN, or an infinite gradient."""

    mode = "fine"

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "nan":
            return x * float("nan")
        if self.mode == "gradient":
            x.register_hook(lambda gradient: gradient * float("inf"))
        return x


@pytest.mark.parametrize(("mode", "what"), [("nan", "non-finite loss"), ("gradient", "non-finite gradient")])
def test_a_bad_layer_is_named_and_the_last_checkpoint_is_whole(
    tmp_path: Path, dataset: Dataset, mode: str, what: str
) -> None:
    t = trainer(tmp_path, dataset)
    poison = Poisoned()
    inner = t.engine.state.module.network

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.poison = poison

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            y: Tensor = self.poison(self.inner(x, label))
            return y

    t.engine.state.module.network = Wrapped()

    def watch(progress: TrainingProgress) -> None:
        if progress.step == 5:
            poison.mode = mode

    t.engine.state.ema.update = lambda *args: None  # type: ignore[method-assign, assignment]
    before = {}

    def remember(progress: TrainingProgress) -> None:
        watch(progress)
        before.update({k: v.clone() for k, v in inner.state_dict().items()})

    with pytest.raises(NonFiniteError, match=what) as caught:
        t.train(steps=100, watch=remember)
    message = str(caught.value)
    assert "step 6" in message
    assert "log-SNR" in message
    assert ("poison" if mode == "nan" else "inner") in message
    # The update was not made.
    assert all(torch.equal(before[k], v) for k, v in inner.state_dict().items())
    assert checkpoint.newest(tmp_path / "checkpoints", pytest.fail) is not None
    assert rows(tmp_path, "stop")[-1]["reason"] == "non-finite"


def test_finite_losses_whose_mean_overflows_are_explained() -> None:
    from sfumato.training.nonfinite import explain_losses

    losses = torch.full((4,), 3e38)
    why = explain_losses(losses, torch.zeros(4, 2), torch.tensor([5, 9, 1000, 2]), torch.arange(4.0), [])
    assert why.startswith("samples 5, 9, 1,000, 2 in a batch of 4, at log-SNR 0.00 to 3.00; ")
    assert "training.learning_rate" in why


def test_poisoned_data_is_called_that(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    values = t.model.spec.encode(dataset.values)
    row = Order(len(t.engine.data), t.model.recipe.training.seed).indices(40, 1)
    number = int((values == t.engine.data.take(row).values).all(1).nonzero())
    poison(t, row)
    with pytest.raises(NonFiniteError, match=rf"step 2: sample {number} in a batch.*the data itself is not finite"):
        t.train(steps=100)


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.train(steps=3)
    next(t.engine.state.module.parameters()).data[:] = float("inf")
    with pytest.raises(NonFiniteError, match="non-finite weights"):
        t.save()
    parts, _ = checkpoint.load(checkpoint.newest(tmp_path / "checkpoints", pytest.fail))  # type: ignore[arg-type]
    assert all(value.isfinite().all() for value in parts["weights"].values())


def test_nothing_to_resume(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no whole checkpoint"):
        trainer(tmp_path, dataset).resume(pytest.fail)


def test_a_run_is_wound_back_and_goes_on_with_half_the_step(tmp_path: Path, dataset: Dataset) -> None:
    """A network that fails for two steps at the learning rate it was given, and not at half of it."""
    t = trainer(tmp_path, dataset)
    t.options = replace(t.options, on_nonfinite="rewind")
    original = t.engine.loss.forward

    def fragile(*args: object) -> Tensor:
        losses: Tensor = original(*args)  # type: ignore[arg-type]
        return losses * (float("nan") if t.steps == 9 and t.engine.state.rewinds < 2 else 1.0)

    t.engine.loss.forward = fragile  # type: ignore[method-assign, assignment]
    before = rate(t)
    assert t.train(steps=30) == "steps"
    assert (t.steps, t.engine.state.rewinds) == (30, 2)
    assert rate(t) == before / 4
    assert [row["rewinds"] for row in rows(tmp_path, "rewind")] == [1, 2]
    # The checkpoint that it was rewound to does not know of it, and one made after it does.
    assert [rewinds(tmp_path / "metrics.jsonl", images) for images in (-1, t.images)] == [0, 2]
    assert "non-finite loss at step 10" in str(rows(tmp_path, "rewind")[0]["reason"])
    assert all(p.isfinite().all() for p in t.engine.state.module.parameters())
    again = trainer(tmp_path, dataset)
    again.resume(pytest.fail)
    assert rate(again) == before / 4


def test_what_does_not_mend_ends_after_three_rewinds(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.options = replace(t.options, on_nonfinite="rewind")
    poison(t, t.engine.draws.order.indices(40, 1))
    with pytest.raises(NonFiniteError, match=r"the data itself is not finite; 3 rewinds have not helped"):
        t.train(steps=100)


def test_a_rewind_drops_what_was_recorded_beyond(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.options = replace(t.options, on_nonfinite="rewind")
    failed = []
    original = t.engine.loss.forward

    def fails_once(*args: object) -> Tensor:
        losses: Tensor = original(*args)  # type: ignore[arg-type]
        if t.steps == 70 and not failed:
            failed.append(t.steps)
            return losses * float("nan")
        return losses

    t.engine.loss.forward = fails_once  # type: ignore[method-assign, assignment]
    t.train(steps=75)  # the only checkpoint by then is that of the beginning, and 2,016 images were measured
    steps = [row["step"] for row in rows(tmp_path, "train")]
    assert steps == [25, 50, 75]
    measured = [row["images"] for row in rows(tmp_path, "held_out")]
    assert measured == sorted(set(measured))


def test_of_several_averages_the_one_with_the_best_bound_is_the_model(tmp_path: Path, dataset: Dataset) -> None:
    t = trainer(tmp_path, dataset)
    t.train(steps=120)
    (row,) = rows(tmp_path, "average")
    bounds = dict(row["bounds"])  # type: ignore[call-overload]
    assert bounds[row["width"]] == min(bounds.values())
    assert len(bounds) > 3
    assert t._bound.value(t.averaged.module, row["samples"]) == pytest.approx(min(bounds.values()), rel=1e-12)
    saved = Model.fresh(t.model.recipe, dataset.spec)
    load_weights(saved.module, tmp_path / "model.safetensors")
    for ours, theirs in zip(saved.module.parameters(), t.averaged.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
