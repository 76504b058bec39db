import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import Affine, DataOptions, Dataset, load
from sfumato.errors import InputError

RNG = np.random.default_rng(0)


def read(values: np.ndarray, folder: Path, **options: Any) -> Dataset:
    np.save(folder / "a.npy", values)
    return load(str(folder / "a.npy"), DataOptions(**options))


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(str(path), DataOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("shape", "asked", "layout", "read_as"),
    [
        ((9,), "auto", "vector", (9, 1)),
        ((9, 5), "auto", "vector", (9, 5)),
        ((9, 5), "signal", "signal", (9, 1, 5)),
        ((9, 2, 5), "auto", "signal", (9, 2, 5)),
        ((9, 4, 5), "auto", "signal", (9, 4, 5)),
        ((9, 3, 4), "auto", "signal", (9, 3, 4)),
        ((9, 5, 4), "auto", "signal", (9, 4, 5)),
        ((9, 5, 1), "auto", "signal", (9, 1, 5)),
        ((9, 5, 6), "auto", "image", (9, 1, 5, 6)),
        ((9, 5, 6), "signal", "signal", (9, 5, 6)),
        ((9, 7, 6), "signal", "signal", (9, 6, 7)),
        ((9, 2, 6), "image", "image", (9, 1, 2, 6)),
        ((9, 5, 6), "vector", "vector", (9, 30)),
        ((9, 3, 5, 6), "auto", "image", (9, 3, 5, 6)),
        ((9, 5, 6, 3), "auto", "image", (9, 3, 5, 6)),
        ((9, 3, 6, 3), "auto", "image", (9, 3, 6, 3)),
        ((9, 5, 6, 7), "auto", "image", (9, 5, 6, 7)),
        ((9, 5, 6, 3), "vector", "vector", (9, 90)),
        ((9, 2, 2, 2, 2), "auto", "vector", (9, 16)),
        ((9, 7, 7, 5), "auto", "image", (9, 5, 7, 7)),
        ((9, 5, 5, 7), "auto", "image", (9, 7, 5, 5)),
        ((9, 3, 3, 8), "auto", "image", (9, 8, 3, 3)),
        ((9, 5, 7, 7), "auto", "image", (9, 5, 7, 7)),
        ((9, 8, 6, 5), "auto", "image", (9, 5, 8, 6)),
        ((9, 7, 7, 7), "auto", "image", (9, 7, 7, 7)),
        ((9, 1, 1, 8), "auto", "image", (9, 1, 1, 8)),
    ],
)
def test_the_rank_gives_the_layout(
    shape: tuple[int, ...], asked: str, layout: str, read_as: tuple[int, ...], tmp_path: Path
) -> None:
    values = RNG.normal(size=shape).astype(np.float32)
    data = read(values, tmp_path, layout=asked)
    assert data.spec.layout.name == layout
    assert data.values.shape == read_as
    assert data.spec.shape == read_as[1:]
    moved = {(9, 5, 4): (0, 2, 1), (9, 5, 1): (0, 2, 1), (9, 7, 6): (0, 2, 1), (9, 5, 6, 3): (0, 3, 1, 2)}
    moved |= dict.fromkeys([(9, 7, 7, 5), (9, 5, 5, 7), (9, 3, 3, 8), (9, 8, 6, 5)], (0, 3, 1, 2))
    order = moved.get(shape, range(len(shape))) if layout != "vector" else range(len(shape))
    np.testing.assert_array_equal(data.values.numpy().ravel(), values.transpose(*order).ravel())
    assert f"the array of shape {shape} is read as {layout}s of shape {read_as[1:]}" in data.notes[0]
    assert ("reads it differently" in data.notes[0]) == (asked == "auto" and len(shape) in {2, 3, 4})


@pytest.mark.parametrize("asked", ["first", "last"])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((9, 5, 6, 3), "auto"), ((9, 3, 6, 5), "image"), ((9, 7, 7, 7), "auto"), ((9, 2, 5), "auto"), ((9, 8, 9), "auto")],
)
def test_the_axis_of_channels_can_be_chosen(shape: tuple[int, ...], layout: str, asked: str, tmp_path: Path) -> None:
    values = RNG.normal(size=shape).astype(np.float32)
    data = read(values, tmp_path, layout=layout, channels=asked)
    expected = np.stack([values[..., c] for c in range(shape[-1])], 1) if asked == "last" else values
    np.testing.assert_array_equal(data.values.numpy(), expected)
    assert data.spec.layout.name == ("image" if len(shape) == 4 else "signal")
    assert f"channels {asked}" in data.notes[0]
    assert "for the other way" not in data.notes[0]


