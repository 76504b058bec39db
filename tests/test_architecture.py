"""What may import what: the floors of docs/architecture.md, checked against the imports of the sources.

The checker is a function of a tree of sources (path within the package -> text), so that the end of this file can
check the checker on small trees with planted violations.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sfumato"

# ---------------------------------------------------------------------------------------------------- floors

GROUND = {"_version", "allowance", "errors", "files", "reporting"}  # the standard library only; every room may use them
WORLD = {"world"}  # the processes that work together: torch only; floors 0 to 2 do not know of it

# The modules about one model know each other.
MODELS = {
    "model_folder",
    "generate",
    "sampling_plan",
    "shared_denoiser",
    "best_methods",
    "reconstruction",
    "evidence",
    "reconstruction_certificate",
    "next_reading",
    "denoising",
    "interpolation",
    "imputation",
    "class_condition",
    "guided",
    "generative_model",
    "model",
    "hierarchical_model",
    "kinds",
}

SETTINGS = ("runs.command", "runs.settings")  # plain values; the command line takes its defaults from them

# From the bottom to the top. A room is a package, a module at the root of the package, or one module of a package.
# A room may use every room in an earlier line; rooms in one line do not know each other.
FLOORS: list[set[str]] = [
    {"runs.command"},
    {"runs.settings"},
    # L0
    {"numerics"},
    {"core"},
    # L1
    {"denoisers", "networks", "data"},
    # L2
    {"bounds"},
    {"sampling"},
    {"guidance"},
    {"likelihood", "restoration", "objectives", "hierarchical"},
    # L3
    {"recipes"},
    MODELS,
    {"runs.folder"},
    # L4
    {"training", "evaluation", "interop"},
    # L5
    {"report"},
    {"runs"},
    {"studio"},
    {"cli"},
    {"__main__"},
]
L3_AND_ABOVE = set().union(*FLOORS[9:])

MAY_USE: dict[str, set[str]] = {
    room: below
    for rooms, below in zip(FLOORS, accumulate(FLOORS, set.union, initial=set()), strict=False)
    for room in rooms
}
MAY_USE |= {
    **{room: MAY_USE[room] | WORLD for room in L3_AND_ABOVE - {"recipes"}},
    **{room: set() for room in GROUND | WORLD},
    **{room: MAY_USE[room] | WORLD | MODELS for room in MODELS},
    "networks": {"numerics"},  # plain torch: they know nothing of diffusion
    "report": {"numerics", "core", "data.spec", "recipes", "runs.folder"},  # it reads files and never opens a model
    "files": {"errors"},
    "__main__": {"cli"},
}

# ------------------------------------------------------------------------------------------ packages from outside

LIGHT = {"torch", "jaxtyping"}
LIBRARY = {"numpy", "safetensors", "pydantic", "yaml", "tqdm"}
HEAVY = {"PIL", "png", "tifffile", "sklearn", "pyarrow"}
INTERCHANGE = {"diffusers", "onnx", "onnxscript", "onnxruntime"}


class Outside(NamedTuple):
    """Packages that a room may import at load time, and those that it may only import inside a function."""

    loading: set[str]
    inside: set[str]


OUTSIDE: dict[str, Outside] = {
    **dict.fromkeys(MAY_USE, Outside(LIGHT, set())),
    **dict.fromkeys([*GROUND, *SETTINGS], Outside(set(), set())),
    "numerics": Outside(LIGHT, {"torchode", "scipy"}),  # an ODE solver with step sizes per sample; assignments
    "data": Outside(LIGHT | {"numpy"}, HEAVY),
    **dict.fromkeys(L3_AND_ABOVE, Outside(LIGHT | LIBRARY, HEAVY | {"tensorboardX"})),
    "training": Outside(LIGHT | LIBRARY, HEAVY | {"tensorboardX", "lightgbm"}),  # which grows trees
    # learners that balance their own rows; quantiles and a filter
    "evaluation": Outside(LIGHT | LIBRARY, HEAVY | {"tensorboardX", "imblearn", "scipy"}),
    "interop": Outside(LIGHT | LIBRARY, INTERCHANGE),
    "report": Outside(LIGHT | LIBRARY | {"PIL"}, {"matplotlib"}),
    "cli": Outside(set(), LIGHT | LIBRARY | HEAVY),  # `sfumato --help` answers without torch
    "__main__": Outside(set(), set()),
}

# ----------------------------------------------------------------------------------------------------- sizes

MOST_LINES = {"class": 200, "function": 60}
MOST_LINES_OF_A_VERB = 150

# ---------------------------------------------------------------------------------------------- the checker

Tree = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name; ``deferred`` if loading the importing module does not run it."""

    target: str
    deferred: bool
    line: int


