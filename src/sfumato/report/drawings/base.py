"""The interface of a drawing: samples of one layout on their own, in a report, and in a comparison of recipes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from sfumato.data.spec import DataSpec

from ..image_grid import Values
from ..style import Axes

AxesAt = Callable[[int | float, int | float, int | float, int | float], Axes]
"""Makes axes with their top left corner at (x, y), of a width and a height."""


@dataclass(frozen=True)
class Film:
    """The pictures of an animation in a report.

    Arguments:
        pictures: the frames, all of one size.
        caption: what they show.
        style: CSS class of the image.
        lossless: whether to compress without loss.
        enlargement: largest factor by which a page may enlarge the frames.
    """

    pictures: list[Image.Image]
    caption: str
    style: str
    lossless: bool
    enlargement: float


@dataclass(frozen=True)
class Pairs:
    """Samples and the nearest training sample of each.

    Arguments:
        samples: (n, *shape).
        nearest: (n, *shape).
        distances: a number for each pair (n,).
        name: of the figure, different for each of a page.
        number: what the numbers are.
    """

    samples: Values
    nearest: Values
    distances: Values
    name: str = "neighbours"
    number: str = "distance"


@dataclass(frozen=True)
class Path:
    """Samples on their way from noise to data.

    Arguments:
        states: (f, j, *shape), divided by sqrt(alpha^2 + sigma^2), in data units.
        estimates: (f, j, *shape), estimates of x_0 in data units.
        logsnr: (f,) noise levels.
    """

    states: Values
    estimates: Values
    logsnr: Values

    def at_most(self, count: int) -> "Path":
        """At most ``count`` of the levels, evenly from the first to the last."""
        total = len(self.states)
        chosen = sorted({round(i) for i in np.linspace(0, total - 1, min(total, count))})
        return Path(self.states[chosen], self.estimates[chosen], self.logsnr[chosen])


class Drawing(ABC):
    """Draws samples of one layout. Values are in data units; ``real`` is real data to compare with, or None."""

    num_pairs: ClassVar[int]
    """Samples shown with their nearest training samples."""
    num_levels: ClassVar[int]
    """Noise levels of a strip."""
    num_frames: ClassVar[int]
    """Most frames of a film in a report."""
    row_height: ClassVar[int]
    """Height of the samples of a recipe in a comparison, in figure units."""

    @abstractmethod
    def picture(self, values: Values, spec: DataSpec, real: Values | None = None) -> Image.Image:
        """Draw samples (n, *shape)."""

    @abstractmethod
    def pictures(
        self, frames: Values, spec: DataSpec, real: Values | None = None, clear: bool = False
    ) -> list[Image.Image]:
        """Draw frames (f, n, *shape) at one size and scale, on white or, with ``clear``, on nothing."""

    @abstractmethod
    def samples(self, drawn: Values, real: Values | None, spec: DataSpec, caption: str) -> str:
        """HTML of samples beside real data; ``caption`` is about the samples."""

    @abstractmethod
    def neighbours(self, pairs: Pairs, real: Values | None, spec: DataSpec, curve: str) -> str:
        """HTML of samples with their nearest training samples, and of ``curve``, the figure of all distances."""

    @abstractmethod
    def strip(self, path: Path, real: Values | None, spec: DataSpec) -> str:
        """HTML of a few samples at each noise level of ``path``: their states above the estimates of x_0."""

    @abstractmethod
    def film(self, path: Path, real: Values | None, spec: DataSpec) -> Film:
        """The same as an animation."""

    @abstractmethod
    def row_width(self, spec: DataSpec) -> int:
        """Width of the samples of a recipe in a comparison, in figure units."""

    @abstractmethod
    def row(
        self, axes_at: AxesAt, values: Values, real: Values | None, spec: DataSpec, left: int | float, top: int | float
    ) -> None:
        """Draw the samples of a recipe in a comparison, with their top left corner at (left, top)."""
