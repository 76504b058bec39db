"""Spectra from the readings of a few filters, with a diffusion model as the prior, against nine other ways.

Munsell reflectances (1,485 at 31 wavelengths, 400 to 700 nm): a random 1,200 to learn from and 285 to test. Reading k
is the mean over the wavelengths of filter k x lamp x spectrum, for a lamp of mean 1; a perfect white without a filter
reads 1. The K filters, of 143 measured ones, are the best of 300 random sets for the Wiener estimate at noise 0.001 on
200 of the 1,200. The same 200 choose the settings of every rival from the other 1,000; then it learns from all 1,200.
The model gets train.npz as a user's command does.

    python benchmarks/spectrometer.py data SPECTRA OUT       write train.npz, the filters, and what is tested
    python benchmarks/spectrometer.py rivals OUT
    sfumato train OUT/train.npz --recipe mixture data.axis=wavelength --out RUN
    python benchmarks/spectrometer.py model OUT RUN          the posterior under a trained model
    python benchmarks/spectrometer.py table OUT              print the table, write benchmarks/results/spectrometer.json

SPECTRA is a folder with the plain arrays of reflectances, filters and lamps. Needs colour-science (the extra
``peers``) for the colour differences.
"""

import argparse
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from spectrometer_rivals import RIVALS, Array, Rival, wiener

LAMP = "Philips.Inc.50W.spot.halogen"
COUNTS, NOISES = (3, 4, 6, 8, 12), (0.001, 0.003, 0.01, 0.03)
LEARN, CHOOSE = 1200, 200
COVERAGE = 0.9
DRAWS = 128
RESULTS = Path(__file__).parent / "results" / "spectrometer.json"
MACHINE = "2 cores of an x86 with AVX-512 and bf16, shared"


def write_data(source: Path, out: Path) -> None:
    """The split, the filters of each K, and the readings of the test spectra."""
    train, test, filters, names, lamp, at = measured(source)
    rng = np.random.default_rng(0)
    rng.permutation(len(train) + len(test))  # as ``measured`` did
    useful = np.flatnonzero((filters.mean(1) > 0.1) & (filters.std(1) > 0.15))
    matrices = filters * lamp / lamp.mean() / len(lamp)
    arrays: dict[str, Any] = {"train": train, "test": test, "wavelength": at}
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
    np.savez(out / "train.npz", spectra=train[:, None].astype(np.float32), wavelength=at)


