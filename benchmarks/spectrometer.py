"""Spectra from the readings of a few filters, with a diffusion model as the prior, against eight other ways.

Munsell reflectances (1,485 at 31 wavelengths, 400 to 700 nm): a random 1,200 to learn from and 285 to test. Reading k
is the mean over the wavelengths of filter k x lamp x spectrum, for a lamp of mean 1; a perfect white without a filter
reads 1. The K filters, of 143 measured ones, are the best of 300 random sets for the Wiener estimate at noise 0.001 on
200 of the 1,200. The same 200 choose the settings of every rival from the other 1,000; then it learns from all 1,200.

    python benchmarks/spectrometer.py data SPECTRA OUT              write train.npz, the filters, and what is tested
    sfumato train OUT/train.npz data.axis=wavelength ...            a prior: docs/spectrometer.md has the settings
    python benchmarks/spectrometer.py rivals OUT
    python benchmarks/spectrometer.py model OUT RUN
    python benchmarks/spectrometer.py table OUT

SPECTRA is a folder with the plain arrays of reflectances, filters and lamps.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from spectrometer_rivals import RIVALS, Array, Rival, wiener

LAMP = "Philips.Inc.50W.spot.halogen"
COUNTS, NOISES = (3, 4, 6, 8, 12), (0.001, 0.003, 0.01, 0.03)
LEARN, CHOOSE = 1200, 200
COVERAGE = 0.9


def write_data(source: Path, out: Path) -> None:
    """The split, the filters of each K, and the readings of the test spectra."""
    with np.load(source / "munsell2007_reflectance.npz") as file:
        at = file["wavelength_nm"]
        kept = (at >= 400) & (at <= 700)
        spectra = file["reflectance"][:, kept].astype(np.float64)
    with np.load(source / "photobiology_filters_transmittance.npz") as file:
        filters, names = file["transmittance"][:, kept].astype(np.float64), file["name"]
    with np.load(source / "photobiology_lamps_irradiance.npz") as file:
        lamp = file["irradiance"][file["name"].tolist().index(LAMP)]
        lamp = np.interp(at[kept], file["wavelength_nm"], lamp)
    rng = np.random.default_rng(0)
    spectra = spectra[rng.permutation(len(spectra))]
    train, test = spectra[:LEARN], spectra[LEARN:]
    useful = np.flatnonzero((filters.mean(1) > 0.1) & (filters.std(1) > 0.15))
    matrices = filters * lamp / lamp.mean() / len(lamp)
    arrays: dict[str, Any] = {"train": train, "test": test, "wavelength": at[kept]}
    for count in COUNTS:
        sets = [rng.choice(useful, count, replace=False) for _ in range(300)]
        chosen = min(sets, key=lambda one: wiener_error(train, matrices[one]))
        arrays[f"A{count}"] = matrices[chosen]
        print(count, *names[chosen], sep="  ")
        for noise in NOISES:
            y = test @ matrices[chosen].T
            arrays[f"y{count}_{noise}"] = y + noise * rng.standard_normal(y.shape)
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "problem.npz", **arrays)
    np.savez(out / "train.npz", spectra=train[:, None].astype(np.float32), wavelength=at[kept])


def wiener_error(train: Array, A: Array) -> float:
    fit, choose = train[:-CHOOSE], train[-CHOOSE:]
    y = choose @ A.T + 0.001 * np.random.default_rng(1).standard_normal((CHOOSE, len(A)))
    return rmse(wiener(fit, A, 0.001, 0.0, y), choose)


def rmse(found: Array, truth: Array) -> float:
    return float(np.sqrt(np.square(found - truth).mean()))


def scores(found: Array, truth: Array) -> dict[str, Any]:
    """The squared error, the angle in degrees, and the goodness of fit (its cosine) of each spectrum, and the RMSE."""
    norms = np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1), 1e-12)
    fit = np.clip((found * truth).sum(1) / norms, -1, 1)
    errors = np.square(found - truth).mean(1)
    return {"rmse": rmse(found, truth), "errors": errors.tolist(), "fits": fit.tolist()}


def tuned(rival: Rival, train: Array, A: Array, noise: float) -> Any:
    """The setting with the least error on the spectra that choose."""
    fit, choose = train[:-CHOOSE], train[-CHOOSE:]
    y = choose @ A.T + noise * np.random.default_rng(2).standard_normal((CHOOSE, len(A)))
    return min(rival.settings, key=lambda setting: rmse(rival.estimate(fit, A, noise, setting, y), choose))


def run_rivals(out: Path, cells: list[tuple[int, float]]) -> None:
    with np.load(out / "problem.npz") as file:
        problem = dict(file)
    train, test = problem["train"], problem["test"]
    for count, noise in cells:
        A, y = problem[f"A{count}"], problem[f"y{count}_{noise}"]
        for rival in RIVALS:
            setting = tuned(rival, train, A, noise)
            rival.estimate(train, A, noise, setting, y[:1])  # what is fitted once is not in the time
            began = time.process_time()
            found = rival.estimate(train, A, noise, setting, y)
            seconds = (time.process_time() - began) / len(y)
            row = {"count": count, "noise": noise, "method": rival.name, "setting": setting}
            write_row(out / "rivals.jsonl", {**row, **scores(found, test), "seconds": seconds})


def run_model(
    out: Path, run: Path, cells: list[tuple[int, float]], part: slice, choosing: bool, settings: dict[str, int]
) -> None:
    """The posterior under a trained model, for a part of the test spectra, or for those that choose."""
    import torch

    import sfumato

    torch.set_num_threads(1)
    with np.load(out / "problem.npz") as file:
        problem = dict(file)
    model = sfumato.load(run)
    for count, noise in cells:
        A, y, truth = problem[f"A{count}"], problem[f"y{count}_{noise}"][part], problem["test"][part]
        if choosing:
            truth = problem["train"][-CHOOSE:]
            y = truth @ A.T + noise * np.random.default_rng(2).standard_normal((CHOOSE, len(A)))
        began = time.process_time()
        found = model.reconstruct(y, torch.from_numpy(A), noise=noise, draws=settings["particles"], **settings)
        seconds = (time.process_time() - began) / len(y)
        low, high = (end.flatten(1).numpy() for end in found.band(COVERAGE))
        row = {"count": count, "noise": noise, "method": "diffusion", "setting": {**settings, "run": run.name}}
        row |= scores(found.mean.flatten(1).double().numpy(), truth)
        row |= {"covered": float(((low <= truth) & (truth <= high)).mean()), "seconds": seconds}
        row["std"] = float(found.std.double().pow(2).mean().sqrt())
        row["strange"] = float((found.p_value < 0.01).double().mean())
        write_row(out / ("choosing.jsonl" if choosing else "model.jsonl"), row)


def write_row(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(row["count"], row["noise"], row["method"], row["setting"], f"{row['rmse']:.4f}", flush=True)


def print_table(out: Path) -> None:
    """Every cell: the RMSE of each method on the spectra that the diffusion model was measured on, and its bands."""
    rivals, parts = ([json.loads(row) for row in (out / f"{name}.jsonl").open()] for name in ("rivals", "model"))
    names = [rival.name for rival in RIVALS]
    print("K", "noise", "spectra", *names, "diffusion", "ratio to best", "90 % band", "angle", "seconds", sep=" | ")
    for count in COUNTS:
        for noise in NOISES:
            own = [row for row in parts if row["count"] == count and row["noise"] == noise]
            if not own:
                continue
            errors = [value for row in own for value in row["errors"]]
            others = {row["method"]: row for row in rivals if row["count"] == count and row["noise"] == noise}
            found = [np.mean(others[name]["errors"][: len(errors)]) ** 0.5 for name in names]
            mine = np.mean(errors) ** 0.5
            shares = [len(row["errors"]) / len(errors) for row in own]
            covered, seconds = (
                sum(share * row[key] for share, row in zip(shares, own, strict=True)) for key in ("covered", "seconds")
            )
            angle = np.degrees(np.arccos([fit for row in own for fit in row["fits"]])).mean()
            values = (f"{value:.4f}" for value in (*found, mine))
            ends = f"{mine / min(found):.2f}", f"{covered:.1%}", f"{angle:.1f}", f"{seconds:.2f}"
            print(count, noise, len(errors), *values, *ends, sep=" | ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    data = verbs.add_parser("data")
    data.add_argument("source", type=Path)
    data.add_argument("out", type=Path)
    model = verbs.add_parser("model")
    model.add_argument("out", type=Path)
    model.add_argument("run", type=Path)
    model.add_argument("--part", type=int, nargs=2, default=(0, None), help="from and to which test spectrum")
    model.add_argument("--particles", type=int, default=128)
    model.add_argument("--steps", type=int, default=10)
    model.add_argument("--choosing", action="store_true", help="on the spectra that choose, not on the test")
    rivals = verbs.add_parser("rivals")
    rivals.add_argument("out", type=Path)
    for each in (rivals, model):
        each.add_argument("--counts", type=int, nargs="+", default=COUNTS)
        each.add_argument("--noises", type=float, nargs="+", default=NOISES)
    verbs.add_parser("table").add_argument("out", type=Path)
    args = parser.parse_args()
    if args.verb in ("model", "rivals"):
        cells = [(count, noise) for count in args.counts for noise in args.noises]
    if args.verb == "model":
        settings = {"particles": args.particles, "steps": args.steps}
        run_model(args.out, args.run, cells, slice(*args.part), args.choosing, settings)
    elif args.verb == "data":
        write_data(args.source, args.out)
    elif args.verb == "rivals":
        run_rivals(args.out, cells)
    else:
        print_table(args.out)


if __name__ == "__main__":
    main()
