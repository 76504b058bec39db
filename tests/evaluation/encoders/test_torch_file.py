"""PyTorch's files read as data: the tensors that torch would load, and not one word of a pickle run."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from sfumato.errors import InputError
from sfumato.evaluation.encoders.torch_file import tensors_of


@pytest.mark.parametrize("zipped", [True, False])
def test_the_tensors_that_torch_loads(zipped: bool, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    shared = torch.arange(24.0).reshape(4, 6)
    for number, saved in enumerate(
        (module.state_dict(), {"part": shared[1:, ::2], "turned": shared.mT, "double": shared.double()})
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(saved, path, _use_new_zipfile_serialization=zipped)
        found = tensors_of(path)
        assert list(found) == list(saved)
        for name, value in saved.items():
            assert torch.equal(found[name], value), name
            assert found[name].dtype == value.dtype


class Trap:
    """Whoever unpickles this makes the file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_run(zipped: bool, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "trap.pth"
    torch.save({"a": Trap(canary), "b": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(tensors_of(path)["b"], torch.ones(2))
    assert not canary.exists()
    torch.load(path, weights_only=False)["a"].close()
    assert canary.exists()  # it is a trap


@pytest.mark.parametrize("content", [b"", b"abc", pickle.dumps([1, 2]), pickle.dumps({"a": 1.5})])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.pth: is no dictionary of tensors"):
        tensors_of(path)
