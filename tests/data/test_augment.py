import math

import pytest
import torch

from sfumato.data.augment import AUGMENTATION_LABELS, AUGMENTATION_NUMBERS, augment
from sfumato.errors import InputError
from sfumato.numerics.random import keys, uniform

FLIP_X, FLIP_Y, SCALE, ROTATE, STRETCH, SHIFT = range(6)  # the places of the numbers that decide
Z, A, W, B, U, V = range(6, 12)  # and of those that say how much


def numbers(*applied: int, **normal_or_angle: float) -> torch.Tensor:
    """One sample's numbers: ``applied`` at probability 0.5, amounts given by name, and lively ones for all others."""
    row = torch.full((1, AUGMENTATION_NUMBERS), 0.8, dtype=torch.float64)
    row[0, list(applied)] = 0.2
    for name, value in normal_or_angle.items():
        at = {"z": Z, "a": A, "w": W, "b": B, "u": U, "v": V}[name]
        row[0, at] = value / (2 * math.pi) + 0.5 if name in "ab" else 0.5 * math.erfc(-value / math.sqrt(2))
    return row


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    return uniform(keys(seed, torch.arange(n)), 0, AUGMENTATION_NUMBERS)


def pixels(height: int, width: int) -> torch.Tensor:
    """(H, W, 2): x and y of every pixel, from the middle of the image."""
    rows = [[(j - (width - 1) / 2, i - (height - 1) / 2) for j in range(width)] for i in range(height)]
    return torch.tensor(rows, dtype=torch.float64)


def forward_map(label: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The matrix and the shift that a sample's labels stand for, flips included, by exponentials of generators."""
    flip_x, flip_y, z, cos, sin, along, across, u, v = label.double().tolist()
    angle = math.atan2(sin, 1 + cos)
    unit = 0.2 * math.log(2)
    rotation = torch.matrix_exp(angle * torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))
    stretch = torch.matrix_exp(unit * torch.tensor([[along, across], [across, -along]], dtype=torch.float64))
    flips = torch.diag(torch.tensor([1 - 2 * flip_x, 1 - 2 * flip_y], dtype=torch.float64))
    return 2 ** (0.2 * z) * stretch @ rotation @ flips, torch.tensor([u * width / 8, v * height / 8]).double()


def cubic_error(slope: float, curvature: float) -> float:
    """How far torch's bicubic kernel (a = -3/4) may be from a function of these largest derivatives along each axis.

    Its first moment is off by 2 |a + 1/2| t (1 - t) (1 - 2 t) <= 0.0482 pixels, and its second by at most 1/8.
    """
    return 2 * (0.0482 * slope + curvature / 16)


def wave(p: torch.Tensor) -> torch.Tensor:
    """A smooth function of the plane without any symmetry; derivatives up to 0.14 and 0.02 along each axis."""
    x, y = p.unbind(-1)
    return torch.sin(0.09 * x + 0.05 * y + 0.4) + torch.cos(0.05 * x - 0.08 * y + 1.0)


