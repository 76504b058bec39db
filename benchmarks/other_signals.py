"""The prior of ``--recipe mixture`` on signals that chose nothing about it, against the rivals of ``spectrometer.py``.

    python benchmarks/other_signals.py nir SPECTRA      SPECTRA has nirsoil_absorbance.npz
    python benchmarks/other_signals.py Tecator DATA     DATA is the folder sktime/datasets/data of sktime's wheel
    python benchmarks/other_signals.py ItalyPowerDemand DATA

Three quarters of the signals learn (of the soils, those marked so), and a fifth of these tunes the rivals. Reading k is
the mean under a Gaussian window with a random centre, 3 to 15 % of the axis wide. Noise is relative to the deviation of
the training signals. Prints the table and adds it to benchmarks/results/other_signals.json.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spectrometer import COVERAGE, DRAWS, MACHINE, rmse
from spectrometer_rivals import RIVALS, Array, Rival

import sfumato
from sfumato.cli.main import main as command

COUNTS, NOISES, STRIDE = (4, 8, 16), (0.003, 0.03, 0.1), 7
RESULTS = Path(__file__).parent / "results" / "other_signals.json"


def signals(name: str, folder: Path) -> tuple[Array, Array]:
    """Signals to learn from and signals to test, (n, D) each."""
    if name == "nir":
        with np.load(folder / "nirsoil_absorbance.npz") as file:
            x, train = file["absorbance"][:, ::STRIDE].astype(np.float64), file["train"]
        return x[train], x[~train]
    x = np.concatenate([read_ts(folder / name / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")])
    x = x[np.random.default_rng(3).permutation(len(x))]
    return x[: len(x) * 3 // 4], x[len(x) * 3 // 4 :]


def read_ts(path: Path) -> Array:
    """The signals of a file of one dimension: numbers, a colon, and a label or a value."""
    lines = (line for line in path.read_text().splitlines() if line[:1] not in ("#", "@") and ":" in line)
    return np.array([[float(value) for value in line.split(":")[0].split(",")] for line in lines])


def trained(train: Array) -> Any:
    """What the user's command makes of the signals."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "train.npz", signals=train[:, None].astype(np.float32))
        run = Path(folder) / "run"
        if command(["train", f"{folder}/train.npz", "--recipe", "mixture", "--out", str(run)]):
            raise SystemExit("other_signals.py: the model was not trained")
        return sfumato.load(run)


def windows(count: int, size: int, rng: np.random.Generator) -> Array:
    centres, widths = np.sort(rng.uniform(0, 1, count)), rng.uniform(0.03, 0.15, count)
    A = np.exp(-0.5 * ((np.linspace(0, 1, size) - centres[:, None]) / widths[:, None]) ** 2)
    return A / A.sum(1, keepdims=True)


def tuned(rival: Rival, fit: Array, A: Array, noise: float, y: Array, truth: Array) -> Any:
    """The setting with the least error on the signals that choose; those that need more signals are passed over."""
    errors = {}
    for setting in rival.settings:
        try:
            errors[setting] = rmse(rival.estimate(fit, A, noise, setting, y), truth)
        except ValueError:
            continue
    return min(errors, key=lambda setting: errors[setting])


def cell(model: Any, train: Array, test: Array, count: int, relative: float) -> dict[str, Any]:
    """The errors of all on the same readings."""
    rng = np.random.default_rng(count)
    A, noise, chosen = windows(count, train.shape[1], rng), relative * train.std(), len(train) // 5
    fit, truth = train[:-chosen], train[-chosen:]
    y = test @ A.T + noise * rng.standard_normal((len(test), count))
    asked = truth @ A.T + noise * rng.standard_normal((chosen, count))
    errors = {
        rival.name: rmse(rival.estimate(train, A, noise, tuned(rival, fit, A, noise, asked, truth), y), test)
        for rival in RIVALS
    }
    began = time.process_time()
    found = model.reconstruct(y, torch.from_numpy(A), noise=noise, draws=DRAWS)
    seconds = (time.process_time() - began) / len(y)
    low, high = (end.flatten(1).numpy() for end in found.band(COVERAGE))
    best = min(errors, key=lambda name: errors[name])
    error = rmse(found.mean.flatten(1).double().numpy(), test)
    row = {"count": count, "noise": relative, "error": error, "best_rival": best, "ratio": error / errors[best]}
    covered = float(((low <= test) & (test <= high)).mean())
    return {**row, "covered": covered, "seconds": seconds, "rivals": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("nir", "Tecator", "ItalyPowerDemand"))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = signals(args.name, args.folder)
    model, cells = trained(train), []
    print("K", "noise", "ours", "best rival", "/ best", "90 % band holds", sep=" | ")
    for count in COUNTS:
        for relative in NOISES:
            row = cell(model, train, test, count, relative)
            cells.append(row)
            best = f"{row['best_rival']} {row['rivals'][row['best_rival']]:.5f}"
            ends = f"{row['ratio']:.3f}", f"{row['covered']:.1%}"
            print(count, relative, f"{row['error']:.5f}", best, *ends, sep=" | ", flush=True)
    data = json.loads(RESULTS.read_text())["data"] if RESULTS.exists() else {}
    data[args.name] = {"train": len(train), "test": len(test), "numbers": train.shape[1], "cells": cells}
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    RESULTS.write_text(json.dumps({"machine": MACHINE, "versions": versions, "data": data}, indent=1) + "\n")


if __name__ == "__main__":
    main()
