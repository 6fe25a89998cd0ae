"""What the sdist and the wheel hold. The sdist is built from a copy of the tree, the wheel from the sdist, offline."""

import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A working copy holds these besides the tree.
NOT_THE_TREE = (".*", "*.egg-info", "__pycache__", "build", "dist", "node_modules")

# pyproject.toml has the same number. Older versions need the wheel package, which the tests do not install.
LEAST_SETUPTOOLS = 77

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The files of the tree, of the sdist and of the wheel, as paths below the tree, its folder and site-packages."""

    tree: frozenset[str]
    sdist: frozenset[str]
    wheel: frozenset[str]

    def of_tree(self, *folders: str) -> frozenset[str]:
        return frozenset(name for name in self.tree if name.partition("/")[0] in folders)

    def of_sdist(self, *folders: str) -> frozenset[str]:
        return frozenset(name for name in self.sdist if name.partition("/")[0] in folders)


def files_below(folder: Path) -> frozenset[str]:
    return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def built(hook: str, tree: Path, target: Path) -> Path:
    """Build with the setuptools that is installed, and return the file."""
    ran = subprocess.run([sys.executable, "-c", BUILD, hook, target], cwd=tree, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return target / ran.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    if int(version("setuptools").partition(".")[0]) < LEAST_SETUPTOOLS:
        if os.environ.get("CI"):
            pytest.fail(f"setuptools is older than {LEAST_SETUPTOOLS}")
        pytest.skip(f"setuptools is older than {LEAST_SETUPTOOLS}")
    target = tmp_path_factory.mktemp("distribution")
    tree = target / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_THE_TREE))
    of_tree = files_below(tree)
    with tarfile.open(built("build_sdist", tree, target)) as archive:
        archive.extractall(target / "sdist", filter="data")
    [unpacked] = (target / "sdist").iterdir()
    of_sdist = files_below(unpacked)
    with zipfile.ZipFile(built("build_wheel", unpacked, target)) as wheel:
        return Distribution(of_tree, of_sdist, frozenset(wheel.namelist()))


def test_the_wheel_holds_the_package_with_its_plugins_and_schemas_and_nothing_else(distribution: Distribution) -> None:
    installed = {f"tornado_bridge/{name}" for name in distribution.of_tree("plugins", "schemas")}
    metadata = {name for name in distribution.wheel if ".dist-info/" in name}
    assert distribution.wheel - metadata == distribution.of_tree("tornado_bridge") | installed


@pytest.mark.parametrize(
    "name", ["tornado_bridge/py.typed", "tornado_bridge/schemas/error.json", "tornado_bridge/plugins/candle.py"]
)
def test_the_wheel_holds_what_is_no_module_or_stands_elsewhere_in_the_tree(
    distribution: Distribution, name: str
) -> None:
    assert name in distribution.wheel


def test_the_wheel_names_its_license_and_its_entry_points(distribution: Distribution) -> None:
    metadata = {name.partition(".dist-info/")[2] for name in distribution.wheel}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata


def test_the_sdist_holds_the_tests_with_their_data_and_corpus(distribution: Distribution) -> None:
    assert distribution.of_sdist("tests") == distribution.of_tree("tests")


def test_the_sdist_holds_the_docs_without_the_raw_results(distribution: Distribution) -> None:
    raw = {name for name in distribution.of_tree("docs") if name.startswith("docs/performance/results.json")}
    assert len(raw) <= 1
    assert distribution.of_sdist("docs") == distribution.of_tree("docs") - raw


def test_the_sdist_holds_the_sources_of_everything_else(distribution: Distribution) -> None:
    folders = ("tornado_bridge", "plugins", "schemas", "benchmarks", "examples")
    assert distribution.of_sdist(*folders) == distribution.of_tree(*folders)


def test_the_sdist_holds_what_its_tests_are_run_with(distribution: Distribution) -> None:
    assert {"tox.ini", "setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"} <= distribution.sdist
