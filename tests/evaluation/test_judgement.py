"""The sentence about the quality of samples follows the numbers beside it."""

import pytest
import torch

from sfumato.evaluation.judgement import judgement
from sfumato.evaluation.memorisation import copying, verdict
from sfumato.evaluation.quality import HEAVY, Interval, Sets, largest_share
from sfumato.evaluation.rows import Row


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(name: str, value: float, error: float = 0.02, real: float = 1.0, space: str = "values") -> Row:
    better = "higher" if name.startswith("clipped") else "lower"
    return Row(name, name.title(), space, Interval(value, error), Interval(real, 0.02), better, None)


@pytest.mark.parametrize(
    ("density", "coverage", "words"),
    [
        (0.90, 0.85, "near the data: Clipped_Density 0.90 (real data 1.00), Clipped_Coverage 0.85 (real data 1.00)"),
        (0.90, 0.79, "rough: Clipped_Density 0.90"),
        (0.09, 0.90, "far from the data: Clipped_Density 0.09"),
    ],
)
def test_the_words_follow_the_lower_share_of_good_samples(density: float, coverage: float, words: str) -> None:
    rows = [row("clipped_density", density), row("clipped_coverage", coverage), row("sliced", 1.5)]
    assert judgement(rows, []).startswith(f"The samples are {words}")
    assert judgement(rows, []).endswith(
        "3 of 3 measures are worse than those of real data, by more than their intervals."
    )


def test_the_worst_space_is_named() -> None:
    rows = [row("clipped_density", x, space=space) for space, x in (("pixels", 0.9), ("features", 0.4))]
    assert "rough: Clipped_Density 0.40 (real data 1.00) in features; 2 of 2" in judgement(rows, [])


def test_intervals_that_meet_are_no_difference() -> None:
    rows = [row("clipped_density", 0.9, error=0.06), row("sliced", 1.1, error=0.06), row("energy", -0.5)]
    assert judgement(rows, []) == "The samples cannot be told from as much real data by any of 3 measures."
    rows = [row("clipped_density", 0.9, error=0.02), *rows[1:]]
    assert "1 of 3 measures" in judgement(rows, [])


def test_noise_is_called_so_by_both_sentences() -> None:
    copies = [copying(20 * normal(60, 3), normal(80, 3, seed=1), normal(200, 3, seed=2), space="values")]
    rows = [row("clipped_density", 0.5)]
    assert judgement(rows, copies).startswith("These are not yet samples: ")
    assert verdict(copies).startswith("These are not yet samples: ")


def test_the_share_of_the_largest_point() -> None:
    """By hand: deviations of -1, -1, 2 have the fourth powers 1, 1, 16."""
    points = torch.tensor([[0.0], [0.0], [3.0]])
    assert largest_share(Sets(points, torch.tensor([[0.0], [1.0]]))) == pytest.approx(16 / 18)
    assert largest_share(Sets(torch.zeros(4, 2), torch.zeros(4, 2))) == 0


def test_heavy_tails_are_told_from_light_ones() -> None:
    light, heavy = (
        [largest_share(Sets(f(normal(200, 2, seed=2 * i)), f(normal(200, 2, seed=2 * i + 1)))) for i in range(20)]
        for f in (lambda x: x, torch.exp)
    )
    assert max(light) < HEAVY
    assert sum(share > HEAVY for share in heavy) >= 18
