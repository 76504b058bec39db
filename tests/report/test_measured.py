"""What was measured after training, figures as files, other runs beside a run, and how to go on."""

import csv
import hashlib
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from sfumato.report import write_report
from sfumato.report.drawings.vectors import _correlation
from sfumato.report.run import read_run
from sfumato.report.sections.next_steps import steps
from sfumato.runs.folder import RunFolder

from .conftest import SPECS, gallery, metrics, write_run
from .test_page import FEW, Page

NUMBERS = {"bits_per_dim": 3.25, "standard_error": 0.031, "method_error": 0.002}
LIKELIHOOD = {
    "data": "held-out <data>",
    "samples": 3,
    "density": False,
    "unit": "",
    "deviation": 1.0,
    "bits": [3.0, 3.25, 3.5],
    "bound": {**NUMBERS, "terms": {"prior": {**NUMBERS, "bits_per_dim": 0.25}, "steps": NUMBERS, "decoder": NUMBERS}},
    "flow": None,
    "against": None,
    "rate_distortion": {"logsnr": [-6.0, 0.0, 6.0], "t": [1.0, 0.5, 0.0], "rate": [0.0, 1.0, 3.0], "rmse": [1, 0.5, 0]},
}
CERTIFY = {
    "target": "run",
    "samples": 64,
    "deviation": 1.0,
    "budgets": [5, 10],
    "fine": {"rms": 1e-6, "median": 1e-7},
    "methods": [
        {
            "method": name,
            "stochastic": False,
            "entries": [
                {"budget": n, "evaluations": n, "rms": rms, "median": rms / 2} for n, rms in ((5, 0.1), (10, last))
            ],
        }
        for name, last in (("auto", 0.004), ("heun", 0.02))
    ],
}
EVALUATION = {
    "count": 500,
    "verdict": "No sign of copying & no all-clear.",
    "rows": [
        {
            "name": "sw",
            "title": "sliced Wasserstein",
            "space": "pixels",
            "value": 0.31,
            "low": 0.3,
            "high": 0.33,
            "real_value": 0.11,
            "real_low": 0.1,
            "real_high": 0.12,
            "better": "lower",
            "ideal": 0,
        }
    ],
}


def run_with(folder, name="image", **records):
    write_run(folder, SPECS[name], arrays=FEW if name == "image" else None)
    for record, content in records.items():
        (folder / f"{record}.json").write_text(json.dumps(content))
    return RunFolder(folder)


def test_measurements_are_shown_with_their_errors(tmp_path):
    run = run_with(tmp_path / "a", likelihood=LIKELIHOOD, certify=CERTIFY, evaluation=EVALUATION)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "3.2500 ± 0.031 bits per dimension for 3 samples of held-out <data>" in page.text
    assert "0.2500 ± 0.031" in page.text  # the term, not the sum
    assert "From 10 evaluations on, the root mean square error is below 1 %" in page.text
    assert "0.31 [0.3, 0.33]" in page.text
    assert "0.11 [0.1, 0.12]" in page.text
    assert "No sign of copying & no all-clear." in page.text


def test_what_was_measured_of_former_weights_is_left_out(tmp_path):
    run = run_with(tmp_path / "a", likelihood={**LIKELIHOOD, "weights": hashlib.sha256(b"now").hexdigest()})
    run.weights.write_bytes(b"now")
    assert read_run(run).measured["likelihood"]["samples"] == 3
    run.weights.write_bytes(b"later")
    read = read_run(run)
    assert read.measured == {}
    assert "former weights" in read.problems[0]


@pytest.mark.parametrize("name", ["likelihood", "certify", "evaluation"])
@pytest.mark.parametrize("content", [{"rows": 3, "bound": 7, "methods": [1]}, [1], "text"])
def test_a_damaged_measurement_leaves_a_page(tmp_path, name, content):
    run = run_with(tmp_path / "a", **{name: content})
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert f"{name}.json" in text
    assert "Training" in text


