"""Classes of images in a table beside them."""

import numpy as np
import pytest
from PIL import Image

from sfumato import data
from sfumato.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(("a.png", "b.png", "sub/c.png", "sub/d.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * k, np.uint8)).save(tmp_path / name)
    return tmp_path


def load(folder, text, name="labels.csv", **options):
    (folder / name).write_text(text)
    return data.load(str(folder), data.DataOptions(**options))


@pytest.mark.parametrize(
    "text",
    [
        "a.png,cat\nsub/d.jpg,dog\nb.png,dog\nsub/c.png,cat\n",
        "file;class\n./a.png;cat\nsub\\d.jpg;dog\n\nb;dog\nsub/c;cat\n",
        "\ufefffile\tclass\na\tcat\nsub/d\tdog\nb\tdog\nsub/c\tcat\n",
    ],
)
def test_files_have_their_classes(folder, text):
    found = load(folder, text)
    assert found.spec.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 0, 1]  # a, b, sub/c, sub/d
    assert "labels come from labels.csv" in found.notes
    assert not any("ignored" in note for note in found.notes)


def test_a_table_of_another_name_and_numbers_in_order(folder):
    found = load(folder, "a,10\nb,9\nsub/c,10\nsub/d,9\n", "kinds.csv", labels="kinds.csv")
    assert found.spec.class_names == ("9", "10")
    assert found.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,x\nb,y\nsub/c,x\n", r"has no class for 1 of 4 images, the first is 'sub/d.jpg'"),
        ("a,x\nb,y\nsub/c,x\nsub/d,y\ne.png,x\n", r"line 5: no image is called 'e.png'"),
        ("a,x\nb,y\nsub/c,x\nsub/d,y\na.png,y\n", r"line 5: 'a.png' has a class already"),
        ("a,x\nb,\nsub/c,x\nsub/d,y\n", "line 2: 'b' has no class"),
        ("a,x,1\n", "line 1 has 3 cells; give two"),
        ("", "is empty"),
    ],
)
def test_labels_that_do_not_match(folder, text, message):
    with pytest.raises(InputError, match=message):
        load(folder, text)


def test_a_table_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"data.labels: .*kinds.csv' is no file"):
        data.load(str(folder), data.DataOptions(labels="kinds.csv"))
