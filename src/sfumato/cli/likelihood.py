"""Say how likely data is under a model: bits per dimension, by term, with error bars, by two routes.

The bound (the negative ELBO) is what the noise levels cost, an upper limit for the model that samples with noise. The
flow is the exact value for the model that samples by the ODE; where the network is perfect both are one. DATA is what
'train' takes, in the same units; by default the part of the run's own data that was held out. Bare likelihood does not
tell what is foreign, so three scores that do better stand beside it. The processes of torchrun share the samples out.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.errors import InputError
from sfumato.reporting import duration

from .arguments import add_device, positive
from .output import Output

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.evaluation.likelihood import Settings
    from sfumato.evaluation.out_of_distribution import Reference
    from sfumato.generative_model import GenerativeModel
    from sfumato.likelihood import Bound, Estimate, Exact
    from sfumato.world import World

EXAMPLES = """\
examples:
  sfumato likelihood runs/demo                                  the held-out part of its own data
  sfumato likelihood runs/photos-ddpm more_photos/ -n 1000 --per-sample bits.csv
  sfumato likelihood runs/demo --evaluations all --no-flow      every level of the chain
  sfumato likelihood runs/photos-ddpm --against other_photos/   how well foreign data is told apart
"""

SHOWN = 16  # most and least likely samples in the picture
REFERENCE = 128  # training samples to compare with
SCORES = ("bits", "typicality", "complexity", "norms")
_EXPLAINED = {
    "bits": "the bound itself",
    "typicality": "|bits - mean bits of training data|",
    "complexity": "bits - bits of the best compressor",
    "norms": "Mahalanobis distance of score norms",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a run or model folder")
    parser.add_argument("data", nargs="?", metavar="DATA", help="what to score (default: the run's held-out data)")
    parser.add_argument("-n", "--count", type=positive, default=128, help="samples at most (default: 128)")
    parser.add_argument("--against", metavar="DATA2", help="a second data set, to be told from the first")
    parser.add_argument(
        "--evaluations",
        type=_evaluations,
        default=100,
        metavar="N",
        help="about how many of the network, a sample, for the bound; 'all': every level of a chain (default: 100)",
    )
    parser.add_argument("--steps", type=positive, help="a walk of so many steps, in place of the model's own levels")
    parser.add_argument(
        "--variance",
        choices=("posterior", "beta"),
        help="of the reverse steps, unless learned (default: beta for densities, posterior for data with levels)",
    )
    parser.add_argument(
        "--no-flow", dest="flow", action="store_false", help="the bound only, which is several times faster"
    )
    parser.add_argument("--tolerance", type=float, help="of the flow's ODE (default: 1e-4)")
    parser.add_argument(
        "--probes",
        type=_probes,
        help="random directions of the flow's trace, or 'exact' (default: 2; exact to 16-D)",
    )
    parser.add_argument(
        "--draws", type=positive, help="fillings of the cells between levels, importance-weighted (default: 1)"
    )
    parser.add_argument("--dequantisation", choices=("noise", "uniform"), help="what fills the cells (default: noise)")
    parser.add_argument("--seed", type=int, default=0, help="which samples, noise and levels (default: 0)")
    parser.add_argument("--batch", type=positive, default=256, help="how many at once (default: 256)")
    parser.add_argument("--per-sample", type=Path, metavar="FILE", help="write every sample's numbers as .csv")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the picture, .png; a .json goes beside it (default: in RUN)"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the picture."""
    out = Output(args)
    _check(args)
    import torch

    from sfumato.evaluation import likelihood as measuring
    from sfumato.evaluation import out_of_distribution
    from sfumato.kinds import load
    from sfumato.runs.device import pick_device
    from sfumato.world import joined

    model = load(args.run, pick_device(args.device))
    _check_use(args, model)
    settings = _settings(args, model)
    values, rows, what = _data(args, model, args.data, out)
    x_0 = measuring.encode(model, values, what)
    other = None
    if args.against is not None:
        second = _data(args, model, args.against, out)
        other = (measuring.encode(model, second[0], second[2]), second[0], second[2])
    reference_values = _training(args, model)
    sets = [x_0] + ([other[0]] if other else [])
    everything = torch.cat([*sets, *([reference_values[1]] if reference_values else [])])
    with joined(model.device) as world:
        seconds = measuring.forecast(model, everything, settings, False, world)
        if args.flow:
            with_flow, without = (measuring.forecast(model, x_0, settings, flow, world) for flow in (True, False))
            seconds += with_flow - without
        out.say(f"scoring {len(x_0)} {'sample' if len(x_0) == 1 else 'samples'} of {what}: about {duration(seconds)}")

        started = time.monotonic()
        bound = _bound(model, x_0, settings, "bound", world, out)
        flow = None if not args.flow else _flow(model, x_0, settings, world, out)
        reference = None
        if reference_values:
            base = _bound(model, reference_values[1], settings, "training data", world, out)
            norms = None
            if model.denoiser is not None:
                norms = out_of_distribution.score_norms(
                    measuring.shared(model.denoiser, world), reference_values[1], args.batch
                )
            reference = out_of_distribution.Reference(base.bits, norms)
        scores = _scores(model, values, x_0, bound, reference, args.batch, world)
        against = None
        if other is not None:
            foreign = _bound(model, other[0], settings, other[2], world, out)
            theirs = _scores(model, other[1], other[0], foreign, reference, args.batch, world)
            against = {
                "name": other[2],
                "bits": foreign.bits.tolist(),
                "bits_per_dim": _both(foreign.estimate),
                "auroc": {
                    name: _finite(vars(out_of_distribution.auroc(scores[name], theirs[name])))
                    for name in scores
                    if name in theirs
                },
            }
    if not world.is_main:
        return 0
    order = bound.bits.argsort()
    shown = min(SHOWN, len(order))
    ends = {"most": order[:shown], "least": order[-shown:].flip(0)}
    spec = model.spec
    record: dict[str, Any] = {
        "run": str(args.run),
        "data": what,
        "samples": len(x_0),
        "unit": "" if spec.unit_scale else " (standardised)",
        "deviation": float(values.double().std() if spec.unit_scale else 1.0),
        "density": spec.continuous,
        "bound": {
            **_both(bound.estimate),
            "terms": {name: _both(term) for name, term in bound.terms.items()},
            "evaluations": bound.evaluations,
        },
        "flow": None if flow is None else {**_both(flow.estimate), "evaluations": flow.evaluations},
        "scores": {
            name: {"mean": float(s.mean()), "std": float(s.std()) if len(s) > 1 else None} for name, s in scores.items()
        },
        "against": against,
        "rate_distortion": _curve(model, bound),
        **{
            name: {"samples": [rows[i] for i in index.tolist()], "bits": bound.bits[index].tolist()}
            for name, index in ends.items()
        },
        "bits": bound.bits.tolist(),
        "seed": args.seed,
        "seconds": round(time.monotonic() - started, 3),
    }
    for line in _table(record, bound, flow):
        out.say(line)
    picture = args.out or args.run / "likelihood.png"
    files = _write(record, picture, [values[index].numpy() for index in ends.values()], model)
    if args.per_sample is not None:
        files.append(_csv(args.per_sample, rows, bound, flow, scores))
    for path in files:
        out.say(str(path))
    out.result({**record, "files": [str(path) for path in files]})
    return 0


