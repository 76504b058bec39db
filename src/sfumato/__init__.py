"""Sfumato: diffusion models for data of your own.

    from sfumato import Model

    model = Model.from_pretrained("runs/demo")
    samples = model.sample(16, seed=0)          # (16, 1, 8, 8), in the data's own units

Public names load when they are first used: ``import sfumato`` itself costs nothing, and the command line answers
``--help`` without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import Process as Process
    from .data import DataSpec as DataSpec
    from .denoisers import Denoiser as Denoiser
    from .errors import InputError as InputError
    from .model import Model as Model
    from .recipes import Recipe as Recipe
    from .sampling import Tableau as Tableau

from sfumato._version import __version__ as __version__

_HOMES = {
    "DataSpec": "data",
    "Denoiser": "denoisers",
    "InputError": "errors",
    "Model": "model",
    "Process": "core",
    "Recipe": "recipes",
    "Tableau": "sampling",
}
_FLOORS = (
    "core",
    "data",
    "denoisers",
    "hierarchical",
    "likelihood",
    "networks",
    "numerics",
    "objectives",
    "recipes",
    "sampling",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if name in _FLOORS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted((*_HOMES, *_FLOORS, "__version__"))
