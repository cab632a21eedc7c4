# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Ending by SIGTERM or SIGHUP as by Ctrl-C: what is half done is removed on the way."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def install() -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` has SIGHUP ignored
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, whose coroutine is cancelled by these signals too, as asyncio does it for SIGINT."""
    import asyncio

    install()  # an event loop that is closed leaves the default behind
    ended_by: list[int] = []

    async def cancelled_by_signals() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: int) -> None:
            ended_by.append(number)
            if task is not None:
                task.cancel()

        for number in SIGNALS:
            if signal.getsignal(number) is _end:
                loop.add_signal_handler(number, end, number)
        return await coroutine

    try:
        return asyncio.run(cancelled_by_signals())
    except asyncio.CancelledError:
        if ended_by:
            raise SystemExit(128 + ended_by[0]) from None
        raise
