"""Fixtures: the command line in this process, and a server to use it beside."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Command, Outcome, Running
from tests.support.servers import RedisServer, serving
from tests.test_discovery import FILE
from tornado_bridge import cli


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TORNADO_BRIDGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tornado-bridge", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def quotes(tmp_path: Path) -> Path:
    """A directory with a plugin that is a single file, `quotes.py`."""
    (tmp_path / "quotes.py").write_text(FILE)
    return tmp_path


@pytest.fixture(scope="module")
def running(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("serving")
    options = ("--exchange", "cli:coinbase", "--max-connections-per-key", "50")
    with serving(directory, redis_server.url, *options) as (process, url, key):
        yield Running(process, url, key, directory / "keys.toml", redis_server)
