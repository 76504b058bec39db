"""What may lean on what: the floors of docs/architecture.md, read off the imports of the sources.

The checker is a function of a tree of sources (path within the package -> text), so that the second half of this file
can plant violations in small trees and see that each is found.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sfumato"

# ------------------------------------------------------------------------------------------------ the table

GROUND = {"errors", "files"}  # the standard library only; everything may use them
WORLD = {"world"}  # torch only: the processes that work together, of which floors 0 to 2 know nothing
L0 = {"core", "numerics"}
L1 = {"denoisers", "networks", "data"}
L2 = {"objectives", "sampling", "guidance", "likelihood", "restoration", "hierarchical"}
L3 = {"model", "recipes"}
L4 = {"training", "evaluation", "interop"}

# What each part may import of the package, beside itself and the ground: a part, or one module of a part.
MAY_USE: dict[str, set[str]] = {
    "numerics": set(),
    "core": {"numerics"},
    "networks": {"numerics"},  # they have never heard of diffusion
    **dict.fromkeys(["denoisers", "data"], L0),
    **dict.fromkeys(L2, L0 | L1),
    "recipes": L0 | L1 | L2,
    "world": set(),
    "model": L0 | L1 | L2 | WORLD | {"recipes"},
    **dict.fromkeys(L4, L0 | L1 | L2 | L3 | WORLD),
    "report": L0 | {"data.spec", "recipes"},  # it reads what a run's files say, and never opens a model
    "studio": L0 | L1 | L2 | L3 | L4 | WORLD | {"report"},
    "cli": L0 | L1 | L2 | L3 | L4 | WORLD | {"report", "studio"},
    "__main__": {"cli"},
}

# What each floor may import from elsewhere, beside the standard library: when it is loaded, and inside functions.
LIGHT = {"torch", "jaxtyping"}
LIBRARY = {"numpy", "safetensors", "pydantic", "yaml", "tqdm"}
HEAVY = {"PIL", "png", "tifffile", "sklearn"}
INTERCHANGE = {"diffusers", "onnx", "onnxscript", "onnxruntime"}


class Weight(NamedTuple):
    """The packages that a part may import on loading, and those that it may import when it needs them."""

    loading: set[str]
    inside: set[str]


WEIGHTS: dict[str, Weight] = {
    **dict.fromkeys(GROUND, Weight(set(), set())),
    "world": Weight({"torch"}, set()),
    **dict.fromkeys(L0 | L1 | L2, Weight(LIGHT, set())),
    "numerics": Weight(LIGHT, {"torchode", "scipy"}),  # ODEs with steps of each sample's own; assignments
    "data": Weight(LIGHT | {"numpy"}, HEAVY),
    **dict.fromkeys(L3 | L4, Weight(LIGHT | LIBRARY, HEAVY | {"tensorboardX"})),
    "interop": Weight(LIGHT | LIBRARY, INTERCHANGE),
    "report": Weight(LIGHT | LIBRARY | {"PIL"}, {"matplotlib"}),
    "studio": Weight(LIGHT | LIBRARY, HEAVY),
    "cli": Weight(set(), LIGHT | LIBRARY | HEAVY),  # `sfumato --help` answers without torch
    "__main__": Weight(set(), set()),
}

# Reading any of these can run code that a file holds.
UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_NAMES = {"torch.load", "torch.serialization.load", "builtins.eval", "builtins.exec"}

# ---------------------------------------------------------------------------------------------- the checker

Tree = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name; `deferred` where loading the importing module does not run it."""

    target: str
    deferred: bool
    line: int