def module_name(path: str) -> str:
    """``core/levels.py`` -> ``sfumato.core.levels``; a package is named by its ``__init__.py``."""
    parts = ["sfumato", *Path(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``sfumato.runs.folder`` -> ``runs.folder``, ``sfumato.core.levels`` -> ``core``; empty for the public index."""
    name = module.partition(".")[2]
    return name if name in MAY_USE else name.partition(".")[0]


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def nodes(tree: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it stands in a function or under ``if TYPE_CHECKING``."""
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
    """The module that ``level`` dots and ``name`` mean in the file ``path``."""
    if level == 0:
        return name
    # The last part is the file itself; for a package's __init__.py that makes one dot mean the package.
    base = ["sfumato", *Path(path).parts][:-level]
    return ".".join([*base, *([name] if name else [])])


def called(call: ast.Call) -> str:
    """The last part of the name of the called function."""
    name = call.func
    return name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""


def imports(path: str, source: str, modules: set[str]) -> Iterator[Import]:
    """Every import of a file, wherever it stands; ``from package import module`` means the module."""
    for node, deferred in nodes(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, deferred, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(path, node.module or "", node.level)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                within = full in modules or base == "sfumato"
                yield Import(full if within else base, deferred, node.lineno)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                level = len(name.value) - len(name.value.lstrip("."))
                yield Import(absolute(path, name.value.lstrip("."), level), deferred, node.lineno)
            else:
                yield Import("", deferred, node.lineno)


def floor_violations(tree: Tree) -> list[str]:
    """Each import that goes up, sideways, or to a package that is too heavy for its floor."""
    modules = {module_name(path) for path in tree}
    found = []
    for path, source in tree.items():
        room = room_of(module_name(path))
        if room == "":  # the public index
            continue
        if room not in MAY_USE:
            found.append(f"{path}: {room} is on no floor; give it a row in the tables of this test")
            continue
        for item in imports(path, source, modules):
            fault = inside_fault(room, item) if item.target.startswith("sfumato") else outside_fault(room, item)
            if fault:
                found.append(f"{path}:{item.line}: {fault}")
    return found


def inside_fault(room: str, item: Import) -> str:
    """Why this room may not import that module of the package; empty if it may."""
    target = item.target.partition(".")[2]
    usable = {room, *MAY_USE[room], *(set() if room in GROUND else GROUND)}
    if not any(target == name or target.startswith(f"{name}.") for name in usable):
        return f"{room} may not import {item.target}"
    if (
        room == "cli"
        and not item.deferred
        and room_of(item.target) not in {"cli", "runs.command", "runs.settings", *GROUND}
    ):
        return f"{room} may import {item.target} only inside a function: --help must not load torch"
    return ""


def outside_fault(room: str, item: Import) -> str:
    """Why this room may not import that package; empty if it may."""
    if item.target == "":
        return "" if room == "cli" else f"{room} imports a module by a computed name, which no test can follow"
    name = item.target.partition(".")[0]
    allowed = OUTSIDE[room]
    if name in sys.stdlib_module_names or name in allowed.loading or (item.deferred and name in allowed.inside):
        return ""
    return f"{room} may not import {name}" + (" on loading, only inside a function" if name in allowed.inside else "")


def circles(tree: Tree) -> list[str]:
    """Modules that import each other, directly or through others, also inside functions; without the public index."""
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


def too_long(tree: Tree) -> list[str]:
    """Each class and function that is too long, and each file of a verb."""
    found = []
    for path, source in tree.items():
        lines = source.count("\n")
        if path.startswith("cli/") and lines > MOST_LINES_OF_A_VERB:
            found.append(f"{path}: {lines} lines, at most {MOST_LINES_OF_A_VERB}")
        for node, _ in nodes(ast.parse(source, path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES[kind]:
                    found.append(f"{path}: {kind} {node.name}: {lines} lines, at most {MOST_LINES[kind]}")
    return found


# ---------------------------------------------------------------------------------------------- the project


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_every_import_goes_down(package):
    assert floor_violations(package) == []


def test_no_module_is_in_a_circle(package):
    assert circles(package) == []


def test_classes_functions_and_verbs_are_short(package):
    assert too_long(package) == []


def test_the_sources_were_really_read(package):
    """Known imports of the project are found, so that the tests above do not pass on nothing."""
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
    assert {room_of(module) for module, _, _ in seen} >= {"objectives", "sampling", "recipes", "training", "cli"}


def test_tests_mirror_the_package():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders - packages <= {"docs", "benchmarks"}


# ---------------------------------------------------------------------------------------- the checker, checked

ALLOWED = {
    "__init__.py": "from .model import Model\nfrom .core import Level",
    "__main__.py": "from .cli.main import main",
    "errors.py": "import math",
    "core/__init__.py": "from .levels import Level as Level",
    "core/levels.py": "from jaxtyping import Float\nfrom torch import Tensor\nfrom ..numerics.roots import bisect",
    "numerics/roots.py": "import torch\nimport math\nfrom collections.abc import Callable",
    "data/images.py": "import typing\nfrom .spec import a\nif typing.TYPE_CHECKING:\n    from tifffile import TiffFile",
    "data/spec.py": "import numpy as np\ndef f():\n    import PIL.Image\n    import tifffile, png, sklearn",
    "bounds/terms.py": "from ..denoisers import Denoiser",
    "sampling/tableau.py": "from sfumato.bounds.terms import kl\nfrom ..core.levels import Level",
    "model.py": "from ._version import __version__\nfrom .recipes.recipe import Recipe\nfrom .world import World",
    "runs/folder.py": "from ..model_folder import read",
    "runs/life.py": "from ..training.loop import train\nfrom .folder import RunFolder",
    "training/loop.py": "from ..runs.folder import RunFolder\nfrom ..reporting import Reporter",
    "report/style.py": "from ..runs.folder import RunFolder\ndef f():\n    from matplotlib.figure import Figure",
    "cli/main.py": "import importlib\ndef f(verb):\n    return importlib.import_module(f'sfumato.cli.{verb}')",
    "cli/demo.py": "from . import main\ndef f():\n    import torch\n    from sfumato.runs.life import begin",
}


def test_an_import_that_goes_down_is_allowed():
    assert floor_violations(ALLOWED) == []
    assert circles(ALLOWED) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("core/a.py", "from sfumato.denoisers import Denoiser", "core may not import sfumato.denoisers"),
        ("core/a.py", "from ..data.spec import DataSpec", "core may not import sfumato.data.spec"),
        ("core/a.py", "def f():\n    from sfumato import sampling", "core may not import sfumato.sampling"),
        ("core/a.py", "import importlib\nimportlib.import_module('sfumato.model')", "may not import sfumato.model"),
        ("core/__init__.py", "from ..denoisers import base", "core may not import sfumato.denoisers"),
        ("networks/a.py", "from sfumato.core import Level", "networks may not import sfumato.core"),
        ("bounds/a.py", "from sfumato.sampling import run", "bounds may not import sfumato.sampling"),
        ("objectives/a.py", "from ..likelihood import bits", "objectives may not import sfumato.likelihood"),
        ("sampling/a.py", "from ..world import World", "sampling may not import sfumato.world"),
        ("training/a.py", "from ..runs.life import begin", "training may not import sfumato.runs.life"),
        ("runs/folder.py", "from .life import begin", "runs.folder may not import sfumato.runs.life"),
        ("report/a.py", "from sfumato.model import Model", "report may not import sfumato.model"),
        ("report/a.py", "from sfumato.runs import RunFolder", "report may not import sfumato.runs"),
        ("runs/a.py", "from ..cli import main", "runs may not import sfumato.cli"),
        ("cli/a.py", "from sfumato.model import Model", "only inside a function"),
        ("helpers.py", "import math", "helpers is on no floor"),
        ("core/a.py", "name = 'x'\n__import__(name)", "computed name"),
        ("core/a.py", "import numpy as np", "core may not import numpy"),
        ("data/a.py", "from PIL import Image", "data may not import PIL on loading, only inside a function"),
        ("data/a.py", "TYPE_CHECKING = 1\nif not TYPE_CHECKING:\n    import PIL", "only inside a function"),
        ("cli/a.py", "import torch", "cli may not import torch"),
    ],
)
def test_a_planted_import_is_found_once(path, source, fault):
    (found,) = floor_violations({path: source, "runs/life.py": ""})
    assert found.startswith(path)
    assert fault in found


@pytest.mark.parametrize(
    ("tree", "circle"),
    [
        ({"core/a.py": "from .b import x", "core/b.py": "from .a import y"}, "sfumato.core.a -> sfumato.core.b"),
        (
            {
                "a/x.py": "from ..b import y",
                "b/y.py": "from ..c.z import Z",
                "c/z.py": "def f():\n    import sfumato.a.x",
            },
            "sfumato.a.x -> sfumato.b.y -> sfumato.c.z -> sfumato.a.x",
        ),
    ],
)
def test_a_planted_circle_is_found(tree, circle):
    (found,) = circles(tree)
    assert found.startswith(circle)


def test_two_paths_to_one_module_are_no_circle():
    tree = {"core/a.py": "from . import b, c", "core/b.py": "from .d import x", "core/c.py": "from .d import x"}
    assert circles({**tree, "core/d.py": ""}) == []


def test_one_line_too_many_is_found():
    def function(lines: int) -> str:
        return "def f():\n" + "    x = 1\n" * (lines - 1)

    def verb(lines: int) -> str:
        return "x = 1\n" * lines

    assert too_long({"core/a.py": function(60), "cli/a.py": verb(150), "core/b.py": verb(999)}) == []
    (long_function,) = too_long({"core/a.py": function(61)})
    assert long_function == "core/a.py: function f: 61 lines, at most 60"
    (long_verb,) = too_long({"cli/a.py": verb(151)})
    assert long_verb == "cli/a.py: 151 lines, at most 150"
    (long_class,) = too_long({"core/a.py": "class A:\n" + "    x = 1\n" * 200})
    assert long_class == "core/a.py: class A: 201 lines, at most 200"
