import json
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import LAYOUTS, Affine, Axis, DataSpec
from sfumato.errors import InputError


def spec(**changes: Any) -> DataSpec:
    fields: dict[str, Any] = {
        "layout": LAYOUTS["image"],
        "shape": (1, 2, 3),
        "dtype": "uint8",
        "transform": Affine((127.5,), (127.5,), 0.0, 255.0, 256),
        "channels": ("gray",),
        "second_moment": 0.5,
        "diameter": 4.0,
        "class_names": ("cat", "dog"),
        "class_counts": (3, 4),
        "count": 7,
        "fingerprint": "ab12",
        "source": "pets",
    }
    return DataSpec(**(fields | changes))


def bounded(dtype: str, low: float, high: float, levels: int | None) -> DataSpec:
    transform = Affine(((low + high) / 2,), ((high - low) / 2,), low, high, levels)
    return spec(layout=LAYOUTS["vector"], shape=(1,), dtype=dtype, transform=transform, channels=())


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("bool", 0, 1), ("uint8", 0, 255), ("uint8", 0, 16), ("uint16", 0, 65535), ("int16", -300, 300), ("int64", 5, 9)],
)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_every_level_survives_the_way_to_model_units_and_back(
    dtype: str, low: int, high: int, precision: torch.dtype
) -> None:
    contract = bounded(dtype, float(low), float(high), high - low + 1)
    values = torch.arange(low, high + 1)[:, None]
    encoded = contract.encode(values.to(precision))
    assert encoded.dtype == precision
    assert encoded[0].item() == -1
    assert encoded[-1].item() == 1
    array = contract.to_array(encoded)
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, values.numpy().astype(dtype))
    # Half a level less a little, either way, is the same level.
    step = 2 / (high - low)
    np.testing.assert_array_equal(contract.to_array(encoded + 0.4 * step), array)
    np.testing.assert_array_equal(contract.to_array(encoded - 0.4 * step), array)


def test_levels_need_not_be_whole_numbers() -> None:
    contract = bounded("float32", -0.5, 1.0, 4)
    levels = torch.tensor([[-0.5], [0.0], [0.5], [1.0]])
    np.testing.assert_array_equal(contract.to_array(contract.encode(levels)), levels.numpy())
    # In data units 0.24 and 0.26 lie on either side of the middle between two levels.
    between = contract.encode(torch.tensor([[0.24], [0.26]]))
    assert contract.to_array(between).flatten().tolist() == [0.0, 0.5]
    torch.testing.assert_close(contract.decode(between), torch.tensor([[0.24], [0.26]]))


def test_bounded_data_is_clipped_and_unbounded_data_is_not() -> None:
    beyond = torch.tensor([[-9.0], [9.0]])
    assert bounded("float32", -1.0, 3.0, None).decode(beyond).flatten().tolist() == [-1.0, 3.0]
    free = spec(layout=LAYOUTS["vector"], shape=(1,), dtype="float32", transform=Affine((127.5,), (2.0,)), channels=())
    assert free.decode(beyond).flatten().tolist() == [-18 + 127.5, 18 + 127.5]


def test_features_of_a_vector_have_their_own_units() -> None:
    transform = Affine((1.0, -2.0, 1e6), (0.5, 4.0, 10.0))
    contract = spec(layout=LAYOUTS["vector"], shape=(3,), dtype="float32", transform=transform, channels=())
    x = torch.tensor([[1.5, -2.0, 1e6], [0.0, 2.0, 1e6 + 20]])
    assert contract.encode(x).tolist() == [[1, 0, 0], [-2, 1, 2]]
    assert torch.equal(contract.decode(contract.encode(x)), x)
    assert torch.equal(contract.encode(x[0]), contract.encode(x)[0])


