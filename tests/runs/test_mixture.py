"""A mixture alone: fitted, written, loaded, asked for posteriors, and refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.cli.main import main
from sfumato.denoisers import MixtureDenoiser

L = 12


@pytest.fixture(scope="module")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth curves of three numbers each."""
    rng = np.random.default_rng(0)
    at = np.linspace(0, 1, L)
    basis = np.stack([np.ones(L), at, np.exp(-((at - 0.5) ** 2) / 0.05)])
    path = tmp_path_factory.mktemp("spectra") / "spectra.npy"
    np.save(path, (0.3 + rng.random((80, 3)) @ basis * 0.2)[:, None].astype(np.float32))
    return path


@pytest.fixture(scope="module")
def run(spectra: Path) -> Path:
    out = spectra.parent / "run"
    assert (
        main(
            [
                "train",
                str(spectra),
                "--recipe",
                "mixture",
                "sampling.sampler=ddim",
                "sampling.steps=5",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


def test_it_is_what_was_fitted_after_loading(run: Path, spectra: Path) -> None:
    model = sfumato.load(run)
    assert isinstance(model, sfumato.Model)
    assert isinstance(model.denoiser, MixtureDenoiser)
    x = model.spec.encode(torch.from_numpy(np.load(spectra)))
    law = model.denoiser.distribution
    assert float(torch.cdist(law.means, x.flatten(1).double()).amin(1).max()) < 1e-5  # every Gaussian is at a sample
    assert model.recipe.mixture.components == len(law.weights)  # 72 for each width
    each = law.weights.view(-1, 72)
    assert torch.allclose(each, each[:, :1].expand_as(each))  # the Gaussians of one width share alike


def test_one_width_can_be_asked_for_and_so_many_gaussians(spectra: Path, tmp_path: Path) -> None:
    given = ["mixture.neighbours=6", "mixture.shrinkage=1.0", "mixture.width=0.5", "mixture.components=30"]
    quick = ["sampling.sampler=ddim", "sampling.steps=5"]
    assert main(["train", str(spectra), "--recipe", "mixture", *given, *quick, "--out", str(tmp_path / "run")]) == 0
    model = sfumato.load(tmp_path / "run")
    assert isinstance(model.denoiser, MixtureDenoiser)
    assert len(model.denoiser.centres) == 30
    section = model.recipe.mixture
    assert (section.neighbours, section.shrinkage, section.width) == ([6], [1.0], [0.5])


def test_reconstruct_takes_the_closed_form_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    truth = sfumato.load(run).sample(2, seed=3).flatten(1).double().numpy()
    A = rng.random((4, L)) / L
    np.save(tmp_path / "A.npy", A)
    np.savetxt(tmp_path / "y.csv", truth @ A.T + 0.001 * rng.standard_normal((2, 4)), delimiter=",")
    asked = ["reconstruct", str(run), "--operator", str(tmp_path / "A.npy"), "--measurements", str(tmp_path / "y.csv")]
    assert main([*asked, "--noise", "0.001", "--out", str(tmp_path / "found")]) == 0
    assert "exact: 0 evaluations" in capsys.readouterr().out
    with np.load(tmp_path / "found" / "reconstruction.npz") as found:
        assert np.abs(found["mean"].reshape(2, L) - truth).max() < 0.1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--steps", "10"], "fitted at once"),
        (["data.limit=5"], "too few"),
        (["mixture.width=-1"], "mixture.width"),
        (["mixture.neighbours=5,many"], "not allowed; give one number such as 5, or several such as 5,10"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(
    given: list[str], said: str, spectra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none"
    assert main(["train", str(spectra), "--recipe", "mixture", *given, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert not out.exists()


def test_long_samples_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "long.npy", np.random.default_rng(0).random((40, 1, 300)).astype(np.float32))
    assert main(["train", str(tmp_path / "long.npy"), "--recipe", "mixture", "--out", str(tmp_path / "out")]) == 2
    assert "at most 256 numbers" in capsys.readouterr().err
