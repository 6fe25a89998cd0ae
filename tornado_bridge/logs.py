"""Logging: one line per event in the bridge's life, and a fault that repeats at most once in 10 s."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog

# A fault that repeats is logged once in this many seconds. The next line says how many were left out.
WINDOW = 10.0

# How many different faults are remembered. Beyond that, the one that was logged longest ago is forgotten.
_MAX_FAULTS = 1024

# What a stranger does to a socket can make these write thousands of lines per second.
_THROTTLED = ("tornado", "asyncio")

# At DEBUG these write payloads (fakeredis each command, redis-py each push), so they never get that far.
_NEVER_AT_DEBUG = ("fakeredis", "redis", "push_response")


_NOTHING: Mapping[str, Any] = {}


class _Throttle:
    """Lets each distinct fault pass at most once per WINDOW. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # For each fault: when it may pass again, and how often it has been held back until now.
        self._faults: dict[Hashable, list[float]] = {}

    def admit(self, fault: Hashable) -> int | None:
        """Return how often the fault was held back since it last passed, None if it is held back now as well."""
        now = self._clock()
        known = self._faults.get(fault)
        if known is not None and now < known[0]:
            known[1] += 1
            return None
        self._faults.pop(fault, None)
        if len(self._faults) >= _MAX_FAULTS:
            del self._faults[next(iter(self._faults))]
        self._faults[fault] = [now + WINDOW, 0]
        return 0 if known is None else int(known[1])


class ThrottledLog:
    """Logs each distinct line, of the same event and fields, at most once per WINDOW.

    The next such line has the field `suppressed`: how many were left out. `clock` is monotonic, in seconds.
    """

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._throttle = _Throttle(clock)

    def info(self, event: str, varying: Mapping[str, Any] = _NOTHING, **fields: Any) -> None:
        """Log a line. Lines that differ in `varying` fields alone count as the same."""
        self._write(self._log.info, event, fields, varying)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(self._log.warning, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(self._log.error, event, fields)

    def _write(
        self, write: Callable[..., Any], event: str, fields: dict[str, Any], varying: Mapping[str, Any] = _NOTHING
    ) -> None:
        suppressed = self._throttle.admit((event, *fields.values()))
        if suppressed is None:
            return
        if suppressed:
            fields = {**fields, "suppressed": suppressed}
        write(event, **fields, **varying)


class _FloodFilter(logging.Filter):
    """Throttles the lines of _THROTTLED loggers, by logger, level, message template and class of exception."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._throttle = _Throttle(clock)
        # Any thread may log.
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _THROTTLED:
            return True
        # asyncio puts addresses of objects into the further lines of a template. They are not written either.
        template = str(record.msg).partition("\n")[0]
        raised = record.exc_info[0] if record.exc_info else None
        with self._lock:
            suppressed = self._throttle.admit((record.name, record.levelno, template, raised))
        if suppressed:
            record.suppressed = suppressed
        return suppressed is not None


def configure(
    level: str, form: str, stream: TextIO = sys.stderr, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Send this process's log lines of at least `level` to `stream`, as `text` or as `json`.

    Lines of Tornado and asyncio are throttled by `clock`, which is monotonic, in seconds.
    """
    shared: list[Callable[..., Any]] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Callable[..., Any] = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0)
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(_FloodFilter(clock))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow={"suppressed"})],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_details, render],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Log lines of at least `level` from now on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _NEVER_AT_DEBUG:
        logging.getLogger(name).setLevel(max(number, logging.INFO))


def _without_details(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep only the class of an exception: its text and its frames may hold a payload or a key.

    The same goes for all lines of an event but the first: asyncio writes there the exception of a task that was never
    awaited.
    """
    raised = fields.pop("exc_info", None)
    if raised is True:
        raised = sys.exception()
    elif isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        fields["error"] = type(raised).__name__
    fields["event"] = "".join(str(fields["event"]).splitlines()[:1])
    return fields
