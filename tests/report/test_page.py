"""The page: whole, closed in itself, safe, and honest about what is missing."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato import recipes
from sfumato.report import figures, grid, write_report
from sfumato.report.run import Run
from sfumato.report.run import read_run as read_folder
from sfumato.report.sections import run as about
from sfumato.report.sections import samples, training
from sfumato.report.sections.samples import copying
from sfumato.runs.folder import RunFolder

from .conftest import SPECS, gallery, metrics, write_run

FEW = {"samples": gallery(SPECS["image"])["samples"]}  # a gallery that costs little to draw
VOID = {"meta", "img", "source", "col", "br", "hr", "link", "input"}
MEASURED_LATER = {"Is it any good", "How likely data is", "What more evaluations buy", "How to go on"}
NO_TEXT = {"style", "title"}


@pytest.fixture(scope="module", autouse=True)
def no_files_of_figures():
    """Figures as files, which test_measured.py looks at, take as long as the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "collecting", lambda: False)
        yield


class Page(HTMLParser):
    """What a reader and a browser find: tags that balance, every reference, ids, text by section."""

    def __init__(self, html):
        super().__init__()
        self.open, self.references, self.ids, self.tags, self.images = [], [], [], [], []
        self.words = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.look(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        self.look(tag, attributes)

    def look(self, tag, attributes):
        given = dict(attributes)
        assert len(given) == len(attributes), f"an attribute twice in {tag}"
        self.tags.append(tag)
        for key in ("src", "href", "srcset", "xlink:href", "action", "data", "poster"):
            if key in given:
                self.references.append(given[key])
        self.references += re.findall(r"url\(([^)]*)\)", given.get("style", "") + given.get("clip-path", ""))
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "img":
            self.images.append(given)
        assert not any(key.startswith("on") for key in given)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not NO_TEXT & set(self.open) and "svg" not in self.open:
            self.words.append(data)


def read(folder):
    path = write_report(RunFolder(folder))
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def read_run(folder: Path) -> Run:
    return read_folder(RunFolder(folder))


def decoded(uri):
    head, _, content = uri.partition(";base64,")
    assert head in ("data:image/png", "data:image/webp")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def headings(html):
    return re.findall(r"<h[12]>(.*?)</h[12]>", html)


@pytest.fixture(scope="module", params=["image", "signal", "table"])
def report(request, tmp_path_factory):
    spec = SPECS[request.param]
    return spec, *read(write_run(tmp_path_factory.mktemp(request.param), spec))


def test_the_page_is_whole(report):
    _, html, page = report
    assert page.open == []
    assert html.startswith("<!doctype html>")
    assert headings(html) == [
        "tiny digits",
        "Samples",
        "Is it any good",
        "Results",
        "Nearest training samples",
        "From noise to data",
        "How likely data is",
        "What more evaluations buy",
        "Training",
        "The process",
        "How to go on",
    ]
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_the_page_needs_nothing_else(report):
    _, html, page = report
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.references
    for reference in page.references:
        assert reference.startswith(("data:image/", "#")), reference[:80]
    assert "@import" not in html
    outside = re.findall(r"https?://[^\s\"'<]+", html)
    assert set(outside) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, never fetched


def test_ids_are_unique_and_references_inside_resolve(report):
    _, _, page = report
    assert len(set(page.ids)) == len(page.ids)
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= set(page.ids)


def test_every_image_says_what_it_is(report):
    _, _, page = report
    for image in page.images:
        assert image["alt"]
        assert decoded(image["src"]).size == (int(image["width"]), int(image["height"]))


def test_the_facts(report):
    spec, _, page = report
    noun = "images" if spec is SPECS["image"] else "samples"
    for fact in (
        f"{noun} seen 7,680",
        "steps 60",
        "wall-clock time 2 min 0 s",
        f"{noun} per second 64",  # the median of 61 to 66, rounded to even
        "samples in the data 50 10% held out",
        f"best held-out loss 0.5 at 5,120 {noun}",
        "last held-out loss 0.54",
        "12,345 parameters",
        "recipe custom",
    ):
        assert fact in page.text, fact
    assert f"held-out loss is 25% above the loss on training data; it was lowest, 0.5, at 5,120 {noun}." in page.text


def test_the_movie_moves_and_loops_and_has_a_still(report):
    _, html, page = report
    moving = [decoded(image["src"]) for image in page.images if getattr(decoded(image["src"]), "n_frames", 1) > 1]
    (movie,) = moving
    assert movie.n_frames == 4
    assert movie.info["loop"] == 0
    (still,) = re.findall(r'<source media="print, \(prefers-reduced-motion: reduce\)" srcset="([^"]+)"', html)
    movie.seek(3)
    last, still = (np.asarray(picture.convert("RGBA")) for picture in (movie, decoded(still)))
    assert np.array_equal(last[..., 3], still[..., 3])
    assert np.array_equal(last[still[..., 3] > 0], still[still[..., 3] > 0])  # what is transparent has no colour


def test_images_are_shown_exactly(tmp_path):
    spec = SPECS["image"]
    _, page = read(write_run(tmp_path, spec, rows=[]))
    arrays = gallery(spec)
    found = {image["alt"]: decoded(image["src"]) for image in page.images}
    for alt, name in (("Samples of the model", "samples"), ("Real data", "real")):
        expected = np.asarray(grid(arrays[name], spec, clear=True))
        assert np.array_equal(np.asarray(found[alt].convert("LA")), expected)
    movie = next(picture for alt, picture in found.items() if alt.startswith("Animation"))
    for k in range(4):
        movie.seek(k)
        both = np.concatenate([arrays["trajectory_x"][k], arrays["trajectory_x_0"][k]])
        shown, expected = np.asarray(movie.convert("RGBA")), np.asarray(grid(both, spec, 3, clear=True).convert("RGBA"))
        assert np.array_equal(shown[..., 3], expected[..., 3])
        assert np.array_equal(shown[shown[..., 3] > 0], expected[shown[..., 3] > 0])
    # The five pairs, in order, each at its own pixels.
    alone = [image for image in page.images if image["class"] == "crisp"]
    for k in range(5):
        for image, name in zip(alone[2 * k : 2 * k + 2], ("samples", "neighbours"), strict=True):
            expected = np.asarray(grid(arrays[name][k : k + 1], spec, scale=1))
            assert np.array_equal(np.asarray(decoded(image["src"])), expected)
    # Two trajectories: a row of states, clipped to black and white, and a row of estimates; all four levels.
    assert len(alone) == 10 + 2 * 2 * 4
    strip = alone[10:14]
    for image, state in zip(strip, arrays["trajectory_x"], strict=True):
        assert np.array_equal(np.asarray(decoded(image["src"])), np.asarray(grid(state[:1], spec, scale=1)))
    assert strip[0]["alt"] == "state at log-SNR −9.0"
    assert strip[-1]["alt"] == "state at log-SNR ∞"


def test_what_is_read_is_escaped(tmp_path):
    nasty = '<script>alert("1")</script> & <b>'
    spec = replace(SPECS["image"], source=nasty, class_names=("<i>", "b"), channels=("<u>",))
    folder = write_run(
        tmp_path / "a <b> & c",
        spec,
        overrides=['data.key="<s>"'],
        results=[{"label": "<em>x", "value": "</table>"}],
        rows=[*metrics()[:-1], {"kind": "stop", "images": 9, "reason": "<q>"}],
    )
    (folder / "gallery.json").write_text(json.dumps({"sampler": "<ddim>", "steps": "<5>"}))
    html, page = read(folder)
    assert page.open == []
    assert not {"script", "b", "i", "u", "s", "em", "q", "ddim"} & set(page.tags)
    assert headings(html)[0] == "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &lt;b&gt;"
    for shown in (nasty, "<i> (20)", "<u>", "<em>x", "</table>", "<s>", "<ddim>", "a <b> & c"):
        assert shown in page.text


def test_a_page_tells_nobody_where_the_run_lies(tmp_path):
    html, page = read(write_run(tmp_path / "my run", SPECS["image"], arrays={}))
    assert str(tmp_path) not in html
    assert "sfumato report 'my run'" in page.text


@pytest.mark.parametrize(
    ("parts", "gone", "sentences"),
    [
        (
            {"arrays": {}},
            {"Nearest training samples", "From noise to data"},
            ["No samples, nearest training samples or trajectories yet. sfumato report run creates them."],
        ),
        ({"rows": []}, set(), ["No measurements in metrics.jsonl yet. sfumato train --resume run creates them."]),
        (
            {"rows": [row for row in metrics() if row["kind"] == "train"]},
            set(),
            [
                "No held-out measurements yet. sfumato train --resume run creates them.",
                "Training is still running, or was killed. sfumato train --resume run continues from",
            ],
        ),
        ({"rows": [row for row in metrics() if row["kind"] != "train"]}, set(), []),
        (
            {"rows": [*metrics()[:5], {"kind": "stop", "reason": "interrupted"}]},
            set(),
            ["Training was interrupted. sfumato train --resume run continues where it stopped"],
        ),
        (
            {"rows": [*metrics()[:5], {"kind": "stop", "reason": "non-finite"}]},
            set(),
            ["because the loss was not finite"],
        ),
        ({"rows": [], "arrays": {}}, {"Nearest training samples", "From noise to data"}, []),
    ],
)
def test_what_is_missing_shrinks_to_a_sentence(tmp_path, parts, gone, sentences):
    html, page = read(write_run(tmp_path / "run", SPECS["image"], **{"results": [], "arrays": FEW, **parts}))
    assert page.open == []
    everything = ["Samples", "Nearest training samples", "From noise to data", "Training", "The process"]
    own = [title for title in headings(html)[1:] if title not in MEASURED_LATER]
    assert own == [title for title in everything if title not in gone]
    for sentence in sentences:
        assert sentence in page.text
    whole = "is still running" in page.text or "was interrupted" in page.text
    assert whole == (bool(parts.get("rows")) and parts["rows"][-1].get("reason") not in ("budget", "non-finite"))


@pytest.mark.parametrize("spec", [SPECS["image"], SPECS["line"]], ids=["image", "line"])
@pytest.mark.parametrize(
    ("names", "section", "sentence"),
    [
        (["samples"], samples.samples, "No samples yet. <code>sfumato report run</code> creates them."),
        (["neighbours"], samples.nearest, "No nearest training samples yet. <code>sfumato report run</code>"),
        (["distances"], samples.nearest, "No nearest training samples yet"),
        (["trajectory_x_0"], samples.trajectory, "No trajectories yet. <code>sfumato report run</code>"),
        (["trajectory_logsnr"], samples.trajectory, "No trajectories yet"),
        (["held_out_distances"], samples.nearest, "There is no held-out data to compare it with"),
        (["real"], samples.samples, "Drawn with ddim, 50 steps, eta 0, 50 evaluations, seed 0, 1.25 s in total"),
    ],
)
def test_a_gallery_in_part(tmp_path, spec, names, section, sentence):
    arrays = {name: array for name, array in gallery(spec).items() if name not in names}
    html = section(read_run(write_run(tmp_path / "run", spec, arrays=arrays)))
    assert sentence in html
    assert Page(html).open == []


def test_numbers_that_are_not_finite_do_not_break_the_page(tmp_path):
    rows = metrics()
    rows[0]["loss"] = rows[2]["images_per_second"] = math.nan
    rows[1]["loss"] = rows[3]["train_loss"] = math.inf
    rows[3]["levels"][0]["loss"] = math.nan
    rows[-2]["loss"] = math.nan
    rows[-2]["levels"] = [{"t": 0.5, "logsnr": math.nan, "loss": math.inf}]
    arrays = gallery(SPECS["plane"])
    arrays["samples"][0] = np.nan
    arrays["trajectory_x"][0, 0] = np.inf
    arrays["trajectory_x_0"][:, 1] = np.nan
    folder = write_run(tmp_path, SPECS["plane"], rows=rows, arrays=arrays)
    assert "NaN" in (folder / "metrics.jsonl").read_text()
    _, page = read(folder)
    assert page.open == []
    assert "last held-out loss not finite" in page.text
    assert "best held-out loss 0.5 at 5,120 samples" in page.text


def test_only_bad_numbers(tmp_path):
    rows = [
        {"kind": "train", "images": math.nan, "loss": math.nan},
        {"kind": "held_out", "loss": math.nan, "levels": []},
    ]
    _, page = read(write_run(tmp_path, SPECS["image"], rows=rows, arrays={}))
    assert page.open == []
    assert "best held-out loss" not in page.text


def test_the_cost_of_a_short_chain_is_told(tmp_path):
    """L_T of linear betas from 1e-4 to 0.02 in 100 steps, by Ho et al.'s formula on the product of 1 - beta."""
    html = training.process(read_run(write_run(tmp_path, SPECS["image"], overrides=["process.schedule.steps=100"])))
    text = Page(html).text
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 100))
    second_moment = SPECS["image"].second_moment
    bits = 0.5 * (1 - alpha_bar + alpha_bar * second_moment - 1 - math.log(1 - alpha_bar)) / math.log(2)
    assert f"costs L T = {bits:.2g} bits/dim." in text
    assert f"still has {math.sqrt(alpha_bar):.2g} of the signal" in text
    assert "use more steps, a larger last beta, or cosine betas." in text
    assert html.count('class="note"') == 1


