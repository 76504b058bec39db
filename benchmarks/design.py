"""Filters chosen for the prior, against the best of 300 random sets, each with two reconstructions.

The spectra, filters and lamp are those of ``spectrometer.py``; a second has an even light instead of the lamp.
Both ways of choosing see the 1,200 training spectra alone: ``restoration.choose`` their covariance, and the random sets
are judged by the error of the Wiener estimate on 200 of them. The 285 test spectra give the errors in the table: of the
Wiener estimate, and of the posterior mean of the model of ``spectrometer.py``.

    python benchmarks/design.py SPECTRA RUN       RUN as trained for ``spectrometer.py``; prints the table, writes
                                                  benchmarks/results/design.json
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spectrometer import MACHINE, measured, rmse, wiener_error
from spectrometer_rivals import Array, wiener

import sfumato
from sfumato.restoration import choose

COUNTS, NOISES, RANDOM = (3, 4, 6, 8), (0.001, 0.01), 300
RESULTS = Path(__file__).parent / "results" / "design.json"


def errors(A: Array, noise: float, train: Array, test: Array, model: Any) -> tuple[float, float]:
    """Of the Wiener estimate and of the model's mean, on noisy readings of the test spectra."""
    y = test @ A.T + noise * np.random.default_rng(3).standard_normal((len(test), len(A)))
    found = model.reconstruct(y, torch.from_numpy(A), noise=noise, draws=2).mean
    return rmse(wiener(train, A, noise, 0.0, y), test), rmse(found.flatten(1).double().numpy(), test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test, filters, _, lamp, _ = measured(args.source)
    useful = np.flatnonzero((filters.mean(1) > 0.1) & (filters.std(1) > 0.15))
    model = sfumato.load(args.run)
    covariance = torch.from_numpy(np.cov(train.T))
    rows = []
    print("light | K | noise | predicted | chosen: Wiener | model | best random: Wiener | model | seconds")
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
                ours, random = (errors(matrices[one], noise, train, test, model) for one in pair)
                values = (f"{value:.4f}" for value in (found.errors[-1], *ours, *random, seconds))
                print(light, count, noise, *values, sep=" | ", flush=True)
                row = {"light": light, "filters": count, "noise": noise, "predicted": found.errors[-1]}
                row["chosen"], row["best_random"] = ({"wiener": one[0], "model": one[1]} for one in (ours, random))
                rows.append({**row, "seconds": seconds})
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps({"machine": MACHINE, "versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
