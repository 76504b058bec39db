"""The mixture of a run: fitted to samples that are not held out, once, and kept with the weights."""

from pathlib import Path

import pytest
import torch

from sfumato import data
from sfumato.cli.main import main
from sfumato.denoisers import MixtureDenoiser, NetworkDenoiser
from sfumato.model import Model
from sfumato.numerics.random import derive

SMALL = ["network.width=8", "conditioning=none", "data.limit=400", "sampling.steps=2"]


def base_of(model: Model) -> MixtureDenoiser:
    assert isinstance(model.denoiser, NetworkDenoiser)
    assert model.denoiser.base is not None
    return model.denoiser.base


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on digits, in two sessions."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "digits", *SMALL, "--steps", "1", "--out", str(folder)]) == 0
    assert main(["train", "--resume", str(folder), "--steps", "2"]) == 0
    return folder


def test_a_run_has_the_mixture_of_its_training_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model.from_pretrained(run)
    dataset = data.load("digits", model.recipe.data.options())
    own, base = data.split(400, 0.1, 0)[0], base_of(model)
    order = torch.randperm(360, generator=torch.Generator().manual_seed(derive(0, "base")))
    expected = MixtureDenoiser(model.denoiser.process, (1, 8, 8), 40, 4)
    expected.fit(model.spec.encode(dataset.values[own[order.sort().values]]), None, derive(0, "base"))
    for name, buffer in expected.state_dict().items():
        torch.testing.assert_close(base.state_dict()[name], buffer, rtol=1e-4, atol=1e-4)


def test_training_says_so_and_can_leave_it_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "fitted a mixture of 4 Gaussians in 40 principal directions; base=none leaves it out"
    assert main(["train", "digits", *SMALL, "--steps", "1", "--out", str(tmp_path / "a")]) == 0
    assert said in capsys.readouterr().out
    assert main(["train", "digits", *SMALL, "base=none", "--steps", "1", "--out", str(tmp_path / "b")]) == 0
    assert "principal" not in capsys.readouterr().out
