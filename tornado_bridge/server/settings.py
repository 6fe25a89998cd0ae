"""The settings of a server: names, defaults, units and help, in one place."""

import functools
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, model_validator

from tornado_bridge import discovery
from tornado_bridge.bridge import DEFAULT_LIMITS
from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.excerpts import excerpt, toml_place
from tornado_bridge.redis_client import has_password
from tornado_bridge.server import environment as environments
from tornado_bridge.server.environment import KEY_VARIABLE as KEY_VARIABLE
from tornado_bridge.server.environment import Environment, environment_variable
from tornado_bridge.server.setting_types import (
    Amount,
    Count,
    Directory,
    Exchange,
    Names,
    Network,
    Origin,
    Port,
    RedisUrl,
    Text,
)

# These settings have no command-line option, since every user of the machine can see the arguments of a process.
NOT_AN_OPTION = {"redis_password"}

GROUPS = ("Server", "Redis", "Plugins", "Clients", "Slow clients", "Logging")

# How an error names the source of a setting, besides the environment and a file.
COMMAND_LINE = "on the command line"
DEFAULT = "by default"

_FILE = "the path of a file"
_PORT = "a port from 0 to 65535"
_COUNT = "a whole number from 1 to 2147483647"
_AMOUNT = "a number above 0"


def _setting(default: Any, group: str, expected: str, help: str, unit: str = "", *, secret: bool = False) -> Any:
    """Declare a setting: what an error says to expect, the help text, and the unit shown behind the default.

    The value of a `secret` setting is in no error and no repr.
    """
    extra: dict[str, Any] = {"group": group, "expected": expected, "unit": unit, "secret": secret}
    return Field(default, description=help, repr=not secret, json_schema_extra=extra)


def _limit(name: str, group: str, expected: str, help: str, unit: str = "") -> Any:
    """Declare a setting that is a limit of the bridge, with the bridge's default."""
    return _setting(getattr(DEFAULT_LIMITS, name), group, expected, help, unit)


