"""Models that are shown a view of the sample: its low resolution, or what is not hidden of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sfumato import kinds, recipes
from sfumato.cli.main import main
from sfumato.data import Dataset, Samples, load
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.model import Model
from sfumato.numerics import random
from sfumato.restoration.views import block_means, repeated, shown_parts
from sfumato.runs.folder import RunFolder
from sfumato.runs.lifecycle import begin, untrained
from sfumato.training import Trainer

KEYS = random.keys(7, torch.arange(4000))
NETWORKS = {
    "mlp": ["network.kind=mlp", "network.width=16"],
    "unet": ["network.kind=unet", "network.width=8", "network.attention=[]"],
    "dit": ["network.kind=dit", "network.width=16", "network.depth=1", "network.patch=4"],
}
MASKED, LOW = "conditioning.kind=masked", "conditioning.kind=low-resolution"


def test_hidden_parts_are_boxes_and_single_positions() -> None:
    known = shown_parts(KEYS, (12, 8))
    assert known.shape == (4000, 1, 12, 8)
    assert torch.equal(shown_parts(KEYS[5:9], (12, 8)), known[5:9])
    hidden = ~known[:, 0]
    rows, columns = hidden.any(2), hidden.any(1)
    boxes = (hidden == rows[:, :, None] & columns[:, None]).all(2).all(1) & (rows.sum(1) <= 9) & (columns.sum(1) <= 6)
    # Half of them; single positions rarely make a box.
    assert 0.5 <= float(boxes.double().mean()) < 0.56
    sides = torch.stack([rows[boxes].sum(1) / 12, columns[boxes].sum(1) / 8], 1)
    assert 0.45 < float(sides.mean()) < 0.55
    # Hidden shares of the others are uniform in (0, 1).
    shares = hidden[~boxes].flatten(1).double().mean(1)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.std()) == pytest.approx((1 / 12 + 1 / (6 * 96)) ** 0.5, abs=0.02)
    assert 0.3 < float(hidden.double().mean()) < 0.42  # boxes hide a fourth on average


def test_a_low_resolution_is_the_mean_of_blocks() -> None:
    x = torch.arange(24.0).view(1, 1, 4, 6)
    low = block_means(x, 2)
    assert low[0, 0].tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert torch.equal(block_means(repeated(low, 2), 2), low)
    assert block_means(torch.arange(6.0).view(1, 1, 6), 3).tolist() == [[[1.0, 4.0]]]


def striped(path: Path, count: int = 2000) -> Dataset:
    """Images of one gray each, dark or bright, with a little noise."""
    rng = np.random.default_rng(0)
    level = np.where(rng.random(count) < 0.5, 64, 192)[:, None, None]
    np.savez(path, x=(level + rng.normal(0, 8, (count, 8, 8))).clip(0, 255).round().astype(np.uint8))
    return load(str(path))


def fresh(name: str, kind: str, path: Path) -> tuple[Model, Dataset]:
    dataset = striped(path, 60)
    settings = [*NETWORKS[name], "base.kind=mixture", "base.components=2", "base.directions=4", kind]
    model = kinds.fresh(recipes.read("flow", settings), dataset.spec)
    generator = torch.Generator().manual_seed(1)
    for weights in model.denoiser.parameters():
        weights.data += 0.05 * torch.randn(weights.shape, generator=generator)  # fresh networks return 0
    return model, dataset


def shown(model: Model, dataset: Dataset, count: int) -> Condition:
    samples = dataset.samples().take(torch.arange(count))
    cond = model.recipe.condition(Samples(samples.values, keys=KEYS[:count]))
    assert cond is not None
    return cond


@pytest.mark.parametrize("kind", [MASKED, LOW])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_sample_sees_its_own_view_in_any_batch(name: str, kind: str, tmp_path: Path) -> None:
    model, dataset = fresh(name, kind, tmp_path / "x.npz")
    cond = shown(model, dataset, 5).dropped(torch.arange(5) == 3)
    model.denoiser.double()
    x_t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.linspace(0.2, 1, 5)
    with torch.no_grad():
        together = model.denoiser(x_t, t, cond).x_0
        for i in range(5):
            alone = model.denoiser(x_t[i : i + 1], t[i : i + 1], cond.rows(slice(i, i + 1))).x_0
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)
        nothing = model.denoiser(x_t, t).x_0
    moved = (together - nothing).abs().flatten(1).amax(1)
    assert moved[3] == 0  # a view that is not given is none
    assert (moved[[0, 1, 2, 4]] > 1e-4).all()


def test_a_view_shows_values_where_they_are_known(tmp_path: Path) -> None:
    model, dataset = fresh("mlp", MASKED, tmp_path / "x.npz")
    image, x = shown(model, dataset, 20).image, dataset.samples().take(torch.arange(20)).values
    known = image[:, 1:].bool()
    assert torch.equal(known, shown_parts(KEYS[:20], (8, 8)))
    assert torch.equal(image[:, :1], x.masked_fill(~known, 0))
    seen = dataset.values[:20].double().masked_fill(~known, torch.nan)
    assert torch.equal(model.condition(20, seen=seen).image, image)

    model, _ = fresh("mlp", LOW, tmp_path / "y.npz")
    image = shown(model, dataset, 20).image
    torch.testing.assert_close(image[:, :1], repeated(block_means(x, 4), 4))
    assert image[:, 1:].min() == 1
    low = block_means(dataset.values[:20].double(), 4)
    torch.testing.assert_close(model.condition(20, seen=low).image, image)


def test_a_view_belongs_to_the_number_of_the_image(tmp_path: Path) -> None:
    model, dataset = fresh("mlp", MASKED, tmp_path / "x.npz")
    (tmp_path / "run").mkdir()
    draws = Trainer(model, dataset.samples(), RunFolder(tmp_path / "run")).engine.draws
    whole, part = draws.batch(100, 64, (0, 64)), draws.batch(100, 64, (16, 32))
    assert torch.equal(part.cond.image, whole.cond.image[16:32])
    assert not torch.equal(draws.batch(164, 64, (0, 64)).cond.image[:, 1:], whole.cond.image[:, 1:])
    known = whole.cond.image[:, 1:].bool()
    assert torch.equal(whole.cond.image[:, :1], whole.x_0.masked_fill(~known, 0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that fills in dark and bright images."""
    folder = tmp_path_factory.mktemp("views")
    dataset = striped(folder / "x.npz")
    settings = [*NETWORKS["mlp"], MASKED, "base=none", "training.batch=64", "training.learning_rate=3e-3"]
    recipe = recipes.read("flow", [*settings, "training.warmup=500"])
    model, run = untrained(str(folder / "x.npz"), recipe, dataset), RunFolder(folder / "run")
    run.path.mkdir()
    begin(str(folder / "x.npz"), run, model, None)
    Trainer(model, dataset.samples(), run).train(steps=400)
    return run.path


