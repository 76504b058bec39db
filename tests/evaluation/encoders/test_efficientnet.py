"""EfficientNet-Lite0 knows photographs, and its file is read by digest alone."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sfumato.errors import InputError
from sfumato.evaluation.encoders import efficientnet
from sfumato.evaluation.encoders.torch_file import read_tensors

there = pytest.mark.skipif(not efficientnet.installed(), reason="the extra 'features' is not installed")


@there
@pytest.mark.parametrize(("photo", "classes"), [("flower.jpg", {985}), ("china.jpg", {663, 698})])
def test_it_recognises_photographs(photo: str, classes: set[int]) -> None:
    """985 is ImageNet's daisy, 663 its monastery, 698 its palace."""
    from sklearn.datasets import load_sample_image

    image = torch.tensor(load_sample_image(photo)).permute(2, 0, 1)[None].float()
    height, width = image.shape[2:]
    left = (width - height) // 2
    square = functional.interpolate(image[..., left : left + height], size=224, mode="bilinear", antialias=True)
    assert int(efficientnet.load()(square).argmax()) in classes


def test_the_network_has_the_published_size() -> None:
    network = efficientnet.EfficientNetLite0()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008  # Tan 2020: 4.7 million
    assert network.features(torch.zeros(2, 3, 33, 40)).shape == (2, 1280)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80\x02cos\nsystem\n.")
    with pytest.raises(InputError, match="not the file of weights that is known"):
        read_tensors(path, efficientnet.SHA256)
    with pytest.raises(InputError, match="is missing"):
        read_tensors(tmp_path / "none.pth", efficientnet.SHA256)
