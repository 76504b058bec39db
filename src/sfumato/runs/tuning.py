"""Fit samplers with few evaluations to a trained model, and continue a fit that was interrupted."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sfumato.errors import InputError
from sfumato.files import no_permission, write_text, write_with
from sfumato.guided import as_sampled
from sfumato.model import Model
from sfumato.model_folder import TableKey, read_fitted, write_fitted
from sfumato.reporting import SILENT, Reporter, duration
from sfumato.sampling import Tableau, fitting
from sfumato.training.lock import Lock

from .device import pick_device
from .folder import RunFolder
from .loading import load_with_samplers
from .outputs import require_writable_run
from .settings import TuneSettings
from .threads import threads

FINE = fitting.FINE  # evaluations of the solution that errors are distances to


@dataclass(frozen=True, eq=False)
class Tuned:
    """One fit.

    Arguments:
        result: what was found: evaluations, whether it was kept, errors of the fit and of the best fixed table.
        seconds: the time it took; None if it was done before.
    """

    result: Mapping[str, Any]
    seconds: float | None

    def describe(self) -> str:
        """The result as a line of text."""
        errors, classical = self.result["errors"], self.result["classical"]
        when = "done before" if self.seconds is None else f"in {duration(self.seconds)}"
        head = f"{self.result['evaluations']:3d} evaluations: "
        if self.result["kept"]:
            return (
                f"{head}error {errors['rms']:.3g}, median {errors['median']:.3g}; the best fixed table has "
                f"{classical['rms']:.3g}, median {classical['median']:.3g}; {when}"
            )
        return (
            f"{head}no better than the best fixed table (error {classical['rms']:.3g}, median "
            f"{classical['median']:.3g}), which stays in use; {when}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The result as --json prints it."""
        return {**self.result, "seconds": round(self.seconds or 0.0, 3)}


