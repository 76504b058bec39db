"""Data sets that Hugging Face's library saved: read without it, and checked against it where it is installed."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from sfumato import data
from sfumato.errors import InputError

pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5), np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def saved(folder, columns, features, parts=1):
    """A folder as ``save_to_disk`` writes it."""
    folder.mkdir(parents=True)
    table = pyarrow.table(columns)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = table.replace_schema_metadata(metadata)
    names = []
    for k, rows in enumerate(np.array_split(np.arange(len(table)), parts)):
        names.append(f"data-{k:05d}-of-{parts:05d}.arrow")
        with (
            pyarrow.OSFile(str(folder / names[-1]), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table.slice(rows[0], len(rows)))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return str(folder)


IMAGES = {"image": [encoded(p) for p in PIXELS], "label": [1, 0, 1, 0]}
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}


@pytest.mark.parametrize("parts", [1, 2])
def test_images_with_classes(tmp_path, parts):
    found = data.load(saved(tmp_path / "set", IMAGES, FEATURES, parts))
    assert np.array_equal(found.values.numpy(), PIXELS[:, None])
    assert found.spec.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 0, 1]
    few = data.load(str(tmp_path / "set"), data.DataOptions(limit=2, size=(3, 3)))
    assert few.spec.shape == (1, 3, 3)
    assert len(few) == 2


def test_the_split_for_training(tmp_path):
    saved(tmp_path / "sets" / "train", IMAGES, FEATURES)
    (tmp_path / "sets" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    found = data.load(str(tmp_path / "sets"))
    assert len(found) == 4
    assert "the split 'train' of train, test is read" in found.notes
    (tmp_path / "sets" / "dataset_dict.json").write_text(json.dumps({"splits": ["a", "b"]}))
    with pytest.raises(InputError, match=r"has no split 'train'; give one of .*a, .*b"):
        data.load(str(tmp_path / "sets"))


def test_a_table(tmp_path):
    columns = {"x": [1.0, 2.0, 3.0, 4.0], "y": [3, 4, 5, 6], "kind": [0, 1, 1, 0]}
    features = {"x": {"_type": "Value"}, "y": {"_type": "Value"}, "kind": {"names": ["b", "a"], "_type": "ClassLabel"}}
    found = data.load(saved(tmp_path / "set", columns, features))
    assert found.values.tolist() == [[1, 3], [2, 4], [3, 5], [4, 6]]
    assert found.spec.channels == ("x", "y")
    assert [found.spec.class_names[i] for i in found.labels] == ["b", "a", "a", "b"]


def test_lists_are_vectors_or_signals(tmp_path):
    columns = {"spectrum": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]] * 2, "kind": [0, 1, 1, 0]}
    path = saved(tmp_path / "set", columns, {"kind": {"names": ["b", "a"], "_type": "ClassLabel"}})
    found = data.load(path)
    assert (found.spec.layout.name, found.values.tolist()[:2]) == ("vector", [[1, 2, 3], [4, 5, 6.5]])
    assert [found.spec.class_names[i] for i in found.labels] == ["b", "a", "a", "b"]
    assert data.load(path, data.DataOptions(layout="signal")).spec.shape == (1, 3)


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({**IMAGES, "image": [{"bytes": None, "path": "a.png"}] * 4}, FEATURES, "has no content, only the path"),
        ({**IMAGES, "other": IMAGES["image"]}, {**FEATURES, "other": {"_type": "Image"}}, "has 2 columns of images"),
        ({"x": [[1.0], [2.0, 3.0]]}, {"x": {"_type": "List"}}, "has lists of several lengths"),
        ({"x": [[1.0, 2.0], [2.0, None]]}, {"x": {"_type": "List"}}, "NaN or infinite"),
        ({"x": [[1.0], [2.0]], "y": [[1.0], [2.0]]}, {}, "holds list"),
    ],
)
def test_faults_are_named(tmp_path, columns, features, message):
    with pytest.raises(InputError, match=message):
        data.load(saved(tmp_path / "set", columns, features))


def test_damaged_files(tmp_path):
    path = saved(tmp_path / "set", IMAGES, FEATURES)
    with pytest.raises(InputError, match=r"data.labels: .* has no column 'kind'; it has image, label"):
        data.load(path, data.DataOptions(labels="kind"))
    (tmp_path / "set" / "data-00000-of-00001.arrow").write_bytes(b"half")
    with pytest.raises(InputError, match="cannot be read as a saved data set"):
        data.load(path)
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(InputError, match=r"state\.json lists no files"):
        data.load(path)
