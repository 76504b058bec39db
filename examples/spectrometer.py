"""A spectrum from the readings of six filters. Run: ``python examples/spectrometer.py spectrometer.png``.

The spectra are synthetic: a few smooth bands each, at 31 wavelengths. A small model learns them in half a minute; then
five new ones are measured and reconstructed. For your own, see docs/spectrometer.md.
"""

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import sfumato
from sfumato.restoration import Matrix, choose

NOISE, FILTERS = 0.01, 6
WAVELENGTHS = np.arange(400, 701, 10.0)


def spectra(count: int, seed: int) -> np.ndarray:
    """Reflectances (count, 31): a step and two bands each, between 0 and 1."""
    rng = np.random.default_rng(seed)
    edge, slope = rng.uniform(420, 680, (count, 1)), rng.uniform(10, 40, (count, 1))
    values = rng.uniform(0.05, 0.8, (count, 1)) / (
        1 + np.exp((edge - WAVELENGTHS) / slope * rng.choice((-1, 1), (count, 1)))
    )
    for _ in range(2):
        centre, width = rng.uniform(400, 700, (count, 1)), rng.uniform(25, 70, (count, 1))
        values += rng.uniform(0, 0.3, (count, 1)) * np.exp(-0.5 * ((WAVELENGTHS - centre) / width) ** 2)
    return np.clip(values, 0, 1)


def main() -> None:
    """Train, choose filters among 60, measure, reconstruct, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    train, test = spectra(1200, 0), spectra(5, 1)
    np.savez(folder / "spectra.npz", spectra=train[:, None].astype(np.float32), wavelength=WAVELENGTHS)
    settings = {"data.axis": "wavelength", "network.kind": "mlp", "network.width": 128, "network.depth": 3}
    model = sfumato.train(folder / "spectra.npz", steps=args.steps, settings=settings, out=folder / "run")

    centres = np.linspace(400, 700, 60)[:, None]
    candidates = torch.from_numpy(np.exp(-0.5 * ((WAVELENGTHS - centres) / 25) ** 2) / len(WAVELENGTHS))
    design = choose(candidates, torch.from_numpy(np.cov(train.T)), NOISE, FILTERS)
    operator = Matrix(candidates[list(design.chosen)], (1, len(WAVELENGTHS)))
    noise = NOISE * torch.randn(5, FILTERS, generator=torch.Generator().manual_seed(0)).double()
    found = model.reconstruct(
        operator(torch.from_numpy(test)[:, None]) + noise, operator, noise=NOISE, particles=128, steps=10
    )
    low, high = found.band(0.9)
    error = float((found.mean[:, 0] - torch.from_numpy(test)).pow(2).mean().sqrt())
    inside = ((low[:, 0] <= torch.from_numpy(test)) & (torch.from_numpy(test) <= high[:, 0])).double().mean()
    print(
        f"error {error:.4f}, expected of the best linear estimate {design.errors[-1]:.4f}; 90 % bands hold {inside:.0%}"
    )

    figure, axes = plt.subplots(1, 5, figsize=(14, 2.8), sharey=True)
    for i, cell in enumerate(axes):
        cell.fill_between(WAVELENGTHS, low[i, 0], high[i, 0], alpha=0.25, linewidth=0)
        cell.plot(WAVELENGTHS, found.mean[i, 0])
        cell.plot(WAVELENGTHS, test[i], "k--", linewidth=0.9)
        cell.set_xlabel("wavelength (nm)")
    axes[0].set_ylabel("reflectance")
    figure.savefig(args.picture, bbox_inches="tight")


if __name__ == "__main__":
    main()
