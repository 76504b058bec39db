"""Choose what "auto" is for a model, by measurement, and keep the choice beside its weights."""

from dataclasses import replace
from pathlib import Path

from sfumato.best_methods import best_methods
from sfumato.generative_model import GenerativeModel
from sfumato.model import Model
from sfumato.model_folder import weights_digest, write_chosen
from sfumato.reporting import SILENT, Reporter
from sfumato.sampling.choice import BUDGETS, STARTS

from .outputs import may_write

SHARE = 0.03  # of the training time
PART = 0.25  # of the time that a budget leaves for this and for the samples, at most
_LEAST = 0.5  # seconds: with less, nothing could be measured


def choose_sampler(
    folder: Path, model: GenerativeModel, seconds: float, reporter: Reporter = SILENT
) -> GenerativeModel:
    """The model with what "auto" is for it, measured in about ``seconds`` and written into its ``folder``.

    The model's own number of evaluations comes first. A model is returned as it is if it has no samplers, or if there
    is no time.
    """
    return with_choice(folder, model, seconds, reporter) if isinstance(model, Model) else model


def with_choice(folder: Path, model: Model, seconds: float, reporter: Reporter = SILENT) -> Model:
    """As ``choose_sampler``. A model that has its choice already, or whose folder cannot be written, is returned."""
    if model.chosen or seconds < _LEAST or not may_write(folder):
        return model
    own = model.plan().evaluations
    budgets = [*([] if own is None else [own]), *sorted(BUDGETS, key=lambda n: abs(n - (own or 0)))]
    with reporter.task("choosing a sampler"):
        denoiser, cond = replace(model, guidance=None).sampling_denoiser(), model.condition(STARTS)
        chosen = best_methods(denoiser, model.spec.model_shape, list(dict.fromkeys(budgets)), seconds, cond)
    if chosen:
        write_chosen(folder, chosen, weights_digest(folder))
    return replace(model, chosen=chosen)
