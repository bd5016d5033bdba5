"""Serves the pages of the package ``miniwob`` on loopback, each with our clock in front of its scripts."""

from __future__ import annotations

import atexit
import base64
import functools
import http.server
import mimetypes
import re
import threading
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from agentgym.errors import UsageError

_HERE = resources.files(__package__)
_READER = resources.files("agentgym_web").joinpath("reader.js")
# Without the caret, and with no transition under way, a picture depends on the turn alone.
_STYLE = (
    b"<style>*,*::before,*::after{transition:none!important;animation:none!important;"
    b"caret-color:transparent!important}</style>"
)
_HEAD = re.compile(rb"<head[^>]*>|<html[^>]*>|<!doctype[^>]*>", re.IGNORECASE)
_HOST = (
    b"<!doctype html><title>MiniWoB++</title><style>html,body{margin:0;overflow:hidden}iframe{border:0;display:block}"
    b"</style><body><script src=/agentgym/reader.js></script><script src=/agentgym/host.js></script>"
)
_URL = re.compile(rb"""url\(\s*(["']?)([^"')\s]+)\1\s*\)""")
HOST_PATH = "/miniwob/agentgym.html"  # among the tasks, whose addresses are relative to it


@functools.cache
def find_html() -> Path:
    """Return the folder with the package's pages, without importing it: that would load Selenium.

    Raises:
        UsageError: The package is not installed.
    """
    spec = find_spec("miniwob")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("the package miniwob is not installed: pip install miniwob==1.1.0")
    return Path(next(iter(spec.submodule_search_locations))) / "html"


class Pages(http.server.ThreadingHTTPServer):
    """A server of static pages on a free port of loopback.

    Attributes:
        host: ``127.0.0.1:port``.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.host = f"127.0.0.1:{self.server_port}"
        self._bodies: dict[str, tuple[str, bytes] | None] = {
            HOST_PATH: ("text/html", _HOST),
            "/agentgym/reader.js": ("text/javascript", _READER.read_bytes()),
            "/agentgym/host.js": ("text/javascript", _HERE.joinpath("host.js").read_bytes()),
            "/agentgym/clock.js": ("text/javascript", _HERE.joinpath("clock.js").read_bytes()),
        }
        threading.Thread(target=self.serve_forever, name="agentgym-miniwob", daemon=True).start()

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Return type and bytes of a page, from memory after the first time."""
        if path not in self._bodies:
            self._bodies[path] = self._load(path)
        return self._bodies[path]

    def _load(self, path: str) -> tuple[str, bytes] | None:
        root = find_html().resolve()
        file = (root / path.lstrip("/")).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            return None
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        data = file.read_bytes()
        if kind in ("text/html", "text/css"):
            data = _URL.sub(lambda found: _inline(found, file.parent, root), data)
        if kind == "text/html":
            found = _HEAD.search(data)
            cut = found.end() if found else 0
            data = data[:cut] + b"<script src=/agentgym/clock.js></script>" + _STYLE + data[cut:]
        return kind, data

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that was ended leaves broken pipes."""


def _inline(found: re.Match[bytes], folder: Path, root: Path) -> bytes:
    """Return a style's picture as part of the style: one that comes later would change the page meanwhile."""
    try:
        file = (folder / found[2].decode().partition("?")[0]).resolve()
        kind = mimetypes.guess_type(file.name)[0] or ""
        if not kind.startswith("image/") or not file.is_relative_to(root) or not file.is_file():
            return found[0]
    except (ValueError, OSError):  # no path at all: the page's script puts it together
        return found[0]
    return b"url(data:" + kind.encode() + b";base64," + base64.b64encode(file.read_bytes()) + b")"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Pages
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = self.server.find(self.path.partition("?")[0])
        kind, body = found or ("text/plain", b"no such page")
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", kind if "text/" not in kind else f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=604800, immutable")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


_lock = threading.Lock()


@functools.cache
def _serve() -> Pages:
    pages = Pages()
    atexit.register(pages.shutdown)
    return pages


def serve_pages() -> Pages:
    """Return the server of this process; it starts with the first call."""
    with _lock:
        return _serve()
