"""A model on disk: a folder in the hub's layout.

``config.json`` holds the recipe and the data contract, ``model.safetensors`` the weights, and ``README.md`` the model
card. ``auto.json`` names the methods that were measured to be best for these weights, and each ``sampler-*.json`` holds
a table that was fitted to them (``sfumato tune``). Nothing in the folder is ever executed.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sfumato._version import __version__
from sfumato.data import DataSpec
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.files import digest, no_permission, reach, write_text, write_with
from sfumato.recipes import Recipe
from sfumato.recipes.reading import validate
from sfumato.sampling import Tableau
from sfumato.sampling.choice import CANDIDATES

T = TypeVar("T")

CHOSEN = "auto.json"  # the methods that "auto" is, by evaluations
FORMAT = 2  # of the whole folder; raise it when an older Sfumato could misread a newer folder


@dataclass(frozen=True)
class Sampled:
    """The samples that a table is fitted for.

    Arguments:
        condition: the parts of the condition, such as "classes"; empty for none.
        guidance: a description of the guidance; empty for none.
    """

    condition: str = ""
    guidance: str = ""

    @classmethod
    def of(cls, cond: Condition | None) -> "Sampled":
        """Samples with the parts of ``cond``, without guidance."""
        names = () if cond is None else [name for name in cond.tensors if not name.endswith("_given")]
        return cls(",".join(names))


@dataclass(frozen=True)
class TableKey:
    """The key of a fitted table.

    Arguments:
        evaluations: evaluations of the network per sample.
        sampled: the samples that it is fitted for.
    """

    evaluations: int
    sampled: Sampled = Sampled()

    @property
    def file(self) -> str:
        """The name of the table's file: sampler-8.json, or sampler-8-DIGEST.json with a condition or guidance."""
        if self.sampled == Sampled():
            return f"sampler-{self.evaluations}.json"
        name = json.dumps([self.sampled.condition, self.sampled.guidance])
        return f"sampler-{self.evaluations}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


@dataclass(frozen=True)
class Config:
    """The content of config.json.

    Arguments:
        recipe: how the model was made.
        spec: the data contract.
        parameters: how many numbers are learned.
        version: the Sfumato that wrote it.
        stored: the digest of the file that it was read from; None if it was not read.
    """

    recipe: Recipe
    spec: DataSpec
    parameters: int
    version: str = __version__
    stored: str | None = None

    @property
    def digest(self) -> str:
        """What ties weights to config.json: a digest of the recipe and the data contract, as the file holds them."""
        return self.stored or _digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "format": FORMAT,
            "sfumato": self.version,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.spec.to_dict(),
            "parameters": self.parameters,
        }


