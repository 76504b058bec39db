from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sfumato.data import BUILT_IN, TOYS, Affine, DataOptions, load
from sfumato.errors import InputError

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def refused(source: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(source, DataOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_digits() -> None:
    data = load("digits")
    spec = data.spec
    bunch = load_digits()
    assert data.values.dtype == torch.uint8
    np.testing.assert_array_equal(data.values[:, 0].numpy(), bunch.images)
    assert data.labels is not None
    assert data.labels.tolist() == bunch.target.tolist()
    assert (spec.layout.name, spec.shape, spec.channels) == ("image", (1, 8, 8), ("gray",))
    assert spec.transform == Affine((8.0,), (8.0,), 0.0, 16.0, 17)
    assert spec.class_names == tuple("0123456789")
    assert sum(spec.class_counts) == spec.count == 1797
    assert spec.second_moment == pytest.approx((((bunch.images - 8) / 8) ** 2).mean(), rel=1e-12)
    assert spec.source == "digits"
    np.testing.assert_array_equal(spec.to_array(spec.encode(data.values)), data.values.numpy())


def test_the_digits_as_vectors_keep_their_levels() -> None:
    images, vectors = load("digits"), load("digits", DataOptions(layout="vector"))
    assert torch.equal(vectors.values, images.values.reshape(1797, 64))
    assert (vectors.spec.transform.levels, vectors.spec.transform.shift, vectors.spec.channels) == (17, (8.0,), ())


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_sources(name: str) -> None:
    data = load(name, DataOptions(count=500, seed=7))
    assert torch.equal(data.values, TOYS[name].sample(500, 7).float())
    spec = data.spec
    assert (spec.layout.name, spec.shape, spec.dtype, spec.transform.low) == ("vector", (2,), "float32", None)
    assert data.labels is None
    assert spec.second_moment == pytest.approx(1, rel=1e-12)
    assert len(load(name).values) == 10_000


def test_an_unknown_name_is_told_the_nearest() -> None:
    message = refused("swissroll")
    assert message.startswith("source 'swissroll' is neither a built-in name (did you mean swiss-roll?) nor a path")
    assert all(name in message for name in BUILT_IN)
    assert "a folder of PNG, JPEG, WebP or TIFF images, an .npy or .npz file of arrays" in message
    assert "did you mean" not in refused("/nowhere/at/all.npz")
    assert "source 'a\\nb' is neither" in refused("a\nb")


def test_a_folder_named_like_a_toy_is_meant_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moons").mkdir()
    Image.new("L", (3, 3)).save(tmp_path / "moons" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert load("moons").spec.layout.name == "vector"
    assert load("./moons").spec.layout.name == "image"
    monkeypatch.chdir(tmp_path / "moons")
    assert load(".").spec.source == "moons"  # a name, whatever way it was reached


def test_a_single_image_asks_for_its_folder(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "a.JPG")
    message = refused(str(tmp_path / "a.JPG"))
    assert message.endswith(f"is a single image; give the folder that holds the images: {tmp_path.resolve()}")


@pytest.mark.parametrize("name", ["a.pt", "a.PKL", "a.pickle", "a.pth", "a.joblib"])
def test_pickles_are_refused(name: str, tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / name)
    message = refused(str(tmp_path / name))
    assert "is a pickle, which can run any program when opened, so it is not read; save the array with" in message


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2")
    assert "is not a supported kind of file; give a folder of PNG" in refused(str(tmp_path / "a.txt"))


@pytest.mark.parametrize("options", [{"key": "x"}, {"labels": "y"}, {"size": (4, 4)}])
def test_options_of_other_sources_do_not_apply_to_built_in_data(options: dict[str, Any]) -> None:
    for source in ("digits", "moons"):
        key = next(iter(options))
        told = f"data.{key}: does not apply to '{source}', which is built-in data; leave it out"
        assert refused(source, **options) == told
    assert "holds vectors and cannot be read as images; give vector or auto" in refused("moons", layout="image")


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real data is not beside the repository")


@needs_data
def test_measured_spectra() -> None:
    path = DATA / "spectra" / "munsell2007_reflectance.npz"
    data = load(str(path))
    with np.load(path) as archive:
        np.testing.assert_array_equal(data.values.numpy(), archive["reflectance"])
    assert (data.spec.layout.name, data.spec.shape, data.labels) == ("vector", (36,), None)
    assert data.spec.source == "munsell2007_reflectance.npz"
    signals = load(str(path), DataOptions(layout="signal", key="reflectance"))
    assert signals.values.shape == (1485, 1, 36)


@needs_data
def test_tables_with_classes() -> None:
    for path in sorted((DATA / "tabular").glob("*.npz")):
        data = load(str(path))
        with np.load(path) as archive:
            names, counts = np.unique(archive["y"], return_counts=True)
            np.testing.assert_array_equal(data.values.numpy(), archive["X"])
        assert data.spec.class_names == tuple(map(str, names))
        assert data.spec.class_counts == tuple(counts)


@needs_data
def test_x_rays() -> None:
    path = str(DATA / "pneumoniamnist" / "pneumoniamnist28.npz")
    assert "set data.key to one of: train_images uint8 (4708, 28, 28), train_labels uint8 (4708,)" in refused(path)
    data = load(path, DataOptions(key="train_images", labels="train_labels"))
    assert data.spec.shape == (1, 28, 28)
    assert data.spec.class_counts == (1214, 3494)
    assert (data.spec.transform.levels, data.spec.channels) == (256, ("gray",))


@needs_data
def test_sheets_of_webp() -> None:
    data = load(str(DATA / "cifar10"), DataOptions(limit=2, size=(64, 64)))
    assert data.spec.shape == (3, 64, 64)
    assert data.spec.channels == ("red", "green", "blue")