def _check_use(args: argparse.Namespace, model: "GenerativeModel") -> None:
    """Refuse what would change nothing."""
    flow = {name: getattr(args, name) for name in ("tolerance", "probes", "draws", "dequantisation")}
    filling = {name: flow[name] for name in ("draws", "dequantisation")}
    rules: list[tuple[bool, dict[str, Any], str]] = [
        (
            not model.can("flow"),
            {**flow, "steps": args.steps, "variance": args.variance},
            "a hierarchical VAE has neither noise levels to visit nor a flow to follow",
        ),
        (not args.flow, flow, "it is the flow's, which --no-flow leaves out"),
        (model.spec.continuous, filling, "this data is continuous and has no cells to fill"),
    ]
    for holds, settings, why in rules:
        given = [name for name, value in settings.items() if value is not None]
        if holds and given:
            raise InputError(f"--{given[0]}: {why}; leave it out")
    args.flow = args.flow and model.can("flow")


def _curve(model: "GenerativeModel", bound: "Bound") -> dict[str, list[float]] | None:
    from sfumato.likelihood.rate_distortion import rate_distortion

    if model.denoiser is None:
        return None
    scale = model.spec.unit_scale or 1.0
    curve = rate_distortion(bound)
    return {
        "logsnr": curve.logsnr.tolist(),
        "t": model.denoiser.process.schedule.time(curve.logsnr).clamp(0, 1).tolist(),
        "rate": curve.rate.tolist(),
        "rmse": (curve.rmse * scale).tolist(),
    }


