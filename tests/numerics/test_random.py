"""The random numbers against SplitMix64 in Python's own integers, and against the laws they claim to follow.

Everything here is a pure function of constants, so no test can fail by chance; thresholds say what deviation they would
have caught. With n numbers a correlation has standard error 1/sqrt(n): at a threshold of 5 standard errors a true
correlation of 8 is caught with probability 0.998.
"""

import itertools
import math

import pytest
import torch
from scipy import stats

from sfumato.numerics import random

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * FIRST) & MASK
    z = ((z ^ (z >> 27)) * SECOND) & MASK
    return z ^ (z >> 31)


def unshift(z: int, shift: int) -> int:
    """The w with w ^ (w >> shift) == z: the top bits are known, each pass makes `shift` more of them right."""
    w = z
    for _ in range(64 // shift + 1):
        w = z ^ (w >> shift)
    return w


def unmix(z: int) -> int:
    z = (unshift(z, 31) * pow(SECOND, -1, 1 << 64)) & MASK
    z = (unshift(z, 27) * pow(FIRST, -1, 1 << 64)) & MASK
    return unshift(z, 30)


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def stream(key: int, draw: int, count: int) -> list[int]:
    """The words that the module's formulas promise for ``key`` and ``draw``."""
    start = mix((key + random.derive("draw", draw)) & MASK)
    return [mix((start + (n + 1) * GOLDEN) & MASK) for n in range(count)]


def key_with_first_word(word: int, draw: int = 0) -> torch.Tensor:
    """The key whose draw begins with ``word``: every step of the stream can be undone."""
    start = (unmix(word) - GOLDEN) & MASK
    return torch.tensor([signed((unmix(start) - random.derive("draw", draw)) & MASK)])


def normals(count: int, draw: int = 0, seed: int = 7, keys: int = 1) -> torch.Tensor:
    return random.normal(random.keys(seed, torch.arange(keys)), draw, count, torch.float64)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


def test_unmix_undoes_mix():
    words = [0, 1, MASK, GOLDEN, 0x0123456789ABCDEF]
    assert [unmix(mix(word)) for word in words] == words


def test_keys_are_the_published_outputs_of_splitmix64():
    # The vector for seed 1234567 that implementations in many languages agree on.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [k % (1 << 64) for k in random.keys(1234567, torch.arange(5)).tolist()] == published


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345, 2**63 - 1])
def test_keys_match_python_integers(seed):
    indices = [0, 1, 2, 999, 10**9, 2**40]
    expected = [signed(mix((seed + (i + 1) * GOLDEN) & MASK)) for i in indices]
    assert random.keys(seed, torch.tensor(indices)).tolist() == expected


def test_keys_leave_the_indices_as_they_were():
    indices = torch.arange(4)
    random.keys(3, indices)
    assert indices.tolist() == [0, 1, 2, 3]


def test_keys_are_distinct():
    keys = torch.cat([random.keys(seed, torch.arange(20_000)) for seed in range(5)])
    assert len(keys.unique()) == len(keys)


@pytest.mark.parametrize("draw", [0, 1, 17, 1000])
def test_uniform_matches_python_integers(draw):
    keys = random.keys(5, torch.arange(3))
    expected = [[((word >> 12) + 0.5) / 2**52 for word in stream(key, draw, 6)] for key in keys.tolist()]
    assert random.uniform(keys, draw, 6).tolist() == expected  # every middle of a cell is a float64


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_normal_matches_python_integers(count):
    keys = random.keys(5, torch.arange(3))
    expected = []
    for key in keys.tolist():
        row = []
        for word in stream(key, 2, (count + 1) // 2):
            radius = math.sqrt(-2 * math.log(((word >> 32) + 0.5) / 2**32))
            angle = 2 * math.pi * (word & 0xFFFFFFFF) / 2**32
            row += [radius * math.cos(angle), radius * math.sin(angle)]
        expected.append(row[:count])
    got = random.normal(keys, 2, count, torch.float64)
    # Angles up to 2 pi are rounded by 4e-16, radii are below 7.
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)
    assert torch.equal(random.normal(keys, 2, count), got.float())


