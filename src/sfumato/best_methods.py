"""What "auto" is for a model, by measurement on the model itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sfumato.denoisers import Condition, Denoiser
from sfumato.generate import drawing
from sfumato.sampling.choice import BUDGETS, choose

PATIENCE = 60.0  # seconds that the choice for an exact denoiser may take; most take a few


def best_methods(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    budgets: Sequence[int] = BUDGETS,
    seconds: float | None = None,
    cond: Condition | None = None,
) -> dict[int, str]:
    """The ``chosen`` of a ``Model``: by number of evaluations, the method that measures best (``sampling.choice``).

        model = replace(model, chosen=best_methods(model.sampling_denoiser(), model.spec.model_shape))

    Other numbers of evaluations take the method of the nearest budget below.

    Arguments:
        denoiser: the denoiser, as it is sampled.
        shape: shape of one sample.
        budgets: numbers of evaluations, the most important first.
        seconds: time that may be used, about; None for as long as it takes.
        cond: the condition of ``sampling.choice.STARTS`` samples, or None (``model.condition``).
    """
    with drawing(denoiser):
        return choose(denoiser, shape, budgets, cond=cond, seconds=seconds)


@dataclass(frozen=True, eq=False)
class ExactChoice:
    """The methods of a denoiser without parameters, an exact one, each chosen when it is first needed."""

    _found: dict[int, Mapping[int, str]] = field(default_factory=dict)

    def methods(self, denoiser: Denoiser, shape: tuple[int, ...], evaluations: int) -> Mapping[int, str]:
        """What ``best_methods`` finds for this budget; nothing for a denoiser with parameters."""
        if next(denoiser.parameters(), None) is not None:
            return {}
        if evaluations not in self._found:
            self._found[evaluations] = best_methods(denoiser, shape, [evaluations], PATIENCE)
        return self._found[evaluations]
