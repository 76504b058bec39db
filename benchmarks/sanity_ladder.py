"""A ladder that every measure should climb: real data, a model, and worse and worse ones.

    sfumato train digits --budget 3m --checkpoint-every 15s --out RUN
    python benchmarks/sanity_ladder.py RUN EARLY [--save NAME]

EARLY is a copy of RUN's config.json and model.safetensors after two checkpoints. Judged against training data are
in turn held-out data, the model, the early model, the model's samples with noise of 0.5 (in units of the model, about
the deviation of the data), and the untrained network, each in pixels and in features.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import kinds
from sfumato.evaluation.extraction import features_of
from sfumato.evaluation.quality import Sets, measures_of
from sfumato.evaluation.spaces import spaces_named
from sfumato.runs.evaluating import own_real_data, rounded
from sfumato.runs.folder import RunFolder
from sfumato.runs.sources import own_data

RESULTS = Path(__file__).parent / "results" / "sanity_ladder.json"
RUNGS = ("held-out", "model", "early", "noisy", "untrained")
NOISE = 0.5
SPACES = ("pixels", "efficientnet-lite0", "own-encoder")


def samples(run: Path, early: Path, count: int) -> dict[str, Tensor]:
    """What stands on each rung but the first, in data units."""
    model = kinds.load(run, "cpu")
    untrained = kinds.fresh(model.recipe, model.spec)
    drawn = {
        "model": model.sample(count),
        "early": kinds.load(early, "cpu").sample(count),
        "untrained": untrained.sample(count),
    }
    noise = torch.randn(drawn["model"].shape, generator=torch.Generator().manual_seed(0))
    spec = model.spec
    drawn["noisy"] = spec.decode(spec.encode(drawn["model"]) + NOISE * noise).clamp(*(spec.bounds or (None, None)))
    return {name: rounded(values, model) for name, values in drawn.items()}


def ladder(run: Path, early: Path, count: int, spaces: list[str]) -> dict[str, Any]:
    """By space and measure: the value on each rung, and whether they are in order."""
    model, dataset = kinds.load(run, "cpu"), own_data(RunFolder(run))
    real = own_real_data(dataset, model, count, 0)
    stands = {"held-out": real.beside, **samples(run, early, len(real.beside))}
    found: dict[str, Any] = {}
    for space in spaces_named(spaces, model.spec, train=real.train):
        reference = features_of(space, real.reference)
        sets = {name: Sets(features_of(space, stands[name], keep=False), reference) for name in RUNGS}
        rows = {}
        for measure in measures_of(model.spec, space.raw):
            values = [measure.function(sets[name]) for name in RUNGS]
            signs = [v if measure.better == "lower" else -v for v in values]
            broken = [f"{RUNGS[i]} > {RUNGS[i + 1]}" for i in range(4) if signs[i] > signs[i + 1]]
            rows[measure.name] = {**dict(zip(RUNGS, values, strict=True)), "broken": broken}
        found[space.name] = rows
    return {"count": len(real.beside), "spaces": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("early", type=Path)
    parser.add_argument("-n", "--count", type=int, default=1000)
    parser.add_argument("--spaces", type=lambda text: text.split(","), default=list(SPACES))
    parser.add_argument("--save", metavar="NAME", help=f"write into {RESULTS.name} under this name")
    args = parser.parse_args()
    found = ladder(args.run, args.early, args.count, args.spaces)
    for space, rows in found["spaces"].items():
        print(f"{space:<22}" + "".join(f"{name:>12}" for name in RUNGS))
        for name, row in rows.items():
            print(f"  {name:<20}" + "".join(f"{row[rung]:>12.4g}" for rung in RUNGS) + "  " + ", ".join(row["broken"]))
    if args.save:
        known = json.loads(RESULTS.read_text())["ladders"] if RESULTS.is_file() else {}
        found["spaces"] = {**known.get(args.save, found)["spaces"], **found["spaces"]}  # other spaces stay
        record = {"machine": f"{platform.machine()}, torch {torch.__version__}", "ladders": {**known, args.save: found}}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
