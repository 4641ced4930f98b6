"""Do imports point one way, and does nothing use global randomness or run foreign code?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first: a module imports from its own layer and from those before it. ``envs`` may be imported by all.
LAYERS = (
    ("types", "seeding", "processes"),
    ("config", "disk"),
    ("buffers",),
    ("losses", "sharing"),
    ("networks",),
    ("encoders",),
    ("acting",),
    ("learners", "world_models"),
    ("evaluation",),
    ("training",),
    ("grid",),
    ("commands",),
    ("__init__", "__main__", "train"),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

Sources = Mapping[str, str]  # dotted name of a module -> its text


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Every module of ours that is not a test; ``train.py`` counts as part of the package."""
    files = [*(ROOT / "mg2l_kalei").rglob("*.py"), *(ROOT / "envs").rglob("*.py")]
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in files}
    packages = {name.removesuffix(".__init__"): text for name, text in named.items()}
    return {**packages, "mg2l_kalei.train": (ROOT / "train.py").read_text()}


@cache
def nodes(text: str) -> list[ast.AST]:
    """Of a module, outer ones first."""
    return list(ast.walk(ast.parse(text)))


def imports(text: str, names: Sources) -> set[str]:
    """Our modules that a module's text imports, wherever in it: ``from a import b`` is of ``a.b`` if that is one."""
    found: set[str] = set()
    for node in nodes(text):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in full}
    return {name for name in found if name.split(".")[0] in ("mg2l_kalei", "envs")}


def part(name: str) -> str:
    """``mg2l_kalei.sharing.full`` -> ``sharing``; the package itself is ``__init__``."""
    return f"{name}.__init__".split(".")[1]


def upward_imports(sources: Sources) -> list[str]:
    """Every import against the order of the layers, in words."""
    wrong = []
    for name, text in sources.items():
        for imported in imports(text, sources):
            if name.startswith("envs"):
                is_wrong = not imported.startswith("envs")
            else:
                is_wrong = not imported.startswith("envs") and LEVEL[part(imported)] > LEVEL[part(name)]
            if is_wrong:
                wrong.append(f"{name} imports {imported}")
    return wrong


def cycles(sources: Sources) -> list[str]:
    """Modules that import themselves, by way of others."""
    graph = {name: imports(text, sources) for name, text in sources.items()}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph.get(name, ())
        return seen

    return [name for name in graph if name in reached(name)]


LEARNER_BASE = {
    "base",
    "actor",
    "critic",
    "deterministic",
    "optimiser",
    "replayed",
    "samples",
    "targets",
}  # what learners have in common


def learners_importing_each_other(sources: Sources) -> list[str]:
    files = {name for name in sources if name.startswith("mg2l_kalei.learners.")}
    learners = files - {f"mg2l_kalei.learners.{name}" for name in LEARNER_BASE}
    return [f"{name} imports {other}" for name in files for other in imports(sources[name], sources) & learners]


# --- randomness, foreign code and budgets -----------------------------------------------------------------------------

TORCH_DRAW = re.compile(r"torch\.(rand|randn|randint|randperm|normal|multinomial|bernoulli|poisson)")
METHOD_DRAW = re.compile(r".*\.(\w*uniform_|\w*normal_|random_|exponential_|bernoulli_|orthogonal_)")
GLOBAL_RANDOMNESS = re.compile(
    r"^(?:import|from) random\b|np\.random\.(?!default_rng|Generator|SeedSequence)|torch\.manual_seed|_rng_state",
    re.MULTILINE,
)
FORBIDDEN_NAMES = {"eval", "exec", "pickle", "cloudpickle", "joblib", "marshal", "shelve", "compile"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "numpy.load"}


def calls(text: str) -> Iterator[tuple[ast.Call, str]]:
    """Every call in a module, with the dotted name of what is called."""
    for node in nodes(text):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def draws_from_nowhere(text: str) -> list[str]:
    """Draws that are not given a generator, and uses of a global one."""
    wrong = [match.group() for match in GLOBAL_RANDOMNESS.finditer(text)]
    for node, name in calls(text):
        is_draw = TORCH_DRAW.fullmatch(name) or METHOD_DRAW.fullmatch(name)
        given = {ast.unparse(argument) for argument in node.args} | {keyword.arg for keyword in node.keywords}
        if is_draw and not any(name and name.endswith("generator") for name in given):
            wrong.append(ast.unparse(node))
    return wrong


def foreign_code(text: str) -> list[str]:
    """What could run code that was read from a file."""
    wrong = [name for _, name in calls(text) if name in FORBIDDEN_NAMES | FORBIDDEN_CALLS]
    for node in nodes(text):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            wrong += [name for name in names if name.split(".")[0] in FORBIDDEN_NAMES]
    return wrong


