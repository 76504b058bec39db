"""Bits per dimension of held-out digits under every kind of model that Sfumato trains, after equal CPU minutes.

    python benchmarks/likelihood_digits.py --seconds 600 --out benchmarks/results/likelihood_digits.json

All diffusion models have the same network (a UNet of two levels), optimiser and single thread; only the recipe differs.
The bound is over all levels of a chain and in continuous time for other models, with 17 gray levels, on the tenth of
the digits that was held out. `--only NAME ...` trains some models and keeps the rest of the file.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import torch

import sfumato
from sfumato import data, recipes
from sfumato.data import split
from sfumato.likelihood import LikelihoodOptions
from sfumato.model import Model
from sfumato.numerics.random import derive
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer

UNET = [
    "network.kind=unet",
    "network.width=32",
    "network.multipliers=[1,2]",
    "network.blocks=1",
    "network.attention=[]",
    "network.dropout=0.1",
]
TRAINING = ["training.learning_rate=3e-3", "training.decay_after=50_000"]

MODELS: dict[str, tuple[str, list[str]]] = {
    "ddpm": ("ddpm", UNET),
    "improved-ddpm": ("improved-ddpm", UNET),
    "improved-ddpm, L_vlb": (
        "improved-ddpm",
        [*UNET, "objective.kind=bound", "objective.times=loss-aware"],
    ),
    "vdm": ("vdm", [*UNET, "network.fourier=[3,4]"]),
    "mhvae": ("mhvae", []),
    "T=20 linear betas": (
        "ddpm-learned-betas",
        [
            *UNET,
            "process.schedule.kind=linear-betas",
            "process.schedule.steps=20",
            "process.schedule.first=0.005",
            "process.schedule.last=0.5",
        ],
    ),
    "T=20 cosine betas": (
        "ddpm-learned-betas",
        [*UNET, "process.schedule.kind=cosine-betas", "process.schedule.steps=20"],
    ),
    "T=20 learned betas": ("ddpm-learned-betas", UNET),
}


def train(name: str, seconds: float, steps: int | None, folder: Path) -> tuple[Model, torch.Tensor, int]:
    """(the averaged model, the held-out digits in model units, images seen)."""
    preset, overrides = MODELS[name]
    recipe = recipes.read(preset, overrides + (TRAINING if preset != "mhvae" else []))
    dataset = data.load("digits", recipe.data.options())
    torch.manual_seed(derive(recipe.training.seed, "weights"))
    model = Model.fresh(recipe, dataset.spec)
    trainer = Trainer(model, dataset.samples(), RunFolder(folder))
    trainer.train(steps, seconds)
    _, held_out = split(len(dataset.values), recipe.training.held_out, recipe.training.seed)
    return trainer.averaged, model.spec.encode(dataset.values[held_out]), trainer.images


def measure(model: Model, x_0: torch.Tensor) -> dict[str, object]:
    """The bound by term, and for the first 64 the importance-weighted value along the probability flow."""
    bound = model.bound(x_0, LikelihoodOptions(evaluations=300))
    result: dict[str, object] = {
        "bits_per_dim": bound.estimate.mean,
        "standard_error": bound.estimate.error,
        "method_error": bound.estimate.method,
        "terms": {name: term.mean for name, term in bound.terms.items()},
        "evaluations": bound.evaluations,
    }
    if model.recipe.has_process:
        flow = model.flow(x_0[:64], LikelihoodOptions(tolerance=1e-3, probes=2, draws=4))
        result["flow_of_64"] = {"bits_per_dim": flow.estimate.mean, "standard_error": flow.estimate.error}
        result["bound_of_64"] = float(bound.bits[:64].mean())
    return result


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--steps", type=int, help="steps at most; makes models comparable on a busy machine")
    parser.add_argument("--only", nargs="*", choices=list(MODELS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(args.out.read_text())["models"] if args.out and args.out.exists() else {}
    for name in args.only or MODELS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            model, x_0, images = train(name, args.seconds, args.steps, Path(folder))
            measured = measure(model, x_0)
        results[name] = {"seconds": args.seconds, "images": images, "parameters": model.num_parameters, **measured}
        print(f"{name:20} {json.dumps(results[name])}  ({time.monotonic() - started:.0f} s)", flush=True)
        if args.out:
            about = {"sfumato": sfumato.__version__, "torch": torch.__version__, "machine": platform.machine()}
            args.out.write_text(
                json.dumps({**about, "threads": 1, "held_out": len(x_0), "models": results}, indent=2) + "\n"
            )


if __name__ == "__main__":
    main()
