"""Filters chosen for the prior, against the best of 300 random sets, each with two reconstructions.

The spectra, filters and lamp are those of ``spectrometer.py``; a second has an even light instead of the lamp.
Both ways of choosing see the 1,200 training spectra alone: ``restoration.choose`` their covariance, and the random sets
are judged by the error of the Wiener estimate on 200 of them. The 285 test spectra give the errors in the table: of the
Wiener estimate, and of the exact posterior mean under the mixture of ``spectrometer.py``.

    python benchmarks/design.py SPECTRA           prints the table, writes benchmarks/results/design.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from spectrometer import MACHINE, MIXTURE, in_data_units, measured, mixture_model, rmse, wiener_error
from spectrometer_rivals import Array, mixture_mean, wiener

import sfumato
from sfumato.restoration import choose

COUNTS, NOISES, RANDOM, NOISY_COPIES = (3, 4, 6, 8), (0.001, 0.01), 300, 5
RESULTS = Path(__file__).parent / "results" / "design.json"


def errors(A: Array, noise: float, train: Array, test: Array, prior: tuple[Array, Array, Array]) -> tuple[float, float]:
    """Of the Wiener estimate and of the mixture's mean, on noisy copies of the test spectra."""
    truth = np.concatenate([test] * NOISY_COPIES)
    y = truth @ A.T + noise * np.random.default_rng(3).standard_normal((len(truth), len(A)))
    return rmse(wiener(train, A, noise, 0.0, y), truth), rmse(mixture_mean(*prior, A, noise, y), truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test, filters, _, lamp, _ = measured(args.source)
    useful = np.flatnonzero((filters.mean(1) > 0.1) & (filters.std(1) > 0.15))
    prior = in_data_units(mixture_model(train, *MIXTURE))
    covariance = torch.from_numpy(np.cov(train.T))
    rows = []
    print("light | K | noise | predicted | chosen: Wiener | mixture | best random: Wiener | mixture | seconds")
    for light, power in (("lamp", lamp / lamp.mean()), ("even", np.ones_like(lamp))):
        matrices, rng = filters[useful] * power / len(lamp), np.random.default_rng(4)
        for count in COUNTS:
            sets = [rng.choice(len(matrices), count, replace=False) for _ in range(RANDOM)]
            for noise in NOISES:
                began = time.process_time()
                found = choose(torch.from_numpy(matrices), covariance, noise, count)
                seconds = time.process_time() - began
                lucky = min(sets, key=lambda one: wiener_error(train, matrices[one], noise))
                pair = (list(found.chosen), lucky)
                ours, random = (errors(matrices[one], noise, train, test, prior) for one in pair)
                values = (f"{value:.4f}" for value in (found.errors[-1], *ours, *random, seconds))
                print(light, count, noise, *values, sep=" | ", flush=True)
                row = {"light": light, "filters": count, "noise": noise, "predicted": found.errors[-1]}
                row["chosen"], row["best_random"] = ({"wiener": one[0], "mixture": one[1]} for one in (ours, random))
                rows.append({**row, "seconds": seconds})
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps({"machine": MACHINE, "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
