"""The learning rate of a planned run, against straight lines computed by hand, and the legs of a run that goes on."""

import math

import pytest

from sfumato.recipes.recipe import TrainingSection
from sfumato.training.optimizer import learning_rate
from sfumato.training.schedule import LEAST, REWARMING, Schedule

SETTINGS = TrainingSection(batch=10, learning_rate=1.0, warmup=100, cooldown=0.5)


def rate(images: int, schedule: Schedule) -> float:
    return learning_rate(SETTINGS, images, 0, schedule)


def test_it_rises_stays_and_falls_to_the_end() -> None:
    schedule = Schedule().until(1000, 0)
    rates = [rate(images, schedule) for images in (50, 100, 300, 500, 750, 990, 1000)]
    # The last step, which brings the count from 990 to 1000, has the rate of 990.
    assert rates == pytest.approx([0.5, 1, 1, 1, 0.52, 0.04, 0.02])
    assert rate(1200, schedule) == LEAST


def test_without_a_cooldown_nothing_changes() -> None:
    settings = SETTINGS.model_copy(update={"cooldown": 0.0})
    schedule = Schedule().until(1000, 0)
    assert learning_rate(settings, 1000, 0, schedule) == 1
    assert rate(990, Schedule()) == 1  # the end is not known


def test_a_forecast_is_corrected_within_its_leg() -> None:
    schedule = Schedule().until(1000, 0).until(2000, 400)
    assert schedule.legs == ((0, 2000),)
    assert schedule.until(300, 500).legs == ((0, 501),)  # it ends now


def test_going_on_is_another_leg_with_a_lower_peak() -> None:
    done = Schedule().until(1000, 0).ended(940)
    assert done.ended(940) == done
    further = done.until(2000, 940)
    assert further.legs == ((0, 940), (940, 2000))
    assert rate(900, further) == rate(900, done)  # what was trained keeps its rates
    peak = math.sqrt(1060 / 2000)
    rising = round(940 + REWARMING * 1060 / 2)
    assert rate(rising, further) == pytest.approx((rising - 940) / (REWARMING * 1060) * peak)
    assert rate(1200, further) == pytest.approx(peak)
    assert rate(2000, further) == pytest.approx(peak * 10 / 530)
    assert further.until(3000, 1500).legs == ((0, 940), (940, 3000))


def test_it_survives_a_checkpoint() -> None:
    schedule = Schedule().until(1000, 0).ended(1000).until(1800, 1000)
    assert Schedule.of(schedule.to_list()) == schedule
