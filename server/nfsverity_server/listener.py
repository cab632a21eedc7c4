# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The listening socket, and a stop that lets what is under way finish (fip-server-18)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from .connection import PATIENCE, Connection
from .service import Service

log = logging.getLogger("nfsverity.server")
CONNECTIONS_MAX = 1024
STOP_SECONDS = 5.0
"""For the calls that were read to be answered, when the server stops."""
RETRY_SECONDS = 0.1
"""Before the next connection, where one could not be accepted: descriptors are short, for example."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=128)
    sock.setblocking(False)
    return sock


async def serve(
    service: Service, sock: socket.socket, ready: Callable[[], None], stop: asyncio.Event, patience: float = PATIENCE
) -> None:
    """Accept connections until `stop` is set; then finish those that are open. Closes `sock` and `service`."""
    connections: dict[asyncio.Task[None], Connection] = {}
    stopping = asyncio.create_task(stop.wait())
    try:
        ready()
        while (client := await _accept(sock, stopping)) is not None:
            if len(connections) >= CONNECTIONS_MAX:
                log.warning("a connection was turned away: %d are open", len(connections))
                client.close()
                continue
            connection = Connection(service, client, patience)
            task = asyncio.create_task(connection.run())
            connections[task] = connection
            task.add_done_callback(connections.pop)
        sock.close()
        service.stop()
        for connection in connections.values():
            connection.stop()
        if connections:
            await asyncio.wait(list(connections), timeout=STOP_SECONDS)
    finally:
        sock.close()
        stopping.cancel()
        tasks = list(connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.close()


async def _accept(sock: socket.socket, stopping: asyncio.Task[bool]) -> socket.socket | None:
    """The next connection; None when the server stops."""
    while not stopping.done():
        accepting = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(sock))
        try:
            await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not accepting.done():
                return None
            client, _ = accepting.result()
        except OSError as error:
            log.warning("a connection could not be accepted: %s", error)
            await asyncio.wait({stopping}, timeout=RETRY_SECONDS)
            continue
        finally:
            accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await accepting
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return client
    return None