def test_the_note_says_which_axis_was_taken_for_channels(tmp_path: Path) -> None:
    note = read(RNG.normal(size=(20, 16, 16, 13)).astype(np.float32), tmp_path).notes[0]
    assert "read as images of shape (13, 16, 16), channels last (data.channels=first for the other way)" in note
    assert "channels" not in read(RNG.normal(size=(20, 6, 7)).astype(np.float32), tmp_path).notes[0]


@pytest.mark.parametrize(("shape", "layout"), [((9, 5), "auto"), ((9, 5), "signal"), ((9, 5, 6), "image")])
def test_channels_are_refused_where_there_are_none(shape: tuple[int, ...], layout: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape))
    assert "s without channels; leave it out" in refused(tmp_path / "a.npy", layout=layout, channels="last")


@pytest.mark.parametrize(("shape", "layout"), [((9,), "signal"), ((9, 5), "image"), ((9, 2, 3, 4), "signal")])
def test_a_layout_of_another_rank_is_refused(shape: tuple[int, ...], layout: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape))
    message = refused(tmp_path / "a.npy", layout=layout)
    assert message.startswith(f"data.layout: '{tmp_path / 'a.npy'}' of shape {shape} cannot be read as {layout}s; give")


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f4", ">f8", "int8", ">i2", "uint16", "uint32", "uint64", "int64"]
)
def test_any_type_of_number_is_read_exactly(dtype: str, tmp_path: Path) -> None:
    values = RNG.integers(0, 100, (20, 3)).astype(dtype)
    data = read(values, tmp_path)
    np.testing.assert_array_equal(data.values.numpy(), values)
    real = values.dtype.kind == "f"
    assert data.spec.dtype == ("float32" if real else values.dtype.name)
    assert (data.values.dtype == torch.float32) == real
    assert data.spec.transform.low is None
    assert any(note.startswith("integers are read as continuous values") for note in data.notes) == (not real)
    table = values.astype(np.float64)
    np.testing.assert_allclose(data.spec.transform.shift, table.mean(0), rtol=1e-12)
    np.testing.assert_allclose(data.spec.transform.scale, table.std(0), rtol=1e-12)
    # float32 rounds thrice on the way, of values below 100.
    back = data.spec.to_array(data.spec.encode(data.values))
    assert back.dtype == data.spec.dtype
    np.testing.assert_allclose(back, values.astype(data.spec.dtype), rtol=0, atol=3 * 100 * 2**-24 if real else 0)


def test_the_order_of_storage_does_not_matter(tmp_path: Path) -> None:
    values = RNG.normal(size=(20, 3)).astype(np.float32)
    plain, fortran = read(values, tmp_path), read(np.asfortranarray(values), tmp_path)
    assert torch.equal(plain.values, fortran.values)
    # Sums run in another order, so the last digits of the scaling may differ; the data may not.
    assert plain.spec.fingerprint == fortran.spec.fingerprint
    np.testing.assert_allclose(plain.spec.transform.scale, fortran.spec.transform.scale, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_whole_numbers_of_images_are_bounded_by_their_type(dtype: str, top: int, tmp_path: Path) -> None:
    values = RNG.integers(0, top, (5, 6, 7, 3)).astype(dtype)
    spec = read(values, tmp_path).spec
    assert (spec.transform.low, spec.transform.high, spec.transform.levels) == (0.0, float(top), top + 1)
    assert spec.channels == ("red", "green", "blue")
    in_model_units = values.astype(np.float64) * 2 / top - 1
    assert spec.second_moment == pytest.approx((in_model_units**2).mean(), rel=1e-12)
    assert read(values[..., :1], tmp_path).spec.channels == ("gray",)
    assert read(values[..., :2], tmp_path).spec.channels == ()
    assert read(values, tmp_path, layout="vector").spec.transform.low is None
    assert read(values.astype(np.int32), tmp_path).spec.transform.low is None


def test_booleans_have_two_levels_in_any_layout(tmp_path: Path) -> None:
    values = RNG.random((20, 3)) < 0.5
    data = read(values, tmp_path)
    assert (data.spec.transform, data.spec.dtype) == (Affine((0.5,), (0.5,), 0.0, 1.0, 2), "bool")
    np.testing.assert_array_equal(data.spec.to_array(data.spec.encode(data.values)), values)


def test_nan_and_infinity_are_counted(tmp_path: Path) -> None:
    values = np.ones((6, 4))
    values[2, 1] = np.nan
    values[2, 3] = values[5, 0] = np.inf
    np.save(tmp_path / "a.npy", values)
    assert refused(tmp_path / "a.npy") == (
        f"data: 3 values in 2 of 6 samples in '{tmp_path / 'a.npy'}' are NaN or infinite (the first is nan in "
        "sample 2, counted from 0); remove those samples or fill the gaps, and save the array again"
    )


def test_the_first_bad_sample_is_found_beyond_the_first_piece(tmp_path: Path) -> None:
    values = np.zeros((3 * 2**20, 1), dtype=np.float32)
    values[2**20 + 17] = values[2**21 + 5] = np.inf
    np.save(tmp_path / "a.npy", values)
    assert "2 values in 2 of 3145728 samples" in refused(tmp_path / "a.npy")
    assert f"inf in sample {2**20 + 17}," in refused(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (4, 0)])
