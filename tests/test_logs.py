"""tornado_bridge.logs."""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from tests.support.servers import LogLines
from tornado_bridge import logs
from tornado_bridge.logs import ThrottledLog

SECRET = "a payload or a key"


@pytest.fixture(autouse=True)
def _records_are_expected(log_lines: LogLines, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The tests of this module log on purpose."""
    yield
    caplog.get_records("call").clear()


class Clock:
    """A clock that stands until it is set, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttled(clock: Clock) -> ThrottledLog:
    return ThrottledLog(structlog.get_logger("tests"), clock)


def lines_of(log_lines: LogLines) -> list[dict[str, object]]:
    """Take all lines."""
    return [dict(log_lines.take(line["event"])) for line in log_lines.all()]


# Repeated faults


def test_a_fault_is_said_at_once(throttled: ThrottledLog, log_lines: LogLines) -> None:
    throttled.warning("event dropped", event_type="note", cause="no JSON")

    assert lines_of(log_lines) == [
        {"event": "event dropped", "event_type": "note", "cause": "no JSON", "log_level": "warning"}
    ]


def test_an_error_is_said_as_an_error(throttled: ThrottledLog, log_lines: LogLines) -> None:
    throttled.error("plugin failed", plugin="note")

    assert lines_of(log_lines) == [{"event": "plugin failed", "plugin": "note", "log_level": "error"}]


def test_a_piece_of_news_is_said_as_one(throttled: ThrottledLog, log_lines: LogLines) -> None:
    throttled.info("client refused", code=4001)
    throttled.info("client refused", code=4001)

    assert lines_of(log_lines) == [{"event": "client refused", "code": 4001, "log_level": "info"}]


def test_lines_that_differ_in_what_varies_alone_are_one(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    for number in range(3):
        throttled.info("client left", varying={"seconds": number}, key="alice")
    clock.now += 10
    throttled.info("client left", varying={"seconds": 3}, key="alice")

    assert lines_of(log_lines) == [
        {"event": "client left", "key": "alice", "seconds": 0, "log_level": "info"},
        {"event": "client left", "key": "alice", "seconds": 3, "suppressed": 2, "log_level": "info"},
    ]


def test_what_varies_is_not_remembered(throttled: ThrottledLog, clock: Clock, log_lines: LogLines) -> None:
    for number in range(10_000):
        throttled.info("client left", varying={"address": f"203.0.113.{number}"}, key="alice")

    assert len(throttled._throttle._faults) == 1


def test_a_fault_that_repeats_within_10_seconds_is_said_once(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    for _ in range(1_000):
        throttled.warning("event dropped", cause="no JSON")
        clock.now += 0.0099

    assert len(lines_of(log_lines)) == 1


def test_after_10_seconds_a_fault_is_said_again_with_the_number_suppressed(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    for _ in range(4):
        throttled.warning("event dropped", cause="no JSON")
    clock.now += 10
    throttled.warning("event dropped", cause="no JSON")

    assert lines_of(log_lines)[1:] == [
        {"event": "event dropped", "cause": "no JSON", "suppressed": 3, "log_level": "warning"}
    ]


def test_a_fault_of_which_nothing_was_suppressed_says_nothing_of_it(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    throttled.warning("event dropped", cause="no JSON")
    clock.now += 10
    throttled.warning("event dropped", cause="no JSON")

    assert lines_of(log_lines) == [{"event": "event dropped", "cause": "no JSON", "log_level": "warning"}] * 2


def test_the_number_suppressed_starts_anew_with_each_line(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    for _ in range(3):
        throttled.warning("event dropped")
        throttled.warning("event dropped")
        clock.now += 10

    assert [line.get("suppressed") for line in lines_of(log_lines)] == [None, 1, 1]


def test_the_10_seconds_start_with_the_line_that_was_said(
    throttled: ThrottledLog, clock: Clock, log_lines: LogLines
) -> None:
    throttled.warning("event dropped")
    clock.now += 10
    throttled.warning("event dropped")
    clock.now += 9.5
    throttled.warning("event dropped")

    assert len(lines_of(log_lines)) == 2


def test_different_faults_do_not_suppress_each_other(throttled: ThrottledLog, log_lines: LogLines) -> None:
    throttled.warning("event dropped", cause="no JSON")
    throttled.warning("event dropped", cause="no UTF-8")
    throttled.warning("event lost", cause="no JSON")

    assert len(lines_of(log_lines)) == 3


def test_of_1025_faults_that_which_was_said_longest_ago_is_forgotten(throttled: ThrottledLog, clock: Clock) -> None:
    with capture_logs() as lines:
        for number in range(1_024):
            throttled.warning("event dropped", cause=number)
        for number in (0, 1_024, 1, 0):
            throttled.warning("event dropped", cause=number)

    # 1,024 took the place of 0, which took that of 1 as it was said again.
    assert [line["cause"] for line in lines[1_024:]] == [1_024, 0]


def test_a_fault_that_is_said_again_is_not_that_which_was_said_longest_ago(
    throttled: ThrottledLog, clock: Clock
) -> None:
    with capture_logs() as lines:
        for number in range(1_024):
            throttled.warning("event dropped", cause=number)
        clock.now += 10
        throttled.warning("event dropped", cause=5)
        clock.now -= 10
        for number in (0, 1_024, 5):
            throttled.warning("event dropped", cause=number)

    assert [line["cause"] for line in lines[1_024:]] == [5, 1_024]


def test_two_logs_do_not_suppress_each_other(clock: Clock, log_lines: LogLines) -> None:
    for _ in range(2):
        ThrottledLog(structlog.get_logger("tests"), clock).warning("event dropped")

    assert len(lines_of(log_lines)) == 2


# What is written


@pytest.fixture
def process() -> Iterator[None]:
    """A process whose logging is not configured yet."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, logs._NEVER_AT_DEBUG)]
    handlers, levels, settings = root.handlers, [logger.level for logger in loggers], structlog.get_config()
    root.handlers = []
    yield
    root.handlers = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.configure(**settings)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def text(process: None) -> io.StringIO:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    return stream


@pytest.fixture
def as_json(process: None) -> io.StringIO:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return stream


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def test_a_line_of_text_has_time_level_event_logger_and_fields(text: io.StringIO) -> None:
    structlog.get_logger("bridge.source").info("subscribed", channels=2)

    assert re.fullmatch(TIME + r" \[info     \] subscribed \[bridge\.source\] channels=2\n", text.getvalue())


def test_a_line_of_json_has_the_same(as_json: io.StringIO) -> None:
    structlog.get_logger("bridge.source").warning("Redis lost", cause="reset")

    line = json.loads(as_json.getvalue())
    assert re.fullmatch(TIME, line.pop("timestamp"))
    assert line == {"level": "warning", "event": "Redis lost", "logger": "bridge.source", "cause": "reset"}


def test_a_line_of_another_library_is_written_alike(as_json: io.StringIO) -> None:
    logging.getLogger("tornado.general").warning("Malformed %s", "request")

    line = json.loads(as_json.getvalue())
    assert re.fullmatch(TIME, line.pop("timestamp"))
    assert line == {"level": "warning", "event": "Malformed request", "logger": "tornado.general"}


def test_a_line_below_the_level_is_not_written(text: io.StringIO) -> None:
    structlog.get_logger("bridge").debug("request")
    logging.getLogger("asyncio").debug("Using selector")

    assert text.getvalue() == ""


def test_the_level_may_be_lower(process: None) -> None:
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    structlog.get_logger("bridge").debug("request")

    assert "[debug    ] request [bridge]" in stream.getvalue()


def test_to_configure_again_replaces_what_was_configured(text: io.StringIO) -> None:
    again = io.StringIO()
    logs.configure("error", "json", again)
    structlog.get_logger("bridge").warning("no")
    structlog.get_logger("bridge").error("yes")

    assert (text.getvalue(), json.loads(again.getvalue())["event"]) == ("", "yes")


def test_a_terminal_gets_colours(process: None) -> None:
    terminal = Terminal()
    logs.configure("info", "text", terminal)
    structlog.get_logger("bridge").info("subscribed")

    assert "\x1b[" in terminal.getvalue()


def test_what_is_no_terminal_gets_no_colours(text: io.StringIO) -> None:
    structlog.get_logger("bridge").info("subscribed")

    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_field_with_control_characters_is_written_on_one_line(process: None, form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    structlog.get_logger("bridge").info("client", name="a\n2026-02-19 [error] forged\x1b[31m")

    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_an_event_of_several_lines_the_first_is_written(process: None, form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task finished exception=ValueError('%s')>", SECRET
    )

    assert "Task exception was never retrieved" in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    assert SECRET not in stream.getvalue()


def test_an_empty_event_is_written(as_json: io.StringIO) -> None:
    logging.getLogger("other").warning("")

    assert json.loads(as_json.getvalue())["event"] == ""


def fail() -> None:
    raise ValueError(SECRET)


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_an_exception_of_another_library_the_name_is_written(process: None, form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    try:
        fail()
    except ValueError:
        logging.getLogger("tornado.application").exception("Exception in callback")

    assert re.search(r"error\W+ValueError", stream.getvalue())
    assert SECRET not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_an_exception_of_our_own_the_name_is_written(process: None, form: str) -> None:
    stream = io.StringIO()
    logs.configure("info", form, stream)
    try:
        fail()
    except ValueError:
        structlog.get_logger("bridge").exception("client message failed")

    assert re.search(r"error\W+ValueError", stream.getvalue())
    assert SECRET not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()


def test_of_an_exception_that_is_given_the_name_is_written(as_json: io.StringIO) -> None:
    structlog.get_logger("bridge").error("client message failed", exc_info=ValueError(SECRET))

    assert json.loads(as_json.getvalue())["error"] == "ValueError"
    assert SECRET not in as_json.getvalue()


def test_where_there_is_no_exception_none_is_named(as_json: io.StringIO) -> None:
    logging.getLogger("other").error("failed", exc_info=True)

    assert "error" not in json.loads(as_json.getvalue())


def test_the_frames_of_an_exception_are_not_written(as_json: io.StringIO) -> None:
    try:
        fail()
    except ValueError:
        logging.getLogger("other").exception("failed")

    assert json.loads(as_json.getvalue()).keys() == {"event", "level", "logger", "timestamp", "error"}


# Floods


@pytest.fixture
def flooded(process: None, clock: Clock) -> io.StringIO:
    """The JSON lines of a process whose floods are measured by `clock`."""
    stream = io.StringIO()
    logs.configure("info", "json", stream, clock=clock)
    return stream


def written(stream: io.StringIO) -> list[dict[str, object]]:
    """Return what was written, without the times."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [{name: value for name, value in line.items() if name != "timestamp"} for line in lines]


@pytest.mark.parametrize("name", ["tornado.general", "tornado.application", "tornado", "asyncio"])
def test_of_a_line_that_repeats_within_10_seconds_one_is_written(name: str, flooded: io.StringIO, clock: Clock) -> None:
    for number in range(1_000):
        logging.getLogger(name).warning("Malformed request %d", number)
        clock.now += 0.0099

    assert written(flooded) == [{"event": "Malformed request 0", "level": "warning", "logger": name}]


def test_after_10_seconds_the_line_is_written_again_with_the_number_suppressed(
    flooded: io.StringIO, clock: Clock
) -> None:
    for number in range(4):
        logging.getLogger("tornado.general").warning("Malformed request %d", number)
    clock.now += 10
    logging.getLogger("tornado.general").warning("Malformed request %d", 4)

    assert written(flooded)[1:] == [
        {"event": "Malformed request 4", "level": "warning", "logger": "tornado.general", "suppressed": 3}
    ]


def test_lines_of_another_logger_level_template_or_exception_are_written(flooded: io.StringIO) -> None:
    general, application = logging.getLogger("tornado.general"), logging.getLogger("tornado.application")
    for error in (None, ValueError(), ValueError(), OSError()):
        general.warning("Malformed %s", "request", exc_info=error)
    general.error("Malformed %s", "request")
    general.warning("Malformed %s!", "request")
    application.warning("Malformed %s", "request")

    assert [(line["logger"], line["level"], line["event"], line.get("error")) for line in written(flooded)] == [
        ("tornado.general", "warning", "Malformed request", None),
        ("tornado.general", "warning", "Malformed request", "ValueError"),
        ("tornado.general", "warning", "Malformed request", "OSError"),
        ("tornado.general", "error", "Malformed request", None),
        ("tornado.general", "warning", "Malformed request!", None),
        ("tornado.application", "warning", "Malformed request", None),
    ]


def test_lines_that_differ_after_their_first_line_are_one(flooded: io.StringIO) -> None:
    for number in range(3):
        logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: <Task {number}>")

    assert [line["event"] for line in written(flooded)] == ["Task exception was never retrieved"]


def test_lines_of_plugins_and_of_our_own_are_all_written(flooded: io.StringIO) -> None:
    for _ in range(3):
        logging.getLogger("a_plugin").warning("odd price")
        structlog.get_logger("tornado_bridge.bridge").warning("odd client")

    assert [line["event"] for line in written(flooded)] == ["odd price", "odd client"] * 3


def test_a_flood_of_many_threads_is_counted_whole(flooded: io.StringIO, clock: Clock) -> None:
    def flood() -> None:
        for _ in range(500):
            logging.getLogger("asyncio").error("out of system resource")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.now += 10
    logging.getLogger("asyncio").error("out of system resource")

    assert [line.get("suppressed") for line in written(flooded)] == [None, 1_999]


# Levels


@pytest.mark.parametrize("name", ["fakeredis", "redis", "redis.asyncio.connection", "push_response"])
def test_a_library_that_writes_payloads_at_debug_never_gets_that_far(process: None, name: str) -> None:
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    logging.getLogger(name).debug("payload")
    logging.getLogger(name).info("connected")

    assert "payload" not in stream.getvalue()
    assert "connected" in stream.getvalue()


def test_such_a_library_obeys_a_higher_level(process: None) -> None:
    stream = io.StringIO()
    logs.configure("error", "text", stream)
    logging.getLogger("fakeredis").warning("odd")

    assert stream.getvalue() == ""


def test_the_level_may_be_changed_later(text: io.StringIO) -> None:
    logs.set_level("debug")
    structlog.get_logger("bridge").debug("now")
    logging.getLogger("fakeredis").debug("payload")
    logs.set_level("error")
    structlog.get_logger("bridge").warning("no more")
    logging.getLogger("fakeredis").warning("nor this")

    assert re.fullmatch(TIME + r" \[debug    \] now \[bridge\]\n", text.getvalue())
