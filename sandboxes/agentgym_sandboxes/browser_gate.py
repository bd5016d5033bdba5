"""The only way out of a browser: a SOCKS5 proxy (RFC 1928) in our process that connects to allowed hosts.

SOCKS rather than HTTP: pages, redirects, WebSockets, beacons, downloads and TLS all come as a host, a port and bytes,
so that one rule holds for all and nothing has to be parsed. Names are resolved on this side, and only allowed ones.

Every session has a door of its own, an address that its context has for a proxy. In a box all doors are one socket that
listens in the box's network, told apart by the address of 127.0.0.0/8 that was called; without a box each is a port of
the host's loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from agentgym.browser import EventKind

BOX_PORT = 1080
FIRST_BOX_ADDRESS = ipaddress.IPv4Address("127.64.0.1")
CHUNK_BYTES = 1 << 16
CONNECT_S = 10.0
GRANTED, REFUSED, UNREACHABLE = 0, 2, 4  # RFC 1928, section 6

Address = tuple[str, int]
Record = Callable[[EventKind, str], None]


@dataclass(eq=False)
class Door:
    """One session's way out.

    Attributes:
        address: Where it is called.
        hosts: ``host:port`` of the servers behind it.
        record: Called with what was refused.
        bytes_left: Bytes that may still come in.
        calls: Connections that are open.
    """

    address: Address
    hosts: frozenset[str]
    record: Record
    bytes_left: int
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Address as Chromium wants it."""
        return f"socks5://{self.address[0]}:{self.address[1]}"


class Gate:
    """All doors of one browser."""

    def __init__(self) -> None:
        self._doors: dict[Address, Door] = {}
        self._server: asyncio.Server | None = None
        self._numbers = itertools.count()

    async def listen(self, listener: socket.socket) -> None:
        """Take calls from the network of a box."""
        self._server = await asyncio.start_server(self._answer, sock=listener, limit=CHUNK_BYTES)

    async def open(self, hosts: frozenset[str], traffic_bytes: int, record: Record) -> Door:
        """Make a door to some hosts."""
        if self._server is not None:
            door = Door((str(FIRST_BOX_ADDRESS + next(self._numbers)), BOX_PORT), hosts, record, traffic_bytes)
        else:
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0, limit=CHUNK_BYTES)
            door = Door(server.sockets[0].getsockname(), hosts, record, traffic_bytes, server=server)
        self._doors[door.address] = door
        return door

    async def shut(self, door: Door) -> None:
        """Close a door and every connection through it."""
        self._doors.pop(door.address, None)
        if door.server is not None:
            door.server.close()
        for call in door.calls:
            call.cancel()
        await asyncio.gather(*door.calls, return_exceptions=True)

    async def close(self) -> None:
        """Close all doors."""
        for door in list(self._doors.values()):
            await self.shut(door)
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        door = self._doors.get(writer.get_extra_info("sockname"))
        task = asyncio.current_task()
        try:
            if door is not None and task is not None:
                door.calls.add(task)
                await _serve(door, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side went away, or the door was shut; asyncio would only log it
        finally:
            if door is not None and task is not None:
                door.calls.discard(task)
            writer.transport.abort()


async def _serve(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = await asyncio.wait_for(_read_request(reader, writer), CONNECT_S)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if name.lower() not in door.hosts or door.bytes_left <= 0:
        door.record("blocked" if door.bytes_left > 0 else "traffic", name)
        await _reply(writer, REFUSED)
        return
    try:
        server = await asyncio.wait_for(asyncio.open_connection(host, port, limit=CHUNK_BYTES), CONNECT_S)
    except OSError:
        await _reply(writer, UNREACHABLE)
        return
    try:
        await _reply(writer, GRANTED)
        await asyncio.gather(_carry(reader, server[1]), _carry(server[0], writer, door))
    finally:
        server[1].transport.abort()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Address:
    version, count = await reader.readexactly(2)
    await reader.readexactly(count)
    if version != 5:
        raise OSError("not SOCKS5")  # e.g. a page that found the port
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    port = int.from_bytes(await reader.readexactly(2), "big")
    if command != 1:
        raise OSError("not CONNECT")
    return host, port


async def _reply(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(bytes([5, code, 0, 1]) + bytes(6))
    await writer.drain()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meter: Door | None = None) -> None:
    """Carry bytes one way until the end; ``meter`` counts them, and ends the connection when there were too many."""
    while data := await reader.read(CHUNK_BYTES):
        if meter is not None:
            meter.bytes_left -= len(data)
            if meter.bytes_left <= 0:
                meter.record("traffic", "the pages loaded more than they may")
                raise OSError("too much")
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