def test_wide_integers_keep_their_digits_on_the_way_to_model_units() -> None:
    # 2^40 + {0, 1, 2} are one number in float32.
    base = 2**40
    contract = bounded("int64", float(base), float(base + 2), 3)
    values = torch.tensor([[base], [base + 1], [base + 2]])
    assert contract.encode(values).flatten().tolist() == [-1, 0, 1]
    # Coming back takes float64, as float32 cannot hold the result.
    assert contract.to_array(contract.encode(values).double()).flatten().tolist() == values.flatten().tolist()


def test_unbounded_integers_are_rounded_and_kept_in_their_type() -> None:
    free = Affine((0.0,), (1.0,))
    contract = spec(transform=free, shape=(1, 1, 1), dtype="uint8")
    x = torch.tensor([-7.0, 0.6, 254.6, 300.0]).reshape(4, 1, 1, 1)
    assert contract.to_array(x).flatten().tolist() == [0, 1, 255, 255]
    long = spec(transform=free, shape=(1, 1, 1), dtype="int64")
    top = long.to_array(torch.full((1, 1, 1), 1e30)).item()
    assert 2**63 - 2**11 < top < 2**63


def test_integers_do_not_take_nan() -> None:
    x = torch.zeros(2, 1, 2, 3)
    x[1, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"^decoding to uint8: 1 of 12 values are NaN or infinite.*decode$"):
        spec().to_array(x)
    assert torch.isnan(spec().decode(x)).sum() == 1


def test_a_batch_of_another_shape_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"encode: got shape \(4, 1, 3, 2\), but samples of this data have shape \(1, 2, 3\)"
    ):
        spec().encode(torch.zeros(4, 1, 3, 2))
    with pytest.raises(InputError, match=r"decode: got shape \(3,\)"):
        spec().decode(torch.zeros(3))


@pytest.mark.parametrize(
    "contract",
    [
        spec(),
        spec(class_names=(), class_counts=(), channels=()),
        spec(
            layout=LAYOUTS["signal"],
            channels=(),
            shape=(2, 3),
            dtype="float32",
            transform=Affine((0.0,), (1.0,)),
            axis=Axis((0.1, 1 / 3, 7.0), "wavelength", "µm"),
        ),
        spec(layout=LAYOUTS["vector"], channels=(), shape=(2,), transform=Affine((0.1, 1 / 3), (1e-9, 7.0))),
    ],
)
def test_the_contract_survives_json(contract: DataSpec) -> None:
    assert DataSpec.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("layout", "picture", "'layout' must be one of vector, signal, image, found 'picture'"),
        ("layout", [], "'layout' must be one of vector, signal, image, found \\[\\]"),
        ("shape", [1, 2], "layout image needs a shape of 3 positive whole numbers"),
        ("shape", [1, 2, 0], "layout image needs a shape of 3 positive whole numbers"),
        ("shape", [1, 2.5, 3], "'shape' must be a list of whole numbers"),
        ("shape", 3, "'shape' must be a list of whole numbers, found 3"),
        ("dtype", "complex64", "dtype must be one of bool, uint8"),
        ("channels", ["red", "green"], "channels must be empty or name each"),
        ("second_moment", -1.0, "second_moment must be finite"),
        ("diameter", -0.1, "diameter must be finite"),
        ("diameter", "4", "'diameter' must be a number, found '4'"),
        ("second_moment", "1", "'second_moment' must be a number, found '1'"),
        ("class_names", ["cat"], "class_names and class_counts must have the same length"),
        ("class_counts", [3, 5], "class_counts must add up to count"),
        ("count", None, "'count' must be a whole number, found None"),
        ("transform", None, "'transform' must be an object whose kind is one of affine, columns, found None"),
        ("transform", {"kind": "warp"}, "'transform' must be an object whose kind is one of affine, columns, found "),
        (
            "transform",
            {"kind": ["affine"]},
            "'transform' must be an object whose kind is one of affine, columns, found ",
        ),
        ("axis", 3, "key 'axis' must be a JSON object, found int"),
        ("axis", {"values": [1.0, 2.0, 3.0], "name": "", "unit": ""}, "axis must be null, or give one position"),
    ],
)
def test_a_mistake_in_the_contract_is_named(key: str, value: object, complaint: str) -> None:
    with pytest.raises(InputError, match=rf"^data contract: .*{complaint}") as caught:
        DataSpec.from_dict(spec().to_dict() | {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("low", None, "low and high must both be numbers or both be null"),
        ("low", 255, "low must be below high"),
        ("high", float("inf"), "low and high must be finite"),
        ("levels", True, "'transform.levels' must be a whole number or null, found True"),
        ("levels", 1, "levels must be 2 to"),
        ("shift", [1.0, 2.0], "shift and scale must have one entry"),
        ("shift", [], "shift and scale must have one entry"),
        ("shift", [float("nan")], "shift must be finite"),
        ("scale", [0.0], "scale must be finite and positive"),
        ("scale", [-1.0], "scale must be finite and positive"),
        ("bend", 1.0, "unknown keys transform.bend"),
    ],
)
def test_a_mistake_in_the_transform_is_named(key: str, value: object, complaint: str) -> None:
    data = spec().to_dict()
    with pytest.raises(InputError, match=rf"^data contract: .*{complaint}") as caught:
        DataSpec.from_dict(data | {"transform": data["transform"] | {key: value}})
    assert "\n" not in str(caught.value)


