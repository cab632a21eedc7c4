# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The event loop, in a thread of its own, that blocking callers share.

A thread does not survive a fork, so each process has its own loop. What a parent has opened may be used in the
child: the client leaves the parent's connection alone, and makes another.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_lock = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _forget() -> None:
    global _lock, _running
    _lock, _running = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)


def _loop() -> asyncio.AbstractEventLoop:
    global _running
    with _lock:
        if _running is None:
            _running = asyncio.new_event_loop()
            threading.Thread(target=_running.run_forever, name="nfsverity", daemon=True).start()
        return _running


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Whatever ends the wait (Ctrl-C, say) ends the work."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def begin(work: Coroutine[Any, Any, object]) -> None:
    """Have `work` done, without waiting: it may be the loop's own thread, or the interpreter's end, that asks."""
    asyncio.run_coroutine_threadsafe(work, _loop())