@pytest.mark.parametrize("sides", [(6, 6), (3, 7)])
def test_flips_are_exact(sides: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *sides)
    for applied, axes in (((FLIP_X,), (3,)), ((FLIP_Y,), (2,)), ((FLIP_X, FLIP_Y), (2, 3))):
        y, label = augment(x, numbers(*applied), 0.5)
        assert torch.equal(y, torch.flip(x, axes))
        assert label.tolist() == [[float(FLIP_X in applied), float(FLIP_Y in applied), 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("quarters", [1, -1, 2])
def test_quarter_turns_are_rot90(quarters: int) -> None:
    x = torch.randn(1, 2, 7, 7, dtype=torch.float64)
    y, label = augment(x, numbers(ROTATE, a=quarters * math.pi / 2), 0.5)
    # rot90 turns the first axis towards the second, y towards x. Positions carry a few roundings of 1e-16 x 3 pixels.
    assert torch.allclose(y, torch.rot90(x, -quarters, (2, 3)), rtol=0, atol=1e-13)
    cos, sin = {1: (0, 1), -1: (0, -1), 2: (-1, 0)}[quarters]
    assert label[0].tolist() == pytest.approx([0, 0, 0, cos - 1, sin, 0, 0, 0, 0], abs=1e-6)


def test_whole_pixels_shift_the_mirrored_image() -> None:
    x = torch.randn(1, 2, 8, 16, dtype=torch.float64)
    y, label = augment(x, numbers(SHIFT, u=1.5, v=-1.0), 0.5)  # 3 of 16 pixels to the right, 1 of 8 up
    wide = torch.cat([x.flip(3), x, x.flip(3)], dim=3)
    tall = torch.cat([wide.flip(2), wide, wide.flip(2)], dim=2)
    expected = torch.roll(tall, (3, -1), (3, 2))[..., 8:16, 16:32]
    # The numbers are roundings of 1e-16 in the distribution function: some 1e-15 pixels, at slopes of a few a pixel.
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    assert label[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 0, 1.5, -1.0], abs=1e-6)


def test_scaling_by_two_halves_the_coordinates() -> None:
    p = pixels(40, 24)
    y, label = augment(wave(p)[None, None], numbers(SCALE, z=5.0), 0.5)
    assert (y[0, 0] - wave(p / 2)).abs().max() < cubic_error(0.14, 0.02)
    assert label[0].tolist() == pytest.approx([0, 0, 5, 0, 0, 0, 0, 0, 0], abs=1e-6)


def test_stretching_is_along_half_the_angle() -> None:
    # By two along (1, 1), down and to the right, by a half across: points (s, s) come from (s/2, s/2).
    p = pixels(40, 24)
    y, label = augment(wave(p)[None, None], numbers(STRETCH, w=5.0, b=math.pi / 2), 0.5)
    total, difference = p.sum(-1), p[..., 1] - p[..., 0]
    source = torch.stack([total / 4 - difference, total / 4 + difference], dim=-1)
    inside = (source[..., 0].abs() < 10) & (source[..., 1].abs() < 18)
    assert inside.float().mean() > 0.3
    assert (y[0, 0] - wave(source))[inside].abs().max() < cubic_error(0.14, 0.02)
    assert label[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 5, 0, 0], abs=1e-6)


@pytest.mark.parametrize("sides", [(20, 20), (12, 30), (30, 12)])
def test_a_ramp_rotates_into_the_ramp_in_the_rotated_direction(sides: tuple[int, int]) -> None:
    # Towards 10 degrees below the x axis, rotated by 50: the ramp then rises towards 60.
    p, degree = pixels(*sides), math.pi / 180
    x = p @ torch.tensor([math.cos(10 * degree), math.sin(10 * degree)], dtype=torch.float64)
    y, _ = augment(x[None, None], numbers(ROTATE, a=50 * degree), 0.5)
    expected = p @ torch.tensor([math.cos(60 * degree), math.sin(60 * degree)], dtype=torch.float64)
    inside = p.norm(dim=-1) < min(sides) / 2 - 2
    assert inside.sum() > 40
    assert (y[0, 0] - expected)[inside].abs().max() < cubic_error(1.0, 0.0)


@pytest.mark.parametrize("sides", [(64, 64), (36, 64)])
def test_the_labels_say_what_was_done(sides: tuple[int, int]) -> None:
    height, width = sides
    p = pixels(height, width)
    n = 40
    for probability in (0.3, 1.0):
        images, labels = augment(wave(p).expand(n, 1, height, width).float(), drawn(n), probability)
        compared = 0
        for image, label in zip(images[:, 0], labels, strict=True):
            matrix, shift = forward_map(label, height, width)
            source = (p - shift) @ torch.linalg.inv(matrix).T
            inside = (source[..., 0].abs() < width / 2 - 2) & (source[..., 1].abs() < height / 2 - 2)
            assert (image - wave(source))[inside].abs().max() < cubic_error(0.14, 0.02)
            compared += int(inside.sum())
        assert compared > 0.5 * n * height * width


def test_a_constant_image_stays() -> None:
    y, _ = augment(torch.full((50, 1, 5, 9), 0.75), drawn(50), 1.0)
    # The kernel's 16 weights add up to 1, each rounded at float32.
    assert (y - 0.75).abs().max() < 1e-5


