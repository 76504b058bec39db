"""Posterior methods on 1-D processes whose exact posterior is drawn by Gibbs sampling.

Signals are sums of 64 independent increments: Gaussian, Laplace, Student's t with 3 degrees of freedom, or 0 nine times
of ten and else Laplace. Readings are the signal, a blur of it (a Gaussian of 2 samples), 26 of its values, or its mean
and 12 of its 32 frequencies, with noise of 25 dB on average. The priors are small networks trained on 30,000 signals,
and the Gaussian of the same mean and covariance: the exact prior of the first process, which tells the error of a
method from that of a network, and of the others what the best linear estimate can do.

    python benchmarks/processes.py data OUT         write OUT/NAME.npy, the training signals
    sfumato train OUT/NAME.npy network.kind=mlp training.batch=128 --steps 2000 --threads 1 --out OUT/NAME
    python benchmarks/processes.py truth OUT        the posterior of every cell, by ``gibbs.py``
    python benchmarks/processes.py measure OUT      every method in every cell, of one signal after the other; goes on
                                                    where it was stopped
    python benchmarks/processes.py table OUT        print the tables, write benchmarks/results/processes.json

With the truth known, the expected squared error of an estimate, given the readings, is the sum of the posterior
variances plus its squared distance from the posterior mean. The gap is its ratio to the least possible one, in dB. What
a band of 90 % holds is the share of exact draws inside it. Both are means over test signals.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gibbs
import numpy as np
import torch
from gibbs import Array, Increments

import sfumato
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.restoration import Blur, Mask, Matrix, Operator
from sfumato.restoration.operators import dense

SIZE, LEARN, TEST, DECIBELS = 64, 30_000, 12, 25.0
SWEEPS, KEPT, COVERAGE, DRAWS = 500, 500, 0.9, 32
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared; one thread"
RESULTS = Path(__file__).parent / "results" / "processes.json"
LAWS: dict[str, Increments] = {
    "gaussian": gibbs.Gaussian(),
    "laplace": gibbs.Laplace(),
    "student": gibbs.Student(),
    "bernoulli-laplace": gibbs.BernoulliLaplace(),
}
METHODS: dict[str, dict[str, int]] = {  # fewer particles and steps than the defaults, to end within an hour
    "annealed": {"particles": 64, "steps": 6},
    "mmps": {"steps": 20},
    "pigdm": {"steps": 30},
    "dps": {"steps": 60},
}


def operators() -> dict[str, Operator]:
    shape, rng = (1, SIZE), np.random.default_rng(0)
    known = torch.zeros(shape, dtype=torch.bool)
    known[0, np.sort(rng.permutation(SIZE)[:26])] = True
    frequencies = np.sort(1 + rng.permutation(SIZE // 2 - 1)[:12])
    waves = np.exp(2j * np.pi * np.outer(frequencies, np.arange(SIZE)) / SIZE) * np.sqrt(2 / SIZE)
    rows = np.concatenate([np.full((1, SIZE), SIZE**-0.5), waves.real, waves.imag])
    return {
        "identity": Mask(torch.ones(shape, dtype=torch.bool), shape),
        "blur": Blur.gaussian(2.0, shape),
        "missing": Mask(known, shape),
        "fourier": Matrix(torch.from_numpy(rows), shape),
    }


def covariance(law: Increments) -> Array:
    sums = np.tril(np.ones((SIZE, SIZE)))
    return law.variance * sums @ sums.T


def problem(process: str, operator: Operator) -> tuple[Array, float, Array, Array]:
    """The matrix, the noise, the test signals and their readings."""
    law, A = LAWS[process], dense(operator).numpy()
    noise = float(np.trace(A @ covariance(law) @ A.T) / len(A)) ** 0.5 * 10 ** (-DECIBELS / 20)
    rng = np.random.default_rng(1000 + list(LAWS).index(process))  # the same signals for every operator
    x = law.sample(TEST, SIZE, rng)
    return A, noise, x, x @ A.T + noise * rng.standard_normal((TEST, len(A)))


def write_data(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for i, (name, law) in enumerate(LAWS.items()):
        x = law.sample(LEARN, SIZE, np.random.default_rng(i))
        np.save(out / f"{name}.npy", x[:, None].astype(np.float32))


def write_truth(out: Path) -> None:
    for process, law in LAWS.items():
        for name, operator in operators().items():
            A, noise, _, y = problem(process, operator)
            began = time.process_time()
            found = gibbs.posterior(law, A, noise, y, SWEEPS, KEPT, np.random.default_rng(7))
            seconds = (time.process_time() - began) / TEST
            np.savez(out / f"{process}-{name}.npz", **vars(found), seconds=seconds)
            print(
                process, name, f"{decibels(found.power + found.error, found.power):.3f} dB, {seconds:.2f} s", flush=True
            )


def truth_of(out: Path, process: str, operator: str) -> tuple[gibbs.Truth, float]:
    """The posterior, and the seconds that it took for each signal."""
    with np.load(out / f"{process}-{operator}.npz") as file:
        return gibbs.Truth(file["mean"], file["power"], file["draws"], file["error"]), float(file["seconds"])


def measure(out: Path) -> None:
    torch.set_num_threads(1)
    done = {(*key(row), row["signal"]) for row in rows(out)}
    ways = {process: list(ways_of(process, sfumato.load(out / process))) for process in LAWS}
    tasks = [
        (signal, process, name, way)
        for signal in range(TEST)
        for process in LAWS
        for name in operators()
        for way in ways[process]
    ]
    for signal, process, name, (model, prior, method, settings) in sorted(
        tasks, key=lambda task: task[3][2] != "exact"
    ):
        row = {"process": process, "operator": name, "prior": prior, "method": method, "signal": signal}
        if (*key(row), signal) in done:
            continue
        operator = operators()[name]
        _, noise, x, y = problem(process, operator)
        readings = torch.from_numpy(y[signal]).reshape(1, *operator.output_shape)
        began = time.process_time()
        found = model.reconstruct(readings, operator, noise=noise, draws=DRAWS, method=method, seed=signal, **settings)
        row |= {"seconds": time.process_time() - began, "evaluations": found.evaluations}
        ends = [end.flatten().numpy() for end in found.band(COVERAGE)]
        truth, _ = truth_of(out, process, name)
        write_row(out, row | scored(found.mean.flatten().double().numpy(), ends, truth, x, signal))


def ways_of(process: str, network: Any) -> Iterator[tuple[Any, str, str, dict[str, int]]]:
    """Each prior, its name, a method, and the settings of the method."""
    gaussian = gaussian_model(network, LAWS[process])
    yield gaussian, "Gaussian", "exact", {}
    for model, prior in ((gaussian, "Gaussian"), (network, "network")):
        if prior == "network" or process == "gaussian":
            for method, settings in METHODS.items():
                yield model, prior, method, settings


def gaussian_model(model: Any, law: Increments) -> Any:
    """The model with the exact denoiser of the Gaussian with the mean and covariance of the process."""
    shift, scale = model.spec.transform.shift[0], model.spec.transform.scale[0]
    mean = torch.full((SIZE,), -shift / scale, dtype=torch.float64)
    prior = GaussianMixture.gaussian(mean, torch.from_numpy(covariance(law)) / scale**2)
    return model.with_module(ExactDenoiser(model.denoiser.process, prior))


def scored(mean: Array, ends: list[Array], truth: gibbs.Truth, x: Array, signal: int) -> dict[str, float]:
    """Of one signal: squared distances from the posterior mean and the signal; what bands hold of draws and signal."""
    low, high = ends
    draws = truth.draws[signal]
    return {
        "distance": float(np.square(mean - truth.mean[signal]).sum()),
        "error": float(np.square(mean - x[signal]).sum()),
        "covered": float(((low <= draws) & (draws <= high)).mean()),
        "covered_signal": float(((low <= x[signal]) & (x[signal] <= high)).mean()),
    }


def decibels(error: Array, least: Array) -> float:
    return float(10 * np.log10(error.mean() / least.mean()))


def key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["process"], row["operator"], row["prior"], row["method"]


def rows(out: Path) -> list[dict[str, Any]]:
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.open()] if path.exists() else []


def write_row(out: Path, row: dict[str, Any]) -> None:
    with (out / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row["signal"], *key(row), f"{row['distance']:.3g}, {row['covered']:.1%}, {row['seconds']:.2f} s", flush=True)


def write_table(out: Path) -> None:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows(out):
        groups.setdefault(key(row), []).append(row)
    cells = []
    for process in LAWS:
        print(f"\n| {process} | {' | '.join(operators())} | seconds |")
        mine = [gibbs_cell(out, process, name) for name in operators()]
        mine += [cell_of(out, group) for one, group in groups.items() if one[0] == process]
        mine.append(one_evaluation(out, process))
        for way in dict.fromkeys((cell["method"], cell["prior"]) for cell in mine):
            print_row([cell for cell in mine if (cell["method"], cell["prior"]) == way])
        cells += mine
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    result = {"machine": MACHINE, "versions": versions, "settings": METHODS, "cells": cells}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def cell_of(out: Path, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of a method in a cell over the signals that were measured, the first of all, with standard errors."""
    first, count = found[0], len(found)
    power = truth_of(out, first["process"], first["operator"])[0].power[:count]
    distance, error, covered, covered_signal, seconds = (
        np.array([row[name] for row in found]) for name in ("distance", "error", "covered", "covered_signal", "seconds")
    )
    again = np.random.default_rng(0).integers(0, count, (500, count))
    errors = {
        "gap_error": float(np.std([decibels((power + distance)[one], power[one]) for one in again])),
        "covered_error": float(covered.std() / count**0.5),
    }
    return {
        **(errors if count > 1 else {}),
        **{name: first[name] for name in ("process", "operator", "prior", "method", "evaluations")},
        "signals": count,
        "gap": decibels(power + distance, power),
        "covered": float(covered.mean()),
        "mse_of_signals": float(error.mean() / SIZE),
        "covered_of_signals": float(covered_signal.mean()),
        "seconds": float(seconds.mean()),
    }


