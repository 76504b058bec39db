import pytest
import torch

from sfumato.data import Order, split
from sfumato.data.order import generator, permutation
from sfumato.errors import InputError


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_every_epoch_is_a_permutation(count: int) -> None:
    order = Order(count, seed=3)
    epochs = order.indices(0, 5 * count).reshape(5, count)
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(count))


def test_epochs_and_seeds_differ() -> None:
    # Two random orders of 100 agree with probability 1/100!.
    first, second = Order(100, seed=0).indices(0, 200).reshape(2, 100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, Order(100, seed=1).indices(0, 100))
    assert torch.equal(first, Order(100, seed=0).indices(0, 100))


def test_any_stretch_can_be_asked_for() -> None:
    order = Order(30, seed=5)
    whole = order.indices(0, 100)
    assert torch.equal(whole[37:60], order.indices(37, 23))
    for first in range(0, 70, 3):
        for n in (0, 1, 29, 30, 31):
            assert torch.equal(whole[first : first + n], order.indices(first, n)), (first, n)
    # Far along as well: epoch 10^9 needs none of those before it.
    far = 30 * 10**9
    assert order.indices(far, 30).sort().values.tolist() == list(range(30))
    assert torch.equal(order.indices(far - 4, 8)[4:], order.indices(far, 4))


@pytest.mark.parametrize("batch", [1, 7, 32, 45])
def test_the_sequence_does_not_depend_on_the_batch_size(batch: int) -> None:
    order = Order(32, seed=9)
    batches = torch.cat([order.indices(first, batch) for first in range(0, 7 * 45, batch)])
    assert torch.equal(batches[: 7 * 45], order.indices(0, len(batches))[: 7 * 45])


def test_what_is_handed_out_may_be_written_on() -> None:
    order = Order(10, seed=0)
    before = order.indices(0, 10).clone()
    order.indices(0, 10).zero_()
    order.indices(2, 3).zero_()
    assert torch.equal(order.indices(0, 10), before)


def test_places_are_uniform() -> None:
    # Where sample 0 falls in 4000 epochs of 4: chi-square of 3 degrees of freedom, 27.9 at p = 4e-6. A sample that
    # is first 35 % of the time instead of 25 % would give 4000 (0.1^2/0.25 + 3 (0.1/3)^2/0.25) = 213.
    places = (Order(4, seed=1).indices(0, 16000).reshape(4000, 4) == 0).nonzero()[:, 1]
    counts = places.bincount(minlength=4).double()
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9


def test_seeds_beyond_32_bits_count() -> None:
    # torch's generator itself takes the low 32 bits only: that is what is folded in.
    one, other = (torch.randperm(20, generator=torch.Generator().manual_seed(5 + high)) for high in (0, 2**32))
    assert torch.equal(one, other)
    drawn = {tuple(permutation(20, seed).tolist()) for seed in (5, 5 + 2**32, 5 + 2**62)}
    assert len(drawn) == 3
    assert generator("a", 1).initial_seed() < 2**32


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(100, 0.1, 10), (1797, 0.1, 180), (2, 0.1, 1), (2, 0.9, 1), (5, 0.01, 1), (5, 0.99, 4), (7, 0.5, 4)],
)
def test_a_split_parts_the_samples(count: int, fraction: float, held: int) -> None:
    train, held_out = split(count, fraction, seed=0)
    assert len(held_out) == held
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(count))
    assert train.tolist() == sorted(train.tolist())
    assert held_out.tolist() == sorted(held_out.tolist())


def test_a_split_is_a_function_of_its_seed_and_grows_with_the_fraction() -> None:
    assert all(map(torch.equal, split(100, 0.2, 7), split(100, 0.2, 7)))
    assert not torch.equal(split(100, 0.2, 7)[1], split(100, 0.2, 8)[1])
    assert set(split(100, 0.1, 7)[1].tolist()) < set(split(100, 0.2, 7)[1].tolist())


def test_what_cannot_be_split_or_ordered_is_refused() -> None:
    with pytest.raises(InputError, match="split: 1 samples cannot be split in two; give at least 2"):
        split(1, 0.5, 0)
    for fraction in (0.0, 1.0, -0.1):
        with pytest.raises(InputError, match="give a number between 0 and 1"):
            split(10, fraction, 0)
    with pytest.raises(InputError, match="0 samples; give at least 1"):
        Order(0, 0)
    with pytest.raises(InputError, match="must not be negative"):
        Order(3, 0).indices(-1, 2)
