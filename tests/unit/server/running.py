# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A server on a loopback socket, its event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nfsverity_server.catalog import Catalog
from nfsverity_server.connection import PATIENCE
from nfsverity_server.listener import listen, serve
from nfsverity_server.service import Service
from nfsverity_server.trees import UPDATE_WINDOW, Trees
from unit.server.raw import Raw


class Running:
    def __init__(self, service: Service, port: int, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        self.service = service
        self.port = port
        self._loop = loop
        self._stop = stop

    def client(self, *, receive_buffer: int = 0) -> Raw:
        return Raw(self.port, receive_buffer=receive_buffer)

    def stop(self) -> None:
        """Ask it to stop; the block that runs it waits until it has."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    def in_loop(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)


@contextmanager
def running(
    root: Path,
    *,
    show_all: bool = False,
    keep: bool = True,
    patience: float = PATIENCE,
    update_window: float = UPDATE_WINDOW,
) -> Iterator[Running]:
    started: list[Running] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        service = Service(Catalog(root, show_all=show_all), Trees(root, keep=keep, update_window=update_window))
        sock = listen("127.0.0.1", 0)
        started.append(Running(service, sock.getsockname()[1], asyncio.get_running_loop(), stop))
        await serve(service, sock, ready.set, stop, patience)

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="server")
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        if started:
            started[0].stop()
        thread.join()
    if failed:
        raise failed[0]
