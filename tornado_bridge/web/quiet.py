"""No API key in any log line of Tornado, however the bridge's handlers are embedded."""

import logging
from typing import Any

import structlog
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler

from tornado_bridge.logs import ThrottledLog

log = structlog.get_logger(__name__)

# Stands in log lines for a method that HTTP does not have.
UNKNOWN_METHOD = "UNKNOWN"


class QuietHandler(RequestHandler):
    """A handler that puts no API key into a log line, whatever the application around it logs."""

    def __init__(self, application: Application, request: HTTPServerRequest, **kwargs: Any) -> None:
        # Access logs and the repr of a request show its URI. The query has been parsed by now.
        request.uri = request.path
        # Any word may stand in the place of the method. One that HTTP does not have is answered with 405.
        if request.method not in self.SUPPORTED_METHODS:
            request.method = UNKNOWN_METHOD
        super().__init__(application, request, **kwargs)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HTTPError):  # those are the client's own
            faults = self.settings.setdefault("tornado_bridge_faults", ThrottledLog(log))
            faults.error("request failed", path=self.request.path, error=getattr(typ, "__name__", "unknown"))


def hide_requests() -> None:
    """Keep Tornado's own log lines about requests from quoting them. A second call does nothing more."""
    logging.getLogger("tornado.general").addFilter(_without_quotation)
    logging.getLogger("tornado.application").addFilter(_without_traceback)


def _without_quotation(record: logging.LogRecord) -> bool:
    """Cut off Tornado's quotation of a malformed request, which may be an API key."""
    if str(record.msg).startswith("Malformed HTTP message"):
        record.msg, record.args = "Malformed HTTP message", ()
    return True


def _without_traceback(record: logging.LogRecord) -> bool:
    """Reduce an exception of a connection to its name. Its text and its frames may hold an API key."""
    if record.msg == "Error in connection callback" and record.exc_info and record.exc_info[0]:
        record.msg, record.exc_info = f"Error in connection callback: {record.exc_info[0].__name__}", None
    return True
