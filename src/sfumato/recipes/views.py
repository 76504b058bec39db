"""The sections of models that are shown a view of the sample: its low resolution, or what is not hidden of it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.restoration.views import block_means, repeated, shown_parts, view_of

from .conditioning_base import Conditional


class ViewConditioning(Conditional):
    """Base of both: a view that training derives from each sample, and that sampling gets."""

    def channels(self, spec: DataSpec) -> int:
        """The channels of the view: those of a sample, and where they are known."""
        return spec.model_shape[0] + 1


class LowResolution(ViewConditioning):
    """A model of data given its low resolution (super-resolution).

    Arguments:
        factor: positions along each side that one value of the low resolution is the mean of.
    """

    kind: Literal["low-resolution"] = "low-resolution"
    factor: Annotated[int, Field(ge=2)] = 4

    def resolved(self, spec: DataSpec) -> LowResolution:
        """This section. Raises InputError for samples without sides, and for sides that the factor does not divide."""
        _require_sides(spec)
        if any(side % self.factor for side in spec.model_shape[1:]):
            sides = " x ".join(map(str, spec.model_shape[1:]))
            raise InputError(
                f"conditioning.factor: {self.factor} does not divide {sides}; give a factor that does, or set data.size"
            )
        return self

    def condition(self, samples: Samples) -> Condition:
        """The low resolution of samples."""
        return Condition(image=self._view(block_means(samples.values, self.factor)))

    def view(self, seen: Tensor, spec: DataSpec) -> Tensor:
        """The view (n, C + 1, *sides) of low resolutions (n, C, *sides / factor) in data units.

        Raises:
            InputError: another shape, or values that are missing.
        """
        shape = (spec.shape[0], *(side // self.factor for side in spec.shape[1:]))
        _require_shape(seen, shape)
        if not seen.isfinite().all():
            raise InputError("seen: a low resolution must have all its values; fill in what is missing")
        # Values are encoded in the shape of a sample, because a contract takes no other.
        return self._view(block_means(spec.encode(repeated(seen, self.factor)), self.factor))

    def _view(self, low: Tensor) -> Tensor:
        high = repeated(low, self.factor)
        return view_of(high, torch.ones_like(high[:, :1], dtype=torch.bool))


class Masked(ViewConditioning):
    """A model of data given a part of it (inpainting): boxes and single positions are hidden at random in training."""

    kind: Literal["masked"] = "masked"

    def resolved(self, spec: DataSpec) -> Masked:
        """This section. Raises InputError for samples without sides."""
        _require_sides(spec)
        return self

    def condition(self, samples: Samples) -> Condition:
        """What is shown of samples, by their keys.

        Raises:
            InputError: samples without keys.
        """
        if samples.keys is None:
            raise InputError("conditioning: these samples have no keys to hide parts by; give them, or a view")
        known = shown_parts(samples.keys.to(samples.device), tuple(samples.values.shape[2:]))
        return Condition(image=view_of(samples.values, known))

    def view(self, seen: Tensor, spec: DataSpec) -> Tensor:
        """The view (n, C + 1, *sides) of samples (n, *shape) in data units, NaN where nothing is known.

        Raises:
            InputError: another shape.
        """
        _require_shape(seen, spec.shape)
        known = ~seen.isnan().any(1, keepdim=True)
        return view_of(spec.encode(seen.nan_to_num(0.0)), known)


def _require_sides(spec: DataSpec) -> None:
    if spec.layout.rank < 2:
        raise InputError(
            f"conditioning: {spec.source} has {spec.layout.name}s, and only images and signals have a view; give "
            "conditioning=none, or read them as signals (data.layout=signal)"
        )


def _require_shape(seen: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(seen.shape[1:]) != shape:
        found, expected = (" x ".join(map(str, each)) for each in (seen.shape[1:], shape))
        raise InputError(f"seen: has shape {found}, but this model is shown {expected}; give that shape")