def test_what_is_not_applied_leaves_no_trace() -> None:
    x = torch.randn(500, 2, 5, 4)
    before, u = x.clone(), drawn(500)
    y, labels = augment(x, u, 0.25)
    assert torch.equal(x, before)
    applied = u[:, :6] < 0.25
    for operation, columns in enumerate(([0], [1], [2], [3, 4], [5, 6], [7, 8])):
        assert torch.equal((labels[:, columns] != 0).all(1), applied[:, operation])
        assert torch.equal((labels[:, columns] != 0).any(1), applied[:, operation])
    alone = ~applied.any(1)
    assert 0.1 < alone.float().mean() < 0.3  # 0.75^6 = 0.18
    assert torch.equal(y[alone], x[alone])
    flips_only = ~applied[:, 2:].any(1) & applied[:, FLIP_X] & ~applied[:, FLIP_Y]
    assert flips_only.any()
    assert torch.equal(y[flips_only], x[flips_only].flip(3))
    y, labels = augment(x, u, 0.0)
    assert torch.equal(y, x)
    assert not labels.any()


def test_each_operation_is_applied_with_the_probability_independently_of_the_others() -> None:
    n, p = 20_000, 0.12
    _, labels = augment(torch.zeros(n, 1, 1, 1), drawn(n), p)
    applied = torch.stack([(labels[:, c] != 0).double() for c in (0, 1, 2, 4, 5, 7)], dim=1)
    # Five standard errors, 0.0115: a share of p / 2 would be 26 of them away.
    assert (applied.mean(0) - p).abs().max() < 5 * math.sqrt(p * (1 - p) / n)
    one, other = torch.triu_indices(6, 6, 1)
    both = (applied.T @ applied / n)[one, other]
    # Five standard errors, 0.0042: two operations that always go together would be at 0.12 instead of 0.0144.
    assert (both - p**2).abs().max() < 5 * math.sqrt(p**2 * (1 - p**2) / n)


def test_amounts_have_their_distributions() -> None:
    n = 20_000
    _, labels = augment(torch.zeros(n, 1, 1, 1), drawn(n), 1.0)
    flip_x, flip_y, z, cos, sin, along, across, u, v = labels.double().T
    assert flip_x.all()
    assert flip_y.all()
    error = 5 / math.sqrt(n)  # five standard errors of a mean of unit variance: 0.035
    for normal in (z, u, v):
        assert abs(float(normal.mean())) < error
        assert abs(float(normal.square().mean()) - 1) < math.sqrt(2) * error
    for angle in (torch.atan2(sin, 1 + cos), torch.atan2(across, along)):
        # The first harmonic of angles in half a circle would be 0.64, the second of a cross's four directions 1.
        for harmonic in (1, 2):
            for part in (torch.cos, torch.sin):
                assert abs(float(part(harmonic * angle).mean())) < math.sqrt(0.5) * error
    amount = along.square() + across.square()  # chi-square of one degree: mean 1, variance 2
    assert abs(float(amount.mean()) - 1) < math.sqrt(2) * error
    correlations = torch.corrcoef(torch.stack([z, cos, sin, along, across, u, v]))
    assert (correlations - torch.eye(7)).abs().max() < error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_never_depends_on_its_neighbours(dtype: torch.dtype) -> None:
    x, u = torch.randn(9, 3, 6, 5, dtype=dtype), drawn(9)
    y, labels = augment(x, u, 0.6)
    assert y.dtype == dtype
    assert labels.shape == (9, AUGMENTATION_LABELS)
    assert labels.dtype == torch.float32
    for i in range(9):
        alone, label = augment(x[i : i + 1], u[i : i + 1], 0.6)
        assert torch.equal(alone[0], y[i])
        assert torch.equal(label[0], labels[i])
    assert augment(x[:0], u[:0], 0.6)[0].shape == (0, 3, 6, 5)


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan, math.inf])
def test_refuses_what_is_no_probability(probability: float) -> None:
    with pytest.raises(InputError, match=r"probability=.* is not allowed: give a number in \[0, 1\]"):
        augment(torch.zeros(1, 1, 4, 4), drawn(1), probability)
