"""Sfumato: diffusion models for your own data.

    import sfumato

    model = sfumato.train("photos/", budget=600)        # ten minutes; a run folder with checkpoints and a report
    samples = model.sample(16, seed=0)                  # (16, 3, 64, 64), in the data's own units

    model = sfumato.Model.from_pretrained("runs/demo")  # a model that was trained before

Public names load when they are first used: `import sfumato` takes no time, and the command line answers `--help`
without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import Process as Process
    from .data import DataSpec as DataSpec
    from .denoisers import Denoiser as Denoiser
    from .errors import InputError as InputError
    from .hierarchical_model import HierarchicalModel as HierarchicalModel
    from .imputation import SfumatoImputer as SfumatoImputer
    from .kinds import load as load
    from .model import Model as Model
    from .recipes import Recipe as Recipe
    from .runs.entry import evaluate as evaluate
    from .runs.entry import score as score
    from .runs.entry import train as train
    from .sampling import Tableau as Tableau

from sfumato._version import __version__ as __version__

_HOMES = {
    "DataSpec": "data",
    "Denoiser": "denoisers",
    "HierarchicalModel": "hierarchical_model",
    "InputError": "errors",
    "Model": "model",
    "Process": "core",
    "Recipe": "recipes",
    "SfumatoImputer": "imputation",
    "Tableau": "sampling",
    "evaluate": "runs.entry",
    "load": "kinds",
    "score": "runs.entry",
    "train": "runs.entry",
}
_FLOORS = (
    "core",
    "data",
    "denoisers",
    "guidance",
    "hierarchical",
    "likelihood",
    "networks",
    "numerics",
    "objectives",
    "recipes",
    "restoration",
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