class Tuning:
    """Fits tables to one model. The state of each fit is kept in RUN/tuning.

    Arguments:
        settings: the settings of ``tune``.

    Raises:
        InputError: a model without a sampler, a budget or a number of trajectories that cannot be fitted.
    """

    def __init__(self, settings: TuneSettings) -> None:
        self.settings = settings
        self.folder = RunFolder(settings.run)
        self.model = as_sampled(load_with_samplers(settings.run, pick_device(settings.device)))
        require_writable_run(settings.run)
        self.denoiser = self.model.sampling_denoiser()
        for evaluations in settings.budgets:
            fitting.check_budget(evaluations)
        self.iterations = settings.iterations or fitting.ITERATIONS
        self.count = settings.count or fitting.count_for(self.model.spec.model_shape)
        if self.count < fitting.LEAST:
            raise InputError(
                f"--count: {self.count} trajectories are too few to fit and to test; give at least {fitting.LEAST}"
            )
        if self.folder.tuning.is_file():
            raise InputError(f"{self.folder.tuning}: is a file; move it, the state of tuning is kept in this folder")
        self.folder.tuning.mkdir(exist_ok=True)
        self.lock = Lock(RunFolder(self.folder.tuning), "fitting samplers in it")
        self._paths: fitting.Trajectories | None = None

    def fit(self, evaluations: int, reporter: Reporter = SILENT) -> Tuned:
        """Fit a table of that many evaluations, and keep it in the run if it beats the best fixed one.

        A fit that was done before with the same settings is not repeated; one that was interrupted continues. One
        process at a time fits.

        Raises:
            InputError: another process fits samplers to this model.
        """
        with self.lock, threads(self.settings.threads, self.settings.run):
            return self._fit_locked(evaluations, reporter)

    def _fit_locked(self, evaluations: int, reporter: Reporter) -> Tuned:
        fitted = read_fitted(self.folder.path, self.model.fitted_to)[0]  # another process may have added some
        state = self._state(evaluations)
        if state.get("done") and (not state["kept"] or self._key(evaluations) in fitted):
            return Tuned(state["result"], None)
        if self._paths is None:
            self._paths = self._trajectories(reporter)
        started = time.monotonic()
        fit = self._fit(evaluations, self._paths, state, fitted.get(self._key(evaluations)), reporter)
        result = {
            "evaluations": evaluations,
            "kept": fit.kept,
            "iterations": fit.iterations,
            "trajectories": len(self._paths.x),
            "errors": vars(fit.errors),
            "classical": vars(fit.classical),
            "sampler": fit.tableau.name,
        }
        if fit.kept:
            write_fitted(self.folder.path, self._key(evaluations), fit.tableau, self.model.fitted_to, result)
        else:
            (self.folder.path / self._key(evaluations).file).unlink(missing_ok=True)
        self._write(evaluations, {"done": True, "kept": fit.kept, "result": result})
        return Tuned(result, time.monotonic() - started)

    def _fit(
        self,
        evaluations: int,
        paths: fitting.Trajectories,
        state: Mapping[str, Any],
        rival: Tableau | None,
        reporter: Reporter,
    ) -> fitting.Fit:
        start = fitting.FitState(**state["progress"]) if "progress" in state else None
        with reporter.task(f"fitting {evaluations} evaluations") as task:

            def watch(reached: fitting.FitState, errors: fitting.Errors) -> None:
                text = f"held-out error {errors.rms:.2g}, median {errors.median:.2g}"
                task.update(reached.iteration / self.iterations, text)
                self._write(evaluations, {"done": False, "progress": vars(reached)})

            return fitting.fit_tableau(
                self.denoiser,
                evaluations,
                paths,
                iterations=self.iterations,
                usual=replace(self.model, fitted={}).tableau("auto", evaluations),
                rival=rival,
                state=start,
                watch=watch,
            )

    def _trajectories(self, reporter: Reporter) -> fitting.Trajectories:
        """The fine trajectories; kept in the folder, so that they are computed once."""
        path = self.folder.tuning / f"trajectories-{self.count}-seed{self.settings.seed}.safetensors"
        about = {"weights": self.model.fitted_to, "count": str(self.count), "seed": str(self.settings.seed)}
        about |= self._sampled
        cond = self.model.condition(self.count)
        try:
            with safe_open(path, framework="pt", device=str(self.model.device)) as file:
                if file.metadata() == about:
                    kept = None if cond is None else cond.to(self.model.device)
                    return fitting.Trajectories(file.get_tensor("x"), file.get_tensor("x_0"), kept)
        except PermissionError:
            raise no_permission(path) from None
        except (OSError, SafetensorError):
            pass  # missing or damaged: computed again
        with reporter.task("fine trajectories") as task:
            shape, seed = self.model.spec.model_shape, self.settings.seed
            paths = fitting.trajectories(self.denoiser, shape, self.count, seed=seed, cond=cond, progress=task.count)
        tensors = {"x": paths.x.cpu().contiguous(), "x_0": paths.x_0.cpu().contiguous()}
        write_with(path, lambda beside: save_file(tensors, beside, metadata=about))
        return paths

    # ------------------------------------------------------------------------------------------ the state of a fit

    @property
    def _identity(self) -> dict[str, Any]:
        """The settings and weights that a state is valid for."""
        count, seed = self.settings.count, self.settings.seed
        found = {"weights": self.model.fitted_to, "count": count, "seed": seed, "iterations": self.iterations}
        return {**found, **self._sampled}

    @property
    def _sampled(self) -> dict[str, str]:
        """What is sampled, where that is not the unconditional model."""
        return {name: text for name, text in vars(self.model.sampled()).items() if text}

    def _key(self, evaluations: int) -> TableKey:
        return TableKey(evaluations, self.model.sampled())

    def _state_file(self, evaluations: int) -> Path:
        return self.folder.tuning / f"{evaluations}.json"

    def _write(self, evaluations: int, state: Mapping[str, Any]) -> None:
        write_text(self._state_file(evaluations), json.dumps({**self._identity, **state}) + "\n")

    def _state(self, evaluations: int) -> dict[str, Any]:
        """The state of an earlier fit with the same settings; empty if there is none, or it is damaged."""
        try:
            state: dict[str, Any] = json.loads(self._state_file(evaluations).read_text(encoding="utf-8"))
            if any(state[key] != value for key, value in self._identity.items()):
                return {}
            if state["done"]:
                result = state["result"]
                found = [result[kind][name] for kind in ("errors", "classical") for name in ("rms", "median")]
                sound = result["kept"] == state["kept"] and result["evaluations"] == evaluations
            else:
                progress = fitting.FitState(**state["progress"])
                found = [*progress.numbers, *progress.best, progress.damping, progress.best_objective]
                sound = len(progress.numbers) == len(progress.best) == fitting.numbers_of(evaluations)
            return state if sound and all(isinstance(value, float) for value in found) else {}
        except PermissionError:
            raise no_permission(self._state_file(evaluations)) from None
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def describe_table(tableau: Tableau, model: Model) -> str:
    """A table as text: each new state as a combination of the states x_r and the estimates h_r before it."""
    level = model.denoiser.process.level(tableau.times)
    found = [f"{tableau.name}; h_r is the estimate of x_0 at x_r", "row         t   log-SNR"]
    for r, t in enumerate(tableau.times.tolist()):
        where = f"{'-':>9} {'-':>9}" if t != t else f"{t:9.6f} {float(level.logsnr[r]):9.4f}"
        columns = ((tableau.states, "x"), (tableau.estimates, "h"))
        terms = [
            f"{float(column[r, j]):+.5f} {name}_{j}"
            for column, name in columns
            for j in range(r + 1)
            if column[r, j] != 0
        ]
        found.append(f"{r:3d} {where}   x_{r + 1} = {' '.join(terms)}")
    return "\n".join(found)


def fitted_table(settings: TuneSettings, evaluations: int) -> str:
    """The table in use for that many evaluations, as text."""
    model = load_with_samplers(settings.run)
    return describe_table(model.tableau("auto", evaluations), model)
