import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import Affine, DataOptions, Dataset, load
from sfumato.data.assemble import diameter, fingerprint
from sfumato.errors import InputError

RNG = np.random.default_rng(0)


def read(values: np.ndarray, folder: Path, **options: Any) -> Dataset:
    np.save(folder / "a.npy", values)
    return load(str(folder / "a.npy"), DataOptions(**options))


def refused(values: np.ndarray, folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(values, folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_vectors_are_standardised_by_feature(tmp_path: Path) -> None:
    values = RNG.normal([3, -50, 1e4], [1e-3, 2, 500], (1000, 3)).astype(np.float32)
    data = read(values, tmp_path)
    encoded = data.spec.encode(data.values.double())
    # Sums of 1000 float64, of values up to 1e4 standard deviations from zero.
    np.testing.assert_allclose(encoded.mean(0).numpy(), 0, atol=1e-9)
    np.testing.assert_allclose(encoded.std(0, correction=0).numpy(), 1, rtol=1e-9)
    assert data.spec.second_moment == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("shape", "layout"), [((40, 2, 9), "signal"), ((40, 1, 9, 8), "image")])
def test_signals_and_images_share_one_number(shape: tuple[int, ...], layout: str, tmp_path: Path) -> None:
    values = RNG.normal(4, 3, shape) + np.arange(shape[-1])
    spec = read(values, tmp_path).spec
    assert spec.layout.name == layout
    # The contract is of the values before they are rounded to float32.
    assert spec.transform.shift == pytest.approx((values.mean(),), rel=1e-12)
    assert spec.transform.scale == pytest.approx((values.std(),), rel=1e-12)


def test_moments_do_not_depend_on_the_pieces_they_are_summed_in(tmp_path: Path) -> None:
    values = (RNG.normal(size=(1_200_001, 2)) * [1, 100] + [5, -7]).astype(np.float32)  # three pieces
    spec = read(values, tmp_path).spec
    wide = values.astype(np.float64)
    np.testing.assert_allclose(spec.transform.shift, wide.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spec.transform.scale, wide.std(0), rtol=1e-12)


def test_a_constant_feature_is_centred_and_told_of(tmp_path: Path) -> None:
    values = RNG.normal(size=(50, 4)).astype(np.float32)
    values[:, 1], values[:, 3] = 0.1, -7
    data = read(values, tmp_path)
    assert data.spec.transform.scale[1] == data.spec.transform.scale[3] == 1
    assert "2 of 4 features are constant, so centred but not scaled: 1, 3" in data.notes
    np.testing.assert_allclose(data.spec.encode(data.values)[:, [1, 3]].numpy(), 0, atol=1e-6)
    assert data.spec.second_moment == pytest.approx(0.5, rel=1e-12)


def test_data_that_is_all_the_same_is_told_of(tmp_path: Path) -> None:
    data = read(np.full((5, 6, 7), 2.5), tmp_path)
    assert (data.spec.transform.shift, data.spec.transform.scale, data.spec.second_moment) == ((2.5,), (1.0,), 0.0)
    assert "every value is the same, so the data is centred but not scaled" in data.notes


def test_bounds_given_by_the_user(tmp_path: Path) -> None:
    values = RNG.uniform(-1, 3, (20, 2))
    values[0] = -1, 3
    spec = read(values, tmp_path, low=-1.0, high=3.0).spec
    assert spec.transform == Affine((1.0,), (2.0,), -1.0, 3.0)
    assert spec.second_moment == pytest.approx((((values - 1) / 2) ** 2).mean(), rel=1e-12)
    assert refused(values, tmp_path, low=-1.0, high=2.9999).startswith("data: ")
    values[3, 1], values[7, 0] = 3.5, -1.25
    assert refused(values, tmp_path, low=-1.0, high=3.0) == (
        "data: 2 values in 2 of 20 samples are outside -1 to 3 (the first is 3.5 in sample 3, counted from 0); "
        "widen data.low and data.high"
    )


def test_integers_between_bounds_have_levels(tmp_path: Path) -> None:
    values = RNG.integers(-5, 6, (20, 2))
    assert read(values, tmp_path, low=-5.0, high=5.0).spec.transform.levels == 11
    assert read(values, tmp_path, low=-5.5, high=5.0).spec.transform.levels is None
    assert read(values, tmp_path, low=-5.0, high=2.0**40).spec.transform.levels is None
    # Of 8-bit images too, if the user knows better than the type.
    images = RNG.integers(0, 17, (20, 8, 8)).astype(np.uint8)
    assert read(images, tmp_path, low=0.0, high=16.0).spec.transform.levels == 17
    assert read(images // 2 * 17, tmp_path, levels=16).spec.transform.levels == 16
    assert "are not on one of the 15 levels from 0 to 255" in refused(images // 2 * 17, tmp_path, levels=15)


def test_levels_given_by_the_user(tmp_path: Path) -> None:
    values = (RNG.integers(0, 256, (20, 8, 8)) / 255).astype(np.float32)
    data = read(values, tmp_path, low=0.0, high=1.0, levels=256)
    assert data.spec.transform.levels == 256
    np.testing.assert_allclose(data.spec.decode(data.spec.encode(data.values)).numpy(), values[:, None], atol=2**-23)
    assert "give data.low and data.high as well" in refused(values, tmp_path, levels=256)
    values[4, 0, 0] = 0.5
    message = refused(values, tmp_path, low=0.0, high=1.0, levels=256)
    assert "1 values in 1 of 20 samples are not on one of the 256 levels from 0 to 1 (the first is 0.5 in" in message


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"low": 0.0}, "data.low, data.high: (0.0, None) is not allowed; give both of them or neither"),
        ({"low": 1.0, "high": 1.0}, "give two finite numbers, low below high"),
        ({"low": -math.inf, "high": 1.0}, "give two finite numbers, low below high"),
        ({"size": (0, 4)}, "data.size: (0, 4) is not allowed; give height and width of at least 1 pixel"),
        ({"levels": 1}, "data.levels: 1 is not allowed; give 2 to "),
        ({"limit": 0}, "data.limit: 0 is not allowed; give at least 1 sample"),
        ({"count": 0}, "data.count: 0 is not allowed; give at least 1 sample"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        DataOptions(**options)
    assert complaint in str(caught.value)


def test_the_fingerprint_is_that_of_values_and_labels() -> None:
    values = RNG.normal(size=(30, 4)).astype(np.float32)
    labels = np.arange(30)
    by_hand = hashlib.sha256(b"float32(30, 4)" + values.tobytes() + b"int64(30,)" + labels.tobytes()).hexdigest()
    whole = fingerprint(values, labels)
    assert whole == by_hand
    assert fingerprint(values, None) != whole
    for changed in ([29, 3], [0, 0]):
        other = values.copy()
        other[tuple(changed)] = np.nextafter(other[tuple(changed)], 9)
        assert fingerprint(other, labels) != whole
    relabelled = labels.copy()
    relabelled[5] = 0
    assert fingerprint(values, relabelled) != whole
    assert fingerprint(values.reshape(30, 2, 2), labels) != whole
    assert fingerprint(values.view(np.int32), labels) != whole
    assert fingerprint(np.asfortranarray(values), labels) == whole
    assert fingerprint(values.astype(">f4"), labels) == whole


def test_the_contract_carries_the_fingerprint(tmp_path: Path) -> None:
    values = RNG.integers(0, 9, (30, 4)).astype(np.uint16)
    assert read(values, tmp_path).spec.fingerprint == fingerprint(values, None)
    large = RNG.normal(size=(300_000, 4)).astype(np.float32)
    spec = read(large, tmp_path).spec
    assert spec.fingerprint == hashlib.sha256(b"float32(300000, 4)" + large.tobytes()).hexdigest()


def test_what_float32_cannot_hold_is_refused_or_told_of(tmp_path: Path) -> None:
    assert "1 values in 1 of 3 samples are too large for float32" in refused(np.array([1.0, 2.0, 1e200]), tmp_path)
    message = refused(RNG.normal(size=(9, 2)) * 1e-35, tmp_path)
    assert "varies by" in message
    assert "too little for float32; multiply it by a power of ten" in message
    assert "too large for int64" in refused(np.array([1, 2**63], dtype=np.uint64), tmp_path)
    values = RNG.normal(size=(100, 3))
    values[:, 1] += 1e7
    notes = read(values, tmp_path).notes
    told = [note for note in notes if "vary too little around their mean for float32" in note]
    assert len(told) == 1
    assert told[0].startswith("1 of 3 features")
    assert "(the first is 1: 1e+07 +- " in told[0]
    values[:, 1] -= 1e7 - 1e3
    assert not any("vary too little" in note for note in read(values, tmp_path).notes)


def test_a_limit_takes_labels_along(tmp_path: Path) -> None:
    labels = np.repeat([4, 5, 6], [50, 50, 1])
    np.savez(tmp_path / "a.npz", x=np.arange(101.0)[:, None], y=labels)
    data = load(str(tmp_path / "a.npz"), DataOptions(limit=20))
    used = data.values[:, 0].long()
    assert data.spec.count == len(used) == len(set(used.tolist())) == 20
    assert data.labels is not None
    assert [data.spec.class_names[label] for label in data.labels] == [str(labels[i]) for i in used]
    assert data.spec.class_counts == tuple(data.labels.bincount().tolist())
    assert sum(data.spec.class_counts) == 20
    assert "20 of 101 samples are used (data.limit)" in data.notes
    # The contract is of the samples that are used.
    assert data.spec.transform.shift[0] == pytest.approx(used.double().mean().item(), rel=1e-12)
    assert torch.equal(load(str(tmp_path / "a.npz"), DataOptions(limit=20)).values, data.values)


# --- the diameter ----------------------------------------------------------------------------------------------------


def brute_force(values: np.ndarray, scale: np.ndarray) -> float:
    table = (values.reshape(len(values), *np.shape(values)[1:]) / scale).reshape(len(values), -1).astype(np.float64)
    return max(math.sqrt(((a - b) ** 2).sum()) for a in table for b in table)


def triangle(side: float) -> np.ndarray:
    """Equal distances all round: each start is farthest from all the others alike."""
    return np.array([[0, 0], [side, 0], [side / 2, side * math.sqrt(3) / 2]])


SETS = {
    "one": np.ones((1, 3)),
    "two": np.array([[0.0, 0], [3, 4]]),
    "all the same": np.full((7, 2), 2.5),
    "line": np.arange(11.0)[:, None],
    "triangle": triangle(2.0),
    "tetrahedron": np.eye(4),
    "circle": np.stack((np.cos(np.arange(9) * 2 * np.pi / 9), np.sin(np.arange(9) * 2 * np.pi / 9)), 1),
    "hypercube": np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T.astype(float),
    # From the origin the farthest is one far alone, and the longest way is between two others.
    "misleading": np.array([[0, 0], [0, 10.1], [10, 0], [-10, 0], [0.0, 1]]),
    "cross-polytope": np.concatenate((np.eye(5), -np.eye(5))) + 0.3,
    "outlier": np.concatenate((np.random.default_rng(1).normal(size=(60, 3)), [[40, 1, 2]])),
}


@pytest.mark.parametrize("name", SETS)
def test_the_diameter_is_never_below_half_nor_above_the_truth(name: str) -> None:
    values = SETS[name]
    truth = brute_force(values, np.ones(1))
    for order in range(4):
        shuffled = np.random.default_rng(order).permutation(values)
        assert truth / 2 * (1 - 1e-12) <= diameter(shuffled, np.ones(1)) <= truth * (1 + 1e-12)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 40])
