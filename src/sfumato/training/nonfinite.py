"""Losses and gradients that are not finite: detection, and messages that name step, samples, noise levels and layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import FailedError

from .shards import local


class NonFiniteError(FailedError):
    """A non-finite loss or gradient. The message names the step, the noise levels and the first bad layer."""


def explain_losses(losses: Tensor, x_0: Tensor, samples: Tensor, logsnr: Tensor | None, layers: Sequence[str]) -> str:
    """Why losses are not all finite, or "" if they are.

    Arguments:
        losses: (B,).
        x_0: the samples.
        samples: their indices (B,) in the data.
        logsnr: their noise levels (B,), or None for a loss without levels.
        layers: found by ``bad_layers``.
    """
    bad = ~losses.isfinite()
    if not bad.any():
        if losses.sum().isfinite():
            return ""
        bad = torch.ones_like(bad)  # each is finite, but their mean overflows
    where = f"{_named(samples[bad.cpu()])} in a batch of {len(losses)}"
    if logsnr is not None:
        where += f", at log-SNR {_span(logsnr[bad])}"
    if not x_0[bad].isfinite().all():
        cause = "the data itself is not finite"
    else:
        layer = layers[0] if layers else "none, the loss itself overflows; lower training.learning_rate"
        cause = f"first bad layer: {layer}"
    return f"{where}; {cause}"


def last_bad_gradient(network: nn.Module) -> int:
    """The index of the last parameter on this process whose gradient is not finite; -1 if all are.

    The backward pass runs from the output, so the last of the layers in the order of definition is where it began.
    """
    gradients = [p.grad for p in network.parameters()]
    bad = [i for i, grad in enumerate(gradients) if grad is not None and not local(grad).isfinite().all()]
    return bad[-1] if bad else -1


def explain_gradient(step: int, logsnr: Tensor | None, network: nn.Module, found: int) -> NonFiniteError:
    """The error for a step whose loss is finite and whose gradient is not. ``found`` is from ``last_bad_gradient``."""
    names = [name for name, _ in network.named_parameters()]
    layer = names[found] if found >= 0 else "none, the norm overflows; lower training.learning_rate"
    where = "" if logsnr is None else f" (log-SNR {_span(logsnr)})"
    return NonFiniteError(f"non-finite gradient at step {step}{where}; first bad layer: {layer}")


def explain_loss(step: int, texts: Sequence[str]) -> NonFiniteError:
    """The error for a step with losses that are not finite, from the results of ``explain_losses`` on each process."""
    several = len(texts) > 1
    shown = [f"process {rank}: {text}" if several else text for rank, text in enumerate(texts) if text]
    return NonFiniteError(f"non-finite loss at step {step}: {'; '.join(shown)}")


def flag(found: Tensor, number: Tensor) -> None:
    """Set ``found`` to 1 if ``number`` is not finite, without waiting for a GPU; a 1 stays a 1."""
    found.copy_(torch.maximum(found, (~number.isfinite()).float()))


def _named(samples: Tensor) -> str:
    """The indices of the first few samples, and how many more there are."""
    numbers = [f"{int(n):,}" for n in samples[:5]]
    more = len(samples) - len(numbers)
    return f"sample{'s' * (len(samples) > 1)} {', '.join(numbers)}{f' and {more} more' if more else ''}"


def _span(logsnr: Tensor) -> str:
    low, high = float(logsnr.min()), float(logsnr.max())
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


@contextmanager
def bad_layers(network: nn.Module) -> Iterator[list[str]]:
    """Collect the names of layers whose output is not finite inside the context, in order of execution."""
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def check(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return check

    # Children finish before their parents, so the first name found is the innermost layer.
    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if name]
    try:
        with torch.compiler.set_stance("force_eager"):  # compiled layers call no hooks
            yield found
    finally:
        for handle in handles:
            handle.remove()
