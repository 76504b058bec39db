"""Feature spaces, in which samples are compared. Every number of an evaluation names its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.files import digest
from sfumato.reporting import SILENT, Progress, Reporter

from .encoders import efficientnet, inception, own

EFFICIENTNET = "efficientnet-lite0"
INCEPTION = "inception-v3"
OWN = "own-encoder"
_BATCH = 64

Features = Callable[[Shaped[Tensor, "n *s"]], Float[Tensor, "n d"]]


@dataclass(frozen=True, eq=False)
class Space:
    """A feature space.

    Arguments:
        name: such as "pixels".
        features: from samples in data units (n, *shape) to features (n, d).
        raw: whether the features are the numbers of the samples themselves.
        fid: whether a Frechet distance here is the FID of the literature.
        identity: what the features of a sample depend on, such as the digest of a network's weights; features that
            have one are kept between evaluations.
    """

    name: str
    features: Features
    raw: bool = False
    fid: bool = False
    identity: str | None = None


def own_numbers(spec: DataSpec) -> Space:
    """The numbers of the samples themselves, in model units: "pixels" of images, "values" of all else."""
    name = "pixels" if spec.layout.name == "image" else "values"
    return Space(name, lambda samples: spec.encode(samples).flatten(1), raw=True)


def module_features(
    name: str, module: nn.Module, prepare: Callable[[Tensor], Tensor] = lambda samples: samples
) -> Space:
    """The outputs of any torch module, flattened.

    The module runs in evaluation mode, without gradients, on 64 samples at a time and where its weights are.

    Arguments:
        name: of the space.
        module: from a batch to a tensor (n, ...).
        prepare: from samples in data units, float32, to what the module expects.
    """

    def features(samples: Shaped[Tensor, "n *s"]) -> Float[Tensor, "n d"]:
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        training = module.training
        module.eval()
        try:
            return _in_batches(lambda x: module(prepare(x.float().to(device))).flatten(1).float().cpu(), samples)
        finally:
            module.train(training)

    return Space(name, features)


def network_features(spec: DataSpec) -> Space:
    """The features of EfficientNet-Lite0 for images of one or three channels.

    Images are scaled to 0 to 255 by the bounds of the data, one channel is repeated three times, and the longer side is
    resized to at least 96 and at most 224 pixels (bilinear, antialiased).

    Raises:
        InputError: no images, images of other channels or without bounds, or the weights are not installed.
    """
    _require_pictures(EFFICIENTNET, spec)
    network = efficientnet.load()
    longest = max(spec.shape[1:])
    scale = min(max(longest, 96), 224) / longest
    size = [max(1, round(scale * side)) for side in spec.shape[1:]]

    def batch(samples: Tensor) -> Tensor:
        images = _pictures(samples, spec)
        if scale != 1:
            images = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
        return network.features(images)

    identity = f"{EFFICIENTNET} {efficientnet.SHA256} {spec.bounds}"
    return Space(EFFICIENTNET, lambda samples: _in_batches(batch, samples), identity=identity)


def inception_features(spec: DataSpec, weights: Path) -> Space:
    """The features of Inception-v3 from a file of weights, for images of one or three channels.

    Only with the weights that define FID is a Frechet distance in them called so. Others have their digest in the name.

    Raises:
        InputError: no images, images of other channels or without bounds, or a file without these weights.
    """
    _require_pictures(INCEPTION, spec)
    network, standard = inception.load(weights)
    sha256 = digest(weights)
    return Space(
        INCEPTION if standard else f"{INCEPTION}:{sha256[:8]}",
        lambda samples: _in_batches(lambda x: network(_pictures(x, spec)), samples),
        fid=standard,
        identity=f"{INCEPTION} {sha256} {spec.bounds}",
    )


def own_encoder(
    spec: DataSpec, train: Shaped[Tensor, "n *s"], seed: int = 0, progress: Progress = lambda done, total: None
) -> Space:
    """The features of a small network that learns from the training data alone, without labels; see ``encoders.own``.

    It takes minutes. The trained network is kept, and used again for the same data.

    Raises:
        InputError: no images, or fewer than 64 of them.
    """
    if spec.layout.name != "image":
        raise InputError(f"features: '{OWN}' learns from images only; leave it out")
    network, identity = own.trained(spec.encode(train).float(), seed, progress)

    def features(samples: Shaped[Tensor, "n *s"]) -> Float[Tensor, "n d"]:
        return _in_batches(lambda x: network.features(spec.encode(x).float()), samples)

    return Space(OWN, features, identity=f"{identity} {spec.transform.describe()}")


def spaces_named(
    names: Sequence[str | Space] | None,
    spec: DataSpec,
    *,
    train: Shaped[Tensor, "n *s"] | None = None,
    inception_weights: Path | None = None,
    reporter: Reporter = SILENT,
) -> list[Space]:
    """The feature spaces with these names; a ``Space`` of your own stands for itself.

    By default, the numbers themselves, and for images the features of EfficientNet-Lite0 where its weights are
    installed. A file of Inception-v3's weights adds its features.

    Arguments:
        names: of the spaces.
        spec: the data contract.
        train: the training data, from which the data's own encoder learns.
        inception_weights: a file of Inception-v3's weights.
        reporter: receives the progress of training an encoder.

    Raises:
        InputError: a name that no space has, or a space that does not suit the data.
    """
    raw = own_numbers(spec)
    if names is None:
        names = [raw, network_features(spec)] if _are_pictures(spec) and efficientnet.installed() else [raw]
    spaces = [
        each if isinstance(each, Space) else _named(each, raw, spec, train, inception_weights, reporter)
        for each in names
    ]
    if inception_weights is not None and not any(space.name.startswith(INCEPTION) for space in spaces):
        spaces.append(inception_features(spec, inception_weights))
    return spaces


def _named(
    name: str, raw: Space, spec: DataSpec, train: Tensor | None, weights: Path | None, reporter: Reporter
) -> Space:
    if name == raw.name:
        return raw
    if name == EFFICIENTNET:
        return network_features(spec)
    if name == INCEPTION:
        if weights is None:
            raise InputError(f"features: '{INCEPTION}' needs its weights; give --inception FILE")
        return inception_features(spec, weights)
    if name == OWN:
        if train is None:
            raise InputError(f"features: '{OWN}' learns from the run's training data, which is not there; leave it out")
        with reporter.task("training an encoder on the data") as task:
            return own_encoder(spec, train, progress=task.count)
    raise InputError(f"features: '{name}' is unknown; give {raw.name}, {EFFICIENTNET}, {OWN} or {INCEPTION}")


def _in_batches(function: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([function(samples[start : start + _BATCH]) for start in range(0, len(samples), _BATCH)])


def _are_pictures(spec: DataSpec) -> bool:
    return spec.layout.name == "image" and spec.shape[0] in (1, 3) and spec.bounds is not None


def _require_pictures(name: str, spec: DataSpec) -> None:
    if not _are_pictures(spec):
        raise InputError(f"features: '{name}' needs images with bounds and one or three channels; leave it out")


def _pictures(samples: Tensor, spec: DataSpec) -> Tensor:
    """Images with values of 0 to 255 and three channels."""
    assert spec.bounds is not None
    low, high = spec.bounds
    return ((samples.float() - low) * (255 / (high - low))).clamp(0, 255).expand(-1, 3, -1, -1)
