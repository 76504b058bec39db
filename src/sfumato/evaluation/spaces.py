"""Feature spaces, in which samples are compared. Every number of an evaluation names its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from sfumato.data import DataSpec
from sfumato.errors import InputError

from .encoders import efficientnet

EFFICIENTNET = "efficientnet-lite0"


@dataclass(frozen=True, eq=False)
class Space:
    """A feature space.

    Arguments:
        name: such as "pixels".
        features: from samples in data units (n, *shape) to features (n, d).
        raw: whether the features are the numbers of the samples themselves.
    """

    name: str
    features: Callable[[Shaped[Tensor, "n *s"]], Float[Tensor, "n d"]]
    raw: bool = False


def own_numbers(spec: DataSpec) -> Space:
    """The numbers of the samples themselves, in model units: "pixels" of images, "values" of all else."""
    name = "pixels" if spec.layout.name == "image" else "values"
    return Space(name, lambda samples: spec.encode(samples).flatten(1), raw=True)


def network_features(spec: DataSpec) -> Space:
    """The features of EfficientNet-Lite0 for images of one or three channels.

    Images are scaled to 0 to 255 by the bounds of the data, one channel is repeated three times, and the longer side is
    resized to at least 96 and at most 224 pixels (bilinear, antialiased).

    Raises:
        InputError: no images, images of other channels or without bounds, or the weights are not installed.
    """
    if spec.layout.name != "image" or spec.shape[0] not in (1, 3) or spec.bounds is None:
        raise InputError(f"features: '{EFFICIENTNET}' needs images with bounds and one or three channels; leave it out")
    network, (low, high) = efficientnet.load(), spec.bounds
    longest = max(spec.shape[1:])
    scale = min(max(longest, 96), 224) / longest
    size = [max(1, round(scale * side)) for side in spec.shape[1:]]

    def features(samples: Shaped[Tensor, "n *s"]) -> Float[Tensor, "n d"]:
        found = []
        for start in range(0, len(samples), 64):
            images = (
                ((samples[start : start + 64].float() - low) * (255 / (high - low))).clamp(0, 255).expand(-1, 3, -1, -1)
            )
            if scale != 1:
                images = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
            found.append(network.features(images))
        return torch.cat(found)

    return Space(EFFICIENTNET, features)


def spaces_named(names: Sequence[str | Space] | None, spec: DataSpec) -> list[Space]:
    """The feature spaces with these names; a ``Space`` of your own stands for itself.

    By default, the numbers themselves, and for images the features of EfficientNet-Lite0 where its weights are
    installed.

    Raises:
        InputError: a name that no space has, or a space that does not suit the data.
    """
    own = own_numbers(spec)
    if names is None:
        suits = spec.layout.name == "image" and spec.shape[0] in (1, 3) and spec.bounds is not None
        return [own, network_features(spec)] if suits and efficientnet.installed() else [own]
    spaces = []
    for name in names:
        if isinstance(name, Space):
            spaces.append(name)
        elif name == own.name:
            spaces.append(own)
        elif name == EFFICIENTNET:
            spaces.append(network_features(spec))
        else:
            raise InputError(f"features: '{name}' is unknown; give {own.name} or {EFFICIENTNET}")
    return spaces
