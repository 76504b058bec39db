"""Figures as SVG: text, ids, colours, and that they show what they are given."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from sfumato.core import VE, VP, Cosine, Process, Straight, Tabulated, geometric, linear_betas
from sfumato.core import Logistic as FlowClock
from sfumato.data import Axis
from sfumato.report.charts import process as process_charts
from sfumato.report.charts import training
from sfumato.report.charts.distances import distances
from sfumato.report.drawings import drawing_of
from sfumato.report.drawings.base import Pairs, Path
from sfumato.report.drawings.plots import reach

from .conftest import SPECS, gallery, metrics, values

TRAIN = [row for row in metrics() if row["kind"] == "train"]
HELD_OUT = [row for row in metrics() if row["kind"] == "held_out"]
PROCESS = Process(VP(), Tabulated(linear_betas(50)))


def every_figure():
    signal, plane = SPECS["signal"], SPECS["plane"]
    paths = gallery(signal)
    return [
        training.loss_curves(TRAIN, HELD_OUT),
        training.loss_by_level(HELD_OUT),
        training.pace(TRAIN),
        *process_charts.process_charts(PROCESS),
        distances(np.linspace(0, 1, 9), np.linspace(1, 2, 9)),
        beside_real(values(plane, 20), values(plane, 20, 1), plane),
        inner_svg(drawing_of(plane).neighbours(pairs_of(plane), None, plane, "")),
        drawing_of(signal).strip(path_of(paths), None, signal),
    ]


def inner_svg(html):
    return html[html.index("<svg") : html.index("</svg>") + len("</svg>")]


def beside_real(some, real, spec):
    return inner_svg(drawing_of(spec).samples(some, real, spec, "caption"))


def pairs_of(spec):
    return Pairs(values(spec, 5), values(spec, 5, 1), np.ones(5))


def path_of(arrays):
    return Path(*(arrays[f"trajectory_{name}"] for name in ("x", "x_0", "logsnr")))


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def numbers(svg):
    return [float(text.replace("−", "-")) for text in texts(svg) if re.fullmatch(r"[−-]?[\d.]+", text)]


@pytest.fixture(scope="module")
def drawn():
    return every_figure()


def test_figures_are_well_formed_and_their_ids_are_their_own(drawn):
    seen = set()
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        name = root.get("id")
        ids = [node.get("id") for node in root.iter() if node.get("id")]
        assert len(set(ids)) == len(ids)
        assert not seen & set(ids)
        assert all(i == name or i.startswith(f"{name}-") for i in ids)
        seen |= set(ids)
        references = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert references
        assert set(references) <= set(ids)


def test_text_is_text_in_the_page_s_fonts_and_colour(drawn):
    for svg in drawn:
        assert texts(svg)
        assert "DejaVu" not in svg
        assert "currentColor" in svg
        # Nothing is painted black or white: either would vanish in one of the two colour schemes.
        assert not re.search(r"#(000000|010203|ffffff)\b", svg)
        for style in re.findall(r"<style[^>]*>(.*?)</style>", svg):
            assert style.startswith("#")


def test_figures_are_the_same_every_time(drawn):
    assert training.loss_curves(TRAIN, HELD_OUT) == drawn[0]
    assert beside_real(values(SPECS["plane"], 20), values(SPECS["plane"], 20, 1), SPECS["plane"]) == drawn[7]


def test_a_screen_reader_is_told(drawn):
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 20


def test_rows_that_are_not_finite_change_nothing():
    bad = [
        {"kind": "train", "images": 5000, "loss": math.nan},
        {"kind": "train", "images": math.inf, "loss": 0.1},
        {"kind": "train", "images": 6000, "loss": "?"},
        {"kind": "train", "loss": 0.1},
    ]
    train = [{"kind": "train", "images": 100 * k, "loss": 1 / k} for k in range(1, 100)]  # enough to be smoothed
    assert training.loss_curves(train[:50] + bad + train[50:], HELD_OUT) == training.loss_curves(train, HELD_OUT)


def test_each_curve_counts():
    whole = training.loss_curves(TRAIN, HELD_OUT)
    for train, held_out, gone in (
        (TRAIN, [], "held-out data"),
        ([], HELD_OUT, "training steps (smoothed)"),
        (TRAIN, [{k: v for k, v in row.items() if k != "train_loss"} for row in HELD_OUT], "training data"),
    ):
        part = training.loss_curves(train, held_out)
        assert gone in texts(whole)
        assert gone not in texts(part)


def test_the_loss_axis_is_logarithmic_where_that_helps():
    wide = [{**row, "loss": 10.0**-k} for k, row in enumerate(TRAIN)]
    ticks = [t for t in numbers(training.loss_curves(wide, [])) if 0 < t <= 1]
    assert {0.1, 0.01, 0.001} <= set(ticks)
    narrow = numbers(training.loss_curves([{**row, "loss": 0.5 + 0.01 * k} for k, row in enumerate(TRAIN)], []))
    assert {0.50, 0.52, 0.54} <= set(narrow)
    signed = [{**row, "loss": 3.0 - k} for k, row in enumerate(TRAIN)]
    assert min(numbers(training.loss_curves(signed, []))) <= -1


def test_a_single_measurement_is_not_compared_with_itself():
    twice = [HELD_OUT[-1], HELD_OUT[-1]]  # a run that stopped where it measured
    assert "held-out data, first" in texts(training.loss_by_level(HELD_OUT))
    for rows in (twice, twice[:1]):
        assert "held-out data, first" not in texts(training.loss_by_level(rows))
        assert "held-out data, last" in texts(training.loss_by_level(rows))


def test_smoothing_is_the_mean_of_what_is_near():
    x = np.random.default_rng(0).standard_normal(200)
    half = 5
    expected = [np.mean(x[max(0, i - half) : i + half + 1]) for i in range(200)]
    np.testing.assert_allclose(training.smoothed(x), expected, atol=1e-12)
    np.testing.assert_allclose(training.smoothed(x[:10]), x[:10], atol=1e-12)


def test_long_curves_stay_small():
    rows = [{"images": 128.0 * k, "loss": 1 + math.sin(k)} for k in range(20_000)]
    assert len(training.loss_curves(rows, [])) < 80_000


@pytest.mark.parametrize(
    ("process", "words"),
    [
        (PROCESS, "density of 50 levels"),
        (Process(VE(), geometric()), "density of times"),
        (Process(VP(), Cosine()), "density of times"),
        (Process(Straight(), FlowClock()), "density of times"),
    ],
)
def test_schedules_of_every_kind(process, words):
    scales, clock, density = process_charts.process_charts(process)
    assert {"α, signal", "σ, noise"} <= set(texts(scales))
    assert words in texts(density)
    # The ticks of the clock span its finite values within two of their steps.
    logsnr = process.level(torch.linspace(0, 1, 401, dtype=torch.float64)).logsnr.numpy()
    logsnr = logsnr[np.isfinite(logsnr)]
    ticks = np.unique(numbers(clock))
    spread = logsnr.max() - logsnr.min()
    assert ticks.min() < logsnr.min() + 0.3 * spread
    assert ticks.max() > logsnr.max() - 0.3 * spread


def test_the_levels_of_a_chain_are_marked_where_they_are():
    """The 50 marks stand at the log-SNRs of levels 1 to 50, by the product of 1 - beta; the axis is linear in them."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 50))
    root = ElementTree.fromstring(process_charts.process_charts(PROCESS)[2])
    svg = "{http://www.w3.org/2000/svg}"
    groups = [[float(use.get("x")) for use in group.iter(f"{svg}use")] for group in root.iter(f"{svg}g")]
    (marks,) = {tuple(group) for group in groups if len(group) == 50}
    logsnr = np.log(alpha_bar / (1 - alpha_bar))
    slope, intercept = np.polyfit(logsnr, marks, 1)
    np.testing.assert_allclose(slope * logsnr + intercept, marks, atol=1e-3)  # the SVG has six decimals


