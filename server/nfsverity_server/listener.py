# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The listening socket, and a stop that lets what is under way finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from .connection import Connection
from .service import Service

log = logging.getLogger("nfsverity.server")
CONNECTIONS_MAX = 1024
STOP_SECONDS = 5.0


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=128)
    sock.setblocking(False)
    return sock


async def serve(service: Service, sock: socket.socket, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """Accept connections until `stop` is set; then give those that are open a moment to finish."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    stopping = asyncio.create_task(stop.wait())
    ready()
    while not stop.is_set():
        accepting = asyncio.create_task(loop.sock_accept(sock))
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not accepting.done():
            accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await accepting
            break
        try:
            client, address = accepting.result()
        except OSError as error:
            log.warning("a connection could not be accepted: %s", error)
            await asyncio.sleep(0.1)
            continue
        if len(tasks) >= CONNECTIONS_MAX:
            log.warning("%s was turned away: %d connections are open", address, len(tasks))
            client.close()
            continue
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(Connection(service, client).run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    sock.close()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
