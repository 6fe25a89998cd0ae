"""The lines that the modules keep: what is pure, what may import what."""

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tornado_bridge"

# The modules that move bytes or hold the whole; every other one is pure.
IMPURE = {
    "__main__",
    "app",
    "bridge",
    "bridge_client",
    "cli",
    "connection",
    "demo",
    "doorway",
    "embedded",
    "fixtures",
    "market",
    "metrics",
    "outlet",
    "process",
    "pytest_plugin",
    "server",
    "source",
    "tail",
    "testing",
    "websocket",
}

# Parsed before any test runs: CPython 3.11.7 can fail to parse while a collector runs (gh-106905).
TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text(encoding="utf-8")
    )
    for path in sorted(PACKAGE.rglob("*.py"))
}
MODULES = sorted(TREES)
PURE = [module for module in MODULES if module.rpartition(".")[2] not in IMPURE]


def imported(module: str) -> set[str]:
    """Return the full names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_tornado_no_redis_and_no_asyncio(module: str) -> None:
    roots = {name.partition(".")[0] for name in imported(module)}
    assert not roots & {"asyncio", "redis", "socket", "tornado"}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_pure_modules_alone(module: str) -> None:
    ours = {name for name in imported(module) if name.startswith("tornado_bridge.")}
    assert not {name for name in ours if name.rpartition(".")[2] in IMPURE}


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_plugin(module: str) -> None:
    assert not [name for name in imported(module) if name.startswith("tornado_bridge.plugins")]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__main__"])
def test_a_module_opens_with_its_responsibility(module: str) -> None:
    docstring = ast.get_docstring(TREES[module])
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__", "__main__"}))
def test_a_module_has_a_test_file_of_its_own(module: str) -> None:
    package, _, name = module.rpartition(".")
    if (PACKAGE / module.replace(".", "/")).is_dir():
        package, name = module, name or module
        if len(TREES[module].body) == 1:
            return
    assert (ROOT / "tests" / package.replace(".", "/") / f"test_{name}.py").is_file()


def test_broad_excepts_are_three() -> None:
    broad = [
        module.rpartition(".")[2]
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert sorted(broad) == ["connection", "registry", "relay"]


def test_the_modules_of_the_package_do_not_hide_the_installed_folders() -> None:
    assert importlib.util.find_spec("tornado_bridge.plugins.candle") is not None
    assert not {"plugins", "schemas"} & set(MODULES)
