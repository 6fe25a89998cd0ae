"""The settings of a server: names, defaults, units and help, in one place."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from tornado_bridge import discovery
from tornado_bridge.bridge import DEFAULT_LIMITS
from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.excerpts import excerpt, toml_place
from tornado_bridge.redis_client import has_password
from tornado_bridge.server.setting_types import Amount, Count, Directory, Exchange, Names, Origin, Port, RedisUrl, Text

ENVIRONMENT_PREFIX = "TORNADO_BRIDGE_"

# Where a client finds its API key; no setting of a server.
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"

# Settings that are no command-line option, since every user of the machine sees the arguments of a process.
NOT_AN_OPTION = {"redis_password"}

GROUPS = ("Server", "Redis", "Plugins", "Clients", "Slow clients", "Logging")

# Where a setting can come from, besides the environment and a file, as an error says it.
COMMAND_LINE = "on the command line"
DEFAULT = "by default"

_FILE = "the path of a file"
_PORT = "a port from 0 to 65535"
_COUNT = "a whole number from 1 to 2147483647"
_AMOUNT = "a number above 0"


def _setting(default: Any, group: str, expected: str, help: str, unit: str = "", *, secret: bool = False) -> Any:
    """Declare one setting: what an error says to expect, its help, and the unit behind the default there.

    The value of a `secret` one is in no error and no repr.
    """
    extra: dict[str, Any] = {"group": group, "expected": expected, "unit": unit, "secret": secret}
    return Field(default, description=help, repr=not secret, json_schema_extra=extra)


class Settings(BaseModel):
    """Everything that `serve` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: Text = _setting("127.0.0.1", "Server", "an address or a host name", "Address to listen on.")
    port: Port = _setting(8765, "Server", _PORT, "Port to listen on; 0 picks one.")
    metrics_port: Port | None = _setting(
        None,
        "Server",
        _PORT,
        "Port of Prometheus metrics at /metrics, on the same address; 0 picks one, which is logged; none unless given.",
    )
    event_loop: Literal["asyncio", "uvloop"] = _setting(
        "asyncio",
        "Server",
        "asyncio or uvloop",
        "Event loop to run on: asyncio, or uvloop, which pip install 'tornado_bridge[uvloop]' brings.",
    )
    exchange: Exchange = _setting(
        ..., "Server", "ID:NAME, such as 1:coinbase", "Exchange to relay, as ID:NAME. Required."
    )
    redis_url: RedisUrl = _setting(
        "redis://127.0.0.1:6379/0",
        "Redis",
        "redis://HOST:PORT, rediss://HOST:PORT, unix://PATH or embedded://HOST:PORT, "
        "with / ? # @ % of a password as %2F %3F %23 %40 %25, "
        "and after a ? only db, client_name, username, password and redis-py's ssl_ options",
        "redis://, rediss:// or unix:// URL; embedded://HOST:PORT starts an embedded Redis there. "
        "A password in it is visible to every user of the machine: use --redis-password-file.",
        secret=True,
    )
    redis_password_file: Path | None = _setting(
        None, "Redis", _FILE, "File that holds the Redis password, of which line breaks at the end are no part."
    )
    redis_password: SecretStr | None = _setting(
        None, "Redis", "text", "Redis password; from the environment alone.", secret=True
    )
    plugins: Names | None = _setting(
        None,
        "Plugins",
        "names of plugins, with commas between them (in a file: a list)",
        "Plugins to load, by name, with commas between them (in a file: a list); no other one is imported. All that "
        "are installed, and all of --plugins-dir, unless given.",
    )
    plugins_dir: Directory | None = _setting(
        None,
        "Plugins",
        "the path of a directory",
        "Directory of plugins that are single files: each NAME.py that does not begin with _.",
    )
    api_keys: Path = _setting(..., "Clients", _FILE, "TOML file of API keys (see the keys command). Required.")
    allow_origin: tuple[Origin, ...] = _setting(
        (),
        "Clients",
        "origins such as https://app.example.com",
        "Origin that a browser may come from; repeatable (in the environment: separated by spaces, in a file: a "
        "list); any unless given.",
    )
    max_connections: Count = _setting(
        DEFAULT_LIMITS.max_connections, "Clients", _COUNT, "Live connections of all keys together."
    )
    max_handshakes: Count = _setting(1_000, "Clients", _COUNT, "Connections that have not been admitted yet.")
    max_connections_per_key: Count = _setting(
        DEFAULT_LIMITS.max_connections_per_key, "Clients", _COUNT, "Live connections a key, unless its row says else."
    )
    max_subscriptions: Count = _setting(
        DEFAULT_LIMITS.max_subscriptions, "Clients", _COUNT, "Subscriptions a connection."
    )
    rate_limit: Amount = _setting(DEFAULT_LIMITS.rate_limit, "Clients", _AMOUNT, "Client messages a key.", "a minute")
    rate_burst: Count = _setting(
        DEFAULT_LIMITS.rate_burst, "Clients", _COUNT, "Client messages that a key may send at once."
    )
    compression: bool = _setting(
        False,
        "Clients",
        "true or false",
        "Compress what is sent to clients that offer permessage-deflate.",
    )
    ping_interval: Amount = _setting(
        DEFAULT_LIMITS.ping_interval,
        "Clients",
        _AMOUNT,
        "Between two pings; who has not answered by the next one is cut off.",
        "s",
    )
    skip_bytes: Count = _setting(
        DEFAULT_LIMITS.skip_bytes,
        "Slow clients",
        _COUNT,
        "Held back for a client from which on it loses frames.",
        "bytes",
    )
    abort_bytes: Count = _setting(
        DEFAULT_LIMITS.abort_bytes,
        "Slow clients",
        _COUNT,
        "Held back for a client from which on it is cut off.",
        "bytes",
    )
    slow_timeout: Amount = _setting(
        DEFAULT_LIMITS.slow_timeout,
        "Slow clients",
        _AMOUNT,
        "For how long a client may lose frames without a break.",
        "s",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Logging", "debug, info, warning or error", "Least level logged: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = _setting(
        "text", "Logging", "text or json", "Form of a log line: text or json."
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> "Settings":
        if self.abort_bytes < self.skip_bytes:
            raise ValueError
        return self

    @property
    def exchange_id(self) -> str:
        return self.exchange.partition(":")[0]

    @property
    def exchange_name(self) -> str:
        return self.exchange.partition(":")[2]

    def source(self, name: str) -> str:
        """Return where the value of a setting comes from, such as COMMAND_LINE."""
        return self._sources.get(name, DEFAULT)

    def refusal(self, name: str, problem: str) -> ConfigurationError:
        """Return the error of a setting that has turned out to be unusable."""
        return ConfigurationError(f"{option(name)} {self.source(name)}: {problem}")

    def candidates(self) -> list[discovery.Candidate]:
        """Return the plugins to load, without importing one.

        Raises ConfigurationError for a directory that cannot be read and for a plugin that nobody offers, PluginError
        for one that is offered twice.
        """
        offered = discovery.installed()
        if self.plugins_dir is not None:
            try:
                offered += discovery.single_files(self.plugins_dir)
            except ConfigurationError as error:
                raise self.refusal("plugins_dir", str(error)) from None
        try:
            return discovery.choose(self.plugins, offered)
        except PluginError:
            raise
        except ConfigurationError as error:
            raise self.refusal("plugins", str(error)) from None

    def password(self) -> str | None:
        """Return the Redis password, None where there is none beside the URL.

        Raises ConfigurationError for a file that has none, and for a second one in the URL.
        """
        if self.redis_password_file is not None:
            password = self._read_password(self.redis_password_file)
        elif self.redis_password:
            password = self.redis_password.get_secret_value()
        else:
            return None
        if has_password(self.redis_url):
            raise self.refusal("redis_url", "expected no password in it, since there is another one beside it")
        return password

    def _read_password(self, path: Path) -> str:
        try:
            password = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            password = ""
        if not password:
            raise self.refusal("redis_password_file", f"expected a readable file that holds a password, got {path}")
        return password


def option(name: str) -> str:
    """Return the command-line option of a setting."""
    return f"--{name.replace('_', '-')}"


def environment_variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


def settle(options: Mapping[str, Any], config: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings out of, in order: options, environment, TOML file, defaults.

    Raises ConfigurationError, one sentence that names the setting, its source and what was expected.
    """
    sources: dict[str, str] = {}
    given: dict[str, Any] = {}
    for name, value in (_read_config(config) if config is not None else {}).items():
        given[name], sources[name] = value, f"in {config}"
        if name not in Settings.model_fields:
            raise ConfigurationError(f"{name!r} in {config} is no setting: expected those that serve --help lists")
        if name in NOT_AN_OPTION:
            raise ConfigurationError(f"{name} in {config}: expected redis_password_file, or the environment")
    if environment_variable("redis_password") in environment:
        # They are two ways to set one thing.
        given.pop("redis_password_file", None)
    for name in Settings.model_fields:
        variable = environment_variable(name)
        if variable in environment:
            text = environment[variable]
            given[name] = tuple(text.split()) if name == "allow_origin" else text
            sources[name] = f"in the environment ({variable})"
    for name, value in options.items():
        given[name], sources[name] = value, COMMAND_LINE
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error, given, sources)) from None
    settings._sources.update(sources)
    return settings


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config: {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--config: {path} is not a TOML file{toml_place(error)}") from None


def _sentence(error: ValidationError, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not first["loc"]:
        least = f"{option('skip_bytes')} {sources.get('skip_bytes', DEFAULT)}"
        return f"{option('abort_bytes')} {sources.get('abort_bytes', DEFAULT)}: expected no fewer bytes than {least}"
    name = str(first["loc"][0])
    extra: Any = Settings.model_fields[name].json_schema_extra
    if first["type"] == "missing":
        return (
            f"{option(name)} is required, {COMMAND_LINE}, in the environment ({environment_variable(name)}) or in the "
            f"--config file: expected {extra['expected']}"
        )
    shown = "" if extra["secret"] else f", got {excerpt(repr(given[name]))}"
    return f"{option(name)} {sources[name]}: expected {extra['expected']}{shown}"
