"""What is known of a layout agrees with the data that has it."""

from pathlib import Path

import numpy as np
import pytest

from sfumato.data import LAYOUTS, DataOptions, load


@pytest.mark.parametrize(
    ("name", "shape", "channels", "words"),
    [
        ("vector", (1,), (), "vectors of 1 feature"),
        ("vector", (3,), (), "vectors of 3 features"),
        ("signal", (2, 9), ("left", "right"), "signals of 9 positions, 2 channels (left, right)"),
        ("image", (1, 4, 6), ("gray",), "images of 4 x 6 pixels, 1 channel (gray)"),
        ("image", (5, 4, 6), (), "images of 4 x 6 pixels, 5 channels"),
    ],
)
def test_a_shape_in_words(name: str, shape: tuple[int, ...], channels: tuple[str, ...], words: str) -> None:
    assert LAYOUTS[name].describe(shape, channels) == words


@pytest.mark.parametrize(("shape", "name"), [((5, 7), "vector"), ((5, 2, 7), "signal"), ((5, 3, 7, 8), "image")])
def test_the_rank_is_that_of_a_sample(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=shape))
    spec = load(str(tmp_path / "a.npy"), DataOptions()).spec
    assert spec.layout is LAYOUTS[name]
    assert spec.layout.rank == len(spec.shape) == len(spec.model_shape)
    assert spec.layout.dimensions == spec.layout.rank - 1  # channels come first
