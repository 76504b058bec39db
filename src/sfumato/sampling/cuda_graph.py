"""Runs of a sampler as CUDA graphs: the GPU gets a whole run at once and never waits for Python between kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Recorder = Callable[[Function, tuple[Tensor, ...]], tuple[Callable[[], Any], Tensor]]
"""``(function, inputs) -> (replay, output)``: ``replay`` computes the output again from the current inputs."""


def cuda_graph(function: Function, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], Any], Tensor]:
    """Record ``function(*inputs)`` on the current GPU."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            output = function(*inputs)
    finally:
        torch.cuda.set_stream(stream)  # a recording that fails does not restore it
    return graph.replay, output


class Recorded:
    """A function of tensors on a GPU, computed directly or by replaying a recording of it.

    The first call computes, which also warms up the GPU's libraries. The second call with inputs of the same shapes
    records. The recording is used only if it gives the result of the first call for the inputs of the first call:
    values from the host, which are fixed in a recording, would differ. A function that cannot be recorded is computed.

    Arguments:
        function: a function of tensors without side effects.
        record: makes the recording.
    """

    def __init__(self, function: Function, record: Recorder = cuda_graph) -> None:
        self._function = function
        self._record = record
        self._first: tuple[tuple[Tensor, ...], Tensor] | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._replay: Callable[[], Any] | None = None
        self._output: Tensor | None = None
        self._refused = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self._first is None:
            first = self._function(*inputs)
            self._first = tuple(x.clone() for x in inputs), first.clone()
            return first
        if self._refused or [x.shape for x in inputs] != [x.shape for x in self._first[0]]:
            return self._function(*inputs)
        if self._replay is None:
            self._make(*self._first)
        answer = self._again(inputs)
        # A result that is not finite is computed again directly: that names the first row that is not finite.
        return self._function(*inputs) if answer is None or not answer.isfinite().all() else answer

    def _make(self, inputs: tuple[Tensor, ...], expected: Tensor) -> None:
        self._inputs = tuple(torch.zeros_like(x) for x in inputs)
        try:
            self._replay, self._output = self._record(self._function, self._inputs)
            found = self._again(inputs)
        except RuntimeError:  # CUDA's, for an operation that waits for the GPU or moves data to it
            found = None
        if found is None or not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            self._refused, self._replay, self._output = True, None, None

    def _again(self, inputs: tuple[Tensor, ...]) -> Tensor | None:
        if self._replay is None or self._output is None:
            return None
        for mine, its in zip(self._inputs, inputs, strict=True):
            mine.copy_(its)
        self._replay()
        return self._output.clone()
