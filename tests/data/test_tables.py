"""Tables and idx files: what is read, what is refused and where, and samples that come back in the same format."""

import gzip
import struct

import numpy as np
import pytest

from sfumato import data
from sfumato.cli.main import main
from sfumato.errors import InputError
from sfumato.runs.drawing import columns


def table(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def rows(*lines):
    return "\n".join(lines) + "\n"


FLOWERS = rows("length,width,species", "1.5,2,b", "2.5,1,a", "0.5,4,b", "3,1,a")


def test_columns_have_names_and_a_column_of_text_is_the_class(tmp_path):
    found = data.load(table(tmp_path, FLOWERS))
    assert found.spec.channels == ("length", "width")
    assert found.spec.class_names == ("a", "b")
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.values.tolist() == [[1.5, 2], [2.5, 1], [0.5, 4], [3, 1]]
    assert any("column 'species'" in note for note in found.notes)


def test_a_column_of_numbers_is_the_class_if_it_is_named(tmp_path):
    path = table(tmp_path, rows("x,y,class", "1,2,10", "2,1,9", "3,3,10", "5,1,9"))
    assert data.load(path).spec.shape == (3,)
    found = data.load(path, data.DataOptions(labels="class"))
    assert found.spec.shape == (2,)
    assert found.spec.class_names == ("9", "10")  # by value, not by spelling
    assert found.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", rows("1;2,5", "3;4,5")),  # a comma is the decimal point here
        ("a.tsv", rows("1\t2.5", "3\t4.5")),
        ("a.csv", "\ufeff" + rows("x, y", "1, 2.5", "", "3, 4.5")),
        ("a.csv", rows('"x","y"', '"1","2.5"', '"3","4.5"').replace("\n", "\r\n")),
        ("a.csv", rows(",x,y", "0,1,2.5", "1,3,4.5")),  # as pandas writes it
    ],
)
def test_dialects_agree(tmp_path, name, text):
    found = data.load(table(tmp_path, text, name))
    assert found.values.tolist() == [[1, 2.5], [3, 4.5]]


@pytest.mark.parametrize("spelling", ["{} nm", "{}nm", "{} [nm]", "{} (nm)"])
def test_positions_with_a_unit_are_an_axis(tmp_path, spelling):
    names = [spelling.format(400 + 10 * i) for i in range(8)]
    path = table(tmp_path, rows(",".join(names), ",".join("12345678"), ",".join("23456789")))
    spec = data.load(path).spec
    assert (spec.layout.name, spec.axis.unit, spec.axis.values[:2]) == ("signal", "nm", (400.0, 410.0))
    assert columns(spec)[:2] == ["400 nm", "410 nm"]
    vectors = data.load(path, data.DataOptions(layout="vector")).spec
    assert (vectors.layout.name, vectors.channels) == ("vector", tuple(names))


def test_positions_with_a_unit_must_be_in_order(tmp_path):
    names = [f"{x} nm" for x in (400, 410, 420, 430, 425, 440, 450, 460)]
    path = table(tmp_path, rows(",".join(names), ",".join("12345678"), ",".join("23456789")))
    with pytest.raises(InputError, match="first row are not strictly increasing or strictly decreasing"):
        data.load(path)
    assert data.load(path, data.DataOptions(layout="vector")).spec.shape == (8,)


@pytest.mark.parametrize(
    "names", [[f"{i} cm" for i in range(4)], ["1 nm", "2 nm", "3 m", *(f"{i} nm" for i in range(4, 9))]]
)
def test_other_names_are_names(tmp_path, names):
    path = table(
        tmp_path, rows(",".join(names), ",".join("123456789"[: len(names)]), ",".join("234567891"[: len(names)]))
    )
    assert data.load(path).spec.channels == tuple(names)


