"""An optimiser's state as tensors."""

import pytest
import torch

from sfumato.errors import InputError
from sfumato.training.optimizer import load_optimizer, optimizer_tensors


def test_an_optimiser_goes_on_exactly() -> None:
    def run(steps: int, cut: int | None) -> torch.Tensor:
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.AdamW([p], lr=0.1)
        for i in range(steps):
            if i == cut:
                stored = optimizer_tensors(optimizer)
                optimizer = torch.optim.AdamW([p], lr=0.1)
                load_optimizer(optimizer, stored)
            optimizer.zero_grad()
            (p**2).sum().backward()
            optimizer.step()
        return p.detach()

    assert torch.equal(run(7, None), run(7, 3))


@pytest.mark.parametrize("key", ["0.exp_avg", "1.exp_avg", "x.exp_avg", "-1.step", "", "00.step"])
def test_the_state_of_another_optimiser_is_refused(key: str) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(InputError, match=r"optimizer\.safetensors: .* fits no parameter"):
        load_optimizer(optimizer, {key: torch.zeros(3)})
