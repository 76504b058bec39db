"""What the Stein discrepancy of a certificate sees: draws with known faults, under an exact score.

Prior: the twin of 100 digits of 8 x 8; readings: means of 2 x 2 pixels with noise 0.5 of 16. A certificate is of 8
problems with 39 draws each. Exact draws, and the same around the exact mean but narrower, wider or shifted, say how
often the test rejects at 5 %, for its kernel of single numbers and for one of the distance between samples. So do the
particles of the annealed method. The kernel and the width were chosen on other problems of the same law.

    python benchmarks/stein.py                 prints the table, writes benchmarks/results/stein.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

import sfumato
from sfumato.core import VP, Cosine, Process
from sfumato.denoisers import ExactDenoiser
from sfumato.restoration import Downsampling, Matrix, Measurement, Twin, anneal, dense, stein

PROBLEMS, DRAWS, FIRST = 8, 39, 1000
RESULTS = Path(__file__).parent / "results" / "stein.json"
TWIN = Twin.of(sfumato.data.load("digits").values[:100].double() / 8 - 1)
OPERATOR = Matrix(dense(Downsampling(2, (1, 8, 8))), (64,))
NOISE = 0.5 / 8
DENOISER = ExactDenoiser(Process(VP(), Cosine()), TWIN.mixture)

Faulty = Callable[[Measurement, int], Tensor]


def of_exact(change: Callable[[Tensor, Tensor], Tensor]) -> Faulty:
    """Draws that are changed from exact ones, with their mean and deviation."""

    def draws(measured: Measurement, seed: int) -> Tensor:
        exact = TWIN.posterior(measured, DRAWS, torch.Generator().manual_seed(seed))
        return exact.mean + change(exact.draws - exact.mean, exact.std)

    return draws


def annealed(particles: int) -> Faulty:
    def draws(measured: Measurement, seed: int) -> Tensor:
        found = anneal(DENOISER, measured, particles, 20, seed=seed, dtype=torch.float64).particles
        return found[torch.arange(DRAWS) * particles // DRAWS]

    return draws


FAULTS: dict[str, tuple[Faulty, int]] = {  # and certificates
    "exact": (of_exact(lambda gap, std: gap), 100),
    "10 % narrower": (of_exact(lambda gap, std: 0.9 * gap), 40),
    "20 % narrower": (of_exact(lambda gap, std: 0.8 * gap), 40),
    "30 % narrower": (of_exact(lambda gap, std: 0.7 * gap), 40),
    "20 % wider": (of_exact(lambda gap, std: 1.2 * gap), 40),
    "shifted by 0.1 deviations": (of_exact(lambda gap, std: gap + 0.1 * std), 40),
    "annealed, 256 particles": (annealed(256), 10),
    "annealed, 64 particles": (annealed(64), 10),
}


def of_distance(x: Tensor, score: Tensor) -> Tensor:
    """The Stein kernel of ``(1 + |x - y|^2 / c^2)^(-1/2)`` with the median distance c."""
    apart = x[:, None] - x
    squared = apart.square().sum(2)
    width = squared[~torch.eye(len(x), dtype=torch.bool)].median()
    root = (1 + squared / width).rsqrt()
    slope = ((score[:, None] - score) * apart).sum(2) / width
    bend = (x.shape[1] - 3 * squared / width * root**2) / width
    return score @ score.T * root + (slope + bend) * root**3


def certificates(faulty: Faulty, count: int) -> dict[str, list[list[float]]]:
    """(ratio, p-value) of each certificate, for both kernels."""
    found: dict[str, list[list[float]]] = {"numbers": [], "distance": []}
    for seed in range(FIRST, FIRST + count):
        g = torch.Generator().manual_seed(seed)
        truth = TWIN.sample(PROBLEMS, g)
        noise = NOISE * torch.randn(PROBLEMS, 16, generator=g, dtype=torch.float64)
        measured = Measurement(OPERATOR, OPERATOR(truth) + noise, NOISE)
        draws = torch.stack([faulty(measured.row(i), PROBLEMS * seed + i) for i in range(PROBLEMS)])
        for name, kernel in (("numbers", stein.stein_kernel), ("distance", of_distance)):
            with mock.patch.object(stein, "stein_kernel", kernel):
                test = stein.stein_test(DENOISER, measured, draws, seed)
            assert test is not None
            found[name].append([test.discrepancy.ratio, test.discrepancy.p_value])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    record = {
        "machine": "one busy thread of an x86 with AVX-512 and bf16, shared",
        "versions": {"sfumato": sfumato.__version__, "torch": torch.__version__},
        "problems": PROBLEMS,
        "draws": DRAWS,
        "first": FIRST,
        "faults": {},
    }
    print(f"{'draws':<28}{'certificates':>13}{'numbers: ratio, rejected':>26}{'distance: ratio, rejected':>27}")
    for name, (faulty, count) in FAULTS.items():
        began = time.process_time()
        found = certificates(faulty, count)
        record["faults"][name] = found | {"seconds": time.process_time() - began}
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")
        tables = [torch.tensor(found[kernel]) for kernel in ("numbers", "distance")]
        cells = [f"{float(t[:, 0].mean()):>17.2f}{float((t[:, 1] <= 0.05).float().mean()):>9.0%}" for t in tables]
        print(f"{name:<28}{count:>13}{cells[0]}{cells[1]:>27}", flush=True)


if __name__ == "__main__":
    main()
