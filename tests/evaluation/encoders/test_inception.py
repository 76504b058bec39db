"""Inception-v3 as FID has it. Its weights are not here, but its parts are: sizes, resizing, pooling, names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sfumato import data
from sfumato.errors import InputError
from sfumato.evaluation.encoders import inception
from sfumato.evaluation.quality import measures_of
from sfumato.evaluation.spaces import spaces_named
from sfumato.files import digest


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {k: v for k, v in inception.Inception().state_dict().items() if v.is_floating_point()}


def test_it_has_the_published_size(weights: dict[str, Tensor]) -> None:
    """Keras has 21,785,568 weights that are trained below the classes if BatchNorm has a scale, as here."""
    network = inception.Inception()
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    assert network.eval()(torch.zeros(1, 3, 20, 30)).shape == (1, 2048)
    # Names as in the files of torchvision and pytorch-fid.
    for name in (
        "Mixed_5b.branch5x5_2.bn.running_var",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
        "Mixed_6a.branch3x3.bn.bias",
    ):
        assert name in weights


def test_resizing_is_that_of_tensorflow() -> None:
    """Pixel i stands at i * size / 299, between two neighbours, and the last ones repeat the border."""
    row = torch.tensor([0.0, 10.0, 40.0])
    found = inception._resized(row.expand(1, 3, 5, 3))[0, 0]
    at = np.arange(299) * (3 / 299)
    torch.testing.assert_close(
        found[0], torch.tensor(np.interp(at, [0, 1, 2, 3], [0, 10, 40, 40]), dtype=torch.float32)
    )
    assert torch.equal(found, found[:1].expand_as(found))


def test_average_pooling_leaves_the_border_out() -> None:
    """The mean over a corner is that of four pixels. torchvision's own Inception-v3 would divide by nine."""
    block = inception._Block(1, {"average": (("branch_pool", 1, 1),)})
    block.eval().get_submodule("branch_pool.conv").weight.data.fill_(1)
    found = block(torch.ones(1, 1, 4, 4))
    torch.testing.assert_close(found, found[..., 1:2, 1:2].expand_as(found))


def test_only_the_known_file_is_called_fid(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = data.load("digits").spec
    save_file(weights, tmp_path / "own.safetensors")
    torch.save(weights, tmp_path / "known.pth")
    (_, own) = spaces_named(["pixels"], spec, inception_weights=tmp_path / "own.safetensors")
    assert own.name == f"inception-v3:{digest(tmp_path / 'own.safetensors')[:8]}"
    titles = {m.name: m.title for m in measures_of(spec, own.raw, own.fid)}
    assert (titles["frechet"], titles["kernel"]) == ("Frechet distance", "kernel distance (cubic)")
    with pytest.raises(InputError, match=r"known\.pth: is not pt_inception"):
        inception.load(tmp_path / "known.pth")
    monkeypatch.setattr(inception, "SHA256", digest(tmp_path / "known.pth"))
    (known,) = spaces_named(["inception-v3"], spec, inception_weights=tmp_path / "known.pth")
    assert known.name == "inception-v3"
    titles = {m.name: m.title for m in measures_of(spec, known.raw, known.fid)}
    assert (titles["frechet"], titles["frechet_infinite"], titles["kernel"]) == ("FID", "FID, infinite samples", "KID")
    images = data.load("digits").values[:2]
    assert torch.equal(known.features(images), own.features(images))


def test_files_that_lack_weights(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({k: v for k, v in weights.items() if "Mixed_7c" not in k}, tmp_path / "short.safetensors")
    with pytest.raises(InputError, match=r"no weights of Inception-v3 \(Mixed_7c"):
        inception.load(tmp_path / "short.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        inception.load(tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="no such file"):
        inception.load(tmp_path / "none.pth")
    with pytest.raises(InputError, match="give --inception FILE"):
        spaces_named(["inception-v3"], data.load("digits").spec)
