"""Run folders: names, config.json and run.json read once, measurements by name."""

import json
from pathlib import Path

import pytest

from sfumato import InputError, Model, data, recipes
from sfumato.runs.folder import Goal, Origin, RunFolder


@pytest.fixture
def folder(tmp_path):
    spec = data.load("moons", data.DataOptions(count=64)).spec
    Model.fresh(recipes.read("ddpm"), spec).save_pretrained(tmp_path)
    return RunFolder(tmp_path)


def test_the_names_are_those_on_disk(folder):
    names = {path.name for path in folder.path.iterdir()}
    assert names == {folder.config_file.name, folder.weights.name, folder.card.name}
    assert str(folder) == str(folder.path)


def test_recipe_and_spec_are_those_of_the_model(folder):
    model = Model.from_pretrained(folder.path)
    assert folder.recipe() == model.recipe
    assert folder.spec() == model.spec


def test_another_format_is_refused_by_name(folder):
    config = json.loads(folder.config_file.read_text())
    folder.config_file.write_text(json.dumps({**config, "format": 99}))
    for read in (folder.config, folder.recipe, folder.spec):
        with pytest.raises(InputError, match=r"config\.json: format 99"):
            read()


def test_an_invalid_spec_is_refused_by_file(folder):
    config = json.loads(folder.config_file.read_text())
    folder.config_file.write_text(json.dumps({**config, "data": {}}))
    with pytest.raises(InputError, match=r"config\.json: "):
        folder.spec()


@pytest.mark.parametrize("goal", [Goal(steps=7), Goal(seconds=2.5), None])
def test_the_origin_is_read_as_it_was_written(tmp_path, goal):
    folder = RunFolder(tmp_path)
    folder.write_origin(Origin("/data/dots.npy", goal))
    assert folder.origin() == Origin("/data/dots.npy", goal)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"goal": {"steps": 3}}', '{"source": 3}', "\xff"], ids=lambda text: text or "empty"
)
def test_a_damaged_origin_is_refused_by_file(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.origin_file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"run\.json: "):
        folder.origin()


@pytest.mark.parametrize("goal", [3, {}, {"steps": "3"}, {"steps": 1, "seconds": 2}, {"days": 2}, {"steps": True}])
def test_a_goal_of_another_kind_is_none(tmp_path, goal):
    folder = RunFolder(tmp_path)
    folder.origin_file.write_text(json.dumps({"source": "moons", "goal": goal}))
    assert folder.origin() == Origin("moons", None)


def test_a_goal_is_one_of_two_numbers():
    for wrong in ({}, {"steps": 1, "seconds": 1.0}, {"steps": -1}):
        with pytest.raises(InputError, match="goal: "):
            Goal(**wrong)
    assert Goal(steps=5).flag() == "--steps 5"
    assert Goal(seconds=90.0).flag() == "--budget 90s"
    assert Goal(steps=5).after(3.0) == Goal(steps=5)
    assert Goal(seconds=5.0).after(3.0) == Goal(seconds=2.0)
    assert Goal(seconds=5.0).after(9.0) == Goal(seconds=0.0)


def test_measurements_are_kept_by_name(tmp_path):
    folder = RunFolder(Path(tmp_path))
    assert folder.measurement("likelihood") is None
    written = folder.write_measurement("likelihood", {"bits": [1.5], "data": "é"})
    assert written == tmp_path / "likelihood.json"
    assert folder.measurement("likelihood") == {"bits": [1.5], "data": "é"}
    written.write_text("[1]")
    with pytest.raises(InputError, match=r"likelihood\.json: damaged"):
        folder.measurement("likelihood")
