"""Optuna's dashboard on a storage, read-only and on this machine alone."""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tadaconv.command import install
from tadaconv.errors import UserError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from tadaconv.execution.store import Store

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")


class _Server(ThreadingMixIn, WSGIServer):
    """A page asks for several things at once; an open connection must not keep the command from ending."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests."""


def open_dashboard(store: "Store", port: int) -> WSGIServer:
    """A server of Optuna's dashboard on ``store``, bound to 127.0.0.1; ``serve_forever()`` serves until interrupted.

    It is read-only: Optuna's pages can also delete studies and end trials, which would lose results and break the
    rule that a finished trial is a result.

    Args:
        store: What is shown, as it grows.
        port: From 1 to 65535; 0 takes a free one, see ``server_port``.

    Raises:
        UserError: optuna-dashboard is not installed, or the port is taken or not allowed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise UserError(f"the dashboard needs optuna-dashboard; {install('dashboard')}") from error
    application = _read_only(wsgi(store.backend.storage))
    try:
        return make_server(HOST, port, application, server_class=_Server, handler_class=_QuietHandler)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
        raise UserError(f"cannot listen on {HOST}:{port}: {reason}; choose another with --port") from error


def serve(store: "Store", port: int, announce: Callable[[str], None]) -> None:
    """Serve the dashboard until Ctrl-C. Raises as :func:`open_dashboard` does.

    Args:
        store: What is shown, as it grows.
        port: As :func:`open_dashboard` takes it.
        announce: Called with the address before anything is served.
    """
    with open_dashboard(store, port) as server:
        announce(f"http://{HOST}:{server.server_port}/")
        with suppress(KeyboardInterrupt):  # the way to end it, not a failure
            server.serve_forever()


def _read_only(application: "WSGIApplication") -> "WSGIApplication":
    """Pass on requests that read, from pages of this machine.

    A site that is open in the same browser can resolve its own name to 127.0.0.1 and read this server; its
    requests carry that name.
    """

    def guarded(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        name = environ.get("HTTP_HOST", HOST).rpartition(":")[0] or environ.get("HTTP_HOST", HOST)
        if name not in _NAMES:
            return _refuse(start_response, f"this dashboard answers to {' and '.join(_NAMES)} only")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start_response, "this dashboard is read-only")
        return application(environ, start_response)

    return guarded


def _refuse(start_response: "StartResponse", reason: str) -> list[bytes]:
    start_response("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
