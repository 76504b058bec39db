"""Fit samplers to a trained model: tables of few evaluations that end where many would.

For each budget the levels and coefficients of a sampler are fitted to the model's own fine trajectories, and kept
beside the model as sampler-N.json where they beat the best fixed table on trajectories held out. From then on,
sampling with N evaluations uses them. Interrupted or killed, the same command goes on; budgets that are done are not
done again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import InputError

from . import common

if TYPE_CHECKING:
    from sfumato.denoisers import Denoiser
    from sfumato.model import Model
    from sfumato.sampling import Tableau
    from sfumato.sampling.fitting import Errors, Fit, FitState, Trajectories

EXAMPLES = """\
examples:
  sfumato tune runs/demo                          8 evaluations, minutes on a small model
  sfumato tune runs/demo --nfe 5,8,10,15,20
  sfumato tune runs/demo --nfe 8 --show           and print the table
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run or model folder")
    parser.add_argument(
        "--nfe",
        type=common.counts,
        default=[8],
        metavar="N,N,...",
        help="numbers of evaluations of the network to fit a sampler for, 2 to 32 each (default: 8)",
    )
    parser.add_argument("--count", type=common.positive, help="trajectories to fit to (default: by the data's size)")
    parser.add_argument("--iterations", type=common.positive, help="iterations of the fit, at most (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="which trajectories (default: 0)")
    parser.add_argument("--show", action="store_true", help="print the fitted tables")
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Fit and write."""
    from sfumato.files import write_text
    from sfumato.model import Model, write_fitted
    from sfumato.sampling import fitting

    out = common.Output(args)
    model = Model.from_pretrained(args.run_folder, common.pick_device(args.device))
    denoiser = model.beliefs()  # before a folder is made: a model without one is refused
    for evaluations in args.nfe:
        fitting.check_budget(evaluations)
    iterations = args.iterations or fitting.ITERATIONS
    settings = {"weights": model.fitted_to, "count": args.count, "seed": args.seed, "iterations": iterations}
    folder = args.run_folder / "tuning"
    if folder.is_file():
        raise InputError(f"{folder}: is a file, where this run's tuning is kept; move it away")
    folder.mkdir(exist_ok=True)
    paths = None
    results = []
    for evaluations in args.nfe:
        place = folder / f"{evaluations}.json"
        state = _read(place, settings, evaluations)
        if state.get("done") and (not state["kept"] or evaluations in model.fitted):
            results.append({**state["result"], "seconds": 0.0})
            _say(out, state["result"], "done before")
        else:
            paths = paths or _trajectories(args, model, denoiser)
            started = time.monotonic()
            fit = _fit(args, model, denoiser, paths, evaluations, iterations, place, settings, state)
            result: dict[str, Any] = {
                "evaluations": evaluations,
                "kept": fit.kept,
                "iterations": fit.iterations,
                "trajectories": len(paths.x),
                "errors": vars(fit.errors),
                "classical": vars(fit.classical),
                "sampler": fit.tableau.name,
            }
            if fit.kept:
                write_fitted(args.run_folder, fit.tableau, model.fitted_to, result)
            else:
                (args.run_folder / f"sampler-{evaluations}.json").unlink(missing_ok=True)
            write_text(place, json.dumps({**settings, "done": True, "kept": fit.kept, "result": result}) + "\n")
            seconds = time.monotonic() - started
            results.append({**result, "seconds": round(seconds, 3)})
            _say(out, result, f"in {common.duration(seconds)}")
        if args.show:
            ready = Model.from_pretrained(args.run_folder)
            out.say(table(ready.tableau("auto", evaluations), ready))
    out.say(f"errors are distances to the model's own solution with {fitting.FINE} evaluations, in the model's units")
    out.result({"run": str(args.run_folder), "fits": results})
    return 0


def table(tableau: "Tableau", model: "Model") -> str:
    """A table for a person: each new state as a combination of the states x_r and the estimates h_r before it."""
    level = model.denoiser.process.level(tableau.times)
    lines = [f"{tableau.name}, h_r the estimate of x_0 at x_r", "row         t   log-SNR"]
    for r, t in enumerate(tableau.times.tolist()):
        where = f"{'-':>9} {'-':>9}" if t != t else f"{t:9.6f} {float(level.logsnr[r]):9.4f}"
        parts = ((tableau.states, "x"), (tableau.estimates, "h"))
        terms = [
            f"{float(part[r, j]):+.5f} {name}_{j}" for part, name in parts for j in range(r + 1) if part[r, j] != 0
        ]
        lines.append(f"{r:3d} {where}   x_{r + 1} = {' '.join(terms)}")
    return "\n".join(lines)


def _trajectories(args: argparse.Namespace, model: "Model", denoiser: "Denoiser") -> "Trajectories":
    """The fine trajectories, kept beside the fits so that they are made once."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    from sfumato.files import write_with
    from sfumato.sampling import fitting

    count = args.count or fitting.count_for(model.spec.shape)
    if count < fitting.LEAST:
        raise InputError(f"--count: {count} trajectories are too few to fit to and to judge by; give {fitting.LEAST}")
    place = args.run_folder / "tuning" / f"trajectories-{count}-seed{args.seed}.safetensors"
    about = {"weights": model.fitted_to, "count": str(count), "seed": str(args.seed)}
    try:
        with safe_open(place, framework="pt", device=str(model.device)) as file:
            if file.metadata() == about:
                return fitting.Trajectories(file.get_tensor("x"), file.get_tensor("x_0"))
    except (OSError, SafetensorError):
        pass  # not there, or half a file of another kind: made anew
    bar = common.Bar("fine trajectories")
    try:
        paths = fitting.trajectories(denoiser, model.spec.shape, count, seed=args.seed, progress=bar.count)
    finally:
        bar.close()
    tensors = {"x": paths.x.cpu().contiguous(), "x_0": paths.x_0.cpu().contiguous()}
    write_with(place, lambda beside: save_file(tensors, beside, metadata=about))
    return paths


def _fit(
    args: argparse.Namespace,
    model: "Model",
    denoiser: "Denoiser",
    paths: "Trajectories",
    evaluations: int,
    iterations: int,
    place: Path,
    settings: dict[str, Any],
    state: dict[str, Any],
) -> "Fit":
    from sfumato.files import write_text
    from sfumato.sampling import fitting

    bar = common.Bar(f"fitting {evaluations} evaluations")
    progress = fitting.FitState(**state["progress"]) if "progress" in state else None

    def watch(progress: "FitState", errors: "Errors") -> None:
        bar.update(progress.iteration / iterations, f"held-out error {errors.rms:.2g}, median {errors.median:.2g}")
        write_text(place, json.dumps({**settings, "done": False, "progress": vars(progress)}) + "\n")

    try:
        return fitting.fit_tableau(
            denoiser,
            evaluations,
            paths,
            iterations=iterations,
            rival=model.fitted.get(evaluations),
            state=progress,
            watch=watch,
        )
    finally:
        bar.close()


def _read(place: Path, settings: dict[str, Any], evaluations: int) -> dict[str, Any]:
    """What an earlier run left at ``place`` under the same settings; nothing if there is none, or it is damaged."""
    from sfumato.sampling import fitting

    try:
        state: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if any(state[key] != value for key, value in settings.items()):
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
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _say(out: common.Output, result: dict[str, Any], when: str) -> None:
    errors, classical = result["errors"], result["classical"]
    if result["kept"]:
        out.say(
            f"{result['evaluations']:3d} evaluations: error {errors['rms']:.3g}, median {errors['median']:.3g}; "
            f"the best fixed table has {classical['rms']:.3g}, {classical['median']:.3g}; {when}"
        )
    else:
        out.say(
            f"{result['evaluations']:3d} evaluations: no better than the best fixed table ({classical['rms']:.3g}, "
            f"median {classical['median']:.3g}), which stays in use; {when}"
        )