def gibbs_cell(out: Path, process: str, operator: str) -> dict[str, Any]:
    """What chance leaves in the truth itself, and whether the signals agree with it."""
    truth, seconds = truth_of(out, process, operator)
    x = problem(process, operators()[operator])[2]
    low, high = (np.quantile(truth.draws, end, axis=1) for end in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    inside = ((low <= x) & (x <= high)).mean(1)
    return {
        **{"process": process, "operator": operator, "prior": "exact", "method": "Gibbs", "seconds": seconds},
        "gap": decibels(truth.power + truth.error, truth.power),
        "signals": TEST,
        "mse": float(truth.power.mean() / SIZE),
        "mse_of_signals": float(np.square(truth.mean - x).mean()),
        "covered_of_signals": float(inside.mean()),
        "covered_of_signals_error": float(inside.std() / TEST**0.5),
    }


def one_evaluation(out: Path, process: str) -> dict[str, Any]:
    """The network's estimate of a signal that is read as it is, without a method: the error of the network alone."""
    model, (truth, _) = sfumato.load(out / process), truth_of(out, process, "identity")
    _, noise, _, y = problem(process, operators()["identity"])
    began = time.process_time()
    mean = model.denoise(torch.from_numpy(y)[:, None], noise).mean.flatten(1).double().numpy()
    error = truth.power + np.square(mean - truth.mean).sum(1)
    return {
        **{"process": process, "operator": "identity", "prior": "network", "method": "one evaluation"},
        **{"signals": TEST, "gap": decibels(error, truth.power), "seconds": (time.process_time() - began) / TEST},
    }


def print_row(cells: list[dict[str, Any]]) -> None:
    texts = []
    for name in operators():
        cell = next((cell for cell in cells if cell["operator"] == name), None)
        if cell is None:
            texts.append("")
            continue
        error = f" ± {cell['gap_error']:.2f}" if "gap_error" in cell else ""
        held = next((f", {cell[name]:.0%}" for name in ("covered", "covered_of_signals") if name in cell), "")
        texts.append(f"{cell['gap']:.2f}{error}{held} ({cell['signals']})")
    seconds = np.mean([cell["seconds"] for cell in cells])
    print(f"| {cells[0]['method']}, {cells[0]['prior']} | {' | '.join(texts)} | {seconds:.2g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = {"data": write_data, "truth": write_truth, "measure": measure, "table": write_table}
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    verbs[args.verb](args.out)


if __name__ == "__main__":
    main()