def test_a_long_chain_costs_nothing(tmp_path):
    html = training.process(read_run(write_run(tmp_path, SPECS["image"])))
    assert "bits/dim, which is negligible." in html
    assert 'class="note"' not in html


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.1, "far closer to the training data than new real data is: the model copies"),
        (0.7, "closer to the training data than new real data is: some may be near-copies"),
        (1.0, "as far from the training data as new real data is: there is no sign of copying"),
        (2.0, "farther from the training data than new real data is: there is no sign of copying, but"),
    ],
)
def test_the_verdict_follows_the_medians(factor, words):
    held_out = np.array([0.1, 0.2, 0.3, 0.4, 50.0])
    sentence = copying(factor * held_out, held_out, 0.9)
    assert words in sentence
    assert f"is {0.3 * factor:.3g}; of 5 held-out real ones it is 0.3 " in sentence


def test_what_is_no_sample_yet_gets_no_all_clear():
    held_out = np.array([0.1, 0.2, 0.3, 0.4, 50.0])
    for factor in (0.7, 1.0, 2.0):
        assert "says nothing about copying" in copying(factor * held_out, held_out, 0.2)
    assert "the model copies" in copying(0.1 * held_out, held_out, 0.2)


def test_a_verdict_on_copies_of_copies():
    zeros = np.zeros(3)
    assert "no sign of copying" in copying(zeros, zeros)
    assert "the model copies" in copying(zeros, np.ones(3))
    assert "farther" in copying(np.ones(3), zeros)


