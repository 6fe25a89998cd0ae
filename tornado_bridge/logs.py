"""Logging: one line an event of the bridge's life, and no more than one per repeated fault in 10 s."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

# A fault that repeats is said once in this many seconds, with how often it was not (docs/protocol.md section 5).
WINDOW = 10.0

# Different faults remembered at a time; past it the longest silent one is forgotten.
_MAX_FAULTS = 1024


class ThrottledLog:
    """Says each distinct fault at most once per WINDOW; the next line carries how many were suppressed.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        # For each fault: from when it may be said again, and how often it was suppressed until now.
        self._faults: dict[tuple[Any, ...], list[float]] = {}

    def warning(self, event: str, **fields: Any) -> None:
        self._say(self._log.warning, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say(self._log.error, event, fields)

    def _say(self, write: Callable[..., Any], event: str, fields: dict[str, Any]) -> None:
        fault = (event, *fields.values())
        now = self._clock()
        known = self._faults.get(fault)
        if known is not None and now < known[0]:
            known[1] += 1
            return
        suppressed = 0 if known is None else int(known[1])
        self._faults.pop(fault, None)
        if len(self._faults) >= _MAX_FAULTS:
            del self._faults[next(iter(self._faults))]
        self._faults[fault] = [now + WINDOW, 0]
        if suppressed:
            fields = {**fields, "suppressed": suppressed}
        write(event, **fields)


def configure(level: str, form: str, stream: TextIO = sys.stderr) -> None:
    """Send this process's log lines of at least `level` to `stream`, as `text` or as `json`."""
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_details, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
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


def _without_details(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave the name of an exception: its text and its frames may hold a payload or a key.

    So may what follows the first line of an event: asyncio shows there the exception of a task that nobody awaited.
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
