"""The verdict agrees with the numbers of the run, and says nothing without them."""

import json
import math

import numpy as np
import pytest

from sfumato.report.run import read_run
from sfumato.report.verdict import passes, trend, verdict
from sfumato.runs.folder import RunFolder

from .conftest import SPECS, gallery, write_run


def run_with(tmp_path, losses, good=None, images=1_000):
    """A run with these held-out losses (loss, error), at equal distances, and this share of good samples."""
    rows = [
        {"kind": "held_out", "images": images * (k + 1) // len(losses), "step": k, "loss": loss, "error": error}
        for k, (loss, error) in enumerate(losses)
    ]
    spec = SPECS["image"]
    folder = write_run(tmp_path, spec, rows=rows, arrays=gallery(spec, n=200))
    (folder / "gallery.json").write_text(json.dumps({} if good is None else {"good_samples": good}))
    return read_run(RunFolder(folder))


def test_passes_are_counted_over_what_is_trained_on(tmp_path):
    run = run_with(tmp_path, [(1.0, 0.1), (0.9, 0.1)])
    count = run.spec.count * 0.9
    assert passes(run) == pytest.approx(1_000 / count)
    assert f"seen each sample {1_000 / count:.2g} times" in " ".join(verdict(run))


@pytest.mark.parametrize(
    ("losses", "falls", "rises", "words"),
    [
        ([(1.0, 0.01), (0.8, 0.01), (0.6, 0.01)], True, False, "still falls: 0.8000 after 666 images, 0.6000 ± 0.0100"),
        ([(1.0, 0.01), (0.6, 0.2), (0.5, 0.2)], False, False, "has not fallen measurably since: 0.6000 after 666"),
        ([(1.0, 0.01), (0.5, 0.01), (0.7, 0.01)], False, True, "was lowest at 666 images, 0.5000, and is 0.7000"),
        ([(1.0, None), (0.5, None), (0.499, None)], False, False, "has not fallen measurably"),
        ([(-1.0, 0.01), (-1.2, 0.01), (-1.4, 0.01)], True, False, "still falls: -1.2000"),
    ],
)
def test_the_trend_follows_the_losses_and_their_errors(tmp_path, losses, falls, rises, words):
    run = run_with(tmp_path, losses)
    found = trend(run)
    assert (found.falls, found.rises) == (falls, rises)
    assert words in " ".join(verdict(run))


def test_losses_are_compared_sample_by_sample(tmp_path):
    """Losses of samples that differ by 0.5 hide a fall of 0.02 that every sample shows."""
    of_samples = np.random.default_rng(0).normal(1.0, 0.5, 64)
    rows = [
        {"kind": "held_out", "images": images, "loss": 1.0, "error": 0.06, "sample_losses": list(values)}
        for images, values in ((500, of_samples[:32]), (1_000, of_samples - 0.02 + 0.001 * np.arange(64) / 64))
    ]
    run = read_run(RunFolder(write_run(tmp_path, SPECS["image"], rows=rows)))
    assert trend(run).falls
    assert "lower by 0.02 ± 3e-05 on the same samples" in " ".join(verdict(run))


def test_noise_is_called_no_samples(tmp_path):
    falling = [(1.0, 0.01), (0.5, 0.01)]
    said = [verdict(run_with(tmp_path / str(good), falling, good))[0] for good in (0.0, 0.3, 0.8)]
    assert said[0] == "These are not yet samples: 200 of them reach as much real data as 0 real ones; train longer."
    assert said[1].startswith("The samples are rough: 200 of them reach as much real data as 60 real ones; train")
    assert said[2] == "The samples are near the data: 200 of them reach as much real data as 160 real ones."


def test_training_longer_is_not_advised_where_it_has_stopped_to_help(tmp_path):
    flat = run_with(tmp_path, [(0.5, 0.01), (0.5, 0.01)], good=0.3, images=10**6)
    assert "more training will not help much" in verdict(flat)[0]


def test_nothing_is_said_about_what_was_not_measured(tmp_path):
    spec = SPECS["image"]
    assert verdict(read_run(RunFolder(write_run(tmp_path / "a", spec, rows=[], arrays={})))) == []
    run = run_with(tmp_path / "b", [(math.nan, 0.1)])
    assert trend(run) is None
    assert not any("of them reach" in sentence for sentence in verdict(run))
    assert np.isfinite(passes(run))


def test_training_longer_is_not_advised_to_what_is_fitted_at_once(tmp_path):
    fitted = run_with(tmp_path, [], good=0.3)
    assert verdict(fitted)[0].endswith("as 60 real ones; try another recipe, or more data.")