def measured(source: Path) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The spectra to learn from and those to test, the filters and their names, the lamp, and the wavelengths."""
    with np.load(source / "munsell2007_reflectance.npz") as file:
        at = file["wavelength_nm"]
        kept = (at >= 400) & (at <= 700)
        spectra = file["reflectance"][:, kept].astype(np.float64)
    with np.load(source / "photobiology_filters_transmittance.npz") as file:
        filters, names = file["transmittance"][:, kept].astype(np.float64), file["name"]
    with np.load(source / "photobiology_lamps_irradiance.npz") as file:
        lamp = file["irradiance"][file["name"].tolist().index(LAMP)]
        lamp = np.interp(at[kept], file["wavelength_nm"], lamp)
    spectra = spectra[np.random.default_rng(0).permutation(len(spectra))]
    return spectra[:LEARN], spectra[LEARN:], filters, names, lamp, at[kept]


def wiener_error(train: Array, A: Array, noise: float = 0.001) -> float:
    """The error of the Wiener estimate, learnt from 1,000 of the training spectra, on the others."""
    fit, choose = train[:-CHOOSE], train[-CHOOSE:]
    y = choose @ A.T + noise * np.random.default_rng(1).standard_normal((CHOOSE, len(A)))
    return rmse(wiener(fit, A, noise, 0.0, y), choose)


def rmse(found: Array, truth: Array) -> float:
    return float(np.sqrt(np.square(found - truth).mean()))


def scores(found: Array, truth: Array) -> dict[str, Any]:
    """The squared error, the goodness of fit (the cosine of the angle) and the colour difference of each spectrum."""
    norms = np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1), 1e-12)
    fit = np.clip((found * truth).sum(1) / norms, -1, 1)
    errors = np.square(found - truth).mean(1)
    colours = colour_differences(found, truth)
    return {"rmse": rmse(found, truth), "errors": errors.tolist(), "fits": fit.tolist(), "colours": colours.tolist()}


def colour_differences(found: Array, truth: Array) -> Array:
    """CIEDE2000 of each pair of spectra under D65, for the observer of 1931: what an eye sees of the error."""
    import colour

    return np.asarray(colour.difference.delta_E_CIE2000(lab(found), lab(truth)))


def lab(spectra: Array) -> Array:
    import colour

    weights = observer()
    white = weights.sum(0)
    # A reflectance below 0 has no colour.
    return np.asarray(colour.XYZ_to_Lab(np.maximum(spectra, 0) @ weights, colour.XYZ_to_xy(white)))


@cache
def observer() -> Array:
    """D65 times the three sensitivities of the eye, (31, 3), so that white has Y = 1."""
    import colour

    at = np.arange(400, 701, 10)
    eye, light = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"], colour.SDS_ILLUMINANTS["D65"]
    weights = np.array([light[x] * eye[x] for x in at])
    return weights / weights[:, 1].sum()


def tuned(rival: Rival, train: Array, A: Array, noise: float) -> Any:
    """The setting with the least error on the spectra that choose."""
    fit, (truth, y) = train[:-CHOOSE], choosing(train, A, noise)
    return min(rival.settings, key=lambda setting: rmse(rival.estimate(fit, A, noise, setting, y), truth))


def choosing(train: Array, A: Array, noise: float, copies: int = 1) -> tuple[Array, Array]:
    """The spectra that choose, ``copies`` times, and noisy readings of them."""
    truth = np.concatenate([train[-CHOOSE:]] * copies)
    return truth, truth @ A.T + noise * np.random.default_rng(2).standard_normal((len(truth), len(A)))


def run_rivals(out: Path, cells: list[tuple[int, float]], names: list[str]) -> None:
    problem = read(out)
    train, test = problem["train"], problem["test"]
    for count, noise in cells:
        A, y = problem[f"A{count}"], problem[f"y{count}_{noise}"]
        for rival in (rival for rival in RIVALS if rival.name in names):
            setting = tuned(rival, train, A, noise)
            rival.estimate(train, A, noise, setting, y[:1])  # what is fitted once is not in the time
            began = time.process_time()
            found = rival.estimate(train, A, noise, setting, y)
            seconds = (time.process_time() - began) / len(y)
            row = {"count": count, "noise": noise, "method": rival.name, "setting": setting}
            write_row(out / "rivals.jsonl", {**row, **scores(found, test), "seconds": seconds})


def read(out: Path) -> dict[str, Array]:
    with np.load(out / "problem.npz") as file:
        return dict(file)


def run_model(out: Path, run: Path, cells: list[tuple[int, float]], part: slice, of_choice: bool) -> None:
    """The posterior under a trained model, for a part of the test spectra, or for those that choose."""
    import torch

    import sfumato

    torch.set_num_threads(1)
    problem, model = read(out), sfumato.load(run)
    for count, noise in cells:
        A, y, truth = problem[f"A{count}"], problem[f"y{count}_{noise}"][part], problem["test"][part]
        if of_choice:
            truth, y = (values[part] for values in choosing(problem["train"], A, noise))
        began = time.process_time()
        found = model.reconstruct(y, torch.from_numpy(A), noise=noise, draws=DRAWS)
        seconds = (time.process_time() - began) / len(y)
        low, high = (end.flatten(1).numpy() for end in found.band(COVERAGE))
        row = {"count": count, "noise": noise, "method": "diffusion", "setting": found.method}
        row |= scores(found.mean.flatten(1).double().numpy(), truth)
        row |= {"covered": ((low <= truth) & (truth <= high)).mean(1).tolist(), "seconds": seconds}
        row["std"] = float(found.std.double().pow(2).mean().sqrt())
        row["strange"] = float((found.p_value < 0.01).double().mean())
        write_row(out / ("choosing.jsonl" if of_choice else "model.jsonl"), row)


def write_row(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")
    print(row["count"], row["noise"], row["method"], row["setting"], f"{row['rmse']:.4f}", flush=True)


def write_table(out: Path) -> None:
    """Every cell on the spectra that the model was measured on: print its row, and write the numbers."""
    import colour
    import scipy
    import sklearn
    import torch

    import sfumato

    rows = [json.loads(line) for name in ("rivals", "model") for line in (out / f"{name}.jsonl").open()]
    names = [rival.name for rival in RIVALS]
    cells = []
    print("K", "noise", "spectra", *names, "diffusion", "/ best", "90 % band holds", sep=" | ")
    for count in COUNTS:
        for noise in NOISES:
            here = {row["method"]: row for row in rows if row["count"] == count and row["noise"] == noise}
            if "diffusion" not in here or not set(names) <= set(here):
                continue
            cell = summary(here, names)
            cells.append({"filters": count, "noise": noise, **cell})
            values = (f"{cell['methods'][name]['rmse']:.4f}" for name in (*names, "diffusion"))
            ends = f"{cell['ratio']:.3f} ± {cell['ratio_error']:.3f}", f"{cell['covered']:.1%}"
            print(count, noise, cell["spectra"], *values, *ends, sep=" | ")
    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__, "numpy": np.__version__}
    versions |= {"scipy": scipy.__version__, "scikit-learn": sklearn.__version__, "colour-science": colour.__version__}
    result = {"machine": MACHINE, "versions": versions, "cells": cells}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def summary(here: dict[str, dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """What is said of a cell: each method on the same spectra, and the ratio to the best rival with its error."""
    spectra = len(here["diffusion"]["errors"])
    methods = {}
    for name, row in here.items():
        errors, fits, colours = (np.array(row[key][:spectra]) for key in ("errors", "fits", "colours"))
        methods[name] = {
            "rmse": float(errors.mean() ** 0.5),
            "angle_degrees": float(np.degrees(np.arccos(fits)).mean()),
            "gfc": float(fits.mean()),
            "psnr": float(-10 * np.log10(np.maximum(errors, 1e-12)).mean()),
            "ciede2000": float(colours.mean()),
            "seconds": row["seconds"],
            "setting": row["setting"],
            "spectra": len(errors),
        }
    best = min(names, key=lambda name: methods[name]["rmse"])
    mine, other = (np.array(here[name]["errors"][:spectra]) for name in ("diffusion", best))
    again = np.random.default_rng(0).integers(0, spectra, (2000, spectra))  # the same spectra for both
    ratios = np.sqrt(mine[again].mean(1) / other[again].mean(1))
    covered = np.array(here["diffusion"]["covered"])
    return {
        "spectra": spectra,
        "best_rival": best,
        "ratio": float((mine.mean() / other.mean()) ** 0.5),
        "ratio_error": float(ratios.std()),
        "covered": float(covered.mean()),
        "covered_error": float(covered.std() / spectra**0.5),
        "methods": methods,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    data = verbs.add_parser("data")
    data.add_argument("source", type=Path)
    data.add_argument("out", type=Path)
    model = verbs.add_parser("model")
    model.add_argument("out", type=Path)
    model.add_argument("run", type=Path, help="a trained model")
    model.add_argument("--part", type=int, nargs=2, default=(0, None), help="from and to which test spectrum")
    model.add_argument("--choosing", action="store_true", help="on the spectra that choose, not on the test")
    rivals = verbs.add_parser("rivals")
    rivals.add_argument("out", type=Path)
    names = [rival.name for rival in RIVALS]
    rivals.add_argument("--methods", nargs="+", choices=names, default=names, help="these alone")
    for each in (rivals, model):
        each.add_argument("--counts", type=int, nargs="+", default=COUNTS)
        each.add_argument("--noises", type=float, nargs="+", default=NOISES)
    verbs.add_parser("table").add_argument("out", type=Path)
    args = parser.parse_args()
    if args.verb == "data":
        return write_data(args.source, args.out)
    if args.verb == "table":
        return write_table(args.out)
    cells = [(count, noise) for count in args.counts for noise in args.noises]
    if args.verb == "rivals":
        return run_rivals(args.out, cells, args.methods)
    run_model(args.out, args.run, cells, slice(*args.part), args.choosing)


if __name__ == "__main__":
    main()
