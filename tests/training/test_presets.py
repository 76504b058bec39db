"""Every preset on images, on vectors and on signals, by the same trainer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato import kinds, recipes
from sfumato.data import DataOptions, Dataset, load
from sfumato.runs.folder import RunFolder
from sfumato.training import Trainer
from sfumato.training.execution import Execution

SMALL = ["network.kind=auto", "network.width=8"]


@pytest.fixture(scope="module", params=["digits", "moons", "signals"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    if request.param != "signals":
        return load(request.param, DataOptions(count=60, limit=60))
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (60, 1, 1))
    path = tmp_path_factory.mktemp("signals") / "waves.npy"
    np.save(path, np.sin(phase + np.linspace(0, 6, 24)).astype(np.float32))
    return load(str(path))


@pytest.mark.parametrize(
    "preset", [name for name in recipes.presets() if name not in ("trees", "mixture")]
)  # have no steps
def test_it_trains_is_measured_and_sampled(preset: str, dataset: Dataset, tmp_path: Path) -> None:
    plain = recipes.read(preset)
    small = SMALL if plain.has_process else ["hierarchy.hidden=8", "hierarchy.depth=1"]
    torch.manual_seed(0)
    model = kinds.fresh(recipes.override(plain, [*small, "training.batch=8"]), dataset.spec)
    trainer = Trainer(model, dataset.samples(), RunFolder(tmp_path))
    trainer.engine.apply(Execution(1, "float32"), None)  # without trials
    before = {name: p.clone() for name, p in trainer.engine.state.module.named_parameters()}
    trainer.train(steps=3)
    assert any(not torch.equal(before[name], p) for name, p in trainer.engine.state.module.named_parameters())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = next(row for row in rows if row["kind"] == "held_out")
    if plain.has_process:
        logsnr, weights = np.array(measured["relative_weight"]).T
        assert (np.diff(logsnr) <= 0).all()  # a short chain has fewer levels than places
        assert (weights > 0).all()
    # As it is read back from the folder, with the sampler that the preset names.
    saved = tmp_path / "model"
    trainer.averaged.save_pretrained(saved)
    steps = None if not plain.has_process else 12
    samples = kinds.load(saved).sample(2, steps=steps)
    assert samples.shape == (2, *dataset.spec.shape)
    assert samples.isfinite().all()