def _check(args: argparse.Namespace) -> None:
    for flag, path, suffix in (("--per-sample", args.per_sample, ".csv"), ("--out", args.out, ".png")):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise InputError(f"{flag} {path}: '{path.suffix}' is not known; end it in {suffix}")
        if path.is_dir():
            raise InputError(f"{flag} {path}: is a folder; give the name of a file in it")
        if not path.parent.is_dir():
            raise InputError(f"{flag} {path}: the folder {path.parent} does not exist; make it first")
    if args.tolerance is not None and not 1e-12 <= args.tolerance < 1:
        raise InputError(f"--tolerance {args.tolerance}: is not one for an ODE; give 1e-12 to below 1")


def _settings(args: argparse.Namespace, model: "GenerativeModel") -> "Settings":
    from sfumato.evaluation.likelihood import EXACT_TRACE, Settings

    exact = args.probes == "exact" or (args.probes is None and math.prod(model.spec.shape) <= EXACT_TRACE)
    return Settings(
        evaluations=args.evaluations,
        steps=args.steps,
        variance=1.0 if (args.variance or ("beta" if model.spec.continuous else "")) == "beta" else 0.0,
        tolerance=args.tolerance or 1e-4,
        probes=None if exact else args.probes or 2,
        draws=args.draws or 1,
        by=args.dequantisation or "noise",
        seed=args.seed,
        batch=args.batch,
    )


def _data(
    args: argparse.Namespace, model: "GenerativeModel", source: str | None, out: Output
) -> "tuple[Tensor, list[int], str]":
    """(values in data units, their numbers in the source, what to call them)."""
    from sfumato.data import split
    from sfumato.data.order import permutation
    from sfumato.runs.folder import RunFolder
    from sfumato.runs.sources import data_like, own_data

    if source is None:
        dataset = own_data(RunFolder(args.run), out.reporter)
        _, held_out = split(len(dataset.values), model.recipe.training.held_out, model.recipe.training.seed)
        rows, what = held_out, f"the held-out part of {dataset.spec.source}"
    else:
        import torch

        dataset = data_like(source, model, out.reporter)
        rows, what = torch.arange(len(dataset.values)), dataset.spec.source
    chosen = rows[permutation(len(rows), args.seed, "scored")[: args.count]].sort().values
    return dataset.values[chosen], chosen.tolist(), what


def _training(args: argparse.Namespace, model: "GenerativeModel") -> "tuple[Tensor, Tensor] | None":
    """Training samples (values, in model units) to compare with; None where they are gone."""
    from sfumato.data import split
    from sfumato.data.order import permutation
    from sfumato.evaluation.likelihood import encode
    from sfumato.runs.folder import RunFolder
    from sfumato.runs.sources import own_data

    try:
        dataset = own_data(RunFolder(args.run))
    except InputError:
        return None
    train, _ = split(len(dataset.values), model.recipe.training.held_out, model.recipe.training.seed)
    values = dataset.values[train[permutation(len(train), args.seed, "reference")[:REFERENCE]]]
    return values, encode(model, values, "training data")


def _bound(
    model: "GenerativeModel", x_0: "Tensor", settings: "Settings", label: str, world: "World", out: Output
) -> "Bound":
    from sfumato.evaluation.likelihood import measure_bound

    with out.reporter.task(label) as task:
        return measure_bound(model, x_0, settings, task.count, world)


def _flow(model: "GenerativeModel", x_0: "Tensor", settings: "Settings", world: "World", out: Output) -> "Exact":
    from sfumato.evaluation.likelihood import measure_flow

    with out.reporter.task("flow") as task:
        return measure_flow(model, x_0, settings, task.count, world)


