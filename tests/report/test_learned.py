"""A learned schedule in the report is the one that was learned."""

import torch

from sfumato import data, recipes
from sfumato.model import Model
from sfumato.report.run import read_run
from sfumato.runs.folder import RunFolder


def test_the_process_shown_is_that_of_the_weights(tmp_path):
    recipe = recipes.read("ddpm-learned-betas", ["network.kind=mlp", "network.width=8", "network.depth=1"])
    model = Model.fresh(recipe, data.load("moons", data.DataOptions(count=20)).spec)
    schedule = model.denoiser.process.schedule
    before = schedule.betas.detach().clone()
    schedule.change.data += 0.05
    model.save_pretrained(tmp_path)
    shown = read_run(RunFolder(tmp_path)).process.schedule
    torch.testing.assert_close(shown.betas, schedule.betas)
    assert not torch.allclose(shown.betas, before, rtol=0.01)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    torch.testing.assert_close(read_run(RunFolder(tmp_path)).process.schedule.betas, before)
