"""The shape of the house, drawn from the code: no circle, no import of an upper floor, and only tables name a back end."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from bot import generators, rankers
from bot.cli import ROOT

FLOORS = (
    "cli files schema text config metrics",
    "corpus weights conduct reddit sandbox",
    "generators rankers posting",
    "export train evaluate online report",
    "pipeline __main__",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
OFFLINE = ("corpus", "train", "evaluate")
# Besides a back end's own files, in whose names it stands.
TABLES = ("bot/generators/__init__.py", "bot/rankers/__init__.py", "bot/train/__init__.py", "bot/export/__init__.py")
FRAMEWORKS = ("torch", "tensorflow", "tf_keras", "transformers", "ctranslate2", "peft")

Graph = dict[str, set[str]]


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports_of(source: str, module: str, is_package: bool) -> set[str]:
    """Dotted names of all imports, those inside functions too, but for types alone."""
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
    """Which module of `root`/bot imports which."""
    paths = {module_of(path, root): path for path in (root / "bot").rglob("*.py")}
    return {
        module: (imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") & paths.keys()) - {module, "bot"}
        for module, path in paths.items()
    }


def circles(graph: Graph) -> list[set[str]]:
    """Modules that import each other, directly or by way of others."""
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


def climbs(graph: Graph) -> list[str]:
    """Imports from a lower floor to an upper one, from train to evaluate, and from offline to online."""
    found = []
    for module, targets in graph.items():
        for target in targets:
            here, there = (name.split(".")[1] if "." in name else name for name in (module, target))
            if here == "bot":
                continue
            forbidden = (here == "train" and there == "evaluate") or (here in OFFLINE and there == "online")
            if FLOOR[here] < FLOOR[there] or forbidden:
                found.append(f"{module} -> {target}")
    return sorted(found)


def naming(root: Path) -> dict[str, list[str]]:
    """Files that have a back end's name as a string, outside the tables and the back ends' own files; `transformers` is a package, too."""
    back_ends = {*generators.BACK_ENDS, *rankers.BACK_ENDS} - {"transformers"}
    found = defaultdict(list)
    for path in [*(root / "bot").rglob("*.py"), root / "run_bot.py"]:
        name = path.relative_to(root).as_posix()
        texts = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        for back_end in sorted(back_ends & {text for text in texts if isinstance(text, str)}):
            own = re.sub(r"\W", "_", back_end) in path.stem
            if name not in TABLES and not own:
                found[name].append(back_end)
    return dict(found)


def test_no_circle() -> None:
    assert circles(graph_of(ROOT)) == []


def test_no_import_of_an_upper_floor() -> None:
    graph = graph_of(ROOT)
    assert {module.split(".")[1] for module in graph if "." in module} == FLOOR.keys()
    assert climbs(graph) == []


def test_only_tables_name_a_back_end() -> None:
    assert naming(ROOT) == {}


def test_importing_a_floor_brings_no_framework() -> None:
    """At the top of a file only a back end, its trainer and its exporter import a heavy framework."""
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
def test_what_the_test_sees(tmp_path: Path, files: dict[str, str], expected: tuple[list[set[str]], list[str]]) -> None:
    for name, source in files.items():
        path = tmp_path / "bot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    graph = graph_of(tmp_path)
    assert (circles(graph), climbs(graph)) == expected
