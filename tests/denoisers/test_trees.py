"""The trees' denoiser against walks through single trees, the exact Gaussian, and its own formula between levels."""

import math

import pytest
import torch

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Process
from sfumato.denoisers import NOT_GIVEN, Condition, ExactDenoiser, GaussianMixture, TreesDenoiser
from sfumato.errors import InputError

PROCESS = Process(VP(), Cosine())


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(process: Process = PROCESS, classes: int = 0, levels: int = 4) -> TreesDenoiser:
    """Three numbers, two trees each, with random decisions: a root, and a right child that decides again."""
    made = TreesDenoiser(process, 3, classes, levels, trees=2, leaves=3, depth=2)
    generator = torch.Generator().manual_seed(5)
    shape = made.feature.shape[:-1]
    for place, left in ((0, 1), (2, 3)):
        made.feature[..., place] = torch.randint(3, shape, generator=generator).to(torch.int16)
        made.child[..., place] = left
    made.number.copy_(torch.randn(made.number.shape, generator=generator))
    for row in range(max(classes, 1)):
        made.set_gaussian(row, values(50, 3, seed=row) @ values(3, 3, seed=9) + row)
    return made


def walked(made: TreesDenoiser, row: int, level: int, y: torch.Tensor) -> torch.Tensor:
    """The sum of the trees' values, one sample and one tree at a time."""
    out = torch.zeros(len(y), 3)
    for i, sample in enumerate(y.float()):
        for tree in range(6):
            feature, number, child = (each[row, level, tree] for each in (made.feature, made.number, made.child))
            node = 0
            while feature[node] >= 0:
                node = int(child[node]) + int(sample[feature[node]] > number[node])
            out[i, tree // 2] += number[node]
    return out


def test_a_forest_is_the_sum_of_its_trees():
    made, y = small(classes=2), values(40, 3)
    for row in range(2):
        for level in range(4):
            torch.testing.assert_close(made.forest(row, level, y), walked(made, row, level, y))


@pytest.mark.parametrize("process", [PROCESS, Process(VE(), LinearLogSNR(-8.0, 8.0))], ids=["VP", "VE"])
def test_without_trees_it_is_the_exact_denoiser_of_a_gaussian(process):
    x_0 = values(60, 3) @ values(3, 3, seed=9) + 2
    made = TreesDenoiser(process, 3, 0, levels=4, trees=2, leaves=3, depth=2)
    made.set_gaussian(0, x_0)
    gaussian = GaussianMixture.gaussian(x_0.mean(0), torch.cov(x_0.mT, correction=0))
    x_t, t = 3 * values(30, 3, seed=2), torch.linspace(0.02, 1, 30, dtype=torch.float64)
    found, exact = made(x_t, t), ExactDenoiser(process, gaussian)(x_t, t)
    torch.testing.assert_close(found.x_0, exact.x_0)
    torch.testing.assert_close(found.eps, exact.eps)


def at(theta: float) -> torch.Tensor:
    """The time with the angle ``theta``."""
    return PROCESS.schedule.time(torch.tensor(-2 * math.log(math.tan(theta)), dtype=torch.float64))


@pytest.mark.parametrize("place", [0.25, 1.0, 1.5, 3.9, 4.5])
def test_between_two_levels_it_interpolates_in_the_angle_and_at_the_ends_the_gaussian_is_left(place):
    made, y = small(), values(20, 3)
    theta = place * math.pi / 10  # levels 1 to 4 of 5 parts of a right angle
    found = made(y, at(theta))
    v = math.cos(theta) * found.eps - math.sin(theta) * found.x_0
    k, w = int(place), place % 1
    forests = [torch.zeros(20, 3), *(walked(made, 0, level, y) for level in range(4)), torch.zeros(20, 3)]
    gaussian = made.gaussian(0, torch.full((20,), theta, dtype=torch.float64), y)
    torch.testing.assert_close(v, gaussian + (1 - w) * forests[k] + w * forests[k + 1], atol=1e-6, rtol=1e-6)
    x_t = math.cos(theta) * found.x_0 + math.sin(theta) * found.eps
    torch.testing.assert_close(x_t, y, atol=1e-9, rtol=0)  # the two estimates agree with x_t


def test_a_sample_depends_on_its_own_time_class_and_values_alone():
    made, x_t = small(classes=2), values(12, 3)
    t, classes = torch.linspace(0.05, 0.95, 12), torch.arange(12) % 2
    together = made(x_t, t, Condition(classes=classes)).x_0
    alone = [made(x_t[i : i + 1], t[i], Condition(classes=classes[i : i + 1])).x_0 for i in range(12)]
    torch.testing.assert_close(together, torch.cat(alone))
    others = made(x_t, t, Condition(classes=1 - classes)).x_0
    assert (others != together).any(1).all()


@pytest.mark.parametrize(
    ("classes", "cond", "named"),
    [
        (0, Condition(classes=torch.zeros(2, dtype=torch.int64)), "takes no condition"),
        (2, None, "give classes"),
        (2, Condition(classes=torch.tensor([0, NOT_GIVEN])), "one of 2"),
        (2, Condition(classes=torch.tensor([0, 2])), "one of 2"),
    ],
)
def test_conditions_that_trees_do_not_know_are_refused(classes, cond, named):
    with pytest.raises(InputError, match=named):
        small(classes=classes)(values(2, 3), torch.tensor(0.5), cond)


def test_derivatives_are_refused_in_every_mode():
    made, x_t = small(), values(2, 3)
    with pytest.raises(InputError, match="no derivative"):
        made(x_t.clone().requires_grad_(), torch.tensor(0.5))
    with pytest.raises(InputError, match="no derivative"):
        torch.func.jvp(lambda x: made(x, torch.tensor(0.5)).x_0, (x_t,), (x_t,))
    with torch.no_grad():
        made(x_t.clone().requires_grad_(), torch.tensor(0.5))
