"""Fit samplers to a trained model: tables with few evaluations that end where a fine sampler would.

For each number of evaluations, the noise levels and coefficients of a sampler are fitted to the model's own fine
trajectories. A table is kept in the run as sampler-N.json if it beats the best fixed table on held-out trajectories;
from then on, sampling with N evaluations uses it. If the command is interrupted, the same command continues it.

With --guidance, the weight and the interval of guidance are chosen first, on held-out data, for a model with classes.
"""

import argparse
from typing import Any

from sfumato.runs.settings import TuneSettings

from .arguments import add_device, add_run, add_threads, counts, positive, settings_of
from .output import Output

EXAMPLES = """\
examples:
  sfumato tune runs/demo                          8 evaluations, minutes for a small model
  sfumato tune runs/demo --nfe 5,8,10,15,20
  sfumato tune runs/demo --nfe 8 --show           also print the table
  sfumato tune runs/demo --guidance               weight and interval of guidance, by held-out data
  sfumato tune runs/demo --guidance --nfe 8       then a sampler for samples that are guided so
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = TuneSettings, parser.add_argument
    add_run(parser)
    flag(
        "--nfe",
        type=counts,
        default=default.nfe,
        metavar="N,N,...",
        help="network evaluations per sample to fit a sampler for, 2 to 32 each (default: 8; with --guidance none)",
    )
    flag("--guidance", action="store_true", help="choose the guidance of samples that have a class")
    flag(
        "--count",
        type=positive,
        metavar="N",
        help="trajectories to fit to (default: by the size of a sample); samples that judge guidance (default: 500)",
    )
    flag("--iterations", type=positive, metavar="N", help="iterations of the fit, at most (default: 40)")
    flag("--seed", type=int, default=default.seed, help="random seed of the trajectories (default: 0)")
    flag("--show", action="store_true", help="print the tables in use")
    add_threads(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Fit and write."""
    out, settings = Output(args), settings_of(TuneSettings, args)
    from sfumato.runs.guiding import tune_guidance
    from sfumato.runs.tuning import FINE, Tuning, fitted_table

    record: dict[str, Any] = {"run": str(settings.run)}
    if settings.guidance:
        guidance = tune_guidance(settings, out.reporter)
        out.say(*guidance.lines())
        record["guidance"] = guidance.to_dict()
    if settings.budgets:
        tuning, found = Tuning(settings), []
        for evaluations in settings.budgets:
            found.append(tuning.fit(evaluations, out.reporter))
            out.say(found[-1].describe())
            if args.show:
                out.say(fitted_table(settings, evaluations))
        out.say(f"errors are distances to the model's own solution with {FINE} evaluations, in the model's units")
        record["fits"] = [fit.to_dict() for fit in found]
    out.result(record)
    return 0
