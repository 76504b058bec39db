"""The annealed method and MMPS with a network, each with its defaults: where posteriors have modes, and on digits.

    python benchmarks/network_posteriors.py modes2 modes8 modes24 digits

modesD: 25 Gaussians N((i, j, i, j, ...), 0.3^2), i and j from -2 to 2, of random weights, in D numbers; a network of
2,500 steps on 30,000 samples; one random reading, or a quarter as many as numbers. With the weights of modes in the
exact posterior known: half the sum of their differences from the shares of 128 draws, and what it would be of exact
draws, by the normal approximation.
digits: the 8 x 8 digits of scikit-learn, with a network of three minutes; 40 % of the pixels, means of 2 x 2, or 16
random projections, with noise 0.1 of the range of values; the error of the mean on 3 held-out digits. What a band of
90 % holds is the share of true values in it. Writes benchmarks/results/network_posteriors.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import sfumato
from sfumato.cli.main import main as command
from sfumato.restoration import Downsampling, Mask, Matrix, Operator

METHODS, COVERAGE, SPREAD = ("annealed", "mmps"), 0.9, 0.3
MACHINE = "one core of 2 of an x86 with AVX-512 and bf16, shared"
RESULTS = Path(__file__).parent / "results" / "network_posteriors.json"


def trained(x: np.ndarray, words: list[str]) -> Any:
    """What the user's command makes of samples."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "train.npy", x.astype(np.float32))
        run = Path(folder) / "run"
        if command(["train", f"{folder}/train.npy", *words, "--threads", "1", "--out", str(run)]):
            raise SystemExit("network_posteriors.py: the model was not trained")
        return sfumato.load(run)


def asked(
    model: Any, y: torch.Tensor, operator: Operator, noise: float, draws: int, truth: torch.Tensor
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each method's reconstruction, and what is measured of any problem."""
    for method in METHODS:
        began = time.process_time()
        found = model.reconstruct(y, operator, noise=noise, draws=draws, method=method)
        seconds = (time.process_time() - began) / len(y)
        low, high = (end.double() for end in found.band(COVERAGE))
        covered = ((low - 1e-3 <= truth) & (truth <= high + 1e-3)).flatten(1).double().mean(1)
        error = (found.mean.double() - truth).square().mean().sqrt()
        row = {"method": method, "noise": noise, "seconds": seconds, "rmse": float(error)}
        row |= {"covered": float(covered.mean()), "covered_error": float(covered.std() / len(y) ** 0.5)}
        yield found, row


def modes(size: int, problems: int = 10, draws: int = 128) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(size)
    means = np.array([[i, j] * (size // 2) for i in range(-2, 3) for j in range(-2, 3)], dtype=float)
    weights = rng.chisquare(1, 25) + 0.05
    weights /= weights.sum()

    def sample(count: int) -> np.ndarray:
        chosen = rng.choice(25, count, p=weights)
        return means[chosen] + SPREAD * rng.standard_normal((count, size))

    model = trained(sample(30_000), ["training.batch=256", "--steps", "2500"])
    test = sample(problems)
    for readings in dict.fromkeys((1, max(size // 4, 1))):
        A = rng.standard_normal((readings, size)) / size**0.5
        for noise in (0.1, 0.5):
            y = test @ A.T + noise * rng.standard_normal((problems, readings))
            gap = y[:, None] - means @ A.T
            precision = np.linalg.inv(SPREAD**2 * A @ A.T + noise**2 * np.eye(readings))
            logs = np.log(weights) - 0.5 * np.einsum("nmk,kl,nml->nm", gap, precision, gap)
            exact = np.exp(logs - logs.max(1, keepdims=True))
            exact /= exact.sum(1, keepdims=True)
            chance = float(0.5 * np.sqrt(2 / np.pi * exact * (1 - exact) / draws).sum(1).mean())
            operator = Matrix(torch.from_numpy(A), (size,))
            for found, row in asked(model, torch.from_numpy(y), operator, noise, draws, torch.from_numpy(test)):
                near = np.square(found.draws.double().numpy()[:, :, None] - means).sum(-1).argmin(-1)
                shares = np.stack([np.bincount(one, minlength=25) for one in near]) / draws
                off = float(0.5 * np.abs(shares - exact).sum(1).mean())
                yield {**row, "readings": readings, "off": off, "off_of_exact_draws": chance}


def digits(problems: int = 3, draws: int = 64) -> Iterator[dict[str, Any]]:
    rng, shape = np.random.default_rng(0), (1, 8, 8)
    x = rng.permutation(load_digits().images)[:, None] / 16
    model = trained(x[:1500], ["--budget", "3m", "data.layout=image"])
    test = torch.from_numpy(x[1500 : 1500 + problems])
    operators = {
        "pixels": Mask(torch.from_numpy(rng.random(shape) < 0.4), shape),
        "means": Downsampling(2, shape),
        "projections": Matrix(torch.from_numpy(rng.standard_normal((16, 64)) / 8), shape),
    }
    for name, operator in operators.items():
        y = operator(test)
        y = y + 0.1 * torch.from_numpy(rng.standard_normal(y.shape))
        for _, row in asked(model, y, operator, 0.1, draws, test):
            yield {**row, "readings": name}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = {"modes2": lambda: modes(2), "modes8": lambda: modes(8), "modes24": lambda: modes(24), "digits": digits}
    parser.add_argument("sets", nargs="+", choices=sets)
    torch.set_num_threads(1)
    for name in parser.parse_args().sets:
        rows = []
        for row in sets[name]():
            rows.append(row)
            print(name, *(f"{key} {value:.3f}" if isinstance(value, float) else value for key, value in row.items()))
        result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sets": {}}
        versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
        result = {"machine": MACHINE, "versions": versions, "sets": result["sets"] | {name: rows}}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
