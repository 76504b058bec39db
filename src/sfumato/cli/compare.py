"""Compare recipes on your data: the same network, samples, seed and budget for each; one table and one figure.

Each recipe is trained into DIR/RECIPE, a run like those of 'sfumato train', and measured: bits per dimension of the
same held-out samples by two methods, with paired differences; and the distance of its samples to held-out data,
relative to that of real samples. The network is chosen by the data, so it is the same for all diffusion models,
without a fitted mixture unless base=mixture is given.
key=value applies to all recipes; diffusion-only settings are not applied to hierarchical VAEs. If the command is
interrupted, the same command continues it; recipes may be added.
"""

import argparse
from pathlib import Path

from sfumato.runs.settings import CompareSettings

from .arguments import add_device, positive, seconds, settings_of, words
from .malloc import keep_freed_memory
from .output import Output

EXAMPLES = """\
examples:
  sfumato compare photos/ --budget 10m
  sfumato compare moons --recipes ddpm,edm,flow --steps 3000 network.width=128
  sfumato compare digits --recipes ddpm,mhvae,mine.yaml --budget 3m --out runs/three
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    default, flag = CompareSettings, parser.add_argument
    flag("source", metavar="SOURCE", help="the data to train on, as for 'sfumato train'")
    flag("overrides", nargs="*", metavar="key=value", help="settings that replace those of every recipe")
    flag(
        "--recipes",
        type=words("recipe", "ddpm,flow"),
        default=default.recipes,
        metavar="A,B",
        help=f"presets or YAML files (default: {','.join(default.recipes)})",
    )
    flag("--budget", type=seconds, metavar="TIME", help="training time per recipe: 90s, 10m, 1h30m (default: 3m)")
    flag("--steps", type=positive, metavar="N", help="training steps per recipe, instead of a time")
    flag("--out", type=Path, metavar="DIR", help="folder for the runs (default: runs/compare-SOURCE)")
    flag(
        "-n",
        "--count",
        type=positive,
        default=default.count,
        help="number of held-out samples to score, at most (default: 128)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train and measure each recipe, and print which is best."""
    out, settings = Output(args), settings_of(CompareSettings, args)
    from sfumato.runs.comparison import compare
    from sfumato.runs.comparison_text import lines

    keep_freed_memory()
    found = compare(settings, out.reporter)
    if found.record is None:
        out.say(*found.describe_end())
        return found.status
    out.say("", *lines(found.record), "", *map(str, found.files))
    out.result({**found.record, "files": [str(path) for path in found.files]})
    return found.status