def test_an_array_without_samples_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape))
    assert f"has no samples: its shape is {shape}" in refused(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.ones((3, 2), dtype=complex), "is complex; save the real and imaginary parts as two channels"),
        (np.array([["a", "b"]]), "has type <U1; save an array of real numbers"),
        (np.array([b"ab"]), r"has type |S2"),
        (np.zeros(3, dtype=[("x", float)]), "has type "),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "has type datetime64[D]"),
    ],
)
def test_what_is_not_a_number_is_refused(values: np.ndarray, complaint: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    assert complaint in refused(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", x=values)
    assert complaint in refused(tmp_path / "a.npz", key="x")


class Trap:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    values = np.array([Trap(trace), 1], dtype=object)
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=values, y=values)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Trap(trace)))
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Trap(trace)))
    complaint = "holds Python objects, and pickles are never read; save an array of numbers"
    assert complaint in refused(tmp_path / "a.npy")
    assert complaint in refused(tmp_path / "a.npz", key="x")
    assert "cannot be read" in refused(tmp_path / "p.npy")
    assert "cannot be read" in refused(tmp_path / "p.npz")
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3)), y=values)
    assert load(str(tmp_path / "b.npz")).labels is None
    assert not trace.exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert trace.exists()  # the trap does work


def header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


GIANT = header("(1000000000000, 100)")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"1,2,3\n4,5,6\n",
        header("(2, 3)") + bytes(23),
        header("(2, 3)") + bytes(25),
        GIANT + bytes(24),
        header("(-2, -3)") + bytes(24),
        header("(2, 'x')"),
        header("__import__('os').abort()"),
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x09\x00" + header("(2, 3)")[8:] + bytes(24),
        header("(2, 3)", dtype="nonsense") + bytes(24),
    ],
)
def test_damaged_and_foreign_files_take_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    message = refused(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in message
    assert "save it again" in message
    (tmp_path / "a.npz").write_bytes(content)
    assert "save it again" in refused(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    assert "save it again" in refused(tmp_path / "b.npz")


def test_a_cut_or_altered_archive_takes_one_line(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=RNG.normal(size=(50, 3)))
    whole = (tmp_path / "a.npz").read_bytes()
    for cut in (10, 100, len(whole) - 5):
        (tmp_path / "b.npz").write_bytes(whole[:cut])
        assert "cannot be read" in refused(tmp_path / "b.npz")
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 0x55
    (tmp_path / "b.npz").write_bytes(bytes(altered))
    assert "save it again" in refused(tmp_path / "b.npz")


def test_a_size_that_no_compression_gives_is_not_allocated(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header("(1000, 1000000)") + bytes(24))
    # The central directory's word for the size, raised to what the header claims.
    content = (tmp_path / "a.npz").read_bytes()
    true, claimed = struct.pack("<I", 128 + 24), struct.pack("<I", 128 + 4 * 10**9)
    (tmp_path / "a.npz").write_bytes(content.replace(true, claimed))
    assert "claims more than" in refused(tmp_path / "a.npz")


def test_zeros_that_compress_well_are_read(tmp_path: Path) -> None:
    values = np.zeros((1000, 1000), dtype=np.uint8)
    values[0, 0] = 1
    np.savez_compressed(tmp_path / "a.npz", values)
    assert load(str(tmp_path / "a.npz")).values.sum() == 1


@pytest.mark.parametrize("key", ["x", "X", "data", "images", "samples", "arr_0"])
def test_the_usual_keys_are_found(key: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"other": np.zeros((3, 3)), "aaa": np.zeros((4, 2)), key: np.ones((5, 2))})
    assert len(load(str(tmp_path / "a.npz")).values) == 5
    assert len(load(str(tmp_path / "a.npz"), DataOptions(key="aaa")).values) == 4


def test_the_only_table_is_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", grid=np.arange(7), spectra=np.ones((5, 7)), name=np.array([["a"], ["b"]]))
    assert load(str(tmp_path / "a.npz")).values.shape == (5, 7)


def test_an_unclear_archive_is_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=np.ones((5, 7), np.uint8), test=np.ones((2, 7)))
    listed = "train uint8 (5, 7), test float64 (2, 7)"
    message = refused(tmp_path / "a.npz")
    assert message.endswith(f"has several arrays that could be the samples; set data.key to one of: {listed}")
    assert refused(tmp_path / "a.npz", key="trian").endswith(f"has no array 'trian'; it has {listed}")
    assert refused(tmp_path / "a.npz", key="train", labels="z").endswith(f"has no array 'z'; it has {listed}")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "has no arrays of numbers: it holds no arrays; save one with" in refused(tmp_path / "b.npz")