def test_the_diameter_is_nearly_always_that_of_all_pairs(dimensions: int) -> None:
    found = []
    for seed in range(25):
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(60, dimensions)) * generator.uniform(0.2, 3, dimensions)
        truth = brute_force(values, np.ones(1))
        got = diameter(values, np.ones(1))
        assert truth / 2 <= got <= truth * (1 + 1e-12)
        found.append(got / truth)
    assert sum(share > 1 - 1e-12 for share in found) >= 13
    assert min(found) > 0.8


@pytest.mark.parametrize("shape", [(30, 2, 9), (30, 3, 5, 4)])
def test_the_diameter_is_in_model_units(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = read(RNG.normal(4, 3, shape).astype(np.float32), tmp_path)
    encoded = data.spec.encode(data.values.double()).numpy()
    assert data.spec.diameter == pytest.approx(brute_force(encoded, np.ones(1)), rel=0.1)
    assert data.spec.diameter <= brute_force(encoded, np.ones(1)) * (1 + 1e-9)


def test_the_diameter_of_vectors_is_in_units_of_each_feature(tmp_path: Path) -> None:
    values = np.array([[0.0, 0], [1, 0], [0, 5000], [1, 5000], [0.5, 100]])
    data = read(values, tmp_path)
    encoded = data.spec.encode(data.values.double()).numpy()
    assert data.spec.diameter == pytest.approx(brute_force(encoded, np.ones(1)), rel=1e-9)
    scale = np.array([0.5, 2.0])
    assert diameter(values, scale) == pytest.approx(math.hypot(1 / 0.5, 5000 / 2), rel=1e-12)


def test_the_diameter_of_whole_numbers_does_not_wrap() -> None:
    values = np.array([[0, 255], [255, 0], [3, 3]], np.uint8)
    assert diameter(values, np.ones(1)) == pytest.approx(255 * math.sqrt(2), rel=1e-12)
    wide = np.array([[-(2**62)], [2**62]], np.int64)
    assert diameter(wide, np.ones(1)) == pytest.approx(2.0**63, rel=1e-12)
