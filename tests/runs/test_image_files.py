"""Samples as a folder of images: read again, they are the same data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.data import DataOptions, load
from sfumato.errors import InputError
from sfumato.runs.image_files import require_images, require_new, write_images

SMALL = ["network.kind=mlp", "network.width=8", "network.depth=1", "base=none", "sampling.steps=2"]


def source(folder: Path, dtype: type, channels: int, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """A folder of images of two classes, written by hand."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels] if dtype is np.uint8 else "I;16"
    for i in range(12):
        home = folder / classes[i % 2]
        home.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, np.iinfo(dtype).max, (5, 7, channels)).astype(dtype)
        Image.frombytes(mode, (7, 5), pixels.tobytes()).save(home / f"{i}.png")
    return folder


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint8, 4), (np.uint16, 1)])
def test_what_is_written_is_read_as_the_same_data(tmp_path: Path, dtype: type, channels: int) -> None:
    there = load(str(source(tmp_path / "in", dtype, channels)))
    assert there.labels is not None
    names = [there.spec.class_names[i] for i in there.labels.tolist()]
    values = there.spec.to_array(there.spec.encode(there.values))
    assert write_images(tmp_path / "out", values, names, there.spec) == [tmp_path / "out"]
    again = load(str(tmp_path / "out"))
    assert (again.spec.class_names, again.spec.dtype) == (there.spec.class_names, there.spec.dtype)
    assert torch.equal(again.values, there.values)
    assert again.labels is not None
    assert torch.equal(again.labels, there.labels)
    assert not list(tmp_path.glob(".writing*"))


def test_the_command_makes_a_folder_per_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = source(tmp_path / "in", np.uint8, 3)
    model = kinds.fresh(recipes.read("flow", SMALL), load(str(data)).spec)
    model.save_pretrained(tmp_path / "model")
    words = ["sample", str(tmp_path / "model"), "--device", "cpu", "--per-class", "2", "--out"]
    assert main([*words, str(tmp_path / "made"), "--class", "dog", "--class", "cat"]) == 0
    assert [p.relative_to(tmp_path / "made").as_posix() for p in sorted((tmp_path / "made").rglob("*.png"))] == [
        "cat/2.png",
        "cat/3.png",
        "dog/0.png",
        "dog/1.png",
    ]
    assert main([*words, str(tmp_path / "again.npz"), "--class", "dog", "--class", "cat"]) == 0
    with np.load(tmp_path / "again.npz") as file:
        pixels = np.asarray(Image.open(tmp_path / "made" / "cat" / "2.png"))
        assert np.array_equal(np.moveaxis(pixels, -1, 0), file["samples"][2])
    capsys.readouterr()
    assert main([*words, str(tmp_path / "made"), "--class", "dog"]) == 2
    assert "made: exists; give the name of a new folder" in capsys.readouterr().err


def test_names_that_are_no_names_of_folders_get_numbers(tmp_path: Path) -> None:
    spec = load(str(source(tmp_path / "in", np.uint8, 1))).spec
    write_images(tmp_path / "out", np.zeros((4, 1, 5, 7), np.uint8), ["a/b", "..", "a:b", "a/b"], spec)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0_a_b", "1_", "2_a_b"]
    assert len(list((tmp_path / "out" / "0_a_b").iterdir())) == 2


def test_other_samples_do_not_fit_into_images(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 4, 4, 3)).astype(np.float32))
    with pytest.raises(InputError, match="not for float32 images of 4 x 4 pixels"):
        require_images("--out", tmp_path / "new", load(str(tmp_path / "x.npy")).spec)
    with pytest.raises(InputError, match="a folder is for images that PNG holds"):
        require_images("--out", tmp_path / "new", load("moons", DataOptions(count=20)).spec)
    require_images("--out", tmp_path / "new", load("digits").spec)


def test_only_a_new_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="exists; give the name of a new folder"):
            require_new("--out", taken)
    with pytest.raises(InputError, match="does not exist"):
        require_new("--out", tmp_path / "none" / "new")
    require_new("--out", tmp_path / "new")


def test_nothing_is_left_of_a_writing_that_fails(tmp_path: Path) -> None:
    spec = load(str(source(tmp_path / "in", np.uint8, 1))).spec
    with pytest.raises(ValueError, match="not enough image data"):
        write_images(tmp_path / "out", np.zeros((4, 1, 5, 7), np.uint8)[:, :0], [], spec)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