def test_figures_are_files_with_their_numbers(tmp_path):
    few = {name: values for name, values in gallery(SPECS["table"]).items() if name in ("samples", "real")}
    folder = write_run(tmp_path / "a", SPECS["table"], arrays=few)
    (folder / "figures").mkdir()
    (folder / "figures" / "former.svg").write_text("x")
    (folder / "figures" / "notes.txt").write_text("mine")
    write_report(RunFolder(folder))
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"loss.svg", "loss.png", "loss.csv", "marginals.svg", "correlations.png", "notes.txt"} <= names
    assert "former.svg" not in names
    svg = (folder / "figures" / "loss.svg").read_text()
    assert svg.startswith("<svg ")
    assert 'color="#' in svg  # currentColor has a value outside of a page
    with Image.open(folder / "figures" / "loss.png") as picture:
        assert picture.mode == "RGB"
    rows = list(csv.DictReader((folder / "figures" / "loss.csv").read_text().splitlines()))
    drawn = [(float(row["x"]), float(row["y"])) for row in rows if row["series"] == "held-out data"]
    known = [(row["images"], row["loss"]) for row in metrics() if row["kind"] == "held_out"]
    assert np.allclose(drawn, known)


def test_pictures_of_samples_are_files(tmp_path):
    folder = run_with(tmp_path / "a").path
    write_report(RunFolder(folder))
    assert (folder / "figures" / "samples_of_the_model.png").is_file()


def test_runs_stand_beside_each_other(tmp_path):
    run = run_with(tmp_path / "first", likelihood=LIKELIHOOD, evaluation=EVALUATION)
    other = run_with(tmp_path / "second", "line")
    html = write_report(run, others=[other]).read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert "first second data tiny digits tiny digits" in page.text
    assert "bits per dimension (bound) 3.25 ± 0.031 –" in page.text
    assert "sliced Wasserstein in pixels 0.31 –" in page.text
    assert "cannot be compared" not in page.text  # one fingerprint
    assert len(set(page.ids)) == len(page.ids)


def test_the_next_commands_are_those_that_are_missing(tmp_path):
    done = metrics(4)  # the loss falls to the end
    folder = write_run(tmp_path / "a", SPECS["image"], rows=done, arrays=FEW)
    assert [verb for verb, _ in steps(read_run(RunFolder(folder)))][:3] == [
        "train --budget 10m --resume",
        "sample",
        "evaluate",
    ]
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    assert "evaluate" not in [verb for verb, _ in steps(read_run(RunFolder(folder)))]
    killed = write_run(tmp_path / "b", SPECS["image"], rows=metrics()[:-1], arrays=FEW)
    assert steps(read_run(RunFolder(killed)))[0][0] == "train --resume"


def test_correlations_are_those_of_numpy():
    values = np.random.default_rng(0).standard_normal((200, 4)) @ np.random.default_rng(1).standard_normal((4, 4))
    assert _correlation(values) == pytest.approx(np.corrcoef(values.T))
    values[:, 2] = 3.0
    assert np.isfinite(_correlation(values)).all()


def test_few_features_have_no_marginals(tmp_path):
    folder = write_run(tmp_path / "a", SPECS["plane"], arrays=gallery(SPECS["plane"]))
    write_report(RunFolder(folder))
    assert not (folder / "figures" / "marginals.svg").exists()


def test_the_card_has_metadata_and_every_number(tmp_path):
    run = run_with(tmp_path / "a", likelihood=LIKELIHOOD, evaluation=EVALUATION)
    write_report(run)
    card = run.card.read_text()
    _, metadata, body = card.split("---\n", 2)
    found = yaml.safe_load(metadata)
    assert found["pipeline_tag"] == "unconditional-image-generation"
    (model,) = found["model-index"]
    metrics = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert metrics == {
        "held-out loss": pytest.approx(0.54),
        "bits per dimension (bound)": 3.25,
        "sliced Wasserstein (pixels)": 0.31,
    }
    assert "| sliced Wasserstein (pixels) | 0.31 |" in body
    assert "| a result | 0.91 |" in body


def test_a_card_of_somebody_else_stays(tmp_path):
    run = run_with(tmp_path / "a")
    run.card.write_text("my own words")
    write_report(run)
    assert run.card.read_text() == "my own words"
