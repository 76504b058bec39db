"""Reading run folders, whole and damaged."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.report.run import Run, number, series
from sfumato.report.run import read_run as read
from sfumato.runs.folder import RunFolder

from .conftest import SPECS, gallery, metrics, write_run

SPEC = SPECS["image"]


def read_run(folder: Path) -> Run:
    return read(RunFolder(folder))


def test_a_whole_run(tmp_path, any_spec):
    run = read_run(write_run(tmp_path, any_spec))
    rows = metrics()
    assert run.spec == any_spec
    assert run.train == [row for row in rows if row["kind"] == "train"]
    assert run.held_out == [row for row in rows if row["kind"] == "held_out"]
    assert run.stop == rows[-1]
    assert run.results == [("a result", "0.91")]
    assert run.sampler["evaluations"] == 50
    assert run.problems == []
    expected = gallery(any_spec)
    assert run.gallery.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(run.gallery[name], array)


def test_an_empty_run(tmp_path):
    run = read_run(write_run(tmp_path, SPEC, rows=[], arrays={}, results=[]))
    assert (run.train, run.held_out, run.stop, run.gallery, run.results, run.problems) == ([], [], None, {}, [], [])


def test_the_process_is_the_recipe_s(tmp_path):
    run = read_run(
        write_run(tmp_path, SPEC, overrides=["process.schedule.kind=cosine-betas", "process.schedule.steps=7"])
    )
    # Nichol & Dhariwal 2021, eq. 17, at the middle of the chain's first step
    alpha_bar = [math.cos((k / 7 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(2)]
    assert float(run.process.level(1 / 7).alpha) ** 2 == pytest.approx(alpha_bar[1] / alpha_bar[0], rel=1e-9)


def test_half_a_last_line_is_ignored_and_a_bad_one_inside_is_told(tmp_path):
    folder = write_run(tmp_path, SPEC)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], lines[2][:20]]))
    run = read_run(folder)
    assert len(run.train) == len(run.held_out) == 1
    assert run.problems == []
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], "{broken", "[1]", "", lines[1], lines[2][:20]]))
    run = read_run(folder)
    assert len(run.train) == len(run.held_out) == 1
    assert run.problems == ["metrics.jsonl: 2 of 6 lines could not be read and are left out."]


def test_unknown_kinds_and_keys_are_ignored(tmp_path):
    rows = [{"kind": "weather", "rain": 1}, {"kind": "train", "images": 5, "loss": 0.5, "mood": "good"}]
    run = read_run(write_run(tmp_path, SPEC, rows=rows))
    assert len(run.train) == 1
    assert run.problems == []


def test_numbers_that_are_none(tmp_path):
    rows = [{"kind": "train", "loss": math.nan}, {"kind": "train", "loss": math.inf}, {"kind": "train", "loss": "x"}]
    run = read_run(write_run(tmp_path, SPEC, rows=[*rows, {"kind": "train", "loss": True}, {"kind": "train"}]))
    np.testing.assert_array_equal(series(run.train, "loss"), [math.nan, math.inf, math.nan, math.nan, math.nan])
    assert number({"a": 3}, "a") == 3.0


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, r"config\.json: format 1, "),
        ({"format": None}, r"config\.json: .*no format"),
        ({"recipe": None}, r"config\.json: .*no .*recipe"),
        ({"data": [1]}, r"config\.json: .*data contract: expected a JSON object, found list"),
        ({"data": {"layout": "image"}}, "data contract: missing keys"),
        ({"recipe": {"proces": {}}}, r"config\.json: .*'proces'"),
        ({"recipe": {"process": {"schedule": {"kind": "linear-betas", "last": 2.0}}}}, r"process\.schedule\.last"),
    ],
)
def test_a_config_that_is_not_one_is_refused_in_one_line(tmp_path, changes, message):
    folder = write_run(tmp_path, SPEC)
    edited(folder, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "\ufffd", "[]"])
def test_a_config_that_is_not_json_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe" if content == "\ufffd" else content.encode())
    with pytest.raises(InputError, match=r"config\.json: (damaged or not JSON|not a Sfumato model)"):
        read_run(tmp_path)


@pytest.mark.parametrize(("folder", "complaint"), [(".", r"no config\.json"), ("nowhere", "no such folder")])
def test_a_folder_without_config_is_refused(tmp_path, folder, complaint):
    with pytest.raises(InputError, match=complaint):
        read_run(tmp_path / folder)


def test_a_damaged_gallery_is_told(tmp_path):
    folder = write_run(tmp_path, SPEC)
    path = folder / "gallery.npz"
    whole, plain = path.read_bytes(), io.BytesIO()
    np.save(plain, np.ones(3))
    start = whole.index(b"samples.npy") + 200  # inside the first array's numbers
    for content in (b"", b"PK\x03\x04 no", whole[:900], plain.getvalue(), whole[:start] + b"!!!!" + whole[start + 4 :]):
        path.write_bytes(content)
        run = read_run(folder)
        assert run.gallery == {}
        (problem,) = run.problems
        assert problem.startswith("gallery.npz could not be read")


def test_arrays_that_do_not_fit_are_left_out(tmp_path):
    arrays = gallery(SPEC)
    arrays["real"] = np.zeros((3, 1, 5, 5))
    arrays["trajectory_x"] = arrays["trajectory_x"][0]
    arrays["distances"] = np.array([0.1, np.nan])
    arrays["held_out_distances"] = np.empty(0)
    arrays["neighbours"] = np.array([["a"]])
    arrays["something"] = np.ones(3)
    run = read_run(write_run(tmp_path, SPEC, arrays=arrays))
    assert run.gallery.keys() == {"samples", "trajectory_t", "trajectory_logsnr", "trajectory_x_0"}
    assert sorted(problem.split(":")[1].split()[0] for problem in run.problems) == [
        "distances",
        "neighbours",
        "real",
        "trajectory_x",
    ]


def test_pickles_in_a_gallery_are_not_opened(tmp_path):
    folder = write_run(tmp_path, SPEC, arrays={})
    np.savez(folder / "gallery.npz", samples=np.array([{"a": 1}], dtype=object))
    run = read_run(folder)
    assert run.gallery == {}
    assert "gallery.npz could not be read" in run.problems[0]


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"rows": 3}', '{"rows": [{"label": "a"}]}', '{"rows": ["a"]}'])
def test_damaged_results_are_told(tmp_path, content):
    folder = write_run(tmp_path, SPEC)
    (folder / "results.json").write_text(content)
    run = read_run(folder)
    assert run.results == []
    (problem,) = run.problems
    assert problem.startswith("results.json: ")