def test_recipe_and_contract_are_there(tmp_path):
    run = read_run(write_run(tmp_path, SPECS["image"], overrides=["training.learning_rate=0.0005"]))
    text = Page(about.details(run)).text
    assert "learning_rate: 0.0005" in text
    for row in (
        "shape, channels first 1 × 4 × 6",
        "range 0 to 16",
        "levels per value 17",
        "classes zero (20), one (30)",
    ):
        assert row in text


def test_writing_again_replaces_the_page_and_leaves_nothing_else(tmp_path):
    folder = write_run(tmp_path, SPECS["image"], rows=[], arrays={})
    before = {path.name for path in folder.iterdir()}
    (folder / "report.html").write_text("old")
    html, _ = read(folder)
    assert html.startswith("<!doctype html>")
    assert {path.name for path in folder.iterdir()} == before | {"report.html", "figures", "README.md"}
    again, _ = read(folder)
    assert again == html


def test_the_page_of_the_demo_s_size_is_small(tmp_path):
    spec = replace(SPECS["image"], shape=(1, 8, 8))
    folder = write_run(tmp_path, spec, arrays=gallery(spec, n=64, m=16, frames=24, j=8), rows=[])
    assert write_report(RunFolder(folder)).stat().st_size < 500_000


def test_large_colour_images_stay_affordable(tmp_path):
    """Pictures with the spectrum of photographs, 1/f, and the worst of movies: half of it is noise.

    Raw, the movie of 6 frames has 3.7 MB and the 60 cells, at most 128 pixels wide, 2.9 MB. Half of the first is noise,
    of which a quarter is left at quality 70; of photographs a tenth is left at quality 88: 0.9 MB, and a third more as
    base64.
    """
    spec = replace(SPECS["image"], shape=(3, 160, 160), channels=("red", "green", "blue"))
    random = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(160), np.fft.fftfreq(160))) + 1 / 160

    def photos(*leading):
        waves = np.fft.fft2(random.standard_normal((*leading, 3, 160, 160))) / frequency
        return np.clip(8 + 0.1 * np.fft.ifft2(waves).real, 0, 16).astype(np.float32)

    arrays = {"samples": photos(12), "neighbours": photos(12), "distances": np.ones(12)}
    arrays |= {"trajectory_x": random.uniform(0, 16, (6, 4, 3, 160, 160)), "trajectory_x_0": photos(6, 4)}
    arrays["trajectory_logsnr"] = np.linspace(-9, 9, 6)
    folder = write_run(tmp_path, spec, arrays=arrays, rows=[])
    assert write_report(RunFolder(folder)).stat().st_size < 1_300_000