@pytest.mark.parametrize("key", ["y", "labels", "label", "target"])
@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        (np.array([3, 1, 3, 7, 1, 3]), ("1", "3", "7"), [1, 0, 1, 2, 0, 1]),
        (np.array([[3], [1], [3], [7], [1], [3]], np.uint8), ("1", "3", "7"), [1, 0, 1, 2, 0, 1]),
        (np.array(["no", "yes", "no", "no", "ß", "no"]), ("no", "yes", "ß"), [0, 1, 0, 0, 2, 0]),
        (np.array([True, False, True, True, True, True]), ("False", "True"), [1, 0, 1, 1, 1, 1]),
        (np.array([-1.0, 2.0, 2.0, 2.0, 2.0, -1.0]), ("-1", "2"), [0, 1, 1, 1, 1, 0]),
    ],
)
def test_labels_are_classes_by_name(
    key: str, labels: np.ndarray, names: tuple[str, ...], indices: list[int], tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **{"x": np.ones((6, 2)), key: labels, "other": labels})
    for option in (None, key, "other"):
        data = load(str(tmp_path / "a.npz"), DataOptions(labels=option))
        assert data.labels is not None
        assert data.labels.tolist() == indices
        assert data.spec.class_names == names
        assert data.spec.class_counts == tuple(np.bincount(indices).tolist())
        assert (f"labels come from the array '{key}'" in data.notes) == (option is None)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.ones(5), "has shape (5,) for 6 samples"),
        (np.ones((6, 2)), "has shape (6, 2) for 6 samples"),
        (np.array([0.5, 1, 1, 1, 1, 1]), "holds numbers that are not whole"),
        (np.array([np.nan, 1, 1, 1, 1, 1]), "holds numbers that are not whole"),
        (np.ones(6, complex), "is damaged or of type complex128"),
    ],
)
def test_what_cannot_be_labels_is_passed_over_or_refused(labels: np.ndarray, problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((6, 2)), y=labels)
    data = load(str(tmp_path / "a.npz"))
    assert data.labels is None
    assert any(note.startswith(f"the array 'y' {problem}") for note in data.notes)
    assert f"array 'y' {problem}" in refused(tmp_path / "a.npz", labels="y")


def test_a_different_value_for_each_sample_is_no_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((6, 2)), y=np.arange(6), label=np.array([0, 0, 1, 1, 1, 1]))
    data = load(str(tmp_path / "a.npz"))
    assert data.spec.class_counts == (2, 4)
    assert "the array 'y' has 6 different values in 6 samples, so it is not used as labels" in data.notes
    assert len(load(str(tmp_path / "a.npz"), DataOptions(labels="y")).spec.class_names) == 6


def test_keys_do_not_apply_to_a_file_of_one_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    assert "holds one array without a name; leave them out, or give an .npz" in refused(tmp_path / "a.npy", key="x")
    assert "which is a file of arrays; leave it out" in refused(tmp_path / "a.npy", size=(2, 2))


def test_the_reader_agrees_with_numpy_on_its_own_archives(tmp_path: Path) -> None:
    stream = io.BytesIO()
    values = RNG.normal(size=(4, 3, 8, 8))
    np.savez(stream, data=values.astype(">f8"))
    (tmp_path / "A.NPZ").write_bytes(stream.getvalue())
    np.testing.assert_array_equal(load(str(tmp_path / "A.NPZ")).values.numpy(), values.astype(np.float32))


def test_an_archive_without_arrays_is_told_how_to_get_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    message = refused(tmp_path / "a.npz")
    assert "has no arrays of numbers: it holds no arrays; save one with numpy.savez" in message
    assert "data.key" not in message
    np.savez(tmp_path / "a.npz", names=np.array(["a", "b"]))
    assert "has no arrays of numbers: it holds names <U1 (2,)" in refused(tmp_path / "a.npz")


def test_the_chosen_array_is_named_where_another_could_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, data=np.zeros((5, 3)), images=np.ones((5, 8, 8)), y=np.arange(5) % 2)
    found = load(str(path))
    assert found.values.shape == (5, 3)
    assert "the samples are the array 'data'; data.key=images reads another" in found.notes
    named = load(str(path), DataOptions(key="images"))
    assert named.values.shape == (5, 1, 8, 8)
    assert not any("reads another" in note for note in named.notes)
