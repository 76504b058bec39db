"""Grids of images, pixel by pixel against explicit sums."""

from dataclasses import replace

import numpy as np
import pytest

from sfumato.data import Affine
from sfumato.errors import InputError
from sfumato.report.image_grid import GAP, arrange, grid, window

from .conftest import SPECS

GRAY = SPECS["image"]  # 4 x 6, values 0 to 16
BYTES, FREE = Affine((8.0,), (8.0,), 0.0, 255.0, 256), Affine((8.0,), (8.0,))


def image_spec(channels=("gray",), shape=(2, 3), **changes):
    return replace(GRAY, shape=(len(channels), *shape), channels=channels, **changes)


def expected_byte(value, low, high):
    return int(np.floor(255 * min(max((value - low) / (high - low), 0), 1) + 0.5))


def check_grid(values, columns, scale, low, high, drawn):
    """Every pixel of a gray or RGB grid: which cell and which value it shows, or that it is a gap."""
    n, _, height, width = values.shape
    rows = -(-n // columns)
    assert drawn.shape[:2] == (rows * (height * scale + GAP) - GAP, columns * (width * scale + GAP) - GAP)
    for y in range(drawn.shape[0]):
        for x in range(drawn.shape[1]):
            row, in_row = divmod(y, height * scale + GAP)
            column, in_column = divmod(x, width * scale + GAP)
            k = row * columns + column
            if in_row >= height * scale or in_column >= width * scale or k >= n:
                assert np.all(drawn[y, x] == 200), (y, x)
            else:
                pixel = values[k, :, in_row // scale, in_column // scale]
                assert np.array_equal(np.atleast_1d(drawn[y, x]), [expected_byte(v, low, high) for v in pixel])


@pytest.mark.parametrize(("columns", "scale"), [(2, 3), (3, 1), (1, 2), (5, 1)])
def test_every_pixel_of_a_gray_grid(columns, scale):
    values = np.random.default_rng(0).integers(0, 17, (3, 1, 4, 6)).astype(np.float32)
    picture = grid(values, GRAY, columns, scale)
    assert picture.mode == "L"
    check_grid(values, columns, scale, 0, 16, np.asarray(picture))


def test_every_pixel_of_a_colour_grid():
    values = np.random.default_rng(1).integers(0, 256, (4, 3, 2, 3))
    picture = grid(values, image_spec(("red", "green", "blue"), transform=BYTES), 3, 2)
    assert picture.mode == "RGB"
    check_grid(values, 3, 2, 0, 255, np.asarray(picture))


def test_bytes_pass_unchanged():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    picture = grid(values, image_spec(shape=(16, 16), transform=BYTES), scale=1)
    assert np.array_equal(np.asarray(picture), values[0, 0])


@pytest.mark.parametrize(("high", "values"), [(65535.0, [0, 257, 32768, 65535]), (4095.0, [0, 16, 2048, 4095])])
def test_deep_images_are_windowed_to_their_range(high, values):
    """16-bit data over the whole range, and 12-bit data kept in 16: white is the range's end, not the type's."""
    spec = image_spec(shape=(1, 4), dtype="uint16", transform=Affine((8.0,), (8.0,), 0.0, high))
    drawn = np.asarray(grid(np.array(values, np.uint16).reshape(1, 1, 1, 4), spec, scale=1))
    assert drawn.tolist() == [[expected_byte(v, 0, high) for v in values]]
    assert (drawn[0, 0], drawn[0, -1]) == (0, 255)


def test_values_beyond_a_bounded_range_are_clipped():
    spec = image_spec(shape=(1, 3))
    assert np.asarray(grid(np.array([-5.0, 8.0, 99.0]).reshape(1, 1, 1, 3), spec, scale=1)).tolist() == [[0, 128, 255]]


def test_the_window_of_unbounded_data_is_that_of_the_set_and_ignores_outliers():
    spec = image_spec(shape=(10, 10), transform=FREE)
    values = np.random.default_rng(2).uniform(-3, 5, (30, 1, 10, 10))
    values[0, 0, 0, 0], values[1, 0, 0, 0], values[2, 0, 0, 0] = 1e6, np.nan, np.inf
    low, high = window(values, spec)
    # A quantile of n uniform draws over a width of 8 has a standard deviation of 8 sqrt(p (1 - p) / n): 0.0103 here.
    assert low == pytest.approx(-3 + 0.005 * 8, abs=0.05)
    assert high == pytest.approx(5 - 0.005 * 8, abs=0.05)
    values[5, 0, 3, 3] = values[20, 0, 7, 7] = 1.25
    drawn = np.asarray(grid(values, spec, 30, 1))
    assert drawn[3, 5 * 12 + 3] == drawn[7, 20 * 12 + 7] == expected_byte(1.25, low, high)
    assert drawn[0, 1 * 12] == 0  # nan
    assert drawn[0, 2 * 12] == 255  # infinity


def test_the_window_can_be_that_of_other_data():
    spec = image_spec(shape=(1, 2), transform=FREE)
    values = np.array([0.0, 5.0]).reshape(1, 1, 1, 2)
    low, high = window(np.array([0.0, 10.0]).reshape(1, 1, 1, 2), spec)
    drawn = np.asarray(grid(values, spec, scale=1, window_of=values * 2))
    assert drawn.tolist() == [[0, expected_byte(5, low, high)]]


@pytest.mark.parametrize("values", [np.full((2, 1, 2, 3), 7.0), np.full((2, 1, 2, 3), np.nan)])
def test_a_set_without_spread_has_a_window(values):
    low, high = window(values, image_spec(transform=FREE))
    assert high - low == 1
    assert (low + high) / 2 == (7 if np.isfinite(values).all() else 0)


def test_alpha_is_composited_on_a_checker():
    spec = image_spec(("red", "green", "blue", "alpha"), (8, 16), transform=BYTES)
    values = np.full((1, 4, 8, 16), 100.0)
    values[:, 3] = 255
    assert np.all(np.asarray(grid(values, spec, scale=1)) == 100)
    values[:, 3] = 0
    drawn = np.asarray(grid(values, spec, scale=1))
    assert np.all(drawn[:, :8] == 255)
    assert np.all(drawn[:, 8:] == 224)
    values[:, 3] = 51  # a fifth: 0.2 * 100 + 0.8 * 255
    assert np.all(np.asarray(grid(values, spec, scale=1))[:, :8] == 224)


def test_gray_with_alpha_stays_gray():
    values = np.stack([np.full((4, 4), 16.0), np.full((4, 4), 16.0)])[None]
    picture = grid(values, image_spec(("gray", "alpha"), (4, 4)), scale=1)
    assert picture.mode == "L"
    assert np.all(np.asarray(picture) == 255)


def test_alpha_is_never_taken_for_a_colour():
    """Two bands and alpha are three channels, and no RGB."""
    values = np.stack([np.full((4, 4), 16.0), np.full((4, 4), 3.0), np.full((4, 4), 16.0)])[None]
    picture = grid(values, image_spec(("near", "far", "alpha"), (4, 4)), scale=1)
    assert picture.mode == "L"
    assert np.all(np.asarray(picture) == 255)


@pytest.mark.parametrize(("channels", "shown"), [(2, 1), (4, 3), (7, 3)])
def test_of_other_channel_counts_the_first_are_shown(channels, shown):
    values = np.random.default_rng(3).integers(0, 17, (2, channels, 2, 3)).astype(np.float64)
    spec = replace(GRAY, shape=(channels, 2, 3), channels=())
    check_grid(values[:, :shown], 2, 1, 0, 16, np.asarray(grid(values, spec, 2, 1)))


def test_clear_gaps_are_transparent_and_cells_are_not():
    values = np.random.default_rng(4).integers(0, 17, (3, 1, 4, 6)).astype(np.float32)
    picture = grid(values, GRAY, 2, 1, clear=True)
    assert picture.mode == "LA"
    solid = np.asarray(grid(values, GRAY, 2, 1))
    gray, alpha = np.moveaxis(np.asarray(picture), -1, 0)
    cells = np.ones((2, 2)).repeat(4 + GAP, 0).repeat(6 + GAP, 1)[:-GAP, :-GAP].astype(bool)
    cells[4 : 4 + GAP] = cells[:, 6 : 6 + GAP] = False
    cells[4 + GAP :, 6 + GAP :] = False  # the fourth cell is empty
    assert np.array_equal(alpha == 255, cells)
    assert np.array_equal(alpha == 0, ~cells)
    assert np.array_equal(gray[cells], solid[cells])


@pytest.mark.parametrize("side", [8, 28, 64])
def test_small_images_are_enlarged_to_a_pleasant_size(side):
    spec = image_spec(shape=(side, side))
    width, height = grid(np.zeros((64, 1, side, side)), spec).size
    assert width == height
    assert 500 <= width <= 760
    assert 128 <= grid(np.zeros((1, 1, side, side)), spec).size[0] <= 256


def test_large_images_keep_their_pixels():
    assert grid(np.zeros((2, 1, 300, 200)), image_spec(shape=(300, 200))).size == (402, 300)


def test_arrangement_is_square_and_full_where_it_can_be():
    assert [arrange(n, 8, 8) for n in (1, 4, 9, 16, 64, 100)] == [1, 2, 3, 4, 8, 10]
    assert arrange(64, 32, 48) == 8
    assert arrange(10, 8, 8) == 5
    assert arrange(12, 8, 8) == 4
    for n in range(1, 80):
        columns = arrange(n, 8, 8)
        assert 1 <= columns <= n
        assert 0.3 <= columns / -(-n // columns) <= 3.4


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((2, 4, 6)), {}, r"shape \(2, 4, 6\).*\(n, 1, 4, 6\)"),
        (np.zeros((0, 1, 4, 6)), {}, "n >= 1"),
        (np.zeros((2, 1, 4, 6)), {"columns": 0}, "columns: 0"),
        (np.zeros((2, 1, 4, 6)), {"scale": 0}, "scale: 0"),
    ],
)
def test_what_is_no_grid_is_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        grid(values, GRAY, **options)


def test_other_layouts_are_refused():
    with pytest.raises(InputError, match=r"'signal'.*use picture"):
        grid(np.zeros((2, 2, 12)), SPECS["signal"])
