"""Reading data for a model: what the model's own data was read with, and what is given instead."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato import data, kinds, recipes
from sfumato.errors import InputError
from sfumato.generative_model import GenerativeModel
from sfumato.model_folder import write_config
from sfumato.runs.folder import Origin, RunFolder
from sfumato.runs.scoring import settings_by_source
from sfumato.runs.settings import LikelihoodSettings
from sfumato.runs.sources import data_like, data_settings, own_data

UNET = ["network.kind=unet", "network.width=8", "network.multipliers=[1]", "network.blocks=1", "network.attention=[]"]


@pytest.fixture
def model() -> GenerativeModel:
    """Of the digits, gray images of 8 x 8 pixels."""
    return kinds.fresh(recipes.read("ddpm", UNET), data.load("digits").spec)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for i, side in enumerate((16, 17, 16)):
        Image.fromarray(np.full((side, 16), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    return str(tmp_path)


def test_images_of_other_sizes_name_the_models_and_that_setting_works(model: GenerativeModel, photos: str) -> None:
    fix = "set data.size=8x8, the size of the model's images"
    with pytest.raises(InputError, match=f"have 2 sizes.*; {fix}"):
        data_like(photos, model)
    Path(photos, "1.png").unlink()
    with pytest.raises(InputError, match=f"have 16x16 pixels; {fix}"):
        data_like(photos, model)
    dataset = data_like(photos, model, given=data_settings(model.recipe, ["data.size=8x8"]))
    assert dataset.values.shape == (2, 1, 8, 8)
    assert dataset.values.flatten(1)[:, 0].tolist() == [0, 20]


def test_another_array_can_be_named(model: GenerativeModel, tmp_path: Path) -> None:
    path = str(tmp_path / "two.npz")
    np.savez(path, a=np.zeros((3, 8, 8, 1), np.uint8), b=np.ones((4, 1, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"set data.key"):
        data_like(path, model)
    assert len(data_like(path, model, given=data_settings(model.recipe, ["data.key=b"]))) == 4


def test_settings_go_to_the_source_that_has_them(model: GenerativeModel, photos: str, tmp_path: Path) -> None:
    array = str(tmp_path / "a.npz")
    overrides = ("data.size=8x8", "data.key=b", "data.limit=3")
    assert settings_by_source(overrides, (photos, array), model) == {
        photos: {"size": (8, 8), "limit": 3},
        array: {"key": "b", "limit": 3},
    }
    assert settings_by_source(overrides, (photos, None), model)[photos]["key"] == "b"  # refused when it is read
    with pytest.raises(InputError, match=r"'data.size=8x8': the run's own data is read as it was in training"):
        settings_by_source(overrides, (None, None), model)
    with pytest.raises(InputError, match=r"'training.batch=3': only settings of data"):
        settings_by_source(("training.batch=3",), (photos,), model)
    with pytest.raises(InputError, match=r"data.size: 'big' is not allowed"):
        settings_by_source(("data.size=big",), (photos,), model)


def test_they_are_part_of_the_command() -> None:
    settings = LikelihoodSettings(run=Path("r"), data="photos", overrides=("data.size=8x8",))
    assert settings.command() == "sfumato likelihood r photos data.size=8x8"


def test_settings_without_data_are_those_of_the_other_data() -> None:
    settings = LikelihoodSettings(run=Path("r"), data="data.size=8x8", against="x", overrides=("data.key=b",))
    assert (settings.data, settings.overrides) == (None, ("data.size=8x8", "data.key=b"))
    assert settings.command() == "sfumato likelihood r --against x data.size=8x8 data.key=b"
    with pytest.raises(InputError, match=r"^'data.size=8': .*; write: sfumato likelihood r DATA data.size=8, or leave"):
        LikelihoodSettings(run=Path("r"), data="data.size=8")


def test_a_changed_folder_is_not_met_with_settings_that_a_run_does_not_take(photos: str, tmp_path: Path) -> None:
    Path(photos, "1.png").unlink()
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    model = kinds.fresh(recipes.read("ddpm", UNET), data.load(photos).spec)
    write_config(run.path, model.config())
    run.write_origin(Origin(photos, None))
    assert len(own_data(run)) == 2
    Image.fromarray(np.full((9, 9), 1, np.uint8)).save(Path(photos, "3.png"))
    with pytest.raises(InputError) as caught:
        own_data(run)
    said = str(caught.value)
    assert said.startswith(f"{photos}: the data has changed since {run} started (")
    assert said.endswith("); restore it, or train a new run")
    assert "data.size" not in said