def test_a_first_row_of_positions_is_an_axis(tmp_path):
    spectra = np.random.default_rng(0).random((5, 9)).round(4)
    axis = np.arange(400, 490, 10)
    lines = [",".join([*map(str, axis), "paint"]), *(",".join([*map(str, row), "red"]) for row in spectra)]
    found = data.load(table(tmp_path, rows(*lines)))
    assert found.spec.layout.name == "signal"
    assert found.spec.axis.values == tuple(axis)
    assert np.allclose(found.values[:, 0], spectra)
    assert found.spec.class_names == ("red",)
    flat = data.load(table(tmp_path, rows(*lines)), data.DataOptions(layout="vector"))
    assert flat.spec.channels == tuple(map(str, axis))


def test_a_column_of_positions_is_an_axis(tmp_path):
    lines = ["wavelength [nm],a,b", *(f"{400 + 10 * i},{i},{2 * i + 1}" for i in range(4))]
    found = data.load(table(tmp_path, rows(*lines)), data.DataOptions(axis="wavelength [nm]"))
    assert (found.spec.axis.name, found.spec.axis.unit) == ("wavelength", "nm")
    assert found.values[:, 0].tolist() == [[0, 1, 2, 3], [1, 3, 5, 7]]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (rows("a,b", "1,2", "3"), {}, ["line 3 has 1 cells, but the first has 2"]),
        (rows("a,b", "1,", "3,"), {}, ["column 'b'", "empty in all 2 rows"]),
        (rows("a,b", "1,2", "3,"), {"low": 0.0, "high": 9.0}, ["line 3, column 'b'", "empty", "fill the gap"]),
        (rows("a,b", "1,2", "3,inf"), {}, ["line 3, column 'b'", "inf"]),
        (rows("a,b", "1,x", "3,4"), {}, ["line 2, column 'b': 'x' is not a number", "repair it"]),
        (rows("a,b", "p,x", "q,y"), {}, ["no columns of numbers or categories"]),
        (rows("a,a", "1,2", "3,4"), {}, ["two columns 'a'"]),
        (rows("a,b", "1,", "3,4"), {"columns": {"b": "integer"}}, ["data.columns: 'b' cannot be 'integer'"]),
        (rows("a,b", "1,", "3,4"), {"columns": {"c": "whole"}}, ["data.columns", "no column 'c'; it has a, b"]),
        (rows("a,b", "1,x", "3,y"), {"columns": {"b": "whole"}}, ["column 'b'", "has text", "category"]),
        (rows("a,b", "1,x", "3,y"), {"columns": {"b": "ordinal x<z"}}, ["the value 'y'", "lacks"]),
        (rows("a,b", "1,5", "3,y"), {"columns": {"b": "date"}}, ["'y' is no date"]),
        (rows("a,b", "1,5", "3,9"), {"columns": {"b": "whole 0..8"}}, ["from 5 to 9 are not within 0..8"]),
        (rows("a,b", "1,", ",9"), {"missing": "drop"}, ["every row has a gap"]),
        (rows("a,b", "1,2", "3,4"), {"labels": "c"}, ["data.labels", "has no column 'c'; it has a, b"]),
        (rows("a,b", "1,2", "3,4"), {"labels": "b"}, ["2 different values in 2 rows"]),
        (rows("a,b", "1,2", "1,4"), {"axis": "a"}, ["column 'a' is not strictly increasing"]),
        (rows("a,b"), {}, ["has no rows"]),
        ("", {}, ["is empty"]),
        (b"a,b\n1,\xff\n", {}, ["UTF-8"]),
        (FLOWERS, {"key": "x"}, ["data.key: does not apply", "a table"]),
    ],
)
def test_bad_tables_are_one_line(tmp_path, text, options, words):
    with pytest.raises(InputError) as caught:
        data.load(table(tmp_path, text), data.DataOptions(**options))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def idx(values):
    kind = {"uint8": 0x08, "float32": 0x0D}[values.dtype.name]
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_bring_their_labels(tmp_path, packed):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    labels = np.array([3, 1, 3, 1, 1, 3], np.uint8)
    ending, pack = (".gz", gzip.compress) if packed else ("", bytes)
    path = table(tmp_path, pack(idx(images)), f"train-images-idx3-ubyte{ending}")
    table(tmp_path, pack(idx(labels)), f"train-labels-idx1-ubyte{ending}")
    table(tmp_path, pack(idx(labels[:2])), f"t10k-labels-idx1-ubyte{ending}")
    found = data.load(path)
    assert found.spec.shape == (1, 4, 5)
    assert found.spec.bounds == (0, 255)
    assert np.array_equal(found.values[:, 0], images)
    assert found.spec.class_names == ("1", "3")
    assert found.labels.tolist() == [1, 0, 1, 0, 0, 1]


