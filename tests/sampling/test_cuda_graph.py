"""Recordings of a function, with a recorder that needs no GPU; and what a GPU is asked for in a run."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.sampling.cuda_graph import Recorded


class Tape:
    """Records by computing again; ``fixed`` inputs stay as they were when it was made."""

    def __init__(self, fixed: bool = False) -> None:
        self.made = self.replayed = 0
        self._fixed = fixed

    def __call__(
        self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]
    ) -> tuple[Callable[[], None], Tensor]:
        self.made += 1
        output = function(*inputs)
        kept = tuple(x.clone() for x in inputs)

        def replay() -> None:
            self.replayed += 1
            output.copy_(function(*(kept if self._fixed else inputs)))

        return replay, output


def double(x: Tensor, y: Tensor) -> Tensor:
    return 2 * x + y


def test_a_recording_answers_as_the_function_does() -> None:
    tape = Tape()
    recorded = Recorded(double, tape)
    inputs = [(torch.randn(3), torch.randn(3)) for _ in range(4)]
    answers = [recorded(*pair) for pair in inputs]
    for pair, answer in zip(inputs, answers, strict=True):
        assert torch.equal(answer, double(*pair))
    assert (tape.made, tape.replayed) == (1, 4)  # once to compare
    assert torch.equal(recorded(torch.ones(2), torch.ones(2)), torch.full((2,), 3.0))  # a last batch is shorter
    assert (tape.made, tape.replayed) == (1, 4)


def test_one_call_records_nothing() -> None:
    tape = Tape()
    Recorded(double, tape)(torch.ones(2), torch.ones(2))
    assert tape.made == 0


def test_a_recording_of_fixed_inputs_is_dropped() -> None:
    tape = Tape(fixed=True)
    recorded = Recorded(double, tape)
    for value in (1.0, 2.0, 3.0):
        assert torch.equal(recorded(torch.full((2,), value), torch.zeros(2)), torch.full((2,), 2 * value))
    assert (tape.made, tape.replayed) == (1, 1)


def test_what_cannot_be_recorded_is_computed() -> None:
    def refuses(function: object, inputs: object) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorded = Recorded(double, refuses)
    for value in (1.0, 2.0):
        assert torch.equal(recorded(torch.full((2,), value), torch.zeros(2)), torch.full((2,), 2 * value))


def test_an_answer_that_is_not_finite_is_explained_by_the_function() -> None:
    def function(x: Tensor) -> Tensor:
        if not x.isfinite().all():
            raise FloatingPointError("row 3")
        return x + 0

    def record(function: object, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        output = torch.zeros_like(inputs[0])
        return lambda: output.copy_(inputs[0]) and None, output

    recorded = Recorded(function, record)  # type: ignore[arg-type]
    for _ in range(2):
        recorded(torch.ones(2))
    with pytest.raises(FloatingPointError, match="row 3"):
        recorded(torch.tensor([1.0, torch.inf]))
