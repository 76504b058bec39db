"""How many pixels of held-out digits it takes: the next one by the posterior, or in random order.

Pixels of 8 x 8 digits (0 to 16) are read one at a time with noise 0.5. ``next_reading`` says which is next; beside it,
a random order of each digit. After each reading the posterior mean is compared with the digit. The table says how many
chosen readings reach the error of a number of random ones.

The prior is a mixture of 17 Gaussians, fitted to the digits that ``sfumato train digits`` learns from, or a model.

    python benchmarks/next_reading.py               with the mixture
    python benchmarks/next_reading.py --run RUN     RUN was trained by ``sfumato train digits``
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import sfumato
from sfumato.data import split
from sfumato.denoisers import MixtureDenoiser
from sfumato.next_reading import next_reading
from sfumato.restoration import Mask

RESULTS = Path(__file__).parent / "results" / "next_reading.json"
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared"
NOISE, AT = 0.5, (8, 16, 24, 32)
HELD_OUT, SEED, COMPONENTS, DIRECTIONS = 0.1, 0, 17, 64
QUICK = {"particles": 64, "steps": 4}


def mixture(data: sfumato.data.Dataset, learnt: torch.Tensor) -> sfumato.Model:
    """The diffusion model whose denoiser is a mixture fitted to these samples."""
    denoiser = MixtureDenoiser(sfumato.recipes.read("flow").build_process(), data.spec.shape, DIRECTIONS, COMPONENTS)
    denoiser.fit(data.spec.encode(data.values[learnt]), None, SEED)
    return sfumato.Model(denoiser, data.spec)


def chosen(model: sfumato.Model, x: torch.Tensor, y: torch.Tensor, most: int) -> list[float]:
    """Errors after 0, 1, ... ``most`` readings in the order of ``next_reading``."""
    seen, errors = torch.full_like(y, torch.nan), []
    for n in range(most + 1):
        found = next_reading(model, seen, NOISE, draws=64, seed=n, **QUICK)
        errors.append(float((found.mean.double() - x).pow(2).mean().sqrt()))
        seen[found.order[0]] = y[found.order[0]]
    return errors


def random_order(model: sfumato.Model, x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator) -> list[float]:
    """Errors after ``AT`` readings in a random order."""
    order, errors = rng.permutation(len(y)), []
    for n in AT:
        known = torch.zeros(x.shape, dtype=torch.bool)
        known.view(-1)[torch.from_numpy(order[:n])] = True
        found = model.reconstruct(y[known.flatten()], Mask(known, x.shape), noise=NOISE, draws=64, seed=n, **QUICK)
        errors.append(float((found.mean[0].double() - x).pow(2).mean().sqrt()))
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--digits", type=int, default=8)
    parser.add_argument("--most", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = sfumato.data.load("digits")
    learnt, held_out = split(len(data), HELD_OUT, SEED)
    model = mixture(data, learnt) if args.run is None else sfumato.load(args.run)
    rng, g = np.random.default_rng(0), torch.Generator().manual_seed(0)
    own, others = [], []
    for i in held_out[: args.digits].tolist():
        x = data.values[i].double()
        y = x.flatten() + NOISE * torch.randn(x.numel(), generator=g, dtype=torch.float64)
        own.append(chosen(model, x, y, args.most))
        others.append(random_order(model, x, y, rng))
        print(
            i,
            *(f"{value:.2f}" for value in own[-1][::4]),
            "random",
            *(f"{value:.2f}" for value in others[-1]),
            flush=True,
        )
    mine, random = (np.sqrt(np.square(rows).mean(0)) for rows in (own, others))
    rows = []
    for n, error in zip(AT, random.tolist(), strict=True):
        enough = np.flatnonzero(mine <= error)
        rows.append({"random": n, "error": error, "chosen": int(enough[0]) if len(enough) else None})
        print(n, f"{error:.3f}", "chosen:", rows[-1]["chosen"], sep=" | ")
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__}
    result = {
        "machine": MACHINE,
        "versions": versions,
        "prior": "mixture" if args.run is None else "network",
        "digits": args.digits,
        "noise": NOISE,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps({**result, "errors": mine.tolist()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
