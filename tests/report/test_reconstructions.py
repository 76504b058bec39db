"""What was reconstructed with a model stands in its report, with its calibration."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from sfumato.report import write_report
from sfumato.runs.folder import RunFolder

from .conftest import SPECS, write_run
from .test_page import FEW, Page

WEIGHTS = b"weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
SCORES = {"method": "particles", "coverage": [0.4, 0.7, 0.85, 0.9], "uncertainty": 0.02}
CERTIFICATE = {
    "target": "run",
    "weights": DIGEST,
    "operator": "blur:1 <b>",
    "noise": 0.5,
    "levels": [0.5, 0.8, 0.9, 0.95],
    "twin": [{"method": name, "coverage": [0.5, 0.8, 0.9, 0.95]} for name in ("particles", "dps")],
    "held_out": {"scores": SCORES, "ranks": [0.2, 0.3, 0.3, 0.2]},
    "verdict": ["With the model, bands of 90 % cover 85 %: too narrow."],
}
RECORDS = {
    "reconstruct": {
        "settings": {"operator": "blur:1 <b>", "noise": "0.5"},
        "measurements": [{"p_value": 0.4, "evidence_p_value": None}, {"p_value": 0.003, "evidence_p_value": 0.25}],
        "method": "particles",
        "coverage": 0.9,
    },
    "denoise": {"settings": {}, "estimated": True, "samples": [{"sigma": 0.21}, {"sigma": 0.34}]},
    "interpolate": {"settings": {"frames": 9, "mode": "spherical", "at": 0.5}},
}


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path, SPECS["image"], arrays=FEW)
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    return tmp_path


def outcome(run, verb, weights=DIGEST):
    folder = run / f"{verb}-it"
    folder.mkdir()
    record = {"command": f"sfumato {verb} /home/me/run", "weights": weights, **RECORDS[verb]}
    (folder / "result.json").write_text(json.dumps(record))
    Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(folder / "picture.png")
    return folder


def page(run):
    path = write_report(RunFolder(run))
    return Page(path.read_text(encoding="utf-8"))


def test_a_run_without_reconstructions_has_no_section_of_them(run):
    assert "Reconstructions" not in page(run).text


def test_results_are_shown_with_what_they_are(run):
    for verb in RECORDS:
        outcome(run, verb)
    text = page(run).text
    assert "reconstruct: operator blur:1 <b>, noise 0.5, 2 measurements, particles. Least p-value" in text
    assert "of a residual: 0.003, of an evidence: 0.25; below 0.01" in text
    assert "denoise: 2 samples, estimated noise 0.21 to 0.34 in the units of the data." in text
    assert "interpolate: 9 frames, spherical, mixed at t = 0.5." in text
    assert "/home/me" not in text, "a page shows nobody how its author's machine is laid out"


def test_the_calibration_is_a_chart_with_its_verdict(run):
    (run / "certify-reconstruction.json").write_text(json.dumps(CERTIFICATE))
    found = page(run)
    assert "calibration" in found.ids
    assert CERTIFICATE["verdict"][0] in found.text
    numbers = (run / "figures" / "calibration.csv").read_text(encoding="utf-8")
    assert "particles, held-out data,0.9,0.85" in numbers.replace('"', "")


def test_what_was_made_with_former_weights_is_left_out(run):
    outcome(run, "denoise", weights="another")
    text = page(run).text
    assert "Reconstructions" not in text
    assert "denoise-it: made with former weights, so left out." in text


def test_damaged_results_leave_a_page(run):
    (outcome(run, "denoise") / "picture.png").write_bytes(b"no picture")
    (outcome(run, "interpolate") / "picture.png").unlink()
    (run / "certify-reconstruction.json").write_text(json.dumps({"weights": DIGEST}))
    text = page(run).text
    assert "denoise-it: its files cannot be read, so it is left out." in text
    assert "interpolate-it: its picture is gone." in text
    assert "certify-reconstruction.json: not as" in text
