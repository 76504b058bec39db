"""Files have the mode of any new file, and one that may not be read is told from one that is missing."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato import InputError, files
from sfumato.model_folder import load_weights, read_config, save_weights
from sfumato.runs.folder import RunFolder
from sfumato.training import checkpoint


@pytest.fixture(params=[0o022, 0o027, 0o002])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_the_umask_applies_to_whatever_is_written(mask: int, tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2)}
    save_weights(tensors, tmp_path / "model.safetensors")
    files.write_text(tmp_path / "a.json", "{}")
    files.write_with(tmp_path / "b", lambda beside: save_file(tensors, beside))
    saved = checkpoint.save(tmp_path / "checkpoints", 8, {"weights": tensors}, {"seconds": 1.0})
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 3 + len(list(saved.iterdir()))
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o666 & ~mask}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is closed to this user; a mode would not stop a test that root runs."""

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)


@pytest.mark.usefixtures("closed")
def test_what_may_not_be_read_is_neither_missing_nor_damaged(tmp_path: Path) -> None:
    (tmp_path / "results.json").touch()
    readers = (
        lambda: read_config(tmp_path),
        lambda: load_weights(torch.nn.Linear(1, 1), tmp_path / "model.safetensors"),
        lambda: RunFolder(tmp_path).origin(),
        lambda: RunFolder(tmp_path).measurement("results"),
    )
    for read in readers:
        with pytest.raises(InputError, match=f"^{tmp_path}.*: no permission to read or write it"):
            read()
