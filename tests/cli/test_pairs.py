"""Noise and data in pairs, and the same beliefs under another process, from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.cli.main import main
from sfumato.core import SeededNoise
from sfumato.data import DataOptions, load
from sfumato.model import Model

TINY = ["network.kind=mlp", "network.width=16", "network.depth=1"]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow") / "run"
    assert (
        main(["train", "moons", "--recipe", "flow", *TINY, "data.count=300", "--steps", "60", "--out", str(out)]) == 0
    )
    return out


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.fixture(scope="module")
def pairs(flow: Path) -> Path:
    path = flow.parent / "pairs.npz"
    assert main(["sample", str(flow), "-n", "200", "--pairs", "--steps", "12", "--out", str(path)]) == 0
    return path


def test_each_sample_is_where_the_flow_leads_from_its_noise(flow: Path, pairs: Path) -> None:
    from sfumato import sampling

    with np.load(pairs, allow_pickle=False) as arrays:
        samples, noise = torch.from_numpy(arrays["samples"]), torch.from_numpy(arrays["noise"])
    assert torch.equal(noise, SeededNoise.samples(0, 200)(0, torch.empty(200, 2)))
    model = Model.from_pretrained(flow)
    table = model.tableau(steps=12)
    start = model.denoiser.process.prior(table.start).variance.sqrt().float() * noise
    led = model.spec.decode(sampling.run(model.sampling_denoiser(), table, start))
    torch.testing.assert_close(samples, led, rtol=0, atol=1e-5)


def test_reflow_learns_from_the_pairs_and_knows_no_score(
    flow: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reflow"
    settings = ["--recipe", "flow", "data.noise=noise", *TINY]
    assert main(["train", str(pairs), *settings, "--steps", "20", "--out", str(out)]) == 0
    assert main(["train", "--resume", str(out), "--steps", "25"]) == 0
    assert main(["sample", str(out), "-n", "4", "--sampler", "euler", "--steps", "1"]) == 0
    assert "knows the flow" in fails(capsys, "sample", str(out), "-n", "4", "--sampler", "ancestral", "--steps", "5")


def test_the_noise_of_a_sample_reaches_its_loss(pairs: Path, tmp_path: Path) -> None:
    from sfumato import recipes
    from sfumato.runs.folder import RunFolder
    from sfumato.training import Trainer

    dataset = load(str(pairs), DataOptions(noise="noise"))
    assert dataset.noise is not None
    recipe = recipes.read("flow", ["data.noise=noise", "training.batch=8", *TINY])
    trainer = Trainer(Model.fresh(recipe, dataset.spec), dataset.samples(), RunFolder(tmp_path))
    seen = []
    original = trainer.engine.loss.forward

    def watched(module, batch):  # type: ignore[no-untyped-def]
        seen.append((batch.x_0, batch.noise(1, batch.x_0)))
        return original(module, batch)

    trainer.engine.loss.forward = watched  # type: ignore[method-assign]
    trainer.engine.step()
    x_0, z = seen[0]
    everything = dataset.spec.encode(dataset.values)
    for sample, noise in zip(x_0, z, strict=True):
        place = int((everything - sample).square().sum(1).argmin())
        assert torch.equal(everything[place], sample)
        assert torch.equal(dataset.noise[place], noise)


def test_under_another_process_the_flow_ends_at_the_same_samples(flow: Path, tmp_path: Path) -> None:
    found = []
    for name, more in (("own", []), ("vp", ["--under", "vp-sde"])):
        path = tmp_path / f"{name}.npz"
        assert main(["sample", str(flow), "-n", "40", "--tolerance", "1e-6", *more, "--out", str(path)]) == 0
        with np.load(path) as arrays:
            found.append(arrays["samples"])
    # The VP SDE stops at a log-SNR of -10, the flow goes on to pure noise: starts differ by e^-5 of the data.
    assert np.abs(found[0] - found[1]).max() < 0.05
    assert main(["sample", str(flow), "-n", "4", "--under", "edm", "--sampler", "edm-churn", "--steps", "9"]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--pairs"], "--out FILE.npz"),
        (["--pairs", "--sampler", "ancestral", "--out", "x.npz"], "adds noise on the way"),
        (["--under", "nothing"], "is not a preset"),
        (["--under", "mhvae"], "hierarch"),
    ],
)
def test_mistakes_are_one_line(
    flow: Path,
    argv: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails(capsys, "sample", str(flow), *argv)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.ones((5, 2))}, "no array 'noise'"),
        ({"x": np.ones((5, 2)), "noise": np.ones((5, 3))}, "(5, 3)"),
        ({"x": np.ones((5, 2)), "noise": np.ones((5, 2), dtype=int)}, "int64"),
        ({"x": np.ones((5, 2)), "noise": np.full((5, 2), np.nan)}, "NaN"),
    ],
)
def test_noise_that_does_not_fit_is_one_line(
    arrays: dict[str, np.ndarray], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    settings = ["data.noise=noise", "data.key=x", "--recipe", "flow", "--out", str(tmp_path / "r")]
    assert words in fails(capsys, "train", str(tmp_path / "a.npz"), *settings)
    assert not (tmp_path / "r").exists()
