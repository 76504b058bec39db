"""Inception-v3 as the Frechet Inception Distance uses it, with weights from a file that the user has.

The architecture is that of Szegedy et al. 2016 ("Rethinking the Inception architecture") with 1,008 classes, as
released on 2015-12-05. Two things differ from what is usually called Inception-v3, and are part of FID's definition:
average pooling leaves the border out of its means, and the last block pools by the maximum. Features are the 2,048
means over positions before the classes (Heusel et al. 2017).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from sfumato.errors import InputError
from sfumato.files import digest

from .torch_file import tensors_of

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of ``pt_inception-2015-12-05-6726825d.pth``, by which FID is computed in PyTorch."""
FEATURES = 2048
SIDE = 299

Shape = int | tuple[int, int]
Step = tuple[str, int, Shape] | tuple[str, int, Shape, int]
"""Name in the file, channels out, kernel, and a stride other than 1, with which nothing is padded."""

_STEM: tuple[Step, ...] = (
    ("Conv2d_1a_3x3", 32, 3, 2),
    ("Conv2d_2a_3x3", 32, 3, 1),
    ("Conv2d_2b_3x3", 64, 3),
    ("Conv2d_3b_1x1", 80, 1),
    ("Conv2d_4a_3x3", 192, 3, 1),
)
_POOLED_AFTER = {"Conv2d_2b_3x3", "Conv2d_4a_3x3"}


def _double(width: int, channels: int) -> tuple[Step, ...]:
    return (
        ("branch7x7dbl_1", width, 1),
        ("branch7x7dbl_2", width, (7, 1)),
        ("branch7x7dbl_3", width, (1, 7)),
        ("branch7x7dbl_4", width, (7, 1)),
        ("branch7x7dbl_5", channels, (1, 7)),
    )


def _a(pooled: int) -> "_Branches":
    return {
        "": (("branch1x1", 64, 1),),
        "5x5": (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        "3x3dbl": (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        "average": (("branch_pool", pooled, 1),),
    }


def _c(width: int) -> "_Branches":
    return {
        "": (("branch1x1", 192, 1),),
        "7x7": (("branch7x7_1", width, 1), ("branch7x7_2", width, (1, 7)), ("branch7x7_3", 192, (7, 1))),
        "7x7dbl": _double(width, 192),
        "average": (("branch_pool", 192, 1),),
    }


def _e(pool: str) -> "_Branches":
    return {
        "": (("branch1x1", 320, 1),),
        "3x3": (("branch3x3_1", 384, 1), ("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))),
        "3x3dbl": (
            ("branch3x3dbl_1", 448, 1),
            ("branch3x3dbl_2", 384, 3),
            ("branch3x3dbl_3a", 384, (1, 3)),
            ("branch3x3dbl_3b", 384, (3, 1)),
        ),
        pool: (("branch_pool", 192, 1),),
    }


_Branches = Mapping[str, tuple[Step, ...]]
"""Steps of each branch. Branches "average" and "maximum" pool first; steps that end in a and b stand side by side."""

_BLOCKS: Mapping[str, _Branches] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": {
        "3x3": (("branch3x3", 384, 3, 2),),
        "3x3dbl": (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)),
        "halved": (),
    },
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": {
        "3x3": (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)),
        "7x7x3": (
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3, 2),
        ),
        "halved": (),
    },
    "Mixed_7b": _e("average"),
    "Mixed_7c": _e("maximum"),
}


class _Unit(nn.Module):
    """A convolution, normalised and bent."""

    def __init__(self, inputs: int, step: Step) -> None:
        super().__init__()
        _, outputs, kernel, *stride = step
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if stride else (sides[0] // 2, sides[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, sides, stride[0] if stride else 1, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side."""

    def __init__(self, inputs: int, branches: _Branches) -> None:
        super().__init__()
        self._branches = branches
        self.outputs = 0
        for name, steps in branches.items():
            width = inputs
            for step in steps:
                self.add_module(step[0], _Unit(width, step))
                width = width if step[0][-1] == "a" else step[1]
            self.outputs += width * (2 if steps and steps[-1][0][-1] == "b" else 1)
            assert name or steps

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part for name, steps in self._branches.items() for part in self._branch(name, steps, x)], 1)

    def _branch(self, name: str, steps: tuple[Step, ...], x: Tensor) -> list[Tensor]:
        if name == "average":
            x = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif name == "maximum":
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
        elif name == "halved":
            x = functional.max_pool2d(x, 3, stride=2)
        aside = []
        for step in steps:
            unit = self.get_submodule(step[0])
            if step[0][-1] == "a":
                aside.append(unit(x))
            else:
                x = unit(x)
        return [*aside, x]


class Inception(nn.Module):
    """Images to features. Images (B, 3, H, W) have values of 0 to 255; they are resized to 299 x 299."""

    def __init__(self) -> None:
        super().__init__()
        width = 3
        for step in _STEM:
            self.add_module(step[0], _Unit(width, step))
            width = step[1]
        for name, branches in _BLOCKS.items():
            block = _Block(width, branches)
            self.add_module(name, block)
            width = block.outputs

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        x = (_resized(images) - 128) / 128
        for name, *_ in _STEM:
            x = self.get_submodule(name)(x)
            if name in _POOLED_AFTER:
                x = functional.max_pool2d(x, 3, stride=2)
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


def _resized(images: Tensor) -> Tensor:
    """Bilinear as TensorFlow 1 had it, which is part of FID: pixel i stands at i times the ratio of the sides."""
    for axis in (2, 3):
        size = images.shape[axis]
        at = torch.arange(SIDE, dtype=torch.float32) * (size / SIDE)
        low = at.floor().long().clamp(max=size - 1)
        high, share = (low + 1).clamp(max=size - 1), (at - low).to(images)
        weight = share.unsqueeze(-1) if axis == 2 else share
        low_side, high_side = (images.index_select(axis, index.to(images.device)) for index in (low, high))
        images = low_side + (high_side - low_side) * weight
    return images


def load(path: Path) -> tuple[Inception, bool]:
    """The network with the weights of a file, for inference, and whether they are those that define FID.

    Arguments:
        path: ``pt_inception-2015-12-05-6726825d.pth``, or a .safetensors file with tensors of the same names.

    Raises:
        InputError: the file is missing, of another kind or another digest, or lacks weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of Inception-v3's weights; give the path of one")
    if path.suffix == ".safetensors":
        try:
            tensors: Mapping[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path}: cannot be read as safetensors ({error})") from None
        standard = False
    elif digest(path) == SHA256:
        tensors, standard = tensors_of(path), True
    else:
        raise InputError(
            f"{path}: is not pt_inception-2015-12-05-6726825d.pth (SHA-256 {SHA256[:16]}...); give that file, or other "
            "weights as .safetensors"
        )
    network = Inception()
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = [name for name, value in wanted.items() if name not in tensors or tensors[name].shape != value.shape]
    if wrong:
        raise InputError(f"{path}: has no weights of Inception-v3 ({wrong[0]} is missing or of another shape)")
    network.load_state_dict({name: tensors[name].float() for name in wanted}, strict=False)
    return network.eval().requires_grad_(False), standard