def test_the_page_of_a_hierarchy_shows_what_it_has(tmp_path):
    spec = SPECS["image"]
    arrays = {name: value for name, value in gallery(spec).items() if not name.startswith("trajectory")}
    rows = metrics()
    for row in rows:
        if row["kind"] == "held_out":
            row["levels"] = [{"loss": row["loss"], "error": 0.01, "train_loss": row["train_loss"]}]
    folder = write_run(tmp_path, spec, rows=rows, arrays=arrays)
    config = json.loads((folder / "config.json").read_text())
    config["recipe"] = recipes.read("mhvae").resolved(spec).model_dump(mode="json")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "gallery.json").write_text(json.dumps({"latents": 1, "seed": 4, "seconds": 0.5}))
    html, _ = read(folder)
    assert "Drawn with 1 latent, seed 4, 0.5 s in total" in html
    assert "with their random latents" in html
    assert "negative ELBO, nats per dimension" in html
    for absent in ("From noise to data", "The process", "Loss by noise level", "noise level", "trajector", "objective"):
        assert absent not in html


@pytest.mark.parametrize(("overrides", "name"), [([], "loss"), (["objective.kind=bound"], "negative ELBO")])
def test_the_loss_is_called_what_it_is(tmp_path, overrides, name):
    assert read_run(write_run(tmp_path, SPECS["image"], overrides=overrides)).loss_name.startswith(name)


