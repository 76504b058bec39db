"""The data contract: everything about the training data that a model must carry with it."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ..core import ValueGrid
from ..errors import InputError
from . import plain
from .axis import Axis
from .layouts import LAYOUTS, Layout
from .quantities import Quantity
from .transforms import Transform, transform_from_dict

_DTYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")


@dataclass(frozen=True)
class DataSpec:
    """A description of the data, and the transform between its units and those of a model.

    Arguments:
        layout: vector, signal or image, as an entry of ``LAYOUTS``.
        shape: shape of one sample, channels first: (D,), (C, L) or (C, H, W).
        dtype: numpy's name of the type that the values came in.
        transform: from data units to model units, with the bounds and levels of the data.
        channels: names, or empty where channels have no meaning.
        second_moment: E[x_model^2] over the data.
        diameter: largest distance found between two samples, in model units.
        class_names: empty without labels.
        class_counts: samples per class.
        count: number of samples.
        fingerprint: SHA-256 of values, labels and noise.
        source: name of the data, never a path.
        axis: positions of a signal's values, or None.
        conditions: the numbers that samples are given with.

    Raises:
        InputError: arguments that contradict each other.
    """

    layout: Layout
    shape: tuple[int, ...]
    dtype: str
    transform: Transform
    channels: tuple[str, ...]
    second_moment: float
    diameter: float
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    count: int
    fingerprint: str
    source: str
    axis: Axis | None = None
    conditions: tuple[Quantity, ...] = ()

    def __post_init__(self) -> None:
        rank = self.layout.rank
        plain.require(
            len(self.shape) == rank and min(self.shape) >= 1,
            f"layout {self.layout.name} needs a shape of {rank} positive whole numbers",
        )
        plain.require(self.dtype in _DTYPES, f"dtype must be one of {', '.join(_DTYPES)}")
        self.transform.check_shape(self.shape)
        named = len(self.channels) in (0, self.shape[0])
        plain.require(named, "channels must be empty or name each channel or feature")
        for name in ("second_moment", "diameter"):
            plain.require(0 <= getattr(self, name) < math.inf, f"{name} must be finite and not negative")
        alike = len(self.class_names) == len(self.class_counts)
        plain.require(alike, "class_names and class_counts must have the same length")
        adds_up = self.class_counts == () or sum(self.class_counts) == self.count
        plain.require(adds_up, "class_counts must add up to count")
        plain.require(
            self.axis is None or (self.layout.dimensions == 1 and len(self.axis.values) == self.shape[-1]),
            "axis must be null, or give one position per value of a signal",
        )

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Shape of one sample in model units, as a network sees it."""
        return self.transform.model_shape(self.shape)

    @property
    def grid(self) -> ValueGrid | None:
        """The values in model units that every number of a sample can take; None for continuous data."""
        first, *others = set(self.transform.grids)
        assert not others, "a model of features with different levels needs a decoder per feature"
        return first

    @property
    def continuous(self) -> bool:
        """Whether likelihoods are densities, not probabilities of levels."""
        return self.grid is None

    @property
    def has_density(self) -> bool:
        """Whether a likelihood of the data is defined; a table with categories, steps or gaps has none."""
        return self.transform.has_density

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value that the data can take, in data units; None where it is not bounded."""
        return self.transform.bounds

    @property
    def unit_scale(self) -> float | None:
        """Data units per model unit; None where features have units of their own."""
        return self.transform.unit_scale

    @property
    def radius(self) -> float:
        """A distance from the origin, in model units, beyond which no sample and no mean of samples lies.

        ``sqrt(D E[x^2]) + 2 diameter``: the norm of the data's mean is at most the root of D second moments, and
        ``diameter`` is at least half of the true diameter.
        """
        return math.sqrt(math.prod(self.model_shape) * self.second_moment) + 2 * self.diameter

    def model_bounds(self) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]] | None:
        """Lower and upper bound in model units: one value each, or one per feature; None for unbounded data."""
        return self.transform.model_bounds()

    def encode(self, x: Shaped[Tensor, "*s"]) -> Float[Tensor, "*m"]:
        """Convert data units to model units.

        Arguments:
            x: (*, *shape), of any type.

        Returns:
            float32, or float64 when given float64.

        Raises:
            InputError: the last axes of ``x`` are not ``shape``.
        """
        _check_shape(x, self.shape, "encode")
        out = x.dtype if x.dtype == torch.float64 else torch.float32
        # Integers of more than 24 bits must be brought near zero before float32 can hold them.
        wide = x.dtype in {torch.int32, torch.int64} and self.dtype not in {"uint8", "uint16"}
        return self.transform.encode(x.to(torch.float64 if wide else out)).to(out)

    def decode(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        """Convert model units to data units, clipped where the data is bounded.

        Values between two levels stay there. Only ``to_array`` rounds, because rounding turns a difference in the last
        bit into one of a whole level.

        Arguments:
            x: (*, *model_shape).

        Returns:
            float32, or float64 when given float64.

        Raises:
            InputError: the last axes of ``x`` are not ``model_shape``.
        """
        return self.transform.decode(self._in_model_units(x))

    def decode_unclipped(self, x: Float[Tensor, "*m"]) -> Float[Tensor, "*s"]:
        """Convert model units to data units without clipping, for noisy states; otherwise like ``decode``."""
        return self.transform.decode_unclipped(self._in_model_units(x))

    def _in_model_units(self, x: Tensor) -> Tensor:
        _check_shape(x, self.model_shape, "decode")
        return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)

    def to_array(self, x: Float[Tensor, "*m"]) -> Shaped[np.ndarray, "*s"]:
        """Convert model units to an array of the type the data came in, rounded to its levels.

        Raises:
            InputError: NaN or infinite values for an integer type, which cannot hold them; a wrong shape.
        """
        values = self.transform.round_to_levels(self.decode(x.detach())).cpu().numpy()
        return _as_type(values, np.dtype(self.dtype))

    def level_index(self, values: Shaped[Tensor, "*s"]) -> Int64[Tensor, "*s"] | None:
        """Number of the level nearest to each value in data units, from 0; None for continuous data."""
        return self.transform.level_index(values)

    def log_det(self, x: Float[Tensor, "b *s"]) -> Float64[Tensor, "b"]:
        """Nats that each sample's negative log-likelihood gains from model units to data units; 0 on levels."""
        return self.transform.log_det(x)

    def check(self, values: Shaped[Tensor, "n *s"], what: str) -> None:
        """Check that ``values`` in data units can be samples of this data.

        Raises:
            InputError: another shape, NaN or infinite values, values out of range or between levels; ``what`` names
                the data in the message.
        """
        if tuple(values.shape[1:]) != self.shape:
            expected, found = (" x ".join(map(str, shape)) for shape in (self.shape, values.shape[1:]))
            raise InputError(
                f"{what}: its samples have shape {found}, but the model was trained on {expected}; "
                "give data of that shape"
            )
        gap = values.isnan() & torch.tensor(self.transform.gaps, device=values.device)
        if not (values.double().isfinite() | gap).all():
            raise InputError(f"{what}: some values are NaN or infinite; remove or repair those samples")
        self.transform.check_values(values, what)

    def to_dict(self) -> dict[str, Any]:
        """The contract as plain JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"layout": self.layout.name, "transform": self.transform.to_dict()}
        fields |= {"conditions": [each.to_dict() for each in self.conditions]}
        fields["axis"] = None if self.axis is None else self.axis.to_dict()
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def from_dict(cls, data: object) -> "DataSpec":
        """Return the contract that ``to_dict`` wrote.

        Raises:
            InputError: unknown, missing or mistyped keys, or values that contradict each other.
        """
        # Contracts that were written before there were conditions have no such key.
        return cls(**plain.read_fields({"conditions": [], **data} if isinstance(data, dict) else data, _FIELDS))


def _check_shape(x: Tensor, shape: tuple[int, ...], verb: str) -> None:
    if tuple(x.shape[x.ndim - len(shape) :]) != shape or x.ndim < len(shape):
        raise InputError(f"{verb}: got shape {tuple(x.shape)}, but samples of this data have shape {shape}")


def _as_type(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The values in the range of ``dtype``, rounded where it holds whole numbers only."""
    if dtype.kind == "f":
        return values.astype(dtype)
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise InputError(f"decoding to {dtype}: {bad} of {values.size} values are NaN or infinite; use decode")
    if dtype.kind == "b":
        return values >= 0.5
    limits = np.iinfo(dtype)
    most = float(limits.max)
    if int(most) > limits.max:  # the largest 64-bit integers have no float of their own, and a cast would wrap
        most = float(np.nextafter(most, 0))
    return np.rint(values.astype(np.float64)).clip(limits.min, most).astype(dtype)


def _layout(value: object) -> Layout:
    name = plain.text(value)
    if name not in LAYOUTS:
        raise TypeError
    return LAYOUTS[name]


_FIELDS: plain.Fields = {
    "layout": (f"one of {', '.join(LAYOUTS)}", _layout),
    "shape": ("a list of whole numbers", plain.several(plain.whole)),
    "dtype": ("a string", plain.text),
    "transform": ("an object", transform_from_dict),
    "channels": ("a list of strings", plain.several(plain.text)),
    "second_moment": ("a number", plain.number),
    "diameter": ("a number", plain.number),
    "class_names": ("a list of strings", plain.several(plain.text)),
    "class_counts": ("a list of whole numbers", plain.several(plain.whole)),
    "count": ("a whole number", plain.whole),
    "fingerprint": ("a string", plain.text),
    "source": ("a string", plain.text),
    "axis": ("an object or null", plain.optional(Axis.from_dict)),
    "conditions": ("a list of objects", plain.several(Quantity.from_dict)),
}
