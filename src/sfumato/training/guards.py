"""What stops a run: a loss or a gradient that is not finite, said in terms that help."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import FailedError


class NonFiniteError(FailedError):
    """A non-finite loss or gradient. The message names the step, the noise levels and the first bad layer."""


def explain_loss(
    losses: Tensor,
    x_0: Tensor,
    samples: Tensor,
    logsnr: Tensor | None,
    network: nn.Module,
    rerun: Callable[[], object],
) -> str:
    """Why ``losses`` (B,) are not all finite; ``rerun`` repeats the forward pass.

    ``samples`` (B,) say which of the data ``x_0`` are; ``logsnr`` (B,) are the levels, where the loss has any.
    """
    bad = ~losses.isfinite()
    if not bad.any():  # each is finite, and their mean overflows
        bad = torch.ones_like(bad)
    where = f"{_named(samples[bad.cpu()])} of {len(losses)}"
    if logsnr is not None:
        where += f", at log-SNR {_span(logsnr[bad])}"
    if not x_0[bad].isfinite().all():
        cause = "the data itself is not finite"
    else:
        cause = f"first bad layer: {_first_bad_layer(network, rerun)}"
    return f"{where}; {cause}"


def explain_gradient(step: int, logsnr: Tensor | None, network: nn.Module) -> NonFiniteError:
    """The error for a step whose loss is finite and whose gradient is not."""
    bad = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    # Backward runs from the output: of the layers in the order of definition, the last is where it began.
    layer = bad[-1] if bad else "none by itself, the norm overflows; lower training.learning_rate"
    where = "" if logsnr is None else f" (log-SNR {_span(logsnr)})"
    return NonFiniteError(f"non-finite gradient at step {step}{where}; first bad layer: {layer}")


def _named(samples: Tensor) -> str:
    """Which samples of the data, counted from 0; a few of many."""
    numbers = [f"{int(n):,}" for n in samples[:5]]
    more = len(samples) - len(numbers)
    return f"sample{'s' * (len(samples) > 1)} {', '.join(numbers)}{f' and {more} more' if more else ''}"


def _span(logsnr: Tensor) -> str:
    low, high = float(logsnr.min()), float(logsnr.max())
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _first_bad_layer(network: nn.Module, rerun: Callable[[], object]) -> str:
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def check(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return check

    # Children finish before their parents, so the first name found is the innermost layer.
    handles = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if name]
    try:
        with torch.no_grad():
            rerun()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "none, the loss itself overflows; lower training.learning_rate"