def test_an_unbounded_sigma_is_drawn_on_decades():
    assert {0.1, 1.0, 10.0} <= set(numbers(process_charts.process_charts(Process(VE(), geometric()))[0]))
    assert 10.0 not in numbers(process_charts.process_charts(PROCESS)[0])


def test_limits_cover_all_but_far_outliers():
    x = np.random.default_rng(0).uniform(-1, 1, 1000)
    low, high = reach(x)
    assert low < x.min()
    assert high > x.max()
    assert high - low < 1.1 * (x.max() - x.min())
    x[0] = 1e9
    assert reach(x)[1] < 2
    assert reach(np.array([np.nan, 3.0])) == (2.5, 3.5)
    assert reach(np.array([np.nan])) == (0, 1)


def test_plots_of_the_data_show_the_data():
    for name in ("signal", "line"):
        spec = SPECS[name]
        some, other = values(spec, 10), values(spec, 10, 1)
        assert beside_real(some, other, spec) != beside_real(other, some, spec)
        path, drawing = path_of(gallery(spec)), drawing_of(spec)
        strip = drawing.strip(path, None, spec)
        assert "log-SNR −9.0" in texts(strip)
        assert "log-SNR ∞" in texts(strip)
        assert strip != drawing.strip(Path(path.estimates, path.states, path.logsnr), None, spec)


def test_a_signal_is_drawn_over_its_axis():
    spec = replace(SPECS["signal"], axis=Axis(tuple(np.linspace(400, 620, 12).tolist()), "wavelength", "nm"))
    some, path = values(spec, 9), path_of(gallery(spec))
    drawing = drawing_of(spec)
    for drawn in (
        beside_real(some, values(spec, 9, 1), spec),
        inner_svg(drawing.neighbours(pairs_of(spec), None, spec, "")),
    ):
        assert "wavelength (nm)" in texts(drawn)
        assert {400.0, 600.0} <= set(numbers(drawn))
        assert "position" not in texts(drawn)
    assert 500.0 in numbers(drawing.strip(path, None, spec))
    plain = beside_real(some, None, SPECS["signal"])
    assert "position" in texts(plain)
    assert max(numbers(plain)) < 100


def test_a_shortened_path_keeps_its_ends_and_its_order():
    steps = np.arange(20.0)
    path = Path(steps[:, None] * np.ones((20, 3)), -steps[:, None] * np.ones((20, 3)), steps).at_most(6)
    assert path.logsnr.tolist() == [0, 4, 8, 11, 15, 19]
    assert np.array_equal(path.states[:, 0], path.logsnr)
    assert np.array_equal(path.estimates[:, 2], -path.logsnr)
    assert path.at_most(6).logsnr.tolist() == path.logsnr.tolist()
