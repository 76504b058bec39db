"""Draw samples from a trained model: a picture, an array, or a movie of how they form.

Sample i depends on the seed and on i alone: a longer run of the same seed begins with the same samples, and the
processes of torchrun draw the samples of one.
"""

import argparse
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import InputError

from . import common

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core import Prediction
    from sfumato.model import Model

EXAMPLES = """\
examples:
  sfumato sample runs/demo -n 64
  sfumato sample runs/demo -n 1000 --sampler ancestral --steps 1000 --out many.npz
  sfumato sample runs/demo --sampler adaptive --tolerance 1e-6
  sfumato sample runs/demo -n 16 --seed 7 --out forming.gif
  sfumato sample runs/photos-ddpm --under edm --sampler edm-churn --steps 80
  sfumato sample runs/moons-flow -n 20000 --pairs --out pairs.npz     for reflow
  torchrun --nproc-per-node 4 -m sfumato sample runs/photos-ddpm -n 50000 --out many.npz
"""

FRAMES = 40  # of a movie, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run or model folder")
    parser.add_argument("-n", "--count", type=common.positive, default=64, help="how many (default: 64)")
    parser.add_argument(
        "--sampler",
        metavar="NAME",
        help="auto, ddim, ancestral, heun, dpm++2m, ..., adaptive; a wrong name lists all (default: the recipe's)",
    )
    parser.add_argument("--steps", type=common.positive, help="evaluations of the network (default: the recipe's)")
    parser.add_argument("--tolerance", type=float, help="of the adaptive sampler, which takes the steps it needs")
    parser.add_argument("--eta", type=float, help="ddim's share of noise: 0 deterministic (default), 1 ancestral")
    parser.add_argument(
        "--under", metavar="RECIPE", help="the same beliefs under the process of another preset or YAML file"
    )
    parser.add_argument("--pairs", action="store_true", help="write into the .npz the noise each sample was made from")
    parser.add_argument("--seed", type=int, default=0, help="which samples (default: 0)")
    parser.add_argument("--batch", type=common.positive, default=256, help="how many a process at once (default: 256)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=".png, .npz, .gif or .webp (default: .png and .npz in RUN/samples)"
    )
    common.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Sample and write."""
    if args.out is not None and args.out.suffix.lower() not in (".png", ".npz", ".gif", ".webp"):
        raise InputError(f"--out {args.out}: '{args.out.suffix}' is not known; end it in .png, .npz, .gif or .webp")
    if args.out is not None and args.out.is_dir():
        raise InputError(f"--out {args.out}: is a folder; give the name of a file in it")
    if args.out is not None and not os.access(args.out.absolute().parent, os.W_OK) and args.out.parent.is_dir():
        raise InputError(f"--out {args.out}: the folder {args.out.parent} cannot be written to; choose another")
    if args.out is not None and not args.out.parent.is_dir():
        raise InputError(f"--out {args.out}: the folder {args.out.parent} does not exist; make it first")
    if args.pairs and (args.out is None or args.out.suffix.lower() != ".npz"):
        raise InputError("--pairs: noise is written into an .npz; give --out FILE.npz with it")
    from sfumato import recipes
    from sfumato.model import TOLERANCE, Model
    from sfumato.sampling.methods import ADAPTIVE
    from sfumato.world import ALONE, joined

    out = common.Output(args)
    model = Model.from_pretrained(args.run_folder, common.pick_device(args.device))
    film = args.out is not None and args.out.suffix.lower() in (".gif", ".webp")
    if args.under is not None:
        model = model.under(recipes.read(args.under).resolved(model.spec).build_process())
    if not model.recipe.has_process:
        return _through_latents(args, model, out, film)
    sampler = model.sampler(args.sampler, args.eta, args.tolerance)
    if sampler == ADAPTIVE and film:
        raise InputError(
            "--out: a film needs a sampler of fixed steps, and adaptive has its own; choose another sampler"
        )
    if sampler == ADAPTIVE:
        planned, name = 0, ADAPTIVE
    else:
        tableau = model.tableau(sampler, args.steps, args.eta)
        planned, name = tableau.evaluations, tableau.name if sampler == "auto" else sampler
        if args.pairs and tableau.stochastic:
            raise InputError(
                f"--pairs: {name} adds noise on the way, so that no sample belongs to one noise; choose auto or heun"
            )
        if args.under is None:
            _warn_of_unused(out, args, model, sampler)
    if film and not common.leads():  # who draws the film must have seen all of it
        return 0
    every = max(1, -(-planned // FRAMES))
    # A GPU is not asked after every evaluation: it is given whole runs.
    recorded = model.device.type == "cuda" and planned > 0 and not film
    taken = planned if recorded else 0
    frames: dict[int, list[Tensor]] = {}
    bar = common.Bar("sampling")

    def watch(first: int, row: int, t: "Tensor", x: "Tensor", prediction: "Prediction") -> None:
        nonlocal taken
        taken = max(taken, row + 1)
        at_once = args.batch * world.size
        batch, batches = first // at_once, -(-args.count // at_once)
        if planned:
            bar.count(planned * batch + row + 1, planned * batches)
        else:
            bar.update(first / args.count, f"{row + 1} evaluations of batch {batch + 1} of {batches}")
        if film and (row % every == 0 or row == planned - 1):
            frames.setdefault(row, []).append(model.spec.decode(prediction.x_0.cpu()))

    started = time.monotonic()
    with nullcontext(ALONE) if film else joined(model.device) as world:
        try:
            samples = model.sample(
                args.count,
                seed=args.seed,
                sampler=sampler,
                steps=args.steps,
                eta=args.eta,
                tolerance=args.tolerance,
                batch=args.batch,
                watch=None if recorded else watch,
                progress=bar.count if recorded else None,
                world=world,
            )
        finally:
            bar.close()
        taken = int(world.max(float(taken))[0])
    seconds = time.monotonic() - started
    if not world.is_main:
        return 0
    steps = f"{args.tolerance or TOLERANCE:g}" if sampler == ADAPTIVE else str(args.steps or model.sampling.steps)
    eta = "" if args.eta is None else f"-eta{args.eta:g}"
    written = _write(args, model, samples, f"{sampler}-{steps}{eta}", frames)
    out.say(
        f"{args.count} samples by {name}{'' if args.eta is None else f' with eta {args.eta:g}'}, "
        f"{taken} evaluations each, seed {args.seed}, "
        f"in {common.duration(seconds)}"
    )
    for path in written:
        out.say(str(path))
    out.result(
        {
            "files": [str(path) for path in written],
            "count": args.count,
            "shape": list(samples.shape),
            "sampler": name,
            "eta": args.eta,
            "evaluations": taken,
            "seed": args.seed,
            "seconds": round(seconds, 3),
        }
    )
    return 0


def _warn_of_unused(out: common.Output, args: argparse.Namespace, model: "Model", sampler: str) -> None:
    from sfumato.model import read_fitted

    steps = args.steps or model.sampling.steps
    unused = read_fitted(args.run_folder, model.fitted_to)[1]
    name = f"sampler-{steps}.json"
    if sampler == "auto" and steps not in model.fitted and name in unused:
        out.warn(f"{name} {unused[name]} and is not used; 'sfumato tune --nfe {steps}' fits it again")


def _through_latents(args: argparse.Namespace, model: "Model", out: common.Output, film: bool) -> int:
    """Sample a hierarchical VAE, which has no sampler."""
    from sfumato.hierarchical import MarkovianHVAE
    from sfumato.world import joined

    assert isinstance(model.module, MarkovianHVAE)
    settings = {"sampler": args.sampler, "steps": args.steps, "eta": args.eta, "tolerance": args.tolerance}
    settings["pairs"] = args.pairs or None
    model.check_settings(**{f"--{name}": value for name, value in settings.items()})
    if film:
        raise InputError(
            f"--out {args.out}: a film shows the way from noise, and a hierarchical VAE goes none; end it in .png or "
            ".npz"
        )
    started = time.monotonic()
    with joined(model.device) as world:
        samples = model.sample(args.count, seed=args.seed, batch=args.batch, world=world)
    seconds = time.monotonic() - started
    if not world.is_main:
        return 0
    latents = len(model.module.widths)
    written = _write(args, model, samples, f"latents-{latents}", {})
    out.say(
        f"{args.count} samples through {latents} latent{'' if latents == 1 else 's'}, seed {args.seed}, "
        f"in {common.duration(seconds)}"
    )
    for path in written:
        out.say(str(path))
    out.result(
        {
            "files": [str(path) for path in written],
            "count": args.count,
            "shape": list(samples.shape),
            "latents": latents,
            "seed": args.seed,
            "seconds": round(seconds, 3),
        }
    )
    return 0


def _write(
    args: argparse.Namespace, model: "Model", samples: "Tensor", how: str, frames: "dict[int, list[Tensor]]"
) -> list[Path]:
    """Write to --out, or into the run under a name that says ``how`` they were drawn."""
    from sfumato.files import write_with

    if args.out is not None:
        paths = [args.out]
    else:
        folder = args.run_folder / "samples"
        folder.mkdir(exist_ok=True)
        stem = folder / f"{how}-n{args.count}-seed{args.seed}"
        paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".npz")]
    for path in paths:
        write_with(path, lambda beside: _write_one(beside, args, model, samples, frames))
    return paths


def _write_one(
    path: Path, args: argparse.Namespace, model: "Model", samples: "Tensor", frames: "dict[int, list[Tensor]]"
) -> None:
    import numpy as np
    import torch

    from sfumato.core import SeededNoise
    from sfumato.report import movie, picture

    spec = model.spec
    if path.suffix.lower() == ".npz":
        with open(path, "wb") as file:  # given a path, numpy would add .npz to .NPZ
            arrays = {"samples": spec.to_array(spec.encode(samples))}
            if args.pairs:
                like = torch.empty(samples.shape)
                arrays["noise"] = SeededNoise.samples(args.seed, args.count)(0, like).numpy()
            np.savez_compressed(file, allow_pickle=False, **arrays)
    elif path.suffix.lower() == ".png":
        picture(samples.numpy(), spec).save(path)
    else:
        movie(torch.stack([torch.cat(parts) for _, parts in sorted(frames.items())]).numpy(), spec, path)
