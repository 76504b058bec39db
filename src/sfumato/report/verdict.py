"""What a run is worth, in sentences: how long it was, whether the held-out loss still falls, how good samples are.

The sentences stand at the top of a report and at the end of a training. They are made of what the run's files say, and
nothing that no measurement supports is said.
"""

import math
from dataclasses import dataclass

from . import text
from .run import Row, Run, number, series

NOISE, NEAR = (
    0.1,
    0.5,
)  # shares of good samples: below the first, samples say nothing; from the second on, they are near
FEW = 16  # samples by which nothing better is said than that they are none
SURE = 2.0  # standard errors
SMALL = 0.01  # a change of a loss, relative, that nobody sees


@dataclass(frozen=True)
class Trend:
    """The held-out loss at the end against that at about half of the images, and against the lowest.

    Arguments:
        before: the measurement at about half of the images.
        best: the one with the lowest loss.
        last: the last one.
    """

    before: Row
    best: Row
    last: Row

    @property
    def falls(self) -> bool:
        """Whether it still falls."""
        return _lower(self.last, self.before)

    @property
    def rises(self) -> bool:
        """Whether it has risen since it was lowest."""
        return _lower(self.best, self.last)

    def sentence(self, noun: str) -> str:
        """The trend in words."""
        now, was = number(self.last, "loss"), number(self.before, "loss")
        error = number(self.last, "error")
        at_end = f"{now:.4f}" + (f" ± {error:.4f}" if math.isfinite(error) else "")
        if self.rises:
            lowest, images = number(self.best, "loss"), text.count(number(self.best, "images"))
            return f"The held-out loss was lowest at {images} {noun}, {lowest:.4f}, and is {at_end} now: it over-fits."
        half = f"{was:.4f} after {text.count(number(self.before, 'images'))} {noun}"
        if self.falls:
            less, error = _difference(self.last, self.before)
            by = f", lower by {less:.2g} ± {error:.1g} on the same samples" if _losses(self.last) and error else ""
            return f"The held-out loss still falls: {half}, {at_end} at the end{by}."
        return f"The held-out loss has not fallen measurably since: {half}, {at_end} at the end."


def trend(run: Run) -> Trend | None:
    """The trend of the held-out loss; None with fewer than two measurements."""
    rows = [row for row in run.held_out if math.isfinite(number(row, "loss")) and number(row, "images") > 0]
    best = run.best_held_out()
    if best is None or len(rows) < 2:
        return None
    last = rows[-1]
    before = min(rows[:-1], key=lambda row: abs(math.log(2 * number(row, "images") / number(last, "images"))))
    return Trend(before, best, last)


def passes(run: Run) -> float:
    """How often training has seen each sample; NaN if unknown."""
    seen = max((number(row, "images") for row in (*run.train, *run.held_out)), default=math.nan)
    return seen / max(run.spec.count * (1 - run.recipe.training.held_out), 1)


def good_samples(run: Run) -> float:
    """The share of the samples that are as good as real ones, by nearest neighbours; NaN if unknown."""
    return number(run.sampler, "good_samples")


def verdict(run: Run) -> list[str]:
    """The sentences, the most important ones first. Empty for a run without measurements.

    Where the samples were evaluated, how good they are is said in the words of the evaluation.
    """
    seen, course, good = passes(run), trend(run), good_samples(run)
    judged = run.measured.get("evaluation", {}).get("judgement")
    found = []
    if isinstance(judged, str) and judged:
        found.append(judged)
    elif math.isfinite(good) and "samples" in run.gallery:
        found.append(_samples(good, len(run.gallery["samples"]), seen, course))
    if math.isfinite(seen):
        found.append(f"Training has seen each sample {text.figure(seen, 2)} times.")
    if course is not None:
        found.append(course.sentence(run.noun))
    return found


def _samples(good: float, count: int, seen: float, course: Trend | None) -> str:
    worth = f"{count} of them reach as much real data as {round(good * count)} real ones"
    if count < FEW and good >= NOISE:
        return f"{count} samples are too few to judge them; 'sfumato report' draws more."
    if good >= NEAR:
        return f"The samples are near the data: {worth}."
    if not math.isfinite(seen):  # a mixture or trees, which are fitted at once
        rest = "try another recipe, or more data"
    elif course is None or course.falls or seen < 20:
        rest = "train longer"
    else:
        rest = "more training will not help much; try a larger network, or more data"
    if good < NOISE:
        return f"These are not yet samples: {worth}; {rest}."
    return f"The samples are rough: {worth}; {rest}."


def _lower(row: Row, other: Row) -> bool:
    """Whether the loss of ``row`` is lower, by more than its error and by more than nobody sees."""
    less, error = _difference(row, other)
    return less > max(SURE * error, SMALL * abs(number(other, "loss")))


def _difference(row: Row, other: Row) -> tuple[float, float]:
    """(How much lower the loss of ``row`` is, the standard error of that): on the samples that both measured.

    The losses of samples differ far more than those of two moments of a run on the same sample.
    """
    ours, theirs = (series([{"x": x} for x in _losses(each)], "x") for each in (row, other))
    n = min(len(ours), len(theirs))
    if n > 1:
        less = theirs[:n] - ours[:n]
        return float(less.mean()), float(less.std(ddof=1) / math.sqrt(n))
    errors = [number(each, "error") for each in (row, other)]
    error = math.hypot(*(each for each in errors if math.isfinite(each)))
    return number(other, "loss") - number(row, "loss"), error


def _losses(row: Row) -> list[object]:
    found = row.get("sample_losses")
    return found if isinstance(found, list) else []