MAX_LINES, MAX_FUNCTION_LINES, MAX_POSITIONAL = 300, 40, 5


def line_count(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def over_budget(text: str) -> list[str]:
    """What is too long to be read in one sitting: files, functions without their docstrings, rows of parameters."""
    wrong = [f"{len(text.splitlines())} lines"] if len(text.splitlines()) > MAX_LINES else []
    for node in nodes(text):
        if not isinstance(node, ast.FunctionDef):
            continue
        n_lines = line_count(node) - (line_count(node.body[0]) if ast.get_docstring(node) else 0)
        positional = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls", "ctx")]
        if n_lines > MAX_FUNCTION_LINES:
            wrong.append(f"{node.name}: {n_lines} lines")
        if len(positional) > MAX_POSITIONAL:
            wrong.append(f"{node.name}: {len(positional)} positional parameters")
    return wrong


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_module_has_its_layer(sources: Sources) -> None:
    parts = {part(name) for name in sources if name.startswith("mg2l_kalei")}
    assert parts == set(LEVEL), "place new modules in LAYERS, and take out those that are gone"


def test_imports_point_one_way(sources: Sources) -> None:
    assert upward_imports(sources) == []


def test_no_module_imports_itself_by_way_of_others(sources: Sources) -> None:
    assert cycles(sources) == []


def test_learners_do_not_import_each_other(sources: Sources) -> None:
    assert learners_importing_each_other(sources) == []


def test_all_randomness_is_passed(sources: Sources) -> None:
    assert {name: draws for name, text in sources.items() if (draws := draws_from_nowhere(text))} == {}


def test_nothing_runs_code_that_it_read(sources: Sources) -> None:
    assert {name: found for name, text in sources.items() if (found := foreign_code(text))} == {}


def test_everything_can_be_read_in_one_sitting(sources: Sources) -> None:
    tests = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    assert {name: found for name, text in {**sources, **tests}.items() if (found := over_budget(text))} == {}


# --- that the tests above can fail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("envs.toy", "from mg2l_kalei.types import State"),
        ("mg2l_kalei.types", "def f() -> None:\n    from mg2l_kalei.training.system import build"),
        ("mg2l_kalei.losses.inference", "import mg2l_kalei.networks.mlp"),
        ("mg2l_kalei.encoders.base", "from mg2l_kalei.acting import collector"),
        ("mg2l_kalei.training.system", "from mg2l_kalei.train import main"),
    ],
)
def test_an_import_against_the_order_is_found(sources: Sources, module: str, text: str) -> None:
    assert len(upward_imports({**sources, module: text})) == 1


def test_a_cycle_and_a_learner_that_imports_another_are_found(sources: Sources) -> None:
    new = {"mg2l_kalei.learners.qmix": "from mg2l_kalei.learners.mappo import Mappo"}
    found = learners_importing_each_other({**sources, **new})
    assert found == ["mg2l_kalei.learners.qmix imports mg2l_kalei.learners.mappo"]
    circle = {
        "mg2l_kalei.disk.durable": "from mg2l_kalei import seeding",
        "mg2l_kalei.seeding": "import mg2l_kalei.disk.durable",
    }
    assert set(cycles({**sources, **circle})) == {"mg2l_kalei.disk.durable", "mg2l_kalei.seeding"}


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("torch.rand(3, generator=g)\nnp.random.default_rng(0)\nnn.init.orthogonal_(w, 1.0, self.generator)", 0),
        ("torch.randn(3, device=d)", 1),
        ("weight.uniform_(-1, 1)", 1),
        ("nn.init.orthogonal_(w, 1.0)", 1),
        ("torch.manual_seed(0)\nnp.random.seed(0)\nnp.random.rand(3)\nimport random", 4),
    ],
)
def test_global_randomness_is_found(text: str, n_found: int) -> None:
    assert len(draws_from_nowhere(text)) == n_found


@pytest.mark.parametrize(
    "text", ["eval('1')", "exec(code)", "import pickle", "from pickle import loads", "torch.load(path)"]
)
def test_foreign_code_is_found(text: str) -> None:
    assert len(foreign_code(text)) == 1


@pytest.mark.parametrize(
    "text",
    ["x = 1\n" * 301, "def f() -> None:\n" + "    x = 1\n" * 40, "def f(a, b, c, d, e, g) -> None: ..."],
    ids=["file", "function", "parameters"],
)
def test_what_is_too_long_is_found(text: str) -> None:
    assert len(over_budget(text)) == 1
