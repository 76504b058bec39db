"""The loop that runs every tableau: ``iterate`` one row at a time, ``run`` from the first row to the last."""

import math
from collections.abc import Callable, Generator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import NoiseSource, Prediction
from sfumato.denoisers import Condition, Denoiser, check_rows
from sfumato.errors import InputError

from .tableau import Tableau

Watch = Callable[[int, Tensor, Tensor, Prediction], None]
"""``(number, t, x, prediction)``: called after evaluation ``number``, from 0, with the state that was evaluated."""


class RowResult(NamedTuple):
    """What one row of a tableau did.

    Arguments:
        row: number of the row, from 0.
        t: time of its evaluation; None for a row that evaluates nothing.
        x: the state that was evaluated.
        prediction: what the denoiser returned; None for a row that evaluates nothing.
        next_x: the state that the row made.
    """

    row: int
    t: Tensor | None
    x: Tensor
    prediction: Prediction | None
    next_x: Tensor


def iterate(
    denoiser: Denoiser,
    tableau: Tableau,
    x: Float[Tensor, "b *s"],
    *,
    noise: NoiseSource | None = None,
    cond: Condition | None = None,
    check: bool = True,
) -> Generator[RowResult, Tensor | None, Float[Tensor, "b *s"]]:
    """A generator that runs ``tableau`` from the state ``x`` and yields after each row.

    Between rows the caller decides: wait, stop (``close`` frees the memory), or go on from another state:

        rows = iterate(denoiser, tableau, x)
        for result in rows:
            rows.send(torch.where(known, pixels, result.next_x))

    ``send`` replaces the newest state and returns the changed result; the row after it starts from there. States and
    estimates of earlier rows, which multistep methods use again, stay as they were. ``StopIteration.value`` is the last
    state.

    Arguments:
        denoiser: the denoiser to evaluate.
        tableau: the sampler.
        x: the first state (B, *); it is not changed.
        noise: row r takes draw r + 1; needed where the tableau adds noise.
        cond: the condition of each sample, or None.
        check: on a GPU, check after the last row that all estimates were finite. On a CPU each row is checked.

    Raises:
        InputError: the tableau adds noise and there is no source, or needs a learned variance that the denoiser does
            not have; a condition with another number of rows; a sent state of another shape, type or device.
        FloatingPointError: an estimate is not finite; names the row, the time and the method.
    """
    if noise is None and tableau.stochastic:
        raise InputError("noise: this sampler adds noise at its steps; give a source, e.g. SeededNoise.samples(0, 64)")
    check_rows(cond, len(x))
    return _iterate(denoiser, tableau, x, noise, cond, check)


def run(
    denoiser: Denoiser,
    tableau: Tableau,
    x: Float[Tensor, "b *s"],
    *,
    noise: NoiseSource | None = None,
    cond: Condition | None = None,
    watch: Watch | None = None,
    check: bool = True,
) -> Float[Tensor, "b *s"]:
    """The last state of ``tableau`` from the state ``x``, (B, *).

    Arguments:
        denoiser: the denoiser to evaluate.
        tableau: the sampler.
        x: the first state (B, *); it is not changed.
        noise: row r takes draw r + 1; needed where the tableau adds noise.
        cond: the condition of each sample, or None.
        watch: called after each row that evaluates.
        check: on a GPU, check after the last row that all estimates were finite. On a CPU each row is checked.

    Raises:
        InputError, FloatingPointError: as for ``iterate``.
    """
    evaluations = 0
    for result in iterate(denoiser, tableau, x, noise=noise, cond=cond, check=check):
        x = result.next_x
        if watch is not None and result.t is not None and result.prediction is not None:
            watch(evaluations, result.t, result.x, result.prediction)
            evaluations += 1
        del result  # its eps, which no row uses, would live through the next evaluation
    return x


def _iterate(
    denoiser: Denoiser,
    tableau: Tableau,
    x: Tensor,
    noise: NoiseSource | None,
    cond: Condition | None,
    check: bool,
) -> Generator[RowResult, Tensor | None, Tensor]:
    values: dict[int, Tensor] = {}
    sums: list[tuple[int, Tensor]] = []
    on_cpu = x.device.type == "cpu"
    narrow = x.dtype == torch.float16  # finite numbers of this type can have an infinite sum
    for r, (t, terms, small, large, spent) in enumerate(tableau.compiled):
        before = values[2 * r] = x
        std: float | Tensor = small
        prediction: Prediction | None = None
        if t is not None:
            prediction = denoiser(x, t, cond)
            values[2 * r + 1] = prediction.x_0
            # Not finite if any element is not.
            total = prediction.x_0.float().sum() if narrow else prediction.x_0.sum()
            if not on_cpu:
                sums.append((r, total.detach()))  # reading it now would stop the queue
            elif not math.isfinite(total.item()):
                raise _not_finite(tableau, r)
            if small != large:
                std = _learned(prediction, small, large)
        if terms:
            j, coefficient = terms[0]
            x = values[j] * coefficient
            for j, coefficient in terms[1:]:
                x.add_(values[j], alpha=coefficient)
        else:  # noise alone: a jump back to where no signal is left
            x = torch.zeros_like(x)
        if large and noise is not None:
            _add_noise(x, noise(r + 1, x), std)
        for j in spent:
            del values[j]
        sent = yield RowResult(r, t, before, prediction, x)
        while sent is not None:
            x = _like(sent, x)
            sent = yield RowResult(r, t, before, prediction, x)
        del before, prediction  # eps, which no row uses, would live through the next evaluation
    if sums and check:
        finite = torch.stack([total for _, total in sums]).isfinite().tolist()
        if not all(finite):
            raise _not_finite(tableau, sums[finite.index(False)][0])
    return x


def _add_noise(x: Tensor, z: Tensor, std: Tensor | float) -> None:
    """``x += std z``, in place."""
    if isinstance(std, Tensor):
        x.addcmul_(z, std)
    else:
        x.add_(z, alpha=std)


def _learned(prediction: Prediction, small: float, large: float) -> Tensor:
    if prediction.variance_share is None:
        raise InputError("variance: this model has not learned one; use 'posterior' or 'beta'")
    return small * (large / small) ** prediction.variance_share if small else large * (prediction.variance_share >= 1)


def _like(sent: Tensor, x: Tensor) -> Tensor:
    """``sent``, if it can take the place of ``x``."""
    given, wanted = ((v.shape, v.dtype, v.device) for v in (sent, x))
    if given != wanted:
        raise InputError(
            f"send: a state of shape {tuple(sent.shape)}, {sent.dtype}, on {sent.device} cannot replace one of shape "
            f"{tuple(x.shape)}, {x.dtype}, on {x.device}; send one of the same shape, type and device"
        )
    return sent


def _not_finite(tableau: Tableau, row: int) -> FloatingPointError:
    return FloatingPointError(
        f"{tableau.name}: the estimate of x_0 at row {row} (t = {float(tableau.times[row]):.6g}) is not finite; "
        "the network or its input overflowed: use more steps, a smaller guidance weight, or float32"
    )
