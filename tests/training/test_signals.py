"""Signals end a run at a step boundary, the reason is recorded, and handlers are put back."""

import os
import signal
from pathlib import Path

import pytest

from sfumato import recipes
from sfumato.data import DataOptions, load
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer, TrainingProgress, checkpoint, signals


def trainer(run: Path) -> Trainer:
    dataset = load("moons", DataOptions(count=200))
    run.mkdir(exist_ok=True)
    recipe = recipes.read("ddpm", ["network.width=8", "training.batch=16"])
    return Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(run))


@pytest.mark.parametrize(("name", "reason"), list(signals.STOPS.items()))
def test_a_signal_ends_a_run_with_a_checkpoint(name: str, reason: str, tmp_path: Path) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    before = signal.getsignal(number)
    t = trainer(tmp_path)
    if name == "SIGUSR1":  # its default would end the test run, were it not heard
        signal.signal(number, lambda *_: pytest.fail("not heard"))
    former = signal.getsignal(number)

    def watch(progress: TrainingProgress) -> None:
        if progress.step == 7 and progress.phase == "training":
            os.kill(os.getpid(), number)

    answered = []
    try:
        got = t.train(steps=1000, watch=watch, answer=lambda reason, seconds: answered.append((reason, seconds >= 0)))
        assert signal.getsignal(number) is former
    finally:
        signal.signal(number, before)
    assert (got, t.steps, answered) == (reason, 7, [(reason, True)])
    newest = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)
    assert newest is not None
    assert int(newest.name) == 7 * 16
    assert (t.last_measured is None) == (reason in signals.AT_ONCE)  # no time is spent where none is given


def test_the_second_one_is_no_longer_caught() -> None:
    with signals.listen() as asked:
        assert asked() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.listen() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked() is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_a_run_that_has_gone_on_elsewhere_is_not_gone_back_over(tmp_path: Path) -> None:
    first, late = trainer(tmp_path), trainer(tmp_path)
    first.train(steps=3)
    with pytest.raises(InputError, match=r"already has 48 images.*--resume"):
        late.train(steps=2)
    late.resume(pytest.fail)
    late.train(steps=4)
