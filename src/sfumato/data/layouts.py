"""Properties of vectors, signals and images: one object per layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

LayoutName = Literal["vector", "signal", "image"]


@dataclass(frozen=True)
class Layout:
    """An arrangement of the numbers of a sample, with the defaults that depend on it.

    Arguments:
        name: as it stands in recipes and contracts.
        axes: names of a sample's axes in order; their number is the rank.
        noun: what the samples are called in a report, in the plural.
        dimensions: of space; 0 for a vector, whose features have no neighbours.
        smallest_side: positions on the longest side at which a network made for this layout stops halving.
        batch: samples per training step, unless the recipe says otherwise.
        gallery_samples: samples drawn for a report.
        trajectories: samples followed from noise to data for a report.
        compared_samples: samples drawn to measure how far a model is from the data.
        can_augment: whether samples can be flipped, rotated and moved.
    """

    name: LayoutName
    axes: tuple[str, ...]
    noun: str
    dimensions: int
    smallest_side: int
    batch: int
    gallery_samples: int
    trajectories: int
    compared_samples: int
    can_augment: bool

    @property
    def rank(self) -> int:
        """Number of axes of a sample."""
        return len(self.axes)

    def describe(self, shape: tuple[int, ...], channels: tuple[str, ...] = ()) -> str:
        """Samples of this shape in words: "images of 8 x 8 pixels, 1 channel (gray)"."""
        first = _several(shape[0], self.axes[0])
        if self.rank == 1:
            return f"{self.name}s of {first}"
        extent = " x ".join(map(str, shape[1:]))
        unit = "pixels" if self.dimensions == 2 else "positions"
        named = f" ({', '.join(channels)})" if channels else ""
        return f"{self.name}s of {extent} {unit}, {first}{named}"


# Vectors are cheap, and a plot of them needs many points; an image is looked at one by one.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        layout.name: layout
        for layout in (
            Layout(
                name="vector",
                axes=("feature",),
                noun="samples",
                dimensions=0,
                smallest_side=1,
                batch=256,
                gallery_samples=2_000,
                trajectories=400,
                compared_samples=2_000,
                can_augment=False,
            ),
            Layout(
                name="signal",
                axes=("channel", "position"),
                noun="samples",
                dimensions=1,
                smallest_side=16,
                batch=64,
                gallery_samples=64,
                trajectories=8,
                compared_samples=256,
                can_augment=False,
            ),
            Layout(
                name="image",
                axes=("channel", "row", "column"),
                noun="images",
                dimensions=2,
                smallest_side=8,
                batch=64,
                gallery_samples=64,
                trajectories=8,
                compared_samples=256,
                can_augment=True,
            ),
        )
    }
)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
