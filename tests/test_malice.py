"""Files made to do harm: each is refused in one line, and nothing in it is run, written elsewhere or believed."""

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato import data
from sfumato.cli.main import main
from sfumato.errors import InputError
from sfumato.files import digest

TINY = ["network.kind=mlp", "network.width=8", "network.depth=1", "data.count=40", "training.batch=8"]


class Trap:
    """Whoever unpickles this makes the file ``canary``."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary.npy"


@pytest.fixture(scope="module")
def begun(no_pages: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    assert main(["train", "moons", *TINY, "--steps", "2", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "run")


def as_pickle(canary: Path) -> bytes:
    return pickle.dumps(Trap(canary))


def as_torch(canary: Path) -> bytes:
    buffer = BytesIO()
    torch.save({"a": Trap(canary)}, buffer)
    return buffer.getvalue()


def as_old_torch(canary: Path) -> bytes:
    buffer = BytesIO()
    torch.save({"a": Trap(canary)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def as_npy(canary: Path) -> bytes:
    values = np.empty((4, 2), object)
    values[:] = Trap(canary)
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def as_npz(canary: Path) -> bytes:
    return zipped({"x.npy": as_npy(canary)})


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def numbers() -> bytes:
    buffer = BytesIO()
    np.save(buffer, np.random.default_rng(0).normal(size=(40, 2)))
    return buffer.getvalue()


def long_header(canary: Path) -> bytes:
    """A header of 40 GB, of which there are 16 bytes."""
    return struct.pack("<Q", 40_000_000_000) + b'{"a":{"dtype":"F'


def long_tensor(canary: Path) -> bytes:
    """A tensor of 40 GB, of which there are 16 bytes."""
    entry = {"dtype": "F32", "shape": [10_000_000_000], "data_offsets": [0, 40_000_000_000]}
    header = json.dumps({"network.a": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


PICKLES = [as_pickle, as_torch, as_old_torch, as_npy, as_npz]
FORGED = [*PICKLES, long_header, long_tensor]
Make = Callable[[Path], bytes]


def refused(capsys: pytest.CaptureFixture[str], canary: Path, *argv: str) -> str:
    """The one line of a refusal that has run nothing."""
    capsys.readouterr()
    try:
        status = main(argv)
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    said = capsys.readouterr().err
    assert not canary.exists()
    assert status == 2, said
    assert said.startswith("sfumato")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("make", PICKLES)
def test_the_traps_are_armed(make: Make, canary: Path) -> None:
    content = BytesIO(make(canary))
    if make is as_pickle:
        pickle.load(content).close()
    elif make in (as_torch, as_old_torch):
        torch.load(content, weights_only=False)["a"].close()
    else:
        loaded = np.load(content, allow_pickle=True)
        (loaded["x"] if make is as_npz else loaded)[0, 0].close()
    assert canary.exists()


@pytest.mark.parametrize("make", PICKLES)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".bin", ".npy", ".npz", ".png", ""])
def test_as_a_source(make: Make, suffix: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / f"data{suffix}"
    source.write_bytes(make(canary))
    assert "data" in refused(capsys, canary, "train", str(source), *TINY, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", PICKLES)
def test_as_an_image_in_a_folder(make: Make, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.tif", "c.jpg", "d.webp"):
        (folder / name).write_bytes(make(canary))
    assert "cannot be read" in refused(capsys, canary, "train", str(folder), "--out", str(tmp_path / "out"))


@pytest.mark.parametrize("key", ["data.labels=y", "data.noise=y", "data.key=y"])
def test_as_an_array_beside_the_samples(
    key: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "data.npz"
    source.write_bytes(zipped({"x.npy": numbers(), "y.npy": as_npy(canary)}))
    assert "'y'" in refused(capsys, canary, "train", str(source), key, "--out", str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["../../canary.npy", "../canary.npy", "{canary}", "a/../../canary.npy"])
def test_a_member_that_climbs_out_is_read_where_it_is(name: str, canary: Path, tmp_path: Path) -> None:
    """No member of an archive is ever unpacked to the disk, so its name is a name and no more."""
    source = tmp_path / "inner" / "deep" / "data.npz"
    source.parent.mkdir(parents=True)
    source.write_bytes(zipped({name.format(canary=canary): numbers()}))
    before = sorted(tmp_path.rglob("*"))
    assert len(data.load(str(source)).values) == 40
    assert sorted(tmp_path.rglob("*")) == before
    (source.parent / "bad.npz").write_bytes(zipped({name.format(canary=canary): as_npy(canary)}))
    with pytest.raises(InputError, match=r"several arrays|objects"):
        data.load(str(source.parent / "bad.npz"))
    assert not canary.exists()


@pytest.mark.parametrize("make", FORGED)
@pytest.mark.parametrize("verb", ["sample", "tune", "certify"])
def test_as_the_weights_of_a_model(
    make: Make, verb: str, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.safetensors").write_bytes(make(canary))
    assert "model.safetensors: damaged or not safetensors" in refused(capsys, canary, verb, str(run))


@pytest.mark.parametrize("make", FORGED)
@pytest.mark.parametrize("name", ["optimizer", "weights"])
def test_as_a_part_of_a_checkpoint(
    make: Make, name: str, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = max((run / "checkpoints").iterdir())
    (place / f"{name}.safetensors").write_bytes(make(canary))
    # The digests agree: it is no accident.
    listed = {file.name: digest(file) for file in sorted(place.iterdir()) if file.name != "manifest.json"}
    (place / "manifest.json").write_text(json.dumps(listed, indent=2) + "\n")
    said = refused(capsys, canary, "train", "--resume", str(run), "--steps", "4")
    assert f"{place / name}.safetensors: damaged or not safetensors" in said


TAGS = [
    '!!python/object/apply:os.system ["touch {canary}"]',
    '!!python/object/apply:builtins.open ["{canary}", "w"]',
    '!!python/object/new:os.system ["touch {canary}"]',
    "!!python/name:os.system",
    "!!python/module:os",
]


@pytest.mark.parametrize("tag", TAGS)
def test_as_a_recipe(tag: str, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    text = tag.format(canary=canary)
    for content in (text, f"name: {text}\n", f"training:\n  batch: {text}\n", f"{text}: 1\n", f"? {text}\n: 1\n"):
        (tmp_path / "recipe.yaml").write_text(content)
        argv = ["train", "moons", "--recipe", str(tmp_path / "recipe.yaml"), "--out", out]
        assert "recipe.yaml: not YAML" in refused(capsys, canary, *argv)
    assert "cannot be read" in refused(capsys, canary, "train", "moons", f"training.batch={text}", "--out", out)
    assert not Path(out).exists()
