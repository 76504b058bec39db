"""The map between data units and the units a model works in, with all that depends on it.

A transform knows the bounds and the levels of the data, feature by feature, so that nobody else has to compute with
them.
"""

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ...core import ValueGrid
from .. import plain


@dataclass(frozen=True)
class Transform(ABC):
    """An invertible map from data units to model units, applied feature by feature.

    A result "per feature" has one entry for each feature of a vector, or a single entry that holds for all values.
    """

    kind: ClassVar[str]
    fields: ClassVar[plain.Fields]

    @abstractmethod
    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Check that samples of this shape can be transformed.

        Raises:
            InputError: they cannot.
        """

    @abstractmethod
    def model_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in model units of a sample whose shape in data units is ``shape``."""

    @abstractmethod
    def encode(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*m"]:
        """Data units to model units, in the precision of ``x``."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        """Model units to data units, clipped to the bounds where there are any; not rounded to the levels."""

    @abstractmethod
    def decode_unclipped(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        """Model units to data units, also beyond the bounds."""

    def per_feature(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """One number per feature, of about the same spread for all, for pictures and statistics."""
        return self.encode(x)

    @abstractmethod
    def log_det(self, x: Float[Tensor, "b *s"]) -> Float64[Tensor, "b"]:
        """``log |det d(data)/d(model)|`` at samples in model units, in nats per sample, over continuous features.

        This is what the negative log-likelihood gains on the way to data units. Features with levels have
        probabilities instead of densities, which do not change.
        """

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value in data units; None unless every feature is bounded."""

    @abstractmethod
    def model_bounds(self) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]] | None:
        """Lower and upper bounds in model units, per feature, or None where nothing is bounded."""

    @property
    @abstractmethod
    def grids(self) -> tuple[ValueGrid | None, ...]:
        """The values in model units, per feature; None for a continuous one."""

    @property
    @abstractmethod
    def unit_scale(self) -> float | None:
        """Data units per model unit where all values share this factor, else None."""

    @property
    def has_density(self) -> bool:
        """Whether a likelihood of the data is defined: by a density of all values, or by probabilities of all."""
        return True

    @property
    def gaps(self) -> tuple[bool, ...]:
        """Whether values can be missing (NaN), per feature."""
        return (False,)

    @abstractmethod
    def level_index(self, values: Shaped[Tensor, "*s"]) -> Int64[Tensor, "*s"] | None:
        """Number of the level nearest to each value in data units, from 0; None unless every feature has levels."""

    @abstractmethod
    def round_to_levels(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Values in data units moved to the nearest level, where there are levels."""

    @abstractmethod
    def check_values(self, values: Shaped[Tensor, "n *s"], what: str) -> None:
        """Check that finite values in data units are within the bounds and on the levels.

        Raises:
            InputError: some are not; ``what`` names the data.
        """

    @abstractmethod
    def range_in_words(self) -> str:
        """The bounds and levels as the end of a sentence, such as "from 0 to 255 in 256 levels"."""

    @abstractmethod
    def describe(self) -> list[tuple[str, str]]:
        """Name and value of each property, for a table."""

    def to_dict(self) -> dict[str, Any]:
        """The transform as plain JSON values."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}
        return {"kind": self.kind, **values}