def test_big_endian_numbers_are_read(tmp_path):
    values = np.array([[1.5, -2.0], [3.0, 0.25]], np.float32)
    assert data.load(table(tmp_path, idx(values), "x.idx")).values.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx(np.zeros((3, 2, 2), np.uint8))[:-1], "cut short or damaged: its header claims 3 x 2 x 2"),
        (idx(np.zeros((3, 2, 2), np.uint8))[:9], "cut short"),
        (b"\x1f\x8b" + b"0" * 30, "cannot be unpacked"),
        (b"nothing like it", "does not begin as an idx file"),
        (idx(np.zeros(3, np.uint8)), "give the file of images"),
    ],
)
def test_bad_idx_files_are_one_line(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        data.load(table(tmp_path, content, "x-images-idx3-ubyte"))


def test_labels_that_do_not_match_are_refused(tmp_path):
    path = table(tmp_path, idx(np.zeros((3, 2, 2), np.uint8)), "x-images-idx3-ubyte")
    table(tmp_path, idx(np.zeros(2, np.uint8)), "x-labels-idx1-ubyte")
    with pytest.raises(InputError, match="2"):
        data.load(path)


def test_a_table_comes_back_as_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sfumato.runs.training.write_report", lambda folder, **_: folder.report)
    points = np.random.default_rng(0).standard_normal((60, 2)).round(3)
    table(tmp_path, rows("height,weight", *(f"{a},{b}" for a, b in points)))
    small = ["network.width=8", "training.batch=16"]
    assert main(["train", "t.csv", *small, "--steps", "2", "--out", "run", "--threads", "1"]) == 0
    assert main(["sample", "run", "-n", "5"]) == 0
    (written,) = (tmp_path / "run" / "samples").glob("*.csv")
    again = data.load(str(written))
    assert again.spec.channels == ("height", "weight")
    with np.load(written.with_suffix(".npz")) as arrays:
        assert np.allclose(again.values, arrays["samples"], rtol=1e-6)
    assert main(["sample", "run", "-n", "5", "--out", "x.tsv"]) == 0
    assert np.allclose(data.load("x.tsv").values, again.values)


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_idx_files_is_its_training_part(tmp_path, packed):
    pack, ending = (gzip.compress, ".gz") if packed else (bytes, "")
    images = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
    for start, values in (("t10k", images[:4]), ("train", images)):
        table(tmp_path, pack(idx(values)), f"{start}-images-idx3-ubyte{ending}")
        table(tmp_path, pack(idx(np.arange(len(values), dtype=np.uint8) % 3)), f"{start}-labels-idx1-ubyte{ending}")
    found = data.load(str(tmp_path))
    assert found.values[:, 0].tolist() == images.tolist()
    assert found.spec.class_counts == (4, 4, 4)
    assert found.spec.source == tmp_path.name
    assert f"'train-images-idx3-ubyte{ending}'" in found.notes[0]
    table(tmp_path, pack(idx(images)), f"train-images-idx3-ubyte{'' if packed else '.gz'}")  # the same once more
    assert data.load(str(tmp_path)).spec == found.spec
    table(tmp_path, pack(idx(images)), f"extra-images-idx3-ubyte{ending}")
    with pytest.raises(InputError, match=r"has 2 idx files of images; give one of them: .*extra-images"):
        data.load(str(tmp_path))
