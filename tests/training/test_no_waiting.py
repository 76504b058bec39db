"""A GPU is given work and not asked: tensors without data, which nobody can read, stand in for tensors on a GPU.

What torch has not for such tensors (automatic types, the fused optimiser) is left out.
"""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfumato import kinds, recipes, sampling
from sfumato.core import SeededNoise
from sfumato.data import DataOptions, Dataset, Samples, load
from sfumato.generative_model import GenerativeModel
from sfumato.training import Compute, Engine, World
from sfumato.training.execution import Execution

SMALL = ["network.kind=unet", "network.width=8", "network.multipliers=[1,2]", "network.blocks=1"]
SMALL += ["network.attention=[4]", "training.batch=8"]
NOWHERE = torch.device("meta")
PLAIN = Execution(1, "float32", attention="fused")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", DataOptions(limit=60))


@pytest.fixture(autouse=True)
def what_torch_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unfused(torch.optim.AdamW):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "fused": False})
            self.__dict__["step"] = lambda: None  # knows nothing of what is not finite

    class Nothing(torch.autocast):
        def __init__(self, *args: Any, **settings: Any) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: Any) -> None:  # type: ignore[override]
            pass

    monkeypatch.setattr(torch.optim, "AdamW", Unfused)
    monkeypatch.setattr(torch, "autocast", Nothing)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)


def model(name: str, dataset: Dataset, *settings: str) -> GenerativeModel:
    return kinds.fresh(recipes.read(name, [*SMALL, *settings]), dataset.spec)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddpm", []),
        ("ddpm", ["objective.times=loss-aware"]),
        ("edm", []),
        ("flow", []),
        ("ncsn", []),
        ("subvp-sde", []),
        ("ve-sde", []),
        ("vp-sde", ["training.augment=0.5"]),
    ],
)
def test_a_step_asks_the_device_nothing(name: str, settings: list[str], digits: Dataset) -> None:
    made = model(name, digits, *settings)
    assert digits.labels is not None
    data = Samples(made.spec.encode(digits.values).to(NOWHERE), labels=digits.labels.to(NOWHERE))
    engine = Engine(made, data, torch.arange(60), Compute(precision="float32", threads=1), World())
    engine.apply(PLAIN, 4)
    for _ in range(2):
        engine.launch_step()
    assert engine.steps == 2
    with pytest.raises(NotImplementedError):  # for this is asking
        engine.collect()


class Copies(TorchDispatchMode):
    """Counts what goes from the host to the device, which a recording cannot have in it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        if isinstance(result, torch.Tensor) and result.device == NOWHERE and tensors and "copy" in func.__name__:
            self.count += any(x.device != NOWHERE for x in tensors)
        return result


@pytest.mark.parametrize(
    ("name", "sampler"), [("ddpm", "ancestral"), ("edm", "heun"), ("flow", "auto"), ("ddpm", "pc")]
)
def test_a_run_moves_nothing_to_the_device_and_asks_it_nothing(name: str, sampler: str, digits: Dataset) -> None:
    made = model(name, digits)
    table = made.tableau(sampler, 6)
    made.module.to(NOWHERE).eval()
    keys = torch.arange(4, device=NOWHERE)
    with torch.no_grad(), Copies() as copies:
        x = SeededNoise(keys)(0, torch.empty(4, *made.spec.shape, device=NOWHERE))
        sampling.run(made.sampling_denoiser(), table, x, noise=SeededNoise(keys), check=False)
    assert copies.count == 0
