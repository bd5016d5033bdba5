"""One connection to the docker daemon for all boxes of a process, and the threads in which its blocking calls run."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from agentgym.errors import SandboxLostError, SandboxUnavailableError

T = TypeVar("T")

QUICK_S = 15.0  # the daemon answers such a call in milliseconds: later than this, it hangs
SLOW_S = 60.0  # create, start and remove, on a host that is busy
_SLOW_CALLS = frozenset({"create_container", "start", "remove_container", "wait", "pause", "unpause"})
_QUICK_THREADS = 12
_SLOW_THREADS = 4  # so many containers start at a time, the others wait: the daemon gains nothing from more


class DockerError(SandboxLostError):
    """The daemon refused a call, did not answer, or is gone.

    Attributes:
        status: HTTP status of its answer; ``None`` if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def connect(timeout_s: float) -> Any:
    """Return a ``docker.APIClient`` for the daemon of this environment (``DOCKER_HOST``).

    Raises:
        SandboxUnavailableError: The SDK is not installed, no daemon answers, or only through ssh or TLS.
    """
    try:
        import docker
    except ImportError as error:
        raise SandboxUnavailableError("docker's SDK is missing: pip install 'agentgym-core[docker]'") from error
    try:
        settings = docker.utils.kwargs_from_env()
        if "tls" in settings or settings.get("base_url", "").startswith(("ssh:", "npipe:", "https:")):
            raise SandboxUnavailableError("the docker daemon must be reached over a unix socket or plain tcp")
        _knock(re.sub(r"^(http\+)?unix:/+", "/", settings.get("base_url") or docker.constants.DEFAULT_UNIX_SOCKET))
        client = docker.APIClient(version="auto", timeout=timeout_s, num_pools=256, **settings)
    except (docker.errors.DockerException, OSError) as error:
        raise SandboxUnavailableError(f"no docker daemon answers ({error}): start one, or set DOCKER_HOST") from error
    # The SDK keeps a pool of connections for every address it ever called: without this, idle sockets pile up.
    client.headers["Connection"] = "close"
    return client


def ask(api: Any, method: str, *args: Any, **options: Any) -> Any:
    """Call a method of an ``APIClient``; whatever goes wrong is a :class:`DockerError`."""
    import urllib3

    import docker

    try:
        _knock(getattr(api.get_adapter(api.base_url), "socket_path", ""))
        return getattr(api, method)(*args, **options)
    except docker.errors.APIError as error:
        raise DockerError(f"{method}: {error.explanation or error}", error.status_code) from error
    except (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise DockerError(f"{method}: the docker daemon does not answer: {error}") from error


def _knock(path: str) -> None:
    """Raise ``OSError`` if nobody listens at a unix socket: the SDK would then leave a socket of its own unclosed."""
    if path.startswith("/"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(QUICK_S)
            door.connect(path)


class Engine:
    """The daemon as all boxes of this process see it; made with the first box and closed with the last."""

    _engines: ClassVar[dict[tuple[int, str], Engine]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: tuple[int, str]) -> None:
        self._key, self._users = key, 0
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "agentgym-docker")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "agentgym-docker-slow")
        self._connecting = threading.Lock()
        self._clients: tuple[Any, Any] | None = None
        self._images: dict[str, str] = {}

    @classmethod
    def acquire(cls) -> Engine:
        """Return the engine of this process and of ``DOCKER_HOST``; it is not yet connected."""
        key = (os.getpid(), os.environ.get("DOCKER_HOST", ""))
        with cls._lock:
            engine = cls._engines.get(key)
            if engine is None:
                engine = cls._engines[key] = cls(key)
            engine._users += 1
            return engine

    def release(self) -> None:
        """Give it back; the last one closes it, with its threads and sockets."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            self._engines.pop(self._key, None)
        for pool in (self._quick, self._slow):
            pool.shutdown()  # idle by now: every box has waited for its calls
        for client in self._clients or ():
            client.close()

    async def connect(self, pending: set[Future[Any]]) -> bool:
        """Connect to the daemon; say whether that was not done before.

        Raises:
            SandboxUnavailableError: It does not answer.
        """
        return await self._submit(self._slow, pending, None, self._connect)

    def _connect(self) -> bool:
        with self._connecting:
            if self._clients is not None:
                return False
            self._clients = (connect(QUICK_S), connect(SLOW_S))
            return True

    @property
    def api(self) -> Any:
        """The connected client, for what makes no call."""
        assert self._clients is not None
        return self._clients[0]

    async def call(
        self,
        pending: set[Future[Any]],
        method: str,
        *args: Any,
        undo: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Any:
        """Call a method of ``docker.APIClient`` in a thread.

        Args:
            pending: Where the call is kept while it runs, also if the caller is cancelled; see :func:`settle`.
            method: Name of the method.
            args: Its arguments.
            undo: What to do with its result if nobody waits for it any more.
            options: Its keyword arguments.

        Raises:
            DockerError: The daemon refused, or did not answer in time.
        """
        assert self._clients is not None
        quick = method not in _SLOW_CALLS
        pool, client = (self._quick, self._clients[0]) if quick else (self._slow, self._clients[1])
        return await self._submit(pool, pending, undo, ask, client, method, *args, **options)

    async def run(self, pending: set[Future[Any]], function: Callable[[Any], T]) -> T:
        """Run a function of our own over the client, in a thread for long work."""
        assert self._clients is not None
        return await self._submit(self._slow, pending, None, function, self._clients[1])

    async def image_id(self, pending: set[Future[Any]], image: str) -> str:
        """Return the id of an image; asked for once, so that all boxes of a process have the same.

        Raises:
            SandboxUnavailableError: The daemon does not have it. Nothing is pulled.
        """
        if image not in self._images:
            try:
                self._images[image] = (await self.call(pending, "inspect_image", image))["Id"]
            except DockerError as error:
                if error.status != 404:
                    raise
                raise SandboxUnavailableError(
                    f"the docker daemon has no image {image!r}: build it with docker/build.sh, or pull it yourself"
                ) from error
        return self._images[image]

    async def _submit(
        self,
        pool: ThreadPoolExecutor,
        pending: set[Future[Any]],
        undo: Callable[[Any], None] | None,
        function: Callable[..., T],
        *args: Any,
        **options: Any,
    ) -> T:
        future = pool.submit(function, *args, **options)
        pending.add(future)
        future.add_done_callback(pending.discard)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel() and undo is not None:
                undo_later = undo
                future.add_done_callback(lambda done: done.exception() or undo_later(done.result()))
            raise


async def settle(pending: set[Future[Any]]) -> None:
    """Wait for calls that were left running when their caller was cancelled; each is bounded by its timeout."""
    while pending:
        await asyncio.gather(*(asyncio.wrap_future(future) for future in tuple(pending)), return_exceptions=True)