def module_name(path: str) -> str:
    """`core/levels.py` -> `sfumato.core.levels`; a package is named by its `__init__.py`."""
    parts = ["sfumato", *Path(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`sfumato.core.levels` -> `core`; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def nodes(tree: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it stands in a function or under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        yield child, deferred
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for branch, late in ((child.body, True), (child.orelse, deferred)):
                for statement in branch:
                    yield statement, late
                    yield from nodes(statement, late)
        else:
            yield from nodes(child, deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def absolute(path: str, name: str, level: int) -> str:
    """The module that `level` dots and `name` mean in the file `path`."""
    if level == 0:
        return name
    # The last part is the file itself; for a package's __init__.py that makes one dot mean the package.
    base = ["sfumato", *Path(path).parts][:-level]
    return ".".join([*base, *([name] if name else [])])


def imports(path: str, source: str, modules: set[str]) -> Iterator[Import]:
    """What a file imports, wherever in the file it does; `from package import module` means the module."""
    for node, deferred in nodes(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, deferred, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(path, node.module or "", node.level)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                # A name taken from the package itself is one of its parts, or its version.
                within = full in modules or base == "sfumato"
                yield Import(full if within else base, deferred, node.lineno)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                level = len(name.value) - len(name.value.lstrip("."))
                yield Import(absolute(path, name.value.lstrip("."), level), deferred, node.lineno)
            else:
                yield Import("", deferred, node.lineno)


def called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    function = call.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def floor_violations(tree: Tree) -> list[str]:
    """Each import that goes up, sideways, or to a package too heavy for its floor."""
    modules = {module_name(path) for path in tree}
    found = []
    for path, source in tree.items():
        part = part_of(module_name(path))
        if part == "":  # the public index
            continue
        if part not in WEIGHTS:
            found.append(f"{path}: {part} stands on no floor; give it a row in the tables of this test")
            continue
        for item in imports(path, source, modules):
            fault = internal_fault(part, item) if item.target.startswith("sfumato") else external_fault(part, item)
            if fault:
                found.append(f"{path}:{item.line}: {fault}")
    return found


def internal_fault(part: str, item: Import) -> str:
    """Why this part may not import that module of the package; empty where it may."""
    target = item.target.partition(".")[2]
    if target == "__version__":
        return ""
    usable = {part, *([] if part in GROUND else [*GROUND, *MAY_USE[part]])}
    if not any(target == name or target.startswith(f"{name}.") for name in usable):
        return f"{part} may not import {item.target}"
    if part == "cli" and not item.deferred and part_of(item.target) not in {"cli", *GROUND}:
        return f"{part} may import {item.target} only inside a function: --help must not load torch"
    return ""


def external_fault(part: str, item: Import) -> str:
    """Why this part may not import that package; empty where it may."""
    if item.target == "":
        return "" if part == "cli" else f"{part} imports a module by a computed name, which no test can follow"
    name = item.target.partition(".")[0]
    weight = WEIGHTS[part]
    if name in sys.stdlib_module_names or name in weight.loading or (item.deferred and name in weight.inside):
        return ""
    return f"{part} may not import {name}" + (" on loading, only inside a function" if name in weight.inside else "")


def circles(tree: Tree) -> list[str]:
    """Modules that import each other, directly or around a corner, also inside functions; the public index apart."""
    modules = {module_name(path) for path in tree}
    edges = {
        module_name(path): sorted({item.target for item in imports(path, source, modules)} & (modules - {"sfumato"}))
        for path, source in tree.items()
    }
    found = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            for target in edges[module]:
                visit(target, [*trail, module])
            done.add(module)

    for module in sorted(modules - {"sfumato"}):
        visit(module, [])
    return found


def unsafe(tree: Tree) -> list[str]:
    """Each way of running what a file or a string says: pickles, `torch.load`, `eval`, `exec`."""
    found = []
    for path, source in tree.items():
        every = [node for node, _ in nodes(ast.parse(source, path))]
        names = {"eval": "builtins.eval", "exec": "builtins.exec"}  # what a bare name in this file stands for
        for node in every:
            names |= bound(node)
        for node in every:
            words = []
            if isinstance(node, ast.Import):
                words = [item.name for item in node.names if item.name.partition(".")[0] in UNSAFE_MODULES]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                full = [f"{node.module}.{item.name}" for item in node.names]
                words = [name for name in full if name.partition(".")[0] in UNSAFE_MODULES or name in UNSAFE_NAMES]
            elif isinstance(node, ast.Name | ast.Attribute):
                words = [name for name in [dotted(node, names)] if name in UNSAFE_NAMES]
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                refused = isinstance(node.value, ast.Constant) and node.value.value is False
                words = [] if refused else ["allow_pickle"]
            found += [f"{path}:{node.lineno}: {word}" for word in words]
    return found


def bound(node: ast.AST) -> dict[str, str]:
    """The names that an import makes, and what they stand for; `import a.b` makes only `a`."""
    if isinstance(node, ast.Import):
        full = [(item.asname, item.name) if item.asname else (item.name.partition(".")[0],) * 2 for item in node.names]
        return dict(full)
    if isinstance(node, ast.ImportFrom):
        return {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
    return {}


def dotted(node: ast.expr, names: Mapping[str, str]) -> str:
    """`t.load` -> `torch.load` where `t` stands for torch; empty for what is no chain of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return f"{base}.{node.attr}" if base else ""
    return ""


# ---------------------------------------------------------------------------------------------- the project


def read(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))
    }


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    return read(PACKAGE)


def test_every_import_goes_down(package):
    assert floor_violations(package) == []


def test_no_module_is_in_a_circle(package):
    assert circles(package) == []


def test_nothing_runs_what_a_file_says(package):
    scripts = {
        f"{name}/{path}": text for name in ("benchmarks", "examples") for path, text in read(ROOT / name).items()
    }
    assert unsafe({**package, **scripts, "dev.py": (ROOT / "dev.py").read_text(encoding="utf-8")}) == []


def test_the_sources_were_really_read(package):
    """Known imports of the project are seen, so that the three tests above do not pass on nothing."""
    modules = {module_name(path) for path in package}
    seen = {
        (module_name(path), item.target, item.deferred)
        for path, source in package.items()
        for item in imports(path, source, modules)
    }
    assert ("sfumato.core.process", "sfumato.core.scalings", False) in seen
    assert ("sfumato.denoisers.base", "torch", False) in seen
    assert any(
        module.startswith("sfumato.data.") and target.startswith("PIL") and late for module, target, late in seen
    )
    assert {part_of(module) for module, _, _ in seen} >= L0 | L1 | {
        "objectives",
        "sampling",
        "recipes",
        "training",
        "cli",
    }


def test_tests_mirror_the_package():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders - packages == set()


# ---------------------------------------------------------------------------------------- the checker, checked

GOES_UP_OR_SIDEWAYS = [
    ("core/a.py", "from sfumato.denoisers import Denoiser", "core may not import sfumato.denoisers"),
    ("core/a.py", "from ..data.spec import DataSpec", "core may not import sfumato.data.spec"),
    ("core/a.py", "def f():\n    from sfumato import sampling", "core may not import sfumato.sampling"),
    ("core/a.py", "from sfumato import Process", "core may not import sfumato.Process"),
    ("core/a.py", "import sfumato", "core may not import sfumato"),
    ("core/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sfumato.model", "sfumato.model"),
    ("core/a.py", "import importlib\nimportlib.import_module('sfumato.model')", "core may not import sfumato.model"),
    ("core/a.py", "from importlib import import_module\nimport_module('..model', __package__)", "sfumato.model"),
    ("core/__init__.py", "from ..denoisers import base", "core may not import sfumato.denoisers"),
    ("numerics/a.py", "from sfumato.core.levels import Level", "numerics may not import sfumato.core.levels"),
    ("networks/a.py", "from sfumato.core import Level", "networks may not import sfumato.core"),
    ("networks/a.py", "from sfumato.denoisers import Denoiser", "networks may not import sfumato.denoisers"),
    ("denoisers/a.py", "from sfumato.networks import UNet", "denoisers may not import sfumato.networks"),
    ("data/a.py", "from ..denoisers.base import Denoiser", "data may not import sfumato.denoisers"),
    ("sampling/a.py", "from sfumato.objectives import times", "sampling may not import sfumato.objectives"),
    ("objectives/a.py", "from ..likelihood import bits", "objectives may not import sfumato.likelihood"),
    ("likelihood/a.py", "from ..model import Model", "likelihood may not import sfumato.model"),
    ("recipes/a.py", "from sfumato.model import Model", "recipes may not import sfumato.model"),
    ("model.py", "from .training import loop", "model may not import sfumato.training"),
    ("training/a.py", "from sfumato.evaluation import Gallery", "training may not import sfumato.evaluation"),
    ("evaluation/a.py", "from sfumato.training.ema import EMA", "evaluation may not import sfumato.training.ema"),
    ("training/a.py", "from sfumato.report import write_report", "training may not import sfumato.report"),
    ("report/a.py", "from sfumato.model import Model", "report may not import sfumato.model"),
    ("report/a.py", "from sfumato.data import Dataset", "report may not import sfumato.data"),
    ("report/a.py", "from ..cli import main", "report may not import sfumato.cli"),
    ("studio/a.py", "from ..cli.common import parse", "studio may not import sfumato.cli.common"),
    ("errors.py", "from .files import write_text", "errors may not import sfumato.files"),
    ("sampling/a.py", "from ..world import World", "sampling may not import sfumato.world"),
    ("world.py", "from .model import Model", "world may not import sfumato.model"),
    ("errors.py", "from .core import Level", "errors may not import sfumato.core"),
    ("cli/a.py", "from sfumato.model import Model", "only inside a function"),
    ("helpers.py", "import math", "helpers stands on no floor"),
    ("core/a.py", "name = 'x'\n__import__(name)", "computed name"),
]
TOO_HEAVY = [
    ("core/a.py", "import numpy as np", "core may not import numpy"),
    ("core/a.py", "def f():\n    import scipy.special", "core may not import scipy"),
    ("sampling/a.py", "import safetensors.torch", "sampling may not import safetensors"),
    ("networks/a.py", "class A:\n    import pydantic", "networks may not import pydantic"),
    ("denoisers/a.py", "try:\n    import yaml\nexcept ImportError:\n    yaml = None", "denoisers may not import yaml"),
    ("data/a.py", "from PIL import Image", "data may not import PIL on loading, only inside a function"),
    ("data/a.py", "def f():\n    import matplotlib", "data may not import matplotlib"),
    ("data/a.py", "def f():\n    import yaml", "data may not import yaml"),
    ("data/a.py", "TYPE_CHECKING = 1\nif not TYPE_CHECKING:\n    import PIL", "only inside a function"),
    (
        "data/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import png",
        "only inside",
    ),
    ("report/a.py", "import matplotlib.pyplot as plt", "only inside a function"),
    ("evaluation/a.py", "def f():\n    import matplotlib", "evaluation may not import matplotlib"),
    ("evaluation/a.py", "from sklearn.pipeline import make_pipeline", "only inside a function"),
    ("cli/a.py", "import torch", "cli may not import torch"),
    ("files.py", "import numpy", "files may not import numpy"),
]
ALLOWED = {
    "__init__.py": "from .model import Model\nfrom .core import Level",
    "__main__.py": "from .cli.main import main",
    "errors.py": "import math",
    "numerics/roots.py": "import torch\nimport math\nfrom collections.abc import Callable",
    "core/__init__.py": "from .levels import Level as Level",
    "core/levels.py": "from jaxtyping import Float\nfrom torch import Tensor\nfrom ..numerics.roots import bisect",
    "denoisers/base.py": "from sfumato import core\nfrom sfumato.errors import InputError",
    "data/spec.py": "import numpy as np\ndef f():\n    import PIL.Image\n    import tifffile, png, sklearn",
    "data/images.py": "import typing\nfrom .spec import a\nif typing.TYPE_CHECKING:\n    from tifffile import TiffFile",
    "sampling/tableau.py": "from sfumato.denoisers import Denoiser\nfrom ..core.levels import Level",
    "recipes/recipe.py": "import pydantic\nimport yaml\nfrom sfumato import core, networks, objectives",
    "model.py": "from . import __version__\nfrom .recipes.recipe import Recipe\nimport safetensors.torch",
    "report/style.py": "from ..data.spec import DataSpec\ndef f():\n    from matplotlib.figure import Figure",
    "cli/main.py": "import importlib\ndef f(verb):\n    return importlib.import_module(f'sfumato.cli.{verb}')",
    "cli/demo.py": "from . import main\ndef f():\n    import torch\n    from sfumato.report import write_report",
}


@pytest.mark.parametrize(("path", "source", "fault"), GOES_UP_OR_SIDEWAYS + TOO_HEAVY)
def test_a_planted_import_is_found_once(path, source, fault):
    (found,) = floor_violations({path: source})
    assert found.startswith(path)
    assert fault in found


def test_what_the_floors_allow_is_allowed():
    assert floor_violations(ALLOWED) == []
    assert circles(ALLOWED) == []
    assert unsafe(ALLOWED) == []


@pytest.mark.parametrize(
    ("tree", "circle"),
    [
        ({"core/a.py": "from .b import x", "core/b.py": "from .a import y"}, "sfumato.core.a -> sfumato.core.b"),
        (
            {
                "a/x.py": "from ..b import y",
                "b/y.py": "from sfumato.c.z import Z",
                "c/z.py": "def f():\n    import sfumato.a.x",
            },
            "sfumato.a.x -> sfumato.b.y -> sfumato.c.z -> sfumato.a.x",
        ),
        (
            {"core/__init__.py": "from .a import A", "core/a.py": "from sfumato.core import B"},
            "sfumato.core -> sfumato.core.a -> sfumato.core",
        ),
        ({"core/a.py": "from . import a"}, "sfumato.core.a -> sfumato.core.a"),
    ],
)
def test_a_planted_circle_is_found(tree, circle):
    (found,) = circles(tree)
    assert found.startswith(circle)


def test_two_ways_to_one_module_are_no_circle():
    tree = {
        "core/a.py": "from . import b, c",
        "core/b.py": "from .d import x",
        "core/c.py": "from .d import x",
        "core/d.py": "",
    }
    assert circles(tree) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("import pickle", "pickle"),
        ("def f():\n    from joblib import load", "joblib.load"),
        ("import torch\ntorch.load('x', weights_only=True)", "torch.load"),
        ("import torch as t\nread = t.load", "torch.load"),
        ("from torch import load as read", "torch.load"),
        ("from torch import serialization\nserialization.load('x')", "torch.serialization.load"),
        ("eval('1')", "builtins.eval"),
        ("import builtins\nbuiltins.exec('1')", "builtins.exec"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "allow_pickle"),
        ("import numpy as np\nanswer = True\nnp.load('x', allow_pickle=answer)", "allow_pickle"),
    ],
)
def test_a_planted_danger_is_found(source, word):
    assert any(found.endswith(f": {word}") for found in unsafe({"data/a.py": source}))


def test_harmless_namesakes_are_left_alone():
    harmless = (
        "import numpy as np\nimport re\nfrom safetensors.torch import load_file\nimport safetensors.torch\n"
        "model.eval()\nnp.load('x', allow_pickle=False)\nnp.load('x')\nre.compile('eval(x)')\n"
        "safetensors.torch.load(b'')\n'pickle'\n"
    )
    assert unsafe({"data/a.py": harmless}) == []
