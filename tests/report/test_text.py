"""Numbers as people read them."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from sfumato.report import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.031249, "0.0312"),
        (-5, "−5"),
        (3.14e-8, "3.14 × 10⁻⁸"),
        (2e12, "2 × 10¹²"),
        (100, "100"),
        (1234, "1,230"),
        (-99_960, "−100,000"),
        (999_960, "1 × 10⁶"),
        (0, "0"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
    ],
)
def test_figures(value, shown):
    assert text.figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.123, "0.123 s"),
        (48, "48 s"),
        (59.99, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (math.nan, "?"),
    ],
)
def test_durations(seconds, shown):
    assert text.duration(seconds) == shown


def test_a_hundred_by_two_digits_is_a_hundred():
    assert [text.figure(x, 2) for x in (99.6, 105, 99.4, 0.66)] == ["100", "100", "99", "0.66"]


def test_counts_and_signs():
    assert text.count(1234567.0) == "1,234,567"
    assert text.count(math.nan) == "not finite"
    assert [text.signed(x) for x in (-9.25, 3.0, math.inf, -math.inf)] == ["−9.2", "3.0", "∞", "−∞"]
    assert text.by("images of 8 x 9 pixels, 1 axis") == "images of 8 × 9 pixels, 1 axis"


def decoded(uri):
    head, _, content = uri.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(content)))


def test_small_pictures_stay_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    head, picture = decoded(text.image_uri(Image.fromarray(pixels)))
    assert head == "data:image/png"
    assert np.array_equal(np.asarray(picture), pixels)


def test_heavy_pictures_are_compressed_and_reduced():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1800, 3), dtype=np.uint8)
    head, picture = decoded(text.image_uri(Image.fromarray(pixels)))
    assert head == "data:image/webp"
    assert picture.size == (1400, 467)
