"""The HTTP server of one environment: a site's pages over the database of the episode that is being played.

Werkzeug (with Jinja2) rather than Starlette and uvicorn: pages are made by blocking calls to SQLite, so an event loop
would only pass them on to threads; and it is one package without compiled parts.

Every environment has a server, and with it a port, of its own: a browser session that may only reach that port can't
see another episode's pages, whatever a page makes it do. Every episode has a key of its own, which its session gets as
a cookie: what a page of the episode before has sent, and what comes in late, does not reach the next one's database.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.utils import redirect

from agentgym.errors import InfrastructureError
from agentgym_web.sites.store import Store

COOKIE = "episode"
MAX_FORM_BYTES = 64_000
MAX_FIELD_CHARS = 4_000
# Text that an agent has stored is escaped by the templates; should one ever forget it, no script runs all the same.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class SiteRequest(Request):
    """A request within caps."""

    max_content_length = MAX_FORM_BYTES
    max_form_memory_size = MAX_FORM_BYTES
    max_form_parts = 100


@dataclass(frozen=True)
class Page:
    """What a view answers a reader with.

    Attributes:
        template: Name of the template.
        values: What it shows.
        status: HTTP status.
    """

    template: str
    values: dict[str, Any] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Go:
    """What a view answers a form with: another address, and a notice to show there once."""

    address: str
    notice: str = ""


#: A view gets the database, the request and the parts of the address.
View = Callable[..., Page | Go]


@dataclass(frozen=True)
class Site:
    """The pages of a site.

    Attributes:
        name: Title on every page; also the name under which templates know it.
        routes: Method and rule of addresses by view.
        facts: Queries that tell the state of its database, see :mod:`agentgym_web.sites.store`.
        links: Text and address of the links in the head of every page.
    """

    name: str
    routes: tuple[tuple[str, str, View], ...]
    facts: tuple[str, ...]
    links: tuple[tuple[str, str], ...]

    def make_map(self) -> Map:
        """Return the addresses for Werkzeug's router."""
        return Map([Rule(rule, methods=[method], endpoint=view) for method, rule, view in self.routes])


@cache
def load_templates() -> Environment:
    """Return the templates, compiled once in a process; everything that they show is escaped."""
    return Environment(
        loader=PackageLoader("agentgym_web.sites"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_field(request: Request, name: str) -> str:
    """Return a field of a form, without blanks around it; empty if it is absent or too long to be kept."""
    text = request.form.get(name, "").strip()
    return text if len(text) <= MAX_FIELD_CHARS else ""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: a browser's requests are no news."""


class SiteServer:
    """Serves one episode at a time on a port of the loopback; use from any thread.

    Attributes:
        port: Where it listens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._site: Site | None = None
        self._map = Map()
        self._store: Store | None = None
        self._key = ""
        self._notice = ""
        self._fault: Exception | None = None
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="agentgym-site", daemon=True)
        self._thread.start()

    def play(self, site: Site, store: Store) -> str:
        """Serve another episode from now on, and return the address by which its browser session comes in."""
        with self._lock:
            self._site, self._store, self._map = site, store, site.make_map()
            self._notice, self._fault, self._key = "", None, secrets.token_hex(16)
        return f"http://127.0.0.1:{self.port}/enter/{self._key}"

    def check(self) -> None:
        """Make sure that every page was answered as it should have been.

        Raises:
            InfrastructureError: A view failed, or the server has ended.
        """
        if self._fault is not None:
            raise InfrastructureError(f"a page of the site failed: {self._fault!r}") from self._fault
        if not self._thread.is_alive():
            raise InfrastructureError("the site's server has ended")

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def close_apart(self) -> None:
        """Stop serving, in a thread of its own: the garbage collector may ask in the server's own, which can't wait."""
        threading.Thread(target=self.close, name="agentgym-site-end", daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        with self._lock:  # one page at a time: what a page shows and what a form changes never overlap
            try:
                response = self._respond(SiteRequest(environ))
            except Exception as error:  # ours, whatever it is: kept for check(), which masks the episode
                self._fault = error
                response = Response("The site has failed.", status=500)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-store"
        return response(environ, start_response)

    def _respond(self, request: SiteRequest) -> Response:
        if self._site is None or self._store is None:
            return Response("There is no site yet.", status=503)
        if request.path == f"/enter/{self._key}":
            welcome = redirect("/", 303)
            welcome.set_cookie(COOKIE, self._key, httponly=True, samesite="Lax")
            return welcome
        if request.cookies.get(COOKIE) != self._key:
            return Response("This episode is over.", status=410)
        try:
            view, parts = self._map.bind_to_environ(request.environ).match()
            with self._store.transaction() as rows:
                answer = view(rows, request, **parts)
        except RequestRedirect as error:
            return redirect(error.new_url, 308)
        except (NotFound, MethodNotAllowed):
            answer = Page("plain.html", {"text": "There is no such page here."}, 404)
        except HTTPException as error:
            answer = Page("plain.html", {"text": error.description or "This cannot be done."}, error.code or 400)
        except OverflowError:  # a number in an address that SQLite can't hold names nothing
            answer = Page("plain.html", {"text": "There is no such page here."}, 404)
        if isinstance(answer, Go):
            self._notice = answer.notice
            return redirect(answer.address, 303)
        notice = self._notice if answer.status == 200 else ""
        self._notice = self._notice if answer.status != 200 else ""
        shown = {"site": self._site, "notice": notice, "request": request, **answer.values}
        text = load_templates().get_template(answer.template).render(shown)
        return Response(text, status=answer.status, mimetype="text/html")
