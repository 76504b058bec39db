"""An encoder that learns from the user's own images in minutes, without labels: a second opinion beside ImageNet's.

Two views of an image, moved, turned, scaled and with other brightness, shall have features nearer to each other than
to those of the other images in a batch:

    loss = -log( exp(z_i . z_j / T) / sum_(k != i) exp(z_i . z_k / T) ),    |z| = 1, T = 0.2     Chen et al. 2020, eq. 1

Views are neither noisy nor blurred: features that ignore noise could not tell noisy samples from real ones. Noisy and
blurred versions of the images stand among the others k instead, so that their features are far away. Views are not
mirrored either, which would make of many digits and letters something else.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sfumato.data.order import permutation
from sfumato.errors import InputError
from sfumato.reporting import Progress

from ..cache import kept

FEATURES = 128
_VERSION = 2
_STEPS, _BATCH = 600, 128
_LARGEST = 64  # pixels of a side; larger images are resized
_TEMPERATURE = 0.2
_NOISE = 0.7  # most, in the units of the images
_TURN, _SHIFT, _SCALE, _LIGHT = 0.26, 0.12, 0.15, 0.2  # radians, of half a side, of the size, of the values


class Encoder(nn.Module):
    """Convolutions that halve the sides down to 4, and a head that only training uses.

    Images have values of about -1 to 1.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = channels
        for stage in range(max(1, round(math.log2(min(side, _LARGEST) / 4)) + 1)):
            wide = min(32 * 2**stage, FEATURES)
            layers += [nn.Conv2d(width, wide, 3, 2 if stage else 1, 1, bias=False), nn.GroupNorm(8, wide), nn.SiLU()]
            width = wide
        self.body = nn.Sequential(*layers, nn.Conv2d(width, FEATURES, 3, padding=1), nn.SiLU())
        self.head = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.SiLU(), nn.Linear(FEATURES, 64))

    def features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 128"]:
        """The means of the last channels over positions."""
        longest = max(images.shape[2:])
        if longest > _LARGEST:
            size = [max(1, round(s * _LARGEST / longest)) for s in images.shape[2:]]
            images = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
        maps: Tensor = self.body(images)
        return maps.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.head(self.features(images)), dim=1)


def trained(
    images: Float[Tensor, "n c h w"], seed: int = 0, progress: Progress = lambda done, total: None
) -> tuple[Encoder, str]:
    """An encoder that has learnt from these images, and a text that identifies it. The same images give the same one.

    Raises:
        InputError: fewer than 64 images.
    """
    if len(images) < 64:
        raise InputError(f"features: {len(images)} images are too few to train an encoder on; give at least 64")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(images.shape[1], max(images.shape[2:]))
    weights, identity = kept(
        f"own encoder, version {_VERSION}, seed {seed}", images, lambda: _trained(encoder, images, seed, progress)
    )
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False), identity


def _trained(encoder: Encoder, images: Tensor, seed: int, progress: Progress) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=1e-4)
    batch, order, epoch = min(_BATCH, len(images)), torch.empty(0, dtype=torch.int64), 0
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = 2e-3 * math.cos(math.pi / 2 * step / _STEPS)
        if len(order) < batch:
            order, epoch = torch.cat((order, permutation(len(images), seed, "encoder", epoch))), epoch + 1
        rows, order = order[:batch], order[batch:]
        clean = images[rows]
        views = [view(each, random) for each in (clean, clean, spoiled(clean, random))]
        loss = contrast(*encoder(torch.cat(views)).chunk(3))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, _STEPS)
    return {name: value.detach().clone() for name, value in encoder.state_dict().items()}


def contrast(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], others: Float[Tensor, "c d"]) -> Float[Tensor, ""]:
    """The loss of the module's head; row i of ``a`` and row i of ``b`` belong together, and ``others`` to none."""
    both = torch.cat((a, b))
    alike = (both @ both.mT / _TEMPERATURE).fill_diagonal_(-math.inf)
    logits = torch.cat((alike, both @ others.mT / _TEMPERATURE), 1)
    partner = torch.arange(len(both)).roll(len(a))
    return functional.cross_entropy(logits, partner)


def spoiled(images: Float[Tensor, "b c h w"], random: torch.Generator) -> Float[Tensor, "b c h w"]:
    """The images with noise, the first half of them, or blurred over 3 x 3 pixels."""
    half = len(images) // 2
    strength = torch.rand(half, 1, 1, 1, generator=random) * _NOISE
    noisy = images[:half] + strength * torch.randn(images[:half].shape, generator=random)
    padded = functional.pad(images[half:], (1, 1, 1, 1), mode="replicate")
    return torch.cat((noisy, functional.avg_pool2d(padded, 3, stride=1)))


def view(images: Float[Tensor, "b c h w"], random: torch.Generator) -> Float[Tensor, "b c h w"]:
    """The images moved, turned, scaled, and with other contrast and brightness, each by numbers of its own."""

    def uniform() -> Tensor:
        return 2 * torch.rand(len(images), generator=random) - 1

    turn, scale = _TURN * uniform(), 1 + _SCALE * uniform()
    cos, sin = scale * turn.cos(), scale * turn.sin()
    moves = torch.stack((cos, -sin, _SHIFT * uniform(), sin, cos, _SHIFT * uniform()), 1).reshape(-1, 2, 3)
    grid = functional.affine_grid(moves, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast_, light = (_LIGHT * uniform().reshape(-1, 1, 1, 1) for _ in range(2))
    return moved * (1 + contrast_) + light
