"""Runs of a sampler as CUDA graphs: a GPU that is told all of a run at once never waits for Python between kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Recorder = Callable[[Function, tuple[Tensor, ...]], tuple[Callable[[], Any], Tensor]]
"""``(function, inputs) -> (replay, output)``: replaying computes the output anew from what is in the inputs by then."""


def cuda_graph(function: Function, inputs: tuple[Tensor, ...]) -> tuple[Callable[[], Any], Tensor]:
    """Record ``function(*inputs)`` on the current GPU."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            output = function(*inputs)
    finally:
        torch.cuda.set_stream(stream)  # which a recording that fails does not give back
    return graph.replay, output


class Recorded:
    """``function`` of tensors, without side effects, on a GPU; computed as it is, or by a recording of it.

    The first call is computed, which also warms up what the GPU's libraries choose once. The second call with inputs
    of the same shapes records, and takes the recording only if it gives the first call's answer to the first call's
    inputs: what came from the host, and is now fixed in it, would show. What cannot be recorded is computed.
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
        # What is not finite is computed once more, as that tells where it began.
        return self._function(*inputs) if answer is None or not answer.isfinite().all() else answer

    def _make(self, inputs: tuple[Tensor, ...], expected: Tensor) -> None:
        self._inputs = tuple(torch.zeros_like(x) for x in inputs)
        try:
            self._replay, self._output = self._record(self._function, self._inputs)
            found = self._again(inputs)
        except RuntimeError:  # of CUDA: something that waits for the GPU, or moves data to it
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
