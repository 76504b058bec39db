"""A model on disk: one reader of config.json, one format number, and tables with their keys."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato import Model, data, load, recipes
from sfumato.errors import InputError
from sfumato.model_folder import (
    FORMAT,
    Sampled,
    TableKey,
    read_chosen,
    read_config,
    read_fitted,
    save_weights,
    weights_digest,
    write_chosen,
    write_fitted,
)
from sfumato.sampling import Tableau, adams, grids


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dataset = data.load("moons", data.DataOptions(count=60))
    Model.fresh(recipes.read("ddpm", ["network.width=8"]), dataset.spec).save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**config, **values}.items() if value is not None}))


def test_the_config_is_what_the_model_says(folder: Path) -> None:
    config, model = read_config(folder), load(folder)
    assert (config.recipe, config.spec) == (model.recipe, model.spec)
    assert config.parameters == model.num_parameters
    assert json.loads((folder / "config.json").read_text()) == config.to_dict() == model.config().to_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"format": FORMAT - 1, "sfumato": "0.1"},
            rf"format {FORMAT - 1}, but .* reads format {FORMAT}; .* 0\.1, or train",
        ),
        ({"format": FORMAT + 1}, rf"format {FORMAT + 1}, but .* reads format {FORMAT}; upgrade Sfumato$"),
        ({"format": "two"}, r"format 'two', but"),
        ({"format": None}, "no format, recipe and data"),
        ({"recipe": {"version": 1, "evil": 1}}, "unknown key 'evil'"),
        ({"data": {"shape": [2]}}, "data contract"),
    ],
    ids=["older", "newer", "no number", "missing", "recipe", "data"],
)
def test_a_config_that_cannot_be_read_is_one_line(folder: Path, values: dict[str, object], message: str) -> None:
    change(folder, **values)
    for read in (read_config, load, Model.from_pretrained):
        with pytest.raises(InputError, match=rf"^{folder}/config\.json: .*{message}") as caught:
            read(folder)
        assert "\n" not in str(caught.value)


def table(folder: Path, order: int) -> Tableau:
    process = load(folder).denoiser.process
    return adams(process, grids.angle(process, 6), order=order)


KEYS = (TableKey(6), TableKey(6, Sampled("classes")), TableKey(6, Sampled("classes", "classifier-free 2")))


def test_tables_come_back_under_their_keys(folder: Path, tmp_path: Path) -> None:
    weights = weights_digest(folder)
    for order, key in zip((2, 3, 4), KEYS, strict=True):
        assert write_fitted(folder, key, table(folder, order), weights) == folder / key.file
    model = Model.from_pretrained(folder)
    assert set(model.fitted) == set(KEYS)
    for order, key in zip((2, 3, 4), KEYS, strict=True):
        assert model.fitted[key].name == table(folder, order).name
    model.save_pretrained(tmp_path / "copy")
    assert set(Model.from_pretrained(tmp_path / "copy").fitted) == set(KEYS)
    # They belong to these weights alone, and to this process alone.
    assert model.with_module(model.denoiser).fitted == {}
    assert model.with_process(model.denoiser.process).fitted == {}


def test_chosen_methods_come_back_with_the_weights_that_they_were_chosen_for(folder: Path, tmp_path: Path) -> None:
    assert Model.from_pretrained(folder).chosen == {}
    path = write_chosen(folder, {20: "adams4", 5: "unipc2 on rho"}, weights_digest(folder))
    assert path == folder / "auto.json"
    model = Model.from_pretrained(folder)
    assert model.chosen == {5: "unipc2 on rho", 20: "adams4"}
    # Other budgets take the nearest below; what is fitted goes first.
    names = {n: model.tableau("auto", n).name for n in (1, 5, 19, 20, 30)}
    assert names == dict.fromkeys((1, 5, 19), "unipc2 on rho") | dict.fromkeys((20, 30), "adams4")
    assert model.plan("auto", 20).text == "by auto: adams4"
    fitted = replace(model, fitted={TableKey(20): table(folder, 2)})
    assert fitted.tableau("auto", 20).name == table(folder, 2).name
    model.save_pretrained(tmp_path / "copy")
    assert Model.from_pretrained(tmp_path / "copy").chosen == model.chosen
    assert model.with_module(model.denoiser).chosen == model.with_process(model.denoiser.process).chosen == {}
    # Trained further, the weights are others.
    with torch.no_grad():
        next(model.denoiser.parameters()).add_(1.0)
    save_weights(model.module.state_dict(), folder / "model.safetensors", model.config().digest)
    assert Model.from_pretrained(folder).chosen == {}


@pytest.mark.parametrize("methods", [{"5": "adams99"}, {"x": "adams4"}, {"0": "adams4"}, [], None, {"5": ["adams4"]}])
def test_a_damaged_choice_is_not_used(folder: Path, methods: object) -> None:
    path = write_chosen(folder, {5: "adams4"}, weights_digest(folder))
    path.write_text(json.dumps({**json.loads(path.read_text()), "methods": methods}))
    assert read_chosen(folder, weights_digest(folder)) == {}
    path.write_text("{")
    assert read_chosen(folder, weights_digest(folder)) == {}


def test_a_table_without_a_key_is_of_unconditional_samples(folder: Path) -> None:
    path = write_fitted(folder, KEYS[0], table(folder, 2), weights_digest(folder))
    stored = json.loads(path.read_text())
    assert stored.pop("sampled") == {"condition": "", "guidance": ""}
    path.write_text(json.dumps(stored))
    fitted, unused = read_fitted(folder, weights_digest(folder))
    assert set(fitted) == {TableKey(6)}
    assert unused == {}


@pytest.mark.parametrize("sampled", [3, {"condition": 1}, {"other": "x"}, []])
def test_a_damaged_key_is_reported_and_not_used(folder: Path, sampled: object) -> None:
    path = write_fitted(folder, KEYS[0], table(folder, 2), weights_digest(folder))
    path.write_text(json.dumps({**json.loads(path.read_text()), "sampled": sampled}))
    fitted, unused = read_fitted(folder, weights_digest(folder))
    assert fitted == {}
    assert unused["sampler-6.json"].startswith("is damaged")
    assert torch.equal(load(folder).sample(2, steps=6), load(folder).sample(2, steps=6))