class Settings(BaseModel):
    """Everything that can be set for `serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: Text = _setting("127.0.0.1", "Server", "an address or a host name", "Address or host name to listen on.")
    port: Port = _setting(8765, "Server", _PORT, "Port to listen on. 0 picks a free one.")
    metrics_port: Port | None = _setting(
        None,
        "Server",
        _PORT,
        "Port for Prometheus metrics at /metrics. 0 picks a free one and logs it. Without this option there are no "
        "metrics.",
    )
    metrics_host: Text = _setting(
        "127.0.0.1", "Server", "an address or a host name", "Address or host name for the metrics."
    )
    event_loop: Literal["asyncio", "uvloop"] = _setting(
        "asyncio",
        "Server",
        "asyncio or uvloop",
        "Event loop: asyncio or uvloop. To install uvloop: pip install uvloop.",
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
        "URL of Redis: redis://, rediss:// or unix://. embedded://HOST:PORT starts an embedded Redis at that address. "
        "Every user of the machine can see a password in this option: use --redis-password-file.",
        secret=True,
    )
    redis_password_file: Path | None = _setting(
        None, "Redis", _FILE, "File with the Redis password. Trailing newlines are ignored."
    )
    redis_password: SecretStr | None = _setting(
        None, "Redis", "text", "Redis password. It can only be set in the environment.", secret=True
    )
    plugins: Names | None = _setting(
        None,
        "Plugins",
        "names of plugins, with commas between them (in a file: a list)",
        "Names of the plugins to load, with commas between them (in a file: a list). No other plugin is imported. "
        "Without it all installed plugins are loaded, and all of --plugins-dir.",
    )
    plugins_dir: Directory | None = _setting(
        None,
        "Plugins",
        "the path of a directory",
        "Directory of plugins that are single files. Each file NAME.py is one, unless its name begins with _.",
    )
    api_keys: Path = _setting(..., "Clients", _FILE, "TOML file of API keys (see the keys command). Required.")
    allow_origin: tuple[Origin, ...] = _setting(
        (),
        "Clients",
        "origins such as https://app.example.com",
        "Origin of web pages that may connect. The option can be repeated; in the environment, separate origins by "
        "spaces; in a file, write a list. Without it pages of any origin may connect.",
    )
    trusted_proxy: tuple[Network, ...] = _setting(
        (),
        "Clients",
        "IP addresses or networks such as 10.0.0.0/8",
        "Address or network of a proxy whose X-Forwarded-For header names the client. The option can be repeated; in "
        "the environment, separate networks by spaces; in a file, write a list. Without it the header is ignored.",
    )
    max_connections: Count = _limit(
        "max_connections", "Clients", _COUNT, "Maximum number of live connections, over all keys."
    )
    max_handshakes: Count = _setting(
        1_000, "Clients", _COUNT, "Maximum number of connections that have not been admitted yet."
    )
    max_connections_per_key: Count = _limit(
        "max_connections_per_key",
        "Clients",
        _COUNT,
        "Maximum number of live connections per key. A key can have a limit of its own.",
    )
    max_subscriptions: Count = _limit(
        "max_subscriptions", "Clients", _COUNT, "Maximum number of subscriptions per connection."
    )
    rate_limit: Amount = _limit(
        "rate_limit", "Clients", _AMOUNT, "Maximum rate of client messages per key.", "per minute"
    )
    rate_burst: Count = _limit(
        "rate_burst", "Clients", _COUNT, "Maximum number of client messages that a key may send at once."
    )
    compression: bool = _setting(
        False, "Clients", "true or false", "Compress frames for clients that offer permessage-deflate."
    )
    ping_interval: Amount = _limit(
        "ping_interval",
        "Clients",
        _AMOUNT,
        "Time between pings. A client that has not answered by the next ping is disconnected.",
        "s",
    )
    skip_bytes: Count = _limit(
        "skip_bytes",
        "Slow clients",
        _COUNT,
        "Once this much is buffered for a client, new frames for it are dropped.",
        "bytes",
    )
    abort_bytes: Count = _limit(
        "abort_bytes",
        "Slow clients",
        _COUNT,
        "Once this much is buffered for a client, it is disconnected.",
        "bytes",
    )
    slow_timeout: Amount = _limit(
        "slow_timeout",
        "Slow clients",
        _AMOUNT,
        "A client whose frames have been dropped for this long, without a break, is disconnected.",
        "s",
    )
    max_buffered_bytes: Count = _limit(
        "max_buffered_bytes",
        "Slow clients",
        _COUNT,
        "Once this much is buffered for all clients together, the one waited for longest is disconnected.",
        "bytes",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Logging", "debug, info, warning or error", "Lowest level to log: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = _setting(
        "text", "Logging", "text or json", "Form of log lines: text or json."
    )
    log_addresses: bool = _setting(False, "Logging", "true or false", "Show the IP addresses of clients in log lines.")

    _sources: dict[str, str] = PrivateAttr()
    _environment: Environment = PrivateAttr()
    _again: Callable[[], "Settings"] = PrivateAttr()

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

    @property
    def environment(self) -> Environment:
        """The environment that the settings were read from, with the variables that were not understood."""
        return self._environment

    def reread(self) -> "Settings":
        """Return the settings out of the same sources as they are now; raises ConfigurationError as `settle` does."""
        return self._again()

    def source(self, name: str) -> str:
        """Return where the value of a setting comes from, such as COMMAND_LINE."""
        return self._sources.get(name, DEFAULT)

    def refusal(self, name: str, problem: str) -> ConfigurationError:
        """Return the error for a setting that has turned out to be unusable."""
        return ConfigurationError(f"{option(name)} {self.source(name)}: {problem}")

    def candidates(self) -> list[discovery.Candidate]:
        """Return the plugins to load, without importing one.

        Raises ConfigurationError for a directory that cannot be read and for the name of a plugin that does not exist,
        PluginError for a name that two plugins have.
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
        """Return the Redis password, None if only the URL may have one.

        Raises ConfigurationError for a file without a password, and for a second password in the URL.
        """
        if self.redis_password_file is not None:
            password = self._read_password(self.redis_password_file)
        elif self.redis_password:
            password = self.redis_password.get_secret_value()
        else:
            return None
        if has_password(self.redis_url):
            raise self.refusal("redis_url", "expected no password in the URL, since another one is set")
        return password

    def _read_password(self, path: Path) -> str:
        try:
            password = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            password = ""
        if not password:
            raise self.refusal("redis_password_file", f"expected a readable file with a password, got {path}")
        return password


def option(name: str) -> str:
    """Return the command-line option of a setting."""
    return f"--{name.replace('_', '-')}"


def settle(options: Mapping[str, Any], config: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings. Each is taken from the first of these that has it: options, environment, TOML file, default.

    Raises ConfigurationError, one sentence that names the setting, its source and what was expected.
    """
    sources: dict[str, str] = {}
    given: dict[str, Any] = {}
    found = environments.read(environment, Settings.model_fields)
    for name, value in (_read_config(config) if config is not None else {}).items():
        if name not in Settings.model_fields:
            raise ConfigurationError(f"{excerpt(repr(name))} in {config} is not a setting: serve --help lists them")
        if name in NOT_AN_OPTION:
            raise ConfigurationError(f"{name} in {config}: expected redis_password_file instead, or the environment")
        given[name], sources[name] = value, f"in {config}"
    if "redis_password" in found.settings:
        # Both set the same thing, and the environment comes before the file.
        given.pop("redis_password_file", None)
    for name, text in found.settings.items():
        # A setting that is a list by default has its items separated by spaces.
        given[name] = tuple(text.split()) if Settings.model_fields[name].default == () else text
        sources[name] = f"in the environment ({environment_variable(name)})"
    for name, value in options.items():
        given[name], sources[name] = value, COMMAND_LINE
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error, given, sources)) from None
    settings._sources = sources
    settings._environment = found
    settings._again = functools.partial(settle, options, config, environment)
    return settings


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config: {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--config: {path} is not a TOML file{toml_place(error)}") from None


def _sentence(error: ValidationError, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """Return the sentence for the first setting that pydantic has refused."""
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
