"""The settings of a server: names, defaults, units and help, in one place."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)

from tornado_bridge.errors import ConfigurationError

ENVIRONMENT_PREFIX = "TORNADO_BRIDGE_"

# Settings whose value may hold a secret: it is repeated in no error.
_SECRET = {"redis_url", "redis_password"}

# Settings that are no command-line option, since every user of the machine sees the arguments of a process.
NOT_AN_OPTION = {"redis_password"}

GROUPS = ("Server", "Redis", "Clients", "Slow clients", "Logging")


def _exchange(text: str) -> str:
    exchange_id, colon, name = text.partition(":")
    if not (exchange_id and colon and name):
        raise ValueError("expected ID:NAME, such as 1:coinbase")
    return text


def _port(number: int) -> int:
    if not 0 <= number <= 65_535:
        raise ValueError("expected a port from 0 to 65535")
    return number


def _origin(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not (scheme and separator and rest) or "/" in rest:
        raise ValueError("expected an origin such as https://app.example.com")
    return text


def _setting(default: Any, group: str, help: str, unit: str = "") -> Any:
    """Declare one setting; `unit` stands behind its default in the help."""
    return Field(default, description=help, json_schema_extra={"group": group, "unit": unit})


Port = Annotated[int, AfterValidator(_port)]


class Settings(BaseModel):
    """Everything that `serve` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = _setting("127.0.0.1", "Server", "Address to listen on.")
    port: Port = _setting(8765, "Server", "Port to listen on; 0 picks one.")
    metrics_port: Port | None = _setting(
        None, "Server", "Port of Prometheus metrics at /metrics, on the same address; none unless given."
    )
    exchange: Annotated[str, AfterValidator(_exchange)] = _setting(
        ..., "Server", "Exchange to relay, as ID:NAME. Required."
    )
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "Redis",
        "redis://, rediss:// or unix:// URL; embedded://HOST:PORT starts an embedded Redis there. "
        "A password in it is visible to every user of the machine: use --redis-password-file.",
    )
    redis_password_file: Path | None = _setting(None, "Redis", "File that holds the Redis password.")
    redis_password: SecretStr | None = _setting(None, "Redis", "Redis password; from the environment alone.")
    api_keys: Path = _setting(..., "Clients", "TOML file of API keys (see the keys command). Required.")
    allow_origin: tuple[Annotated[str, AfterValidator(_origin)], ...] = _setting(
        (), "Clients", "Origin that a browser may come from; repeatable; any unless given."
    )
    max_connections: PositiveInt = _setting(10_000, "Clients", "Live connections of all keys together.")
    max_handshakes: PositiveInt = _setting(1_000, "Clients", "Connections that have not been admitted yet.")
    max_connections_per_key: PositiveInt = _setting(5, "Clients", "Live connections a key, unless its row says else.")
    max_subscriptions: PositiveInt = _setting(200, "Clients", "Subscriptions a connection.")
    rate_limit: PositiveFloat = _setting(300.0, "Clients", "Client messages a key.", "a minute")
    rate_burst: PositiveInt = _setting(50, "Clients", "Client messages that a key may send at once.")
    ping_interval: PositiveFloat = _setting(
        30.0, "Clients", "Between two pings; who has not answered by the next one is cut off.", "s"
    )
    skip_bytes: PositiveInt = _setting(
        65_536, "Slow clients", "Held back for a client from which on it loses frames.", "bytes"
    )
    abort_bytes: PositiveInt = _setting(
        262_144, "Slow clients", "Held back for a client from which on it is cut off.", "bytes"
    )
    slow_timeout: PositiveFloat = _setting(
        30.0, "Slow clients", "For how long a client may lose frames without a break.", "s"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Logging", "Least level logged.")
    log_format: Literal["text", "json"] = _setting("text", "Logging", "Form of a log line.")

    @model_validator(mode="after")
    def _thresholds_in_order(self) -> "Settings":
        if self.abort_bytes < self.skip_bytes:
            raise ValueError("abort_bytes must not be below skip_bytes")
        return self

    @property
    def exchange_id(self) -> str:
        return self.exchange.partition(":")[0]

    @property
    def exchange_name(self) -> str:
        return self.exchange.partition(":")[2]

    def password(self) -> str | None:
        """Return the Redis password, None where there is none; raises ConfigurationError for an unreadable file."""
        if self.redis_password_file is not None:
            try:
                return self.redis_password_file.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                raise ConfigurationError(
                    f"--redis-password-file: {self.redis_password_file} cannot be read as UTF-8 text"
                ) from None
        return None if self.redis_password is None else self.redis_password.get_secret_value()


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
            raise ConfigurationError(f"{name} in {config} is no setting; expected one of those that serve --help lists")
        if name in NOT_AN_OPTION:
            raise ConfigurationError(f"{name} in {config}: expected redis_password_file, or the environment")
    for name in Settings.model_fields:
        variable = environment_variable(name)
        if variable in environment:
            text = environment[variable]
            given[name] = tuple(text.split()) if name == "allow_origin" else text
            sources[name] = f"in the environment ({variable})"
    for name, value in options.items():
        given[name], sources[name] = value, "on the command line"
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error, given, sources)) from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config: {path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config: {path} is no TOML file ({error})") from None


def _sentence(error: ValidationError, given: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return (
            f"{option(name)} is required: expected on the command line, in the environment "
            f"({environment_variable(name)}) or in the configuration file"
        )
    shown = "" if name in _SECRET else f", got {given[name]!r}"
    message = message[0].lower() + message[1:]
    return f"{option(name)} {sources[name]}: {message}{shown}"
