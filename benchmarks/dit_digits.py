"""A DiT against the U-Net on digits, after equal CPU seconds of training steps on one thread.

    python benchmarks/dit_digits.py --seconds 90

Each network is trained by the default recipe (`flow`, classes and mixture included) for as many steps as its pace
allows, with a warm-up of 5 % and a cooldown over the second half, for a few learning rates. The rate with the lowest
held-out loss on one half of the held-out digits is compared on the other half, sample by sample: the same levels and
noises for all. The pace is measured over 30 steps after 10 others.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sfumato import recipes
from sfumato.data import Samples, load, split
from sfumato.runs import lifecycle
from sfumato.runs.folder import RunFolder
from sfumato.training import Compute, Options, Trainer
from sfumato.training.held_out import HeldOut

RESULTS = Path(__file__).parent / "results" / "dit_digits.json"
NETWORKS = {
    "U-Net, width 16": (
        [
            "network.kind=unet",
            "network.width=16",
            "network.multipliers=[1,2]",
            "network.blocks=1",
            "network.attention=[]",
        ],
        (2e-3, 4e-3),
    ),
    "DiT, width 64, depth 4, patch 2": (
        ["network.kind=dit", "network.width=64", "network.depth=4", "network.patch=2"],
        (1e-3, 3e-3),
    ),
}
BATCH, REPEATS = 16, 8


def trained(name: str, rate: float, seconds: float) -> tuple[Trainer, dict[str, Any]]:
    """A network after so many CPU seconds, and how far it came."""
    dataset = load("digits")
    base = [*NETWORKS[name][0], f"training.batch={BATCH}", f"training.learning_rate={rate}"]

    def trainer(settings: list[str], folder: str) -> Trainer:
        model = lifecycle.untrained("digits", recipes.read("flow", settings), dataset)
        lifecycle.fit_base(model, dataset)
        compute = Compute(threads=1, precision="float32")
        return Trainer(model, dataset.samples(), RunFolder(Path(folder)), Options(compute=compute))

    with tempfile.TemporaryDirectory() as folder:
        trial = trainer(base, folder).engine
        for _ in range(10):
            trial.step()
        started = time.process_time()
        for _ in range(30):
            trial.step()
        pace = (time.process_time() - started) / 30
    steps = max(round(seconds / pace), 20)
    warmup = round(0.05 * steps * BATCH)
    folder = tempfile.mkdtemp()
    found = trainer([*base, f"training.warmup={warmup}", "training.cooldown=0.5", f"training.steps={steps}"], folder)
    started = time.process_time()
    found.train(steps=steps)
    spent = time.process_time() - started
    parameters = found.model.num_parameters
    return found, {"rate": rate, "steps": steps, "images": found.images, "cpu": spent, "parameters": parameters}


def losses(trainer: Trainer) -> torch.Tensor:
    """The loss of each held-out digit, over fixed levels and noises, with the weights that the run ends with."""
    dataset, settings = load("digits"), trainer.model.recipe.training
    held_out = split(len(dataset), settings.held_out, settings.seed)[1]
    samples = dataset.samples().take(held_out)
    assert isinstance(samples, Samples)
    module = trainer.averaged.module
    rows = []
    for seed in range(REPEATS):
        held = HeldOut(trainer.engine.loss, samples, samples, seed, conditioning=trainer.model.recipe.condition)
        rows.append(torch.tensor(held.measure(module)["sample_losses"]))
    return torch.stack(rows).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90, help="CPU seconds of steps for each network and rate")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    best: dict[str, torch.Tensor] = {}
    for name, (_, rates) in NETWORKS.items():
        runs = []
        for rate in rates:
            trainer, row = trained(name, rate, args.seconds)
            each = losses(trainer)
            half = len(each) // 2
            runs.append(({**row, "chooses": float(each[:half].mean())}, each[half:]))
            print(name, runs[-1][0], flush=True)
        row, values = min(runs, key=lambda pair: pair[0]["chooses"])
        best[name] = values
        error = float(values.std() / len(values) ** 0.5)
        found[name] = {**row, "loss": float(values.mean()), "error": error, "all": [each for each, _ in runs]}
        print(name, found[name]["loss"], "+-", error, flush=True)
    first, second = best.values()
    difference = second - first
    found["difference"] = {"mean": float(difference.mean()), "error": float(difference.std() / len(difference) ** 0.5)}
    print(found["difference"])
    if args.save:
        record = {"machine": f"{platform.machine()}, torch {torch.__version__}", "seconds": args.seconds, **found}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