def read_config(folder: Path) -> Config:
    """Read config.json of a model or run folder.

    Raises:
        InputError: the file is missing, damaged, not Sfumato's or of another format, or its recipe or data contract
            is not valid.
    """
    path = folder / "config.json"
    config = _read_json(folder, path)
    if not isinstance(config, dict) or not {"format", "recipe", "data"} <= config.keys():
        raise InputError(f"{path}: not a Sfumato model (no format, recipe and data); give a folder that Sfumato wrote")
    if config["format"] != FORMAT:
        raise InputError(
            f"{path}: format {config['format']!r}, but Sfumato {__version__} reads format {FORMAT}; {_remedy(config)}"
        )
    try:
        spec = DataSpec.from_dict(config["data"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    parameters = config.get("parameters")
    return Config(
        validate(config["recipe"], str(path)),
        spec,
        parameters if isinstance(parameters, int) else 0,
        str(config.get("sfumato", "")),
        _digest(config),
    )


def _digest(config: Mapping[str, Any]) -> str:
    text = json.dumps({key: config[key] for key in ("recipe", "data")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_json(folder: Path, path: Path) -> Any:
    if reach(folder) and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give its folder, the one that 'sfumato train' printed")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a run or model folder, the one that 'sfumato train' printed")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except PermissionError:
        raise no_permission(path) from None
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no config.json, so not a model folder; give one that 'sfumato train' made"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged or not JSON ({error}); restore it from a copy") from None


def _remedy(config: dict[str, Any]) -> str:
    older = isinstance(config["format"], int) and config["format"] < FORMAT
    return f"use Sfumato {config.get('sfumato', 'of that time')}, or train again" if older else "upgrade Sfumato"


def write_config(folder: Path, config: Config) -> None:
    """Write config.json."""
    text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
    write_text(folder / "config.json", text + "\n")


# ------------------------------------------------------------------------------------------------------------- weights


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights' file."""
    return digest(folder / "model.safetensors")


def with_digest(folder: Path, read: Callable[[], T]) -> tuple[T, str]:
    """What ``read`` makes of the weights in ``folder``, and their digest; read again if they changed meanwhile."""
    while True:
        before = _stamp(folder / "model.safetensors")
        found, weights = read(), weights_digest(folder)
        if _stamp(folder / "model.safetensors") == before:
            return found, weights


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # the reader says what is wrong
        return None
    return found.st_ino, found.st_mtime_ns


def save_weights(state: Mapping[str, Tensor], path: Path, config: str | None = None) -> None:
    """Named tensors as safetensors, written under another name and renamed.

    Arguments:
        state: the tensors.
        path: the file.
        config: the digest of the ``Config`` that they belong to.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # One entry: safetensors writes several in a random order, and the same weights should be the same bytes.
    about = {"format": "pt"} if config is None else {"config": config}
    write_with(path, lambda beside: save_file(tensors, beside, metadata=about))


def load_weights(network: torch.nn.Module, path: Path, config: str | None = None) -> None:
    """Load the weights of ``network`` from a safetensors file.

    Arguments:
        network: the module.
        path: the file.
        config: the digest of the ``Config`` that made ``network``. A file that names another one is refused.

    Raises:
        InputError: the file is missing or damaged, belongs to another config.json, or a tensor does not fit.
    """
    try:
        open(path, "rb").close()  # safetensors calls a file missing that may not be read
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except PermissionError:
        raise no_permission(path) from None
    except FileNotFoundError:
        raise InputError(
            f"{path}: missing; the folder is incomplete, copy the weights into it or train again"
        ) from None
    except (SafetensorError, OSError, struct.error, ValueError) as error:
        raise InputError(f"{path}: damaged or not safetensors ({error}); restore it from a copy") from None
    fill(network, state, path)
    if config is not None and about.get("config", config) != config:
        raise InputError(
            f"{path}: belongs to another config.json than the one beside it, which has changed since; restore that "
            "file, or train again"
        )


def fill(network: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load the weights of ``network`` from ``state``, which was read from ``path``.

    Raises:
        InputError: a tensor is missing, unknown, or of another shape.
    """
    expected = network.state_dict()
    for name in [*expected, *state]:
        if name not in state or name not in expected:
            verb = "lacks" if name not in state else "has an unknown"
            raise InputError(f"{path}: {verb} tensor '{name}'; the weights are of another network than config.json's")
        if state[name].shape != expected[name].shape:
            raise InputError(
                f"{path}: '{name}' is {tuple(state[name].shape)}, config.json's network has "
                f"{tuple(expected[name].shape)}; the weights are of another network"
            )
    network.load_state_dict(dict(state))


# ------------------------------------------------------------------------------------------------------- fitted tables


def write_fitted(
    folder: Path, key: TableKey, tableau: Tableau, weights: str, measured: Mapping[str, Any] | None = None
) -> Path:
    """Write a table that was fitted to the weights of that digest, with its ``measured`` errors. Returns the file."""
    path = folder / key.file
    about = {"format": FORMAT, "sfumato": __version__, "weights": weights, "measured": dict(measured or {})}
    sampled = {"condition": key.sampled.condition, "guidance": key.sampled.guidance}
    write_text(path, json.dumps({**about, "sampled": sampled, "tableau": tableau.to_dict()}) + "\n")
    return path


def read_fitted(folder: Path, weights: str) -> tuple[dict[TableKey, Tableau], dict[str, str]]:
    """Read the tables in ``folder`` that were fitted to the weights of that digest.

    A file without "sampled" is for unconditional samples.

    Returns:
        The tables, and by file name why others are not used: they were fitted before more training, are damaged, or
        have another format. That is no error, because a model can be sampled without them.
    """
    fitted: dict[TableKey, Tableau] = {}
    unused: dict[str, str] = {}
    for path in sorted(folder.glob("sampler-*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["weights"] != weights:
                unused[path.name] = "was fitted to other weights"
            elif data["format"] != FORMAT:
                unused[path.name] = f"has format {data['format']!r}, and this Sfumato {__version__} reads {FORMAT}"
            else:
                tableau = Tableau.from_dict(data["tableau"])
                fitted[TableKey(tableau.evaluations, _sampled(data.get("sampled")))] = tableau
        except PermissionError:
            unused[path.name] = "may not be read"
        except (OSError, ValueError, KeyError, TypeError) as error:
            unused[path.name] = f"is damaged ({' '.join(str(error).split())})"
    return fitted, unused


def write_chosen(folder: Path, chosen: Mapping[int, str], weights: str) -> Path:
    """Write the methods that were chosen for the weights of that digest, by evaluations. Returns the file."""
    path = folder / CHOSEN
    about = {"format": FORMAT, "sfumato": __version__, "weights": weights}
    write_text(path, json.dumps({**about, "methods": {str(n): chosen[n] for n in sorted(chosen)}}, indent=2) + "\n")
    return path


def read_chosen(folder: Path, weights: str) -> dict[int, str]:
    """Read the methods in ``folder`` that were chosen for the weights of that digest, by evaluations.

    Without a file, or with one that is damaged or of other weights, there are none: a model can be sampled without. A
    method that this version does not know is left out.
    """
    try:
        data = json.loads((folder / CHOSEN).read_text(encoding="utf-8"))
        if (data["format"], data["weights"]) != (FORMAT, weights):
            return {}
        return {int(n): name for n, name in data["methods"].items() if int(n) > 0 and name in CANDIDATES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _sampled(data: Any) -> Sampled:
    if data is None:
        return Sampled()
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise TypeError(f"sampled must be an object of strings, found {data!r:.60}")
    return Sampled(**data)


# ---------------------------------------------------------------------------------------------------------------- card


OWN_CARD = "<!-- Written by sfumato, which writes it again after each measurement unless this line is gone. -->"


def model_card(
    config: Config, facts: Mapping[str, str] = MappingProxyType({}), metrics: Mapping[str, float] = MappingProxyType({})
) -> str:
    """The model card: what the model is, how to use it, and what was measured.

    It begins with metadata in the format of the Hugging Face hub.

    Arguments:
        config: of the model.
        facts: rows of the card's table.
        metrics: the measured numbers, for the metadata.
    """
    spec = config.spec
    shape = " x ".join(map(str, spec.shape))
    lines = [
        "---",
        yaml.safe_dump(_metadata(config, metrics), sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        OWN_CARD,
        "",
        f"# {config.recipe.name} on {spec.source}",
        "",
        f"A {config.recipe.kind} of {spec.layout.name} data ({shape}), {config.parameters:,} parameters, trained on "
        f"{spec.count:,} samples with Sfumato {__version__}.",
        "",
        "```python",
        "import sfumato",
        "",
        'model = sfumato.load("this/folder")',
        "samples = model.sample(16, seed=0)",
        "```",
    ]
    if facts:
        lines += ["", "| measured | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    return "\n".join(lines) + "\n"


def _metadata(config: Config, metrics: Mapping[str, float]) -> dict[str, Any]:
    spec, task = config.spec, f"unconditional-{config.spec.layout.name}-generation"
    found: dict[str, Any] = {
        "library_name": "sfumato",
        "pipeline_tag": task,
        "tags": ["sfumato", config.recipe.kind.replace(" ", "-"), spec.layout.name],
    }
    if spec.layout.name != "image":  # the hub knows a task for images only
        del found["pipeline_tag"]
    if metrics:
        result = {
            "task": {"type": task},
            "dataset": {"name": spec.source, "type": spec.layout.name},
            "metrics": [
                {"type": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"), "name": name, "value": value}
                for name, value in metrics.items()
            ],
        }
        found["model-index"] = [{"name": f"{config.recipe.name} on {spec.source}", "results": [result]}]
    return found
