"""The times of a session, by a clock that is set by hand."""

import pytest

from sfumato.training.clock import CLOSING, MEASURING, WRITING, Clock
from sfumato.training.closing import CHOSEN, MEASURED, in_time, shared_out
from sfumato.training.held_out import FIRST, GROWTH, IMAGES_PER_SAMPLE, measure_due


class Now:
    seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


def test_a_budget_keeps_back_the_closing_and_what_comes_after(now: Now) -> None:
    clock = Clock(now.seconds + 100, 60.0, 0.0, lambda each: 600 * each, now)
    now.seconds += 10
    assert not clock.budget_over(64)  # there is always time for a step
    clock.steps_done(images=100)  # 0.1 s each, and a third of it forward
    assert clock.seconds_per_evaluation() == pytest.approx(1 / 30)
    # The closing may take CLOSING of the 10 s so far; 3 evaluations are less than that.
    assert clock.seconds_for_steps(3) == pytest.approx(100 - 10 - 20 - WRITING - 0.1)
    assert clock.seconds_for_steps(1_000) == pytest.approx(100 - 10 - 20 - WRITING - 10 * CLOSING)
    now.seconds += 69
    assert not clock.budget_over(0)
    now.seconds += 0.6
    assert clock.budget_over(0)
    assert clock.seconds_left(0.0, 0) == pytest.approx(100 - 79.6 - 20)


def test_without_a_budget_nothing_is_kept_back(now: Now) -> None:
    clock = Clock(None, 60.0, 5.0, now=now)
    now.seconds += 1_000
    clock.steps_done(1_000)
    assert not clock.budget_over(10**9)
    assert clock.can_measure(10**9)
    assert clock.fraction(0.25, 0) == 0.25
    assert clock.seconds_left(0.25, 30) == pytest.approx(3_000 + 10)  # 30 evaluations of a third of a second
    assert clock.trained() == 1_005


def test_what_is_measured_is_no_time_of_steps_and_says_what_an_evaluation_takes(now: Now) -> None:
    clock = Clock(now.seconds + 1_000, 60.0, 0.0, now=now)
    now.seconds += 100
    clock.steps_done(1_000)
    with clock.measuring(20):
        now.seconds += 1
    assert clock.stepping == 100
    assert clock.seconds_per_evaluation() == 0.05
    with clock.saving():
        now.seconds += 3
    now.seconds += 96
    clock.steps_done(1_000)
    assert clock.stepping == 196
    # 200 s are over: MEASURING of them are 4 s, of which 1 is spent.
    assert clock.can_measure(int((MEASURING * 200 - 1) / 0.05))
    assert not clock.can_measure(int((MEASURING * 200 - 1) / 0.05) + 1)


def test_all_measurements_take_a_twentieth_of_what_the_steps_take() -> None:
    seen, evaluations = 1_000_000, 0
    for images in range(FIRST, seen + 1, 100):
        if measure_due(images - 100, images):
            evaluations += MEASURED * max(images // IMAGES_PER_SAMPLE, 1)
    evaluations += (MEASURED + CHOSEN) * (seen // IMAGES_PER_SAMPLE)
    assert GROWTH > 1.2
    assert evaluations / (3 * seen) < 0.05


def test_a_measurement_comes_before_a_choice() -> None:
    assert shared_out(float("inf"), 100) == (100, 100)
    assert shared_out(10.0 * (MEASURED + CHOSEN), 100) == (10, 10)
    assert shared_out(1.9 * (MEASURED + CHOSEN), 100) == (int(1.9 * (MEASURED + CHOSEN) / MEASURED), 0)
    assert shared_out(float(MEASURED), 100) == (1, 0)
    assert shared_out(MEASURED - 1.0, 100) == (0, 0)


@pytest.mark.parametrize(
    ("evaluations", "samples"), [(1005.0, 25), (95.0, 2), (70.0, 0), (-30.0, 0), (1e9, 60), (1e300, 60)]
)
def test_an_average_is_chosen_by_as_many_samples_as_there_is_time_for(evaluations: float, samples: int) -> None:
    assert CHOSEN == 40
    assert in_time(60, evaluations) == samples