def _scores(
    model: "GenerativeModel",
    values: "Tensor",
    x_0: "Tensor",
    bound: "Bound",
    reference: "Reference | None",
    batch: int,
    world: "World",
) -> "dict[str, Tensor]":
    from sfumato.evaluation import out_of_distribution
    from sfumato.evaluation.likelihood import shared

    scores = {"bits": bound.bits}
    compressed = out_of_distribution.compressed_bits(values, model.spec)
    if compressed is not None:
        scores["complexity"] = bound.bits - compressed
    if reference is not None:
        scores["typicality"] = reference.typicality(bound.bits)
        if reference.norms is not None and model.denoiser is not None:
            norms = out_of_distribution.score_norms(shared(model.denoiser, world), x_0, batch)
            scores["norms"] = reference.norm_distance(norms)
    return {name: scores[name] for name in SCORES if name in scores}


def _both(estimate: "Estimate") -> dict[str, float | None]:
    return _finite({"bits_per_dim": estimate.mean, "standard_error": estimate.error, "method_error": estimate.method})


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no nan."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _plus_minus(error: float | None) -> str:
    return "" if error is None or math.isnan(error) else f" ± {error:.4f}"


def _table(record: dict[str, Any], bound: "Bound", flow: "Exact | None") -> list[str]:
    kind = "density, in the data's units" if record["density"] else "probability"
    lines = [f"bits/dim of {record['samples']} samples ({kind}; ± standard error, that of the method in brackets)"]
    for name, label in (("prior", "prior"), ("steps", "steps between levels"), ("decoder", "decoder")):
        term = bound.terms[name]
        lines.append(f"  {label:<22}{term.mean:>9.4f}{_plus_minus(term.error)}")
    lines.append(_total("bound (-ELBO)", bound.estimate, bound.evaluations))
    if flow is not None:
        lines.append(_total("flow (ODE)", flow.estimate, flow.evaluations))
    if record["against"] is not None:
        auroc = record["against"]["auroc"]
        lines += ["", f"telling {record['against']['name']} from it: AUROC, 0.5 is chance"]
        lines += [
            f"  {name:<12}{row['value']:.3f}{_plus_minus(row['error'])}   {_EXPLAINED[name]}"
            for name, row in auroc.items()
        ]
    return lines


def _total(label: str, estimate: "Estimate", evaluations: int | float) -> str:
    method = "" if math.isnan(estimate.method) else f" ({estimate.method:.4f})"
    return (
        f"  {label:<22}{estimate.mean:>9.4f}{_plus_minus(estimate.error)}{method}   {evaluations:,.0f} evaluations each"
    )


def _write(record: dict[str, Any], picture: Path, ends: list[Any], model: "GenerativeModel") -> list[Path]:
    from sfumato.files import write_text, write_with
    from sfumato.report.charts.likelihood import likelihood_figure

    numbers = picture.with_suffix(".json")
    write_text(numbers, json.dumps(record, indent=2) + "\n")
    drawn = likelihood_figure(record, ends[0], ends[1], model.spec)
    write_with(picture, lambda beside: drawn.save(beside, "PNG"))
    return [picture, numbers]


def _csv(path: Path, rows: list[int], bound: "Bound", flow: "Exact | None", scores: "dict[str, Tensor]") -> Path:
    from sfumato.files import write_text

    nats = bound.dimensions * math.log(2)
    columns = {
        "sample": rows,
        "bound_bits_per_dim": bound.bits.tolist(),
        "bound_method_error": (bound.variance.sqrt() / nats).tolist(),
        "prior": (bound.prior / nats).tolist(),
        "steps": (bound.steps / nats).tolist(),
        "decoder": (bound.decoder / nats).tolist(),
    }
    if flow is not None:
        columns["flow_bits_per_dim"] = flow.bits.tolist()
    columns |= {name: score.tolist() for name, score in scores.items() if name != "bits"}
    lines = [",".join(columns), *(",".join(f"{v:.9g}" for v in row) for row in zip(*columns.values(), strict=True))]
    write_text(path, "\n".join(lines) + "\n")
    return path


def _evaluations(text: str) -> int | None:
    return None if text == "all" else positive(text)


def _probes(text: str) -> "int | Literal['exact']":
    return "exact" if text == "exact" else positive(text)
