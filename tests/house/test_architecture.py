"""The order of the packages, what is pure, and what every module must have."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tornado_bridge"

# Imports run one way: a floor may import from the floors above it in this list, and from itself.
FLOORS = (
    {"errors", "excerpts", "logs", "wire"},
    {"channels", "values", "events", "hookspecs", "keys", "key_file", "redis_client"},
    {"redaction"},
    {"discovery", "registry"},
    {"stream"},
    {"connections", "ingest"},
    {"bridge", "audit"},
    {"web"},
    {"server"},
    {"demo", "testing", "client"},
    {"cli"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

# The public face and `python -m` may import everything.
DOORS = {"tornado_bridge", "__main__"}

# These decide and describe. They move no bytes, so they can be read, tested and reused without a loop or a socket.
PURE = ("wire", "redaction", "errors", "excerpts", "channels", "values", "events", "hookspecs", "keys")
IMPURE_LIBRARIES = {"asyncio", "redis", "socket", "tornado"}
ADMITTED = {"wire.handshake": {"tornado.httputil"}}

# Parsed before any test runs: CPython 3.11.7 can fail to parse while a collector runs (gh-106905).
TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if "skeleton/" not in path.as_posix()
}
MODULES = sorted(TREES)
FILES = [module for module in MODULES if module.rpartition(".")[2] != "__init__"]
FOLDERS = sorted({module.partition(".")[0] for module in MODULES if "." in module})

# Their __init__ holds what the folder is for; every other folder's is one sentence.
FOLDERS_WITH_A_FACE = {"testing", "cli", "demo", "client"}


def imported(module: str) -> set[str]:
    """Return the full names that a module imports at any depth, but not for annotations alone."""
    names: set[str] = set()
    for node in _running(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _running(node: ast.AST) -> "list[ast.AST]":
    """Return every node but those that only a type checker looks at."""
    found = [node]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        found += _running(child)
    return found


def rooms(module: str) -> set[str]:
    """Return the packages and root modules of ours that a module imports."""
    ours = (name.split(".") for name in imported(module))
    return {parts[1] for parts in ours if parts[0] == "tornado_bridge" and len(parts) > 1 and parts[1] in FLOOR}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_its_floor() -> None:
    there = {room(module) for module in MODULES} - {"__init__", "__main__"}
    assert there <= FLOOR.keys()


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in FLOOR])
def test_imports_run_one_way(module: str) -> None:
    mine = FLOOR[room(module)]
    assert {name for name in rooms(module) if FLOOR[name] > mine} == set()


def test_no_rooms_of_one_floor_import_each_other_in_a_circle() -> None:
    edges = {(room(module), name) for module in MODULES if room(module) in FLOOR for name in rooms(module)}
    assert {edge for edge in edges if edge[::-1] in edges and edge[0] != edge[1]} == set()


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in PURE])
def test_a_pure_room_imports_no_loop_no_socket_no_redis_and_no_tornado(module: str) -> None:
    found = {name for name in imported(module) if name.partition(".")[0] in IMPURE_LIBRARIES}
    admitted = ADMITTED.get(module, set())
    assert {name for name in found if name not in admitted and name.rpartition(".")[0] not in admitted} <= (
        {"tornado"} if admitted else set()
    )


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) not in {"web", "cli", "testing"}])
def test_only_web_imports_tornado_web_and_the_http_server(module: str) -> None:
    assert not {name for name in imported(module) if name.startswith(("tornado.web.", "tornado.httpserver"))}


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) != "cli"])
def test_only_the_command_line_imports_click(module: str) -> None:
    assert "click" not in {name.partition(".")[0] for name in imported(module)}


@pytest.mark.parametrize("module", [module for module in MODULES if module != "redis_client"])
def test_only_the_adapter_imports_private_parts_of_redis_py(module: str) -> None:
    ours_alone = {name for name in imported(module) if name.partition(".")[0] in {"redis", "hiredis"} and "._" in name}
    assert ours_alone == set()


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_plugin(module: str) -> None:
    assert not [name for name in imported(module) if name.startswith("tornado_bridge.plugins")]


@pytest.mark.parametrize("folder", ["plugins", "schemas"])
def test_plugins_and_schemas_import_the_public_face_only(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tornado_bridge"):
                assert node.module == "tornado_bridge", path


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__main__"])
def test_a_module_opens_with_its_responsibility(module: str) -> None:
    docstring = ast.get_docstring(TREES[module])
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in FOLDERS_WITH_A_FACE])
def test_the_init_of_a_folder_is_one_sentence(folder: str) -> None:
    tree = TREES[f"{folder}.__init__"]
    docstring = ast.get_docstring(tree) or ""
    assert len(tree.body) == 1
    assert len(docstring.splitlines()) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_more_than_one_file(folder: str) -> None:
    files = {path.stem for path in (PACKAGE / folder).glob("*.py")}
    assert len(files if folder in FOLDERS_WITH_A_FACE else files - {"__init__"}) > 1


@pytest.mark.parametrize("module", [module for module in FILES if module != "__main__"])
def test_a_module_has_a_test_file_of_its_own(module: str) -> None:
    package, _, name = module.rpartition(".")
    assert (ROOT / "tests" / package.replace(".", "/") / f"test_{name}.py").is_file()


@pytest.mark.parametrize("folder", sorted(FOLDERS_WITH_A_FACE & set(FOLDERS)))
def test_a_face_of_a_folder_has_a_test_file_of_its_own(folder: str) -> None:
    assert (ROOT / "tests" / folder / f"test_{folder}.py").is_file()


def test_broad_excepts_are_three() -> None:
    broad = [
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
    ]
    assert sorted(broad) == ["connections.connection", "ingest.relay", "registry"]


def test_the_modules_of_the_package_do_not_hide_the_installed_folders() -> None:
    assert not {"plugins", "schemas"} & {room(module) for module in MODULES}
