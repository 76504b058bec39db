"""The encoder that learns from the user's images: the same for the same images, and it knows what it was not told."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato import data
from sfumato.errors import InputError
from sfumato.evaluation.encoders import own
from sfumato.evaluation.spaces import spaces_named


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    dataset = data.load("digits")
    assert dataset.labels is not None
    return dataset.spec.encode(dataset.values).float(), dataset.labels


def nearness(features: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """The median distance of an image to another view of itself, over that to a view of another."""
    views = own.view(images, torch.Generator().manual_seed(1))
    distances = torch.cdist(features(views), features(images))
    return float(distances.diagonal().median() / distances.median())


def test_it_learns_what_digits_are_without_labels(
    digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few steps it knows images again that it has never seen, and classes by their nearest neighbour."""
    images, labels = digits
    monkeypatch.setattr(own, "_STEPS", 80)
    encoder, identity = own.trained(images[:800])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = own.Encoder(1, 8).eval()
    with torch.no_grad():
        before, after = (nearness(each.features, images[1000:1200]) for each in (untrained, encoder))
        features = encoder.features(images)
    assert after < 0.6 * before
    nearest = torch.cdist(features[1000:], features[:800]).argmin(1)
    assert float((labels[:800][nearest] == labels[1000:]).double().mean()) > 0.8
    again, same = own.trained(images[:800])  # from the cache
    assert same == identity
    for name, value in again.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name])


def test_the_loss_by_hand() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    others = torch.tensor([[-0.6, 0.8]])
    both, temperature = torch.cat((a, b, others)), 0.2
    losses = []
    for i, j in ((0, 2), (1, 3), (2, 0), (3, 1)):
        alike = {k: float(both[i] @ both[k]) / temperature for k in range(5) if k != i}
        losses.append(-alike[j] + float(torch.tensor(list(alike.values())).logsumexp(0)))
    assert float(own.contrast(a, b, others)) == pytest.approx(sum(losses) / 4, rel=1e-5)


def test_noise_and_blur_are_far_away(digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoiled images are farther from real ones than other real ones are, by the mean over images never seen."""
    images = digits[0]
    monkeypatch.setattr(own, "_STEPS", 80)
    encoder, _ = own.trained(images[:800])
    spoiled = own.spoiled(images[1000:1200], torch.Generator().manual_seed(5))
    with torch.no_grad():
        features, others, bad = (encoder.features(x) for x in (images[:800], images[1200:1400], spoiled))
    near, far = (torch.cdist(x, features).amin(1) for x in (others, bad))
    assert float(far.mean()) > 1.3 * float(near.mean())


def test_views_are_moved_and_neither_noisy_nor_mirrored(digits: tuple[Tensor, Tensor]) -> None:
    images = digits[0][:100]
    views = own.view(images, torch.Generator().manual_seed(0))
    assert not torch.equal(views, images)

    def correlation(a: Tensor, b: Tensor) -> Tensor:
        a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))

    assert float((correlation(views, images) > correlation(views, images.flip(3))).double().mean()) > 0.9
    flat = own.view(torch.zeros(4, 1, 8, 8), torch.Generator().manual_seed(0))
    assert float(flat.flatten(1).std(1).max()) < 1e-6


def test_what_it_cannot_learn_from() -> None:
    with pytest.raises(InputError, match="learns from images only"):
        spaces_named(["own-encoder"], data.load("moons").spec, train=data.load("moons").values)
    dataset = data.load("digits")
    with pytest.raises(InputError, match="at least 64"):
        spaces_named(["own-encoder"], dataset.spec, train=dataset.values[:50])
    with pytest.raises(InputError, match="training data, which is not there"):
        spaces_named(["own-encoder"], dataset.spec)