@pytest.mark.parametrize("word", [0, 1, 1 << 63, MASK - (1 << 11), MASK], ids=hex)
def test_uniform_is_strictly_inside_its_interval_at_the_extreme_words(word):
    key = key_with_first_word(word)
    assert stream(int(key), 0, 1) == [word]
    u = float(random.uniform(key, 0, 1))
    assert 0 < u < 1


@pytest.mark.parametrize("word", [0, 1, MASK, 0xFFFFFFFF, MASK ^ 0xFFFFFFFF], ids=hex)
def test_normal_at_the_extreme_words_stays_within_its_stated_range(word):
    z = random.normal(key_with_first_word(word), 0, 2, torch.float64)
    assert 0 < float(z.norm()) <= math.sqrt(2 * math.log(2**33)) * (1 + 1e-15)


def test_the_largest_normal_number_is_as_rare_as_stated():
    beyond = 2 * stats.norm.sf(math.sqrt(2 * math.log(2**33)))
    assert 0.5e-11 < beyond < 2e-11


def test_numbers_do_not_depend_on_the_batch_or_on_how_many_are_asked_for():
    keys = random.keys(11, torch.arange(9))
    for function in (random.uniform, random.normal):
        whole = function(keys, 3, 21)
        assert torch.equal(function(keys[4:7], 3, 21), whole[4:7])
        assert torch.equal(function(keys.flip(0), 3, 21), whole.flip(0))
        assert torch.equal(function(keys, 3, 5), whole[:, :5])
        assert not (function(keys, 4, 21) == whole).any()


def test_uniform_follows_its_law():
    # Kolmogorov-Smirnov at level 1e-3 sees a distribution function that is off by 0.007 anywhere.
    u = random.uniform(random.keys(1, torch.arange(10)), 0, 10_000).flatten()
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("many", ["elements", "keys", "draws"])
def test_normal_follows_its_law_along_every_axis(many):
    n = 100_000
    if many == "elements":
        z = normals(n).flatten()
    elif many == "keys":
        z = normals(1, keys=n).flatten()
    else:
        z = torch.cat([normals(1, draw=draw, keys=n // 200) for draw in range(200)]).flatten()
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    # Moments of N(0, 1) and the variances of their estimates: var(z^k) = E z^2k - (E z^k)^2.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - expected) < 4 * math.sqrt(variance / n)


def test_normal_has_the_right_tails():
    # Above 3 and 4 standard deviations: Poisson counts, within 4 of their own standard deviations.
    z = normals(400_000).flatten()
    for bound in (3.0, 4.0):
        expected = len(z) * 2 * stats.norm.sf(bound)
        assert abs(int((z.abs() > bound).sum()) - expected) < 4 * math.sqrt(expected)


def test_neighbours_are_not_correlated():
    keys = random.keys(2, torch.arange(200))
    draws = torch.stack([random.normal(keys, draw, 200, torch.float64) for draw in range(4)])  # (draw, key, element)
    uniforms = torch.stack([random.uniform(keys, draw, 200) for draw in range(4)])
    for z in (draws, draws**2, draws.abs(), uniforms):
        for axis, lag in itertools.product(range(3), (1, 2, 3)):
            length = z.shape[axis] - lag
            a, b = z.narrow(axis, 0, length), z.narrow(axis, lag, length)
            assert abs(correlation(a, b)) < 5 / math.sqrt(a.numel()), (axis, lag)


def test_keys_and_draws_that_add_up_alike_are_different_streams():
    # Streams far apart in one sequence would meet where key + draw coincide.
    keys = random.keys(0, torch.arange(100))
    seen = torch.cat([random.uniform(keys, draw, 3).flatten() for draw in range(100)])
    assert len(seen.unique()) == len(seen)


def test_derive_is_a_seed_and_tells_its_parts_apart():
    parts = [
        (),
        ("",),
        ("", ""),
        ("a",),
        ("a1",),
        ("a", 1),
        ("a", "1"),
        (1, "a"),
        (1,),
        ("1",),
        (11,),
        (1, 1),
        (-1,),
        ("int:1",),
        (2**70,),
    ]
    seeds = [random.derive(*part) for part in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert random.derive("a", 1) == random.derive("a", 1)


def test_derive_tells_a_separator_inside_a_name_from_one_between_names():
    assert random.derive("a\x1fstr:b") != random.derive("a", "b")
