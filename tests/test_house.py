"""The structure of the code: no import cycles, no imports from upper layers, and back ends are named only in tables."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from bot import generators, rankers
from bot.cli import ROOT

LAYERS = (
    "cli files schema text markdown config metrics names cluster",
    "corpus weights conduct reddit sandbox",
    "generators rankers posting",
    "export train evaluate online report",
    "pipeline web __main__",
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}
OFFLINE = ("corpus", "train", "evaluate")
# Files that may name back ends, apart from the back ends' own modules.
TABLES = ("bot/generators/__init__.py", "bot/rankers/__init__.py", "bot/train/__init__.py", "bot/export/__init__.py")
FRAMEWORKS = ("torch", "tensorflow", "keras", "tf_keras", "transformers", "ctranslate2", "peft", "ray")

Graph = dict[str, set[str]]


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports_of(source: str, module: str, is_package: bool) -> set[str]:
    """The dotted names of all imports, including those inside functions, except imports for type checking."""
    tree = ast.parse(source)
    for_types = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for part in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def graph_of(root: Path) -> Graph:
    """The modules in `root`/bot and the modules that each of them imports."""
    paths = {module_of(path, root): path for path in (root / "bot").rglob("*.py")}
    return {
        module: (imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") & paths.keys()) - {module, "bot"}
        for module, path in paths.items()
    }


def import_cycles(graph: Graph) -> list[set[str]]:
    """Sets of modules that import each other, directly or indirectly."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        left = [*graph[start]]
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += graph[module]
        reach[start] = seen
    together = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph if module in reach[module]}
    return [set(each) for each in together]


def forbidden_imports(graph: Graph) -> list[str]:
    """Imports from a lower layer to an upper one, from train to evaluate, and from offline to online code."""
    result = []
    for module, targets in graph.items():
        for target in targets:
            source, imported = (name.split(".")[1] if "." in name else name for name in (module, target))
            if source == "bot":
                continue
            is_forbidden = (source == "train" and imported == "evaluate") or (source in OFFLINE and imported == "online")
            if LAYER[source] < LAYER[imported] or is_forbidden:
                result.append(f"{module} -> {target}")
    return sorted(result)


def files_naming_back_ends(root: Path) -> dict[str, list[str]]:
    """Files that contain the name of a back end as a string, except tables and the back ends' modules. `transformers` is also a package."""
    back_ends = {*generators.BACK_ENDS, *rankers.BACK_ENDS} - {"transformers"}
    result = defaultdict(list)
    for path in [*(root / "bot").rglob("*.py"), root / "run_bot.py"]:
        name = path.relative_to(root).as_posix()
        texts = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        for back_end in sorted(back_ends & {text for text in texts if isinstance(text, str)}):
            own = re.sub(r"\W", "_", back_end) in path.stem
            if name not in TABLES and not own:
                result[name].append(back_end)
    return dict(result)


def test_no_import_cycles() -> None:
    assert import_cycles(graph_of(ROOT)) == []


def test_no_import_from_an_upper_layer() -> None:
    graph = graph_of(ROOT)
    assert {module.split(".")[1] for module in graph if "." in module} == LAYER.keys()
    assert forbidden_imports(graph) == []


def test_only_tables_name_back_ends() -> None:
    assert files_naming_back_ends(ROOT) == {}


def test_heavy_frameworks_are_not_imported_at_module_level() -> None:
    """Only back ends, trainers and exporters import a heavy framework at module level."""
    heavy = []
    for path in (ROOT / "bot").rglob("*.py"):
        module = module_of(path, ROOT)
        if module.split(".")[1:2] and module.split(".")[1] in ("generators", "rankers", "train", "export") and path.name != "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.unparse(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))
        heavy += [f"{module}: {name}" for name in imports_of(top, module, False) if name.split(".")[0] in FRAMEWORKS]
    assert heavy == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"text.py": "", "online/fetch.py": "from bot import text"}, ([], [])),
        (
            {"text.py": "def f():\n    from bot.online import fetch", "online/fetch.py": "from bot.text import f"},
            ([{"bot.text", "bot.online.fetch"}], ["bot.text -> bot.online", "bot.text -> bot.online.fetch"]),
        ),
        ({"train/lm.py": "import bot.evaluate.page", "evaluate/page.py": ""}, ([], ["bot.train.lm -> bot.evaluate.page"])),
        (
            {"corpus/a.py": "from ..online import b", "online/b.py": ""},
            ([], ["bot.corpus.a -> bot.online", "bot.corpus.a -> bot.online.b"]),
        ),
        ({"text.py": "if TYPE_CHECKING:\n    from bot.online import b", "online/b.py": ""}, ([], [])),
    ],
)  # fmt: skip
def test_the_checks_on_example_code(tmp_path: Path, files: dict[str, str], expected: tuple[list[set[str]], list[str]]) -> None:
    for name, source in files.items():
        path = tmp_path / "bot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    graph = graph_of(tmp_path)
    assert (import_cycles(graph), forbidden_imports(graph)) == expected