def test_what_the_loss_looks_at_is_shown_where_it_was_recorded(tmp_path):
    pairs = [[9.0 - 0.5 * k, math.exp(-((k - 15) ** 2) / 50)] for k in range(30)]
    row = {"kind": "held_out", "images": 64, "step": 1, "seconds": 1.0, "loss": 1.0, "train_loss": 1.0, "levels": []}
    for name, relative_weight, shown in (("a", pairs, True), ("b", [], False), ("c", [[1.0, "x"], [2.0, 1.0]], False)):
        run = write_run(tmp_path / name, SPECS["image"], rows=[{**row, "relative_weight": relative_weight}])
        assert ("How the loss weights noise levels" in training.process(read_run(run))) == shown


def test_the_average_that_was_taken_is_named(tmp_path):
    spec = SPECS["plane"]
    row = {"kind": "average", "images": 100, "width": 0.1, "bounds": [[0.05, 1.90432], [0.1, 1.90028]]}
    html = training.training(read_run(write_run(tmp_path / "a", spec, rows=[*metrics(), row], arrays={})))
    assert "10%, chosen" in html
    assert "1.9003 nats per dimension" in html
    rows = [*metrics(), {**row, "bounds": "none"}]
    html = training.training(read_run(write_run(tmp_path / "b", spec, rows=rows, arrays={})))
    assert "chosen" not in html
