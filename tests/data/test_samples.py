"""Samples by index, with what belongs to them."""

import torch

from sfumato.data import DataOptions, Samples, load


def test_noise_and_labels_stay_with_their_samples() -> None:
    count = torch.arange(6.0)
    samples = Samples(count[:, None], -count[:, None], count.long())
    for chosen, expected in ((samples.take(torch.tensor([4, 0, 4])), [4, 0, 4]), (samples.rows(2, 4), [2, 3])):
        assert chosen.noise is not None
        assert chosen.labels is not None
        assert chosen.values[:, 0].tolist() == expected
        assert chosen.noise[:, 0].tolist() == [-k for k in expected]
        assert chosen.labels.tolist() == expected
    alone = Samples(count).take(torch.tensor([1]))
    assert (alone.noise, alone.labels, len(alone)) == (None, None, 1)


def test_a_data_set_gives_its_samples_in_model_units() -> None:
    digits = load("digits", DataOptions(limit=30))
    samples = digits.samples()
    assert len(samples) == len(digits) == 30
    assert samples.values.dtype == torch.float32
    assert torch.equal(samples.values, (digits.values.float() - 8) / 8)
    assert samples.labels is not None
    assert digits.labels is not None
    assert torch.equal(samples.labels, digits.labels)
    index = torch.tensor([7, 3])
    assert torch.equal(digits.encoded(index), samples.take(index).values)
