"""tornado_bridge.server.settings: where settings come from, and what is said of those that cannot be used."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tornado_bridge.errors import ConfigurationError, PluginError
from tornado_bridge.server import settings
from tornado_bridge.server.settings import Settings, settle

REQUIRED = {"exchange": "1:coinbase", "api_keys": "keys.toml"}

# For each setting: a value in the environment or of an option, the same in TOML, and what comes of both.
EXAMPLES: dict[str, tuple[str, str, object]] = {
    "host": ("0.0.0.0", '"0.0.0.0"', "0.0.0.0"),
    "port": ("9000", "9000", 9000),
    "metrics_port": ("9100", "9100", 9100),
    "metrics_host": ("10.0.0.1", '"10.0.0.1"', "10.0.0.1"),
    "event_loop": ("uvloop", '"uvloop"', "uvloop"),
    "exchange": ("7:kraken", '"7:kraken"', "7:kraken"),
    "redis_url": ("rediss://cache:6380/1", '"rediss://cache:6380/1"', "rediss://cache:6380/1"),
    "redis_password_file": ("/run/secrets/redis", '"/run/secrets/redis"', Path("/run/secrets/redis")),
    "redis_password": ("hunter2", '"hunter2"', SecretStr("hunter2")),
    "plugins": ("candle, signals", '["candle", "signals"]', ("candle", "signals")),
    "plugins_dir": ("/etc/plugins", '"/etc/plugins"', Path("/etc/plugins")),
    "api_keys": ("/etc/keys.toml", '"/etc/keys.toml"', Path("/etc/keys.toml")),
    "allow_origin": (
        "https://a.example http://b:81",
        '["https://a.example", "http://b:81"]',
        ("https://a.example", "http://b:81"),
    ),
    "trusted_proxy": (
        "10.0.0.0/8 fd00::1",
        '["10.0.0.0/8", "fd00::1"]',
        (ipaddress.IPv4Network("10.0.0.0/8"), ipaddress.IPv6Network("fd00::1/128")),
    ),
    "max_connections": ("7", "7", 7),
    "max_handshakes": ("8", "8", 8),
    "max_connections_per_key": ("9", "9", 9),
    "max_subscriptions": ("10", "10", 10),
    "rate_limit": ("0.5", "0.5", 0.5),
    "rate_burst": ("11", "11", 11),
    "compression": ("true", "true", True),
    "ping_interval": ("2.5", "2.5", 2.5),
    "skip_bytes": ("1000", "1000", 1000),
    "abort_bytes": ("100000", "100000", 100_000),
    "slow_timeout": ("3", "3", 3.0),
    "max_buffered_bytes": ("12", "12", 12),
    "log_level": ("debug", '"debug"', "debug"),
    "log_format": ("json", '"json"', "json"),
    "log_addresses": ("true", "true", True),
}

DEFAULTS: dict[str, object] = {
    "host": "127.0.0.1",
    "port": 8765,
    "metrics_port": None,
    "metrics_host": "127.0.0.1",
    "event_loop": "asyncio",
    "redis_url": "redis://127.0.0.1:6379/0",
    "redis_password_file": None,
    "redis_password": None,
    "plugins": None,
    "plugins_dir": None,
    "allow_origin": (),
    "trusted_proxy": (),
    "max_connections": 10_000,
    "max_handshakes": 1_000,
    "max_connections_per_key": 5,
    "max_subscriptions": 200,
    "rate_limit": 300.0,
    "rate_burst": 50,
    "compression": False,
    "ping_interval": 30.0,
    "skip_bytes": 65_536,
    "abort_bytes": 262_144,
    "slow_timeout": 30.0,
    "max_buffered_bytes": 67_108_864,
    "log_level": "info",
    "log_format": "text",
    "log_addresses": False,
}

# Settings of every kind, with a value for each of option, environment and file.
RIVALS: dict[str, tuple[tuple[Any, Any], tuple[str, Any], tuple[str, Any]]] = {
    "host": (("1.1.1.1", "1.1.1.1"), ("2.2.2.2", "2.2.2.2"), ('"3.3.3.3"', "3.3.3.3")),
    "port": (("1", 1), ("2", 2), ("3", 3)),
    "ping_interval": (("1.5", 1.5), ("2.5", 2.5), ("3.5", 3.5)),
    "api_keys": (("a", Path("a")), ("b", Path("b")), ('"c"', Path("c"))),
    "exchange": (("1:a", "1:a"), ("2:b", "2:b"), ('"3:c"', "3:c")),
    "redis_url": (("redis://a", "redis://a"), ("redis://b", "redis://b"), ('"redis://c"', "redis://c")),
    "plugins": (("a", ("a",)), ("b,c", ("b", "c")), ('["d"]', ("d",))),
    "log_level": (("debug", "debug"), ("warning", "warning"), ('"error"', "error")),
    "allow_origin": ((("http://a",), ("http://a",)), ("http://b", ("http://b",)), ('["http://c"]', ("http://c",))),
}


def variable(name: str) -> str:
    return f"TORNADO_BRIDGE_{name.upper()}"


def toml(directory: Path, text: str | bytes) -> Path:
    path = directory / "settings.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def settled(
    options: dict[str, Any] | None = None, config: Path | None = None, environment: dict[str, str] | None = None
) -> Settings:
    """What comes of the sources, the required settings given."""
    missing = {name: value for name, value in REQUIRED.items() if name not in (options or {})}
    return settle(
        options or {}, config, {**{variable(name): value for name, value in missing.items()}, **(environment or {})}
    )


def refusal(
    options: dict[str, Any] | None = None, config: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settled(options, config, environment)
    return str(caught.value)


def only(name: str, source: str, directory: Path) -> Settings:
    """Settings of which one is given, by one source, besides those that are required."""
    text, literal, _ = EXAMPLES[name]
    if source == "option":
        return settled({name: tuple(text.split()) if name in ("allow_origin", "trusted_proxy") else text})
    if source == "environment":
        return settled(environment={variable(name): text})
    lines = {**{key: f'"{value}"' for key, value in REQUIRED.items()}, name: literal}
    return settle({}, toml(directory, "".join(f"{key} = {value}\n" for key, value in lines.items())), {})


def test_every_setting_has_an_example() -> None:
    assert list(EXAMPLES) == list(Settings.model_fields)


def test_every_setting_but_the_required_ones_has_a_default() -> None:
    assert DEFAULTS.keys() == Settings.model_fields.keys() - REQUIRED.keys()


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_setting_that_nobody_gives_has_its_default(name: str) -> None:
    assert getattr(settled(), name) == DEFAULTS[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_setting_can_be_given_in_the_environment(name: str, tmp_path: Path) -> None:
    assert getattr(only(name, "environment", tmp_path), name) == EXAMPLES[name][2]


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"redis_password"}))
def test_a_setting_can_be_given_in_a_file(name: str, tmp_path: Path) -> None:
    assert getattr(only(name, "file", tmp_path), name) == EXAMPLES[name][2]


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"redis_password"}))
def test_a_setting_can_be_given_as_an_option(name: str, tmp_path: Path) -> None:
    assert getattr(only(name, "option", tmp_path), name) == EXAMPLES[name][2]


@pytest.mark.parametrize("name", RIVALS)
def test_an_option_beats_the_environment_and_the_file(name: str, tmp_path: Path) -> None:
    (option, expected), (text, _), (literal, _) = RIVALS[name]
    found = settled({name: option}, toml(tmp_path, f"{name} = {literal}"), {variable(name): text})
    assert getattr(found, name) == expected


@pytest.mark.parametrize("name", RIVALS)
def test_the_environment_beats_the_file(name: str, tmp_path: Path) -> None:
    _, (text, expected), (literal, _) = RIVALS[name]
    found = settled(None, toml(tmp_path, f"{name} = {literal}"), {variable(name): text})
    assert getattr(found, name) == expected


@pytest.mark.parametrize("name", sorted(RIVALS.keys() - REQUIRED.keys()))
def test_the_file_beats_the_default(name: str, tmp_path: Path) -> None:
    _, _, (literal, expected) = RIVALS[name]
    assert getattr(settled(None, toml(tmp_path, f"{name} = {literal}")), name) == expected


def test_the_environment_of_the_process_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**REQUIRED, "port": "4711"}.items():
        monkeypatch.setenv(variable(name), value)
    assert settle({}, None).port == 4711


def test_an_empty_list_of_origins_in_the_environment_takes_back_the_file_s(tmp_path: Path) -> None:
    config = toml(tmp_path, 'allow_origin = ["https://a.example"]')
    assert settled(None, config, {variable("allow_origin"): ""}).allow_origin == ()


def test_the_api_key_of_tail_in_the_environment_is_no_setting() -> None:
    found = settled(environment={"TORNADO_BRIDGE_API_KEY": "x"})
    assert found.model_dump() == settled().model_dump()
    assert found.environment.unknown == {}


def test_a_variable_that_is_no_setting_is_kept_with_the_nearest_one() -> None:
    found = settled(environment={"TORNADO_BRIDGE_PROT": "80"})
    assert found.port == 8765
    assert found.environment.unknown == {"TORNADO_BRIDGE_PROT": "TORNADO_BRIDGE_PORT"}


def test_a_service_link_of_kubernetes_is_not_taken_for_the_port() -> None:
    found = settled(environment={"TORNADO_BRIDGE_PORT": "tcp://10.0.0.1:8765"})
    assert (found.port, found.source("port")) == (8765, "by default")
    assert found.environment.service_links == ("TORNADO_BRIDGE_PORT",)


def test_settings_can_be_read_again_from_the_same_sources(tmp_path: Path) -> None:
    config = toml(tmp_path, "log_level = 'debug'\nping_interval = 1")
    environment = {variable("ping_interval"): "2"}
    found = settled({"port": "1"}, config, environment)
    toml(tmp_path, "log_level = 'error'\nping_interval = 3")
    again = found.reread()
    assert (again.log_level, again.ping_interval, again.port) == ("error", 2.0, 1)
    assert found.log_level == "debug"


def test_settings_that_have_become_unusable_are_refused_when_they_are_read_again(tmp_path: Path) -> None:
    config = toml(tmp_path, "log_level = 'debug'")
    found = settled(config=config)
    toml(tmp_path, "log_level = 5")
    with pytest.raises(ConfigurationError) as caught:
        found.reread()
    assert str(caught.value) == f"--log-level in {config}: expected debug, info, warning or error, got 5"


def test_an_exchange_is_split_at_its_first_colon() -> None:
    found = settled({"exchange": "7:a:b"})
    assert (found.exchange_id, found.exchange_name) == ("7", "a:b")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settled().port = 1


@pytest.mark.parametrize(
    ("name", "sources", "expected"),
    [
        ("port", {"options": {"port": "1"}}, "on the command line"),
        ("port", {"environment": {"TORNADO_BRIDGE_PORT": "1"}}, "in the environment (TORNADO_BRIDGE_PORT)"),
        ("port", {}, "by default"),
    ],
)
def test_settings_know_their_source(name: str, sources: dict[str, Any], expected: str) -> None:
    assert settled(**sources).source(name) == expected


def test_settings_know_their_file(tmp_path: Path) -> None:
    config = toml(tmp_path, "port = 1")
    assert settled(config=config).source("port") == f"in {config}"


def test_a_setting_that_turns_out_unusable_is_told_with_its_source() -> None:
    found = settled({"port": "80"}).refusal("port", "it is taken")
    assert str(found) == "--port on the command line: it is taken"


def test_options_and_variables_are_named_after_the_setting() -> None:
    assert settings.option("max_connections_per_key") == "--max-connections-per-key"
    assert settings.environment_variable("max_connections_per_key") == "TORNADO_BRIDGE_MAX_CONNECTIONS_PER_KEY"


PORT = "expected a port from 0 to 65535"
COUNT = "expected a whole number from 1 to 2147483647"
AMOUNT = "expected a number above 0"
REDIS_URL = (
    "expected redis://HOST:PORT, rediss://HOST:PORT, unix://PATH or embedded://HOST:PORT, "
    "with / ? # @ % of a password as %2F %3F %23 %40 %25, "
    "and after a ? only db, client_name, username, password and redis-py's ssl_ options"
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("port", "abc", f"{PORT}, got 'abc'"),
        ("port", "", f"{PORT}, got ''"),
        ("port", "-1", f"{PORT}, got '-1'"),
        ("port", "65536", f"{PORT}, got '65536'"),
        ("port", "80.5", f"{PORT}, got '80.5'"),
        ("port", "nan", f"{PORT}, got 'nan'"),
        ("port", "1" * 5_000, f"{PORT}, got '{'1' * 62}…"),
        ("metrics_port", "-1", f"{PORT}, got '-1'"),
        ("host", "", "expected an address or a host name, got ''"),
        ("host", "a\nb", "expected an address or a host name, got 'a\\nb'"),
        ("exchange", "coinbase", "expected ID:NAME, such as 1:coinbase, got 'coinbase'"),
        ("exchange", "1:", "expected ID:NAME, such as 1:coinbase, got '1:'"),
        ("exchange", ":coinbase", "expected ID:NAME, such as 1:coinbase, got ':coinbase'"),
        ("max_connections", "0", f"{COUNT}, got '0'"),
        ("max_handshakes", "-5", f"{COUNT}, got '-5'"),
        ("max_connections_per_key", "1.5", f"{COUNT}, got '1.5'"),
        ("max_subscriptions", "many", f"{COUNT}, got 'many'"),
        ("rate_burst", "2147483648", f"{COUNT}, got '2147483648'"),
        ("compression", "perhaps", "expected true or false, got 'perhaps'"),
        ("skip_bytes", "64K", f"{COUNT}, got '64K'"),
        ("abort_bytes", "inf", f"{COUNT}, got 'inf'"),
        ("rate_limit", "0", f"{AMOUNT}, got '0'"),
        ("ping_interval", "-1", f"{AMOUNT}, got '-1'"),
        ("ping_interval", "nan", f"{AMOUNT}, got 'nan'"),
        ("ping_interval", "inf", f"{AMOUNT}, got 'inf'"),
        ("slow_timeout", "-inf", f"{AMOUNT}, got '-inf'"),
        ("slow_timeout", "1e400", f"{AMOUNT}, got '1e400'"),
        ("rate_limit", "30s", f"{AMOUNT}, got '30s'"),
        ("plugins", "a,,b", "expected names of plugins, with commas between them (in a file: a list), got 'a,,b'"),
        ("plugins_dir", "", "expected the path of a directory, got ''"),
        ("log_level", "INFO", "expected debug, info, warning or error, got 'INFO'"),
        ("event_loop", "select", "expected asyncio or uvloop, got 'select'"),
        ("log_format", "xml", "expected text or json, got 'xml'"),
        ("allow_origin", "a.example", "expected origins such as https://app.example.com, got ('a.example',)"),
        ("allow_origin", "https://", "expected origins such as https://app.example.com, got ('https://',)"),
        ("trusted_proxy", "proxy", "expected IP addresses or networks such as 10.0.0.0/8, got ('proxy',)"),
        ("trusted_proxy", "10.0.0.1/8", "expected IP addresses or networks such as 10.0.0.0/8, got ('10.0.0.1/8',)"),
        ("allow_origin", "https://a/b", "expected origins such as https://app.example.com, got ('https://a/b',)"),
    ],
)
def test_an_unusable_text_is_told_with_setting_source_and_expectation(name: str, text: str, expected: str) -> None:
    said = refusal(environment={variable(name): text})
    assert said == f"--{name.replace('_', '-')} in the environment ({variable(name)}): {expected}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("port = true", f"--port in {{}}: {PORT}, got True"),
        ("port = [1]", f"--port in {{}}: {PORT}, got [1]"),
        ("rate_burst = false", f"--rate-burst in {{}}: {COUNT}, got False"),
        ("ping_interval = nan", f"--ping-interval in {{}}: {AMOUNT}, got nan"),
        ("ping_interval = -inf", f"--ping-interval in {{}}: {AMOUNT}, got -inf"),
        ("ping_interval = true", f"--ping-interval in {{}}: {AMOUNT}, got True"),
        ("host = 1", "--host in {}: expected an address or a host name, got 1"),
        ("redis_password_file = 1", "--redis-password-file in {}: expected the path of a file, got 1"),
        (
            "allow_origin = 'http://a'",
            "--allow-origin in {}: expected origins such as https://app.example.com, got 'http://a'",
        ),
        (
            "log_level = 1979-05-27",
            "--log-level in {}: expected debug, info, warning or error, got datetime.date(1979, 5, 27)",
        ),
        ("prot = 1", "'prot' in {} is not a setting: serve --help lists them"),
        ("[serve]\nport = 1", "'serve' in {} is not a setting: serve --help lists them"),
        ('"a\\nb" = 1', "'a\\nb' in {} is not a setting: serve --help lists them"),
        (
            "redis_password = 'hunter2'",
            "redis_password in {}: expected redis_password_file instead, or the environment",
        ),
    ],
)
def test_an_unusable_line_of_a_file_is_told_with_the_file(line: str, expected: str, tmp_path: Path) -> None:
    config = toml(tmp_path, line)
    assert refusal(config=config) == expected.format(config)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("port = ", " (at end of document)"),
        ("port 1", " (at line 1, column 6)"),
        (b"\xff", ""),
        ("redis_password = 'hunter2", " (at end of document)"),
        ("port = " + "9" * 5_000, ""),
        ("port = " + "[" * 100_000, ""),
    ],
)
def test_a_file_that_is_no_toml_is_told_without_what_is_in_it(text: str | bytes, place: str, tmp_path: Path) -> None:
    config = toml(tmp_path, text)
    assert refusal(config=config) == f"--config: {config} is not a TOML file{place}"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refusal(config=tmp_path / "x") == f"--config: {tmp_path / 'x'} cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "exchange",
            "--exchange is required, on the command line, in the environment (TORNADO_BRIDGE_EXCHANGE) or in the "
            "--config file: expected ID:NAME, such as 1:coinbase",
        ),
        (
            "api_keys",
            "--api-keys is required, on the command line, in the environment (TORNADO_BRIDGE_API_KEYS) or in the "
            "--config file: expected the path of a file",
        ),
    ],
)
def test_a_required_setting_that_nobody_gives_is_told(name: str, expected: str) -> None:
    others = {key: value for key, value in REQUIRED.items() if key != name}
    with pytest.raises(ConfigurationError) as caught:
        settle(others, None, {})
    assert str(caught.value) == expected


def test_an_abortion_before_the_skipping_is_refused_with_both_sources() -> None:
    said = refusal({"abort_bytes": "10"}, None, {variable("skip_bytes"): "20"})
    assert said == (
        "--abort-bytes on the command line: expected no fewer bytes than --skip-bytes in the environment "
        "(TORNADO_BRIDGE_SKIP_BYTES)"
    )


def test_skipping_after_the_default_abortion_is_refused() -> None:
    assert refusal({"skip_bytes": "300000"}) == (
        "--abort-bytes by default: expected no fewer bytes than --skip-bytes on the command line"
    )


def test_abortion_at_the_threshold_of_skipping_is_allowed() -> None:
    assert settled({"skip_bytes": "10", "abort_bytes": "10"}).abort_bytes == 10


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://user:hunter2@[::1]:6379/0?client_name=bridge",
        "redis://:p%2Fw%23@cache:6379",
        "rediss://cache:6380/0",
        "unix:///run/redis.sock?db=1",
        "embedded://127.0.0.1:0",
        "embedded://[::1]:6399",
    ],
)
def test_a_redis_url_is_taken_as_it_is(url: str) -> None:
    assert settled({"redis_url": url}).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis:127.0.0.1",
        "redis://",
        "redis://:6379",
        "redis://[::1",
        "redis://cache:99999",
        "redis://cache:port",
        "redis://a cache:6379",
        "redis://cache\n",
        "unix://",
        "embedded://",
        "embedded://127.0.0.1",
        "embedded://:6399",
        "embedded://127.0.0.1:99999",
        "embedded://127.0.0.1:port",
        "embedded://127.0.0.1:6399/0",
        "embedded://127.0.0.1:6399?db=1",
        "embedded://user@127.0.0.1:6399",
        "embedded://a cache:6399",
        5,
    ],
)
def test_a_redis_url_of_another_form_is_refused(url: object) -> None:
    assert refusal({"redis_url": url}) == f"--redis-url on the command line: {REDIS_URL}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@cache:6379",
        "redis://:hunter2#x@cache:6379",
        "redis://:hunter2?x@cache:6379",
        "redis://hunter2/x@cache:6379",
        "redis://hunter2#x@cache:6379",
        "redis://u:2?hunter2@cache:6379",
        "redis://cache?hunter2=1",
        "redis://cache?socket_timeout=hunter2",
        "rediss://cache?ssl_cert_reqs=hunter2",
        "embedded://:hunter2/x@cache:6379",
    ],
)
def test_a_url_that_may_hold_a_piece_of_a_password_in_the_wrong_place_is_refused_without_a_word_of_it(url: str) -> None:
    assert refusal({"redis_url": url}) == f"--redis-url on the command line: {REDIS_URL}"


def names(found: Settings) -> list[str]:
    return [candidate.name for candidate in found.candidates()]


@pytest.fixture
def plugins_dir(tmp_path: Path) -> Path:
    (tmp_path / "trades.py").write_text("raise ImportError")
    return tmp_path


def test_every_plugin_that_is_installed_is_a_candidate_unless_told_else() -> None:
    assert names(settled()) == ["candle", "signals"]


def test_the_plugins_named_alone_are_candidates() -> None:
    assert names(settled({"plugins": "signals"})) == ["signals"]


def test_an_empty_list_of_plugins_is_none() -> None:
    assert names(settled({"plugins": ""})) == []


def test_the_files_of_a_directory_are_candidates_unimported(plugins_dir: Path) -> None:
    assert names(settled({"plugins_dir": str(plugins_dir)})) == ["candle", "signals", "trades"]


def test_a_directory_of_plugins_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled({"plugins_dir": "/nonexistent"}).candidates()
    assert str(caught.value) == (
        "--plugins-dir on the command line: expected a directory that can be read, got /nonexistent"
    )


def test_a_plugin_that_nobody_offers_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled({"plugins": "candles"}).candidates()
    assert str(caught.value) == (
        "--plugins on the command line: no installed distribution offers a plugin 'candles' "
        "(installed: candle, signals)"
    )


def test_a_plugin_that_is_offered_twice_is_refused(plugins_dir: Path) -> None:
    (plugins_dir / "candle.py").touch()
    with pytest.raises(PluginError) as caught:
        settled({"plugins_dir": str(plugins_dir)}).candidates()
    assert caught.value.plugin == "candle"


def test_no_repr_shows_a_secret() -> None:
    found = settled({"redis_url": "redis://:hunter2@cache"}, None, {variable("redis_password"): "hunter3"})
    assert "hunter" not in repr(found) + str(found)


def test_no_error_shows_where_it_came_from() -> None:
    with pytest.raises(ConfigurationError) as caught:
        settled({"redis_url": "redis://:hunter2/x@cache"})
    assert caught.value.__suppress_context__


def test_there_is_no_password_unless_given() -> None:
    assert settled().password() is None


def test_the_password_of_the_environment_is_taken() -> None:
    assert settled(environment={variable("redis_password"): " p w "}).password() == " p w "


def test_an_empty_password_of_the_environment_is_none() -> None:
    assert settled(environment={variable("redis_password"): ""}).password() is None


@pytest.mark.parametrize(
    ("content", "password"), [(b"hunter2", "hunter2"), (b"p w \r\n\n", "p w "), ("é\n".encode(), "é")]
)
def test_a_password_file_is_read_without_the_line_breaks_at_its_end(
    content: bytes, password: str, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    assert settled({"redis_password_file": str(path)}).password() == password


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        settled({"redis_password_file": str(path)}).password()
    assert str(caught.value) == (
        f"--redis-password-file on the command line: expected a readable file with a password, got {path}"
    )


@pytest.mark.parametrize("path", ["/nonexistent/password", "/", "a\0b"])
def test_a_password_file_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="expected a readable file with a password"):
        settled({"redis_password_file": path}).password()


def test_a_password_file_of_an_option_beats_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from the file")
    found = settled({"redis_password_file": str(path)}, None, {variable("redis_password"): "from the environment"})
    assert found.password() == "from the file"


def test_the_password_of_the_environment_beats_the_file_that_a_config_names(tmp_path: Path) -> None:
    config = toml(tmp_path, 'redis_password_file = "/nonexistent"')
    found = settled(None, config, {variable("redis_password"): "from the environment"})
    assert found.password() == "from the environment"


@pytest.mark.parametrize("url", ["redis://:hunter2@cache", "unix:///run/redis.sock?password=hunter2"])
def test_two_passwords_are_refused(url: str) -> None:
    found = settled({"redis_url": url}, None, {variable("redis_password"): "hunter3"})
    with pytest.raises(ConfigurationError) as caught:
        found.password()
    assert str(caught.value) == (
        "--redis-url on the command line: expected no password in the URL, since another one is set"
    )


def test_every_setting_is_in_a_group_of_the_help() -> None:
    groups = {field.json_schema_extra["group"] for field in Settings.model_fields.values()}  # type: ignore[index]
    assert groups == set(settings.GROUPS)
