"""The data sets of ``time_to_quality.py`` and the judge, which belongs to no library.

Every set is a pair (training, held out) of arrays in [-1, 1]: pixels / 127.5 - 1, or spectra between the least and the
largest training value. The judge knows training data alone. For sets with classes it is a small convolutional network,
trained once; distances are measured in its 64 features. Spectra are compared as they are.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.data.order import permutation

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
TRAINING, HELD_OUT = 20_000, 2_000  # images of a large set
LEVELS = (4.0, 2.0, 0.0, -2.0, -4.0)  # log-SNR at which held-out samples are denoised
DENOISED = 256
DIRECTIONS = 256  # of the sliced distance


@dataclass(frozen=True, eq=False)
class Set:
    """A data set.

    Arguments:
        name: as the command line has it.
        values: training data in its own units, as a library reads it.
        training: the same in [-1, 1], float32 (N, *shape).
        held_out: as ``training``, (M, *shape).
        labels: of the training data, or None.
    """

    name: str
    values: np.ndarray
    training: Tensor
    held_out: Tensor
    labels: Tensor | None

    @property
    def low_high(self) -> tuple[float, float]:
        """The values that become -1 and 1."""
        return (0.0, 255.0) if self.values.dtype == np.uint8 else (float(self.values.min()), float(self.values.max()))

    def scaled(self, values: np.ndarray | Tensor) -> Tensor:
        """Values in the units of the data in [-1, 1]."""
        low, high = self.low_high
        return (torch.as_tensor(np.asarray(values)).float() - low) / (high - low) * 2 - 1


def sets(folder: Path) -> dict[str, Callable[[], Set]]:
    """The sets by name; ``folder`` holds mnist/, cifar10/ and spectra/."""
    return {
        "digits": _digits,
        "mnist": lambda: _idx("mnist", folder / "mnist"),
        "fashion": lambda: _idx("fashion", FASHION),
        "cifar": lambda: _cifar(folder / "cifar10"),
        "munsell": lambda: _munsell(folder / "spectra" / "munsell2007_reflectance.npz"),
    }


def _set(name: str, values: np.ndarray, held_out: np.ndarray, labels: np.ndarray | None) -> Set:
    empty = torch.empty(0)
    made = Set(name, values, empty, empty, None if labels is None else torch.as_tensor(labels).long())
    return Set(name, values, made.scaled(values), made.scaled(held_out), made.labels)


def _digits() -> Set:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.round(found.images[:, None] / 16 * 255).astype(np.uint8)
    order = permutation(len(images), 0, "benchmark").numpy()
    train, rest = order[:1440], order[1440:]
    return _set("digits", images[train], images[rest], found.target[train])


def _idx(name: str, folder: Path) -> Set:
    def read(file: str, skip: int) -> np.ndarray:
        return np.frombuffer(bytearray(gzip.decompress((folder / file).read_bytes())[skip:]), np.uint8)

    train = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:TRAINING]
    rest = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:HELD_OUT]
    return _set(name, train, rest, read("train-labels-idx1-ubyte.gz", 8)[:TRAINING])


def _cifar(folder: Path) -> Set:
    def read(name: str, sheets: int) -> np.ndarray:
        found = []
        for number in range(sheets):
            sheet = np.asarray(Image.open(folder / f"{name}-{number:02}.webp").convert("RGB"))
            found.append(sheet.reshape(50, 32, 50, 32, 3).transpose(0, 2, 4, 1, 3).reshape(2500, 3, 32, 32))
        return np.concatenate(found)

    train = read("train", TRAINING // 2500)
    with np.load(folder / "labels.npz") as labels:
        return _set("cifar", train, read("test", 1)[:HELD_OUT], labels["train_labels"][:TRAINING])


def _munsell(path: Path) -> Set:
    with np.load(path) as found:
        spectra = next(found[key] for key in found.files if found[key].ndim == 2).astype(np.float32)
    spectra = spectra[:, 5:33]  # 430 to 700 nm
    order = permutation(len(spectra), 0, "benchmark").numpy()
    made = _set("munsell", spectra[order[:1200]], spectra[order[1200:]], None)
    return replace(made, values=made.values[:, None])  # signals: one unit for all wavelengths, as the judge's noise has


# ------------------------------------------------------------------------------------------------------------ the judge


class Classifier(nn.Module):
    """Two convolutions, 64 features, 10 classes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.features = nn.Linear(64 * (shape[1] // 4) * (shape[2] // 4), 64)
        self.classes = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = F.relu(self.features(self.convolutions(x)))
        return features, self.classes(features)


class Judge:
    """Measures samples of a set; trained on its training data with a fixed seed."""

    def __init__(self, data: Set) -> None:
        self.data = data
        self.classifier = None if data.labels is None else _trained(data)
        self.reference = self._features(data.training[:5000])

    @torch.no_grad()
    def measure(self, samples: Tensor) -> dict[str, float]:
        """Frechet and sliced Wasserstein distance to the training data, and the mean probability of the top class.

        Arguments:
            samples: (N, *shape) in [-1, 1].
        """
        features = self._features(samples)
        found = {"frechet": frechet(features, self.reference), "sliced": sliced(features, self.reference)}
        if self.classifier is not None:
            found["top_class"] = float(self.classifier(samples)[1].softmax(1).amax(1).mean())
        return found

    @torch.no_grad()
    def _features(self, x: Tensor) -> Tensor:
        return (
            x.flatten(1) if self.classifier is None else torch.cat([self.classifier(part)[0] for part in x.split(500)])
        )


def _trained(data: Set, epochs: int = 3) -> Classifier:
    assert data.labels is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = Classifier(tuple(data.training.shape[1:]))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    epochs = max(epochs, 30_000 // len(data.training))  # few samples, more epochs
    for epoch in range(epochs):
        for rows in permutation(len(data.training), epoch, "classifier").split(128):
            loss = F.cross_entropy(classifier(data.training[rows])[1], data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier.eval().requires_grad_(False)


def frechet(a: Tensor, b: Tensor) -> float:
    """The squared Frechet distance of two sets as Gaussians, |m - n|^2 + tr(A + B - 2 (A B)^(1/2))."""
    a, b = a.double(), b.double()
    first, second = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)


def sliced(a: Tensor, b: Tensor) -> float:
    """The mean Wasserstein-1 distance along fixed random directions."""
    directions = F.normalize(torch.randn(a.shape[1], DIRECTIONS, generator=torch.Generator().manual_seed(0)), dim=0)
    quantiles = torch.linspace(0, 1, 257)[1:-1]
    ours, theirs = (torch.quantile(x @ directions, quantiles, dim=0) for x in (a, b))
    return float((ours - theirs).abs().mean())


def denoising_error(held_out: Tensor, x_0: Callable[[Tensor, float], Tensor]) -> dict[str, float]:
    """The mean error of v on held-out samples at each of ``LEVELS`` and over all of them.

    With alpha^2 + sigma^2 = 1, an error e of x_0 is an error e / sigma of v.

    Arguments:
        held_out: (N, *shape) in [-1, 1].
        x_0: the estimate of x_0 by (x_0 + noise of standard deviation exp(-level / 2), level).
    """
    clean = held_out[:DENOISED]
    found = {}
    for level in LEVELS:
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(round(level) + 100))
        ratio = float(np.exp(-level / 2))
        error = (x_0(clean + ratio * noise, level) - clean).square().mean()
        found[f"{level:g}"] = float(error) * (1 + ratio**2) / ratio**2
    return {**found, "mean": sum(found.values()) / len(found)}