def test_samples_agree_with_what_is_seen(trained: Path) -> None:
    model = kinds.load(trained)

    def means(level: float) -> Tensor:
        seen = torch.full((1, 8, 8), torch.nan)
        seen[0, :2] = level
        return model.sample(60, seen=seen).flatten(1).mean(1)

    # By chance, 54 of 60 would be on the right side with a probability below 10^-10.
    assert int((means(64.0) < 128).sum()) >= 54
    assert int((means(192.0) > 128).sum()) >= 54
    free = model.sample(60).flatten(1).mean(1)
    assert 10 < int((free > 128).sum()) < 50
    guided = model.sample(20, seen=torch.full((1, 8, 8), 64.0), guidance=2).flatten(1).mean(1)
    assert int((guided < 128).sum()) >= 19


def test_files_say_what_is_seen(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (8, 8), 192).save(tmp_path / "photo.png")
    hole = np.zeros((8, 8), np.uint8)
    hole[:, 4:] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    base = ["sample", str(trained), "-n", "6", "--steps", "8", "--out", str(tmp_path / "x.npz")]
    seen = ["--seen", str(tmp_path / "photo.png")]
    assert main([*base, *seen, "--mask", str(tmp_path / "hole.png")]) == 0
    with np.load(tmp_path / "x.npz") as file:
        assert file["samples"].shape == (6, 1, 8, 8)
        assert int((file["samples"].mean((1, 2, 3)) > 128).sum()) >= 5
    for arguments, message in (
        (["--mask", str(tmp_path / "hole.png")], "add it as --seen FILE"),
        (["--seen", str(tmp_path / "none.png")], "no such file"),
    ):
        capsys.readouterr()
        assert main([*base, *arguments]) == 2
        assert message in capsys.readouterr().err


def test_what_cannot_be_shown_says_so(tmp_path: Path) -> None:
    dataset = striped(tmp_path / "x.npz", 60)
    with pytest.raises(InputError, match="3 does not divide 8 x 8"):
        kinds.fresh(recipes.read("flow", [LOW, "conditioning.factor=3"]), dataset.spec)
    with pytest.raises(InputError, match="only images and signals have a view"):
        kinds.fresh(recipes.read("flow", [MASKED]), load("moons").spec)
    with pytest.raises(InputError, match=r"training\.augment: a view is of the image as it is"):
        recipes.read("flow", [MASKED, "training.augment=0.1"]).build_loss(dataset.spec)
    with pytest.raises(InputError, match=r"objective\.pairing"):
        recipes.read("flow", [MASKED, "objective.pairing=optimal-transport"]).build_loss(dataset.spec)
    plain = kinds.fresh(recipes.read("flow", ["network.width=16"]), dataset.spec)
    with pytest.raises(InputError, match="was trained without a view"):
        plain.sample(2, seen=torch.zeros(1, 8, 8))
    model, _ = fresh("mlp", LOW, tmp_path / "y.npz")
    for seen, message in (
        (torch.zeros(1, 8, 8), "has shape 1 x 8 x 8, but this model is shown 1 x 2 x 2"),
        (torch.full((1, 2, 2), torch.nan), "must have all its values"),
        (torch.zeros(3, 1, 2, 2), "3 for 2 samples"),
    ):
        with pytest.raises(InputError, match=message):
            model.sample(2, seen=seen)