def test_as_many_shifts_as_features_belong_to_vectors_only() -> None:
    pairs = Affine((0.0, 0.0), (1.0, 1.0))
    with pytest.raises(InputError, match="shift and scale must have one entry, or one for each feature of a vector"):
        spec(layout=LAYOUTS["vector"], shape=(3,), channels=(), transform=pairs)
    with pytest.raises(InputError, match="shift and scale must have one entry"):
        spec(shape=(2, 2, 2), channels=(), transform=pairs)


def test_unknown_and_missing_keys_are_named() -> None:
    data = spec().to_dict()
    data["colour"] = data.pop("count")
    with pytest.raises(InputError, match="unknown keys colour and missing keys count"):
        DataSpec.from_dict(data)
    with pytest.raises(InputError, match="expected a JSON object, found list"):
        DataSpec.from_dict([1])


def test_levels_without_bounds_are_refused() -> None:
    data = spec().to_dict()
    with pytest.raises(InputError, match="levels needs low and high"):
        DataSpec.from_dict(data | {"transform": data["transform"] | {"low": None, "high": None}})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (torch.zeros(4, 1, 3, 2), "mine: its samples have shape 1 x 3 x 2, but the model was trained on 1 x 2 x 3"),
        (torch.full((1, 1, 2, 3), torch.nan), "mine: some values are NaN or infinite"),
        (torch.full((1, 1, 2, 3), 256), "mine: values from 256 to 256, but the model was trained on 0 to 255"),
        (torch.full((1, 1, 2, 3), -1), "mine: values from -1 to -1, but the model was trained on 0 to 255"),
        (torch.full((1, 1, 2, 3), 3.5), "mine: values such as 3.5 lie between the 256 levels from 0 to 255"),
    ],
)
def test_data_that_a_model_was_not_trained_on_is_refused(values: torch.Tensor, complaint: str) -> None:
    with pytest.raises(InputError, match=f"^{complaint}") as caught:
        spec().check(values, "mine")
    assert "\n" not in str(caught.value)
    spec().check(torch.arange(6).reshape(1, 1, 2, 3), "mine")


def test_a_radius_holds_all_samples_even_one_far_from_the_others() -> None:
    points = torch.zeros(50, 3, dtype=torch.float64)
    points[0, 1] = 10.0
    contract = spec(
        layout=LAYOUTS["vector"],
        shape=(3,),
        channels=(),
        dtype="float32",
        transform=Affine((0.0,), (1.0,)),
        second_moment=float(points.square().mean()),
        diameter=float(torch.cdist(points, points).max()) / 2,  # as small as a contract may have it
    )
    assert 10 <= contract.radius < 12
