from pathlib import Path

import pytest

from benchmarks.contest import installation
from benchmarks.contest.installation import build_gorilla, install_python
from benchmarks.rig.processes import ProcessFailed


@pytest.fixture
def no_debian_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installation, "GO_PACKAGES", tmp_path)


@pytest.mark.usefixtures("no_debian_packages")
def test_missing_go_packages_are_named_as_debian_names_them(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed) as failure:
        build_gorilla(tmp_path / "cache")
    assert str(failure.value) == (
        "the gorilla server needs Debian packages: apt-get install golang-go "
        "golang-github-gorilla-websocket-dev golang-github-gomodule-redigo-dev"
    )


@pytest.mark.slow
def test_python_libraries_are_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    monkeypatch.setattr(installation, "REQUIREMENTS", requirements)
    places = install_python(tmp_path / "cache")
    made = Path(places["python"]).lstat()
    assert install_python(tmp_path / "cache") == places
    assert Path(places["python"]).lstat() == made


@pytest.mark.slow
def test_a_library_that_does_not_install_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./absent\n")
    monkeypatch.setattr(installation, "REQUIREMENTS", requirements)
    with pytest.raises(ProcessFailed, match=r"\Athe libraries of the Python servers did not install: .+\Z"):
        install_python(tmp_path / "cache")
