"""The figure of ``sfumato compare``, read off its pixels."""

from typing import Any

import numpy as np
import pytest

from sfumato.report.charts.compare import comparison_figure

from .conftest import SPECS, values

WIDTH = 1440  # 960 units at 1.5 pixels each


def row(name: str, bound: float | None = 3.0, flow: float | None = 2.8, ratio: float | None = 1.4) -> dict[str, Any]:
    def bits(value: float | None) -> dict[str, float] | None:
        return None if value is None else {"bits_per_dim": value, "standard_error": 0.05}

    return {
        "recipe": name,
        "training": {"images_per_second": 500.0},
        "bound": bits(bound),
        "flow": bits(flow),
        "samples": None if ratio is None else {"ratio": ratio, "ratio_error": 0.05},
    }


def draw(rows: list[dict[str, Any]], kind: str = "image", seed: int = 1, real: bool = True) -> np.ndarray:
    spec = SPECS[kind]
    record = {"source": "tiny", "goal": {"seconds": 60}, "scored": 9, "recipes": rows}
    samples = {row["recipe"]: values(spec, 20, seed) for row in rows if row["samples"] is not None}
    picture = comparison_figure(record, samples, values(spec, 20, 0) if real else None, spec)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def blobs(pixels: np.ndarray, orange: bool = False) -> list[float]:
    """The columns' middles of the coloured pixels in the panel of bits/dim, row by row of the recipes."""
    part = pixels[126:-51, 660:990]
    difference = part[..., 2] - part[..., 0]
    mask = difference < -100 if orange else difference > 100
    return [float(np.nonzero(band)[1].mean()) for band in np.array_split(mask, 3)]


@pytest.mark.parametrize("kind", list(SPECS))
def test_every_layout_has_its_samples(kind: str) -> None:
    rows = [row("a"), row("b", 3.2)]
    one, other = (draw(rows, kind, seed) for seed in (1, 2))
    assert one.shape == other.shape
    assert one.shape[1] == WIDTH
    right = 630 if kind != "table" else 520
    assert np.array_equal(one[:, right:], other[:, right:])  # numbers are the same, samples are not
    assert not np.array_equal(one[:, :right], other[:, :right])
    assert np.all(one[:2] == 255)


def test_ten_recipes_of_long_names_stay_in_their_rows() -> None:
    names = [f"recipe-{i}-of-a-name-that-goes-on-and-on-and-on-until-nothing-of-it-is-left" for i in range(10)]
    pixels = draw([row(name) for name in names])
    assert pixels.shape[0] > draw([row("a")]).shape[0] + 9 * 110
    between = pixels[140:-60, 645:655]  # of samples and numbers: only the bands of rows
    assert np.ptp(between, axis=1).max() == 0
    between = draw([row(name) for name in names[:2]], "line")[140:-60, 315:322]
    assert np.ptp(between, axis=1).max() == 0


def test_the_markers_stand_at_their_values() -> None:
    """Three bounds, 2, 3 and 4, and flows the other way around, each in its row."""
    pixels = draw([row("a", 2.0, 4.0), row("b", 3.0, 3.0), row("c", 4.0, 2.0)], real=False)
    bound, flow = blobs(pixels), blobs(pixels, orange=True)
    assert bound[0] < bound[1] < bound[2]
    assert bound[1] - bound[0] == pytest.approx(bound[2] - bound[1], abs=2)
    assert flow == pytest.approx(bound[::-1], abs=2)


def test_one_far_off_does_not_squeeze_the_others() -> None:
    near = blobs(draw([row("a", 2.0, 2.0), row("b", 2.2, 2.2), row("c", 2.4, 2.4)], real=False))
    far = blobs(draw([row("a", 2.0, 2.0), row("b", 2.2, 2.2), row("c", 90.0, 90.0)], real=False))
    assert far[1] - far[0] > 0.8 * (near[1] - near[0])
    assert far[2] > 300  # at the edge


def test_what_is_missing_leaves_its_place_empty() -> None:
    full = draw([row("a"), row("b")])
    empty = draw([row("a"), row("b", None, None, None)])
    assert full.shape == empty.shape
    nothing = draw([row("a", None, None, None)], real=False)
    assert np.all(np.abs(nothing[..., 0] - nothing[..., 2])[:, :1000][126:] < 60)  # nothing coloured but the rate


def test_ratios_over_orders_of_magnitude_are_all_shown() -> None:
    pixels = draw([row("a", ratio=1.0), row("b", ratio=30.0), row("c", ratio=900.0)], real=False)
    part = pixels[126:-51, 1000:1230]
    places = [float(np.nonzero(band)[1].mean()) for band in np.array_split((part[..., 2] - part[..., 0]) > 100, 3)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], rel=0.05)  # even in the logarithm
