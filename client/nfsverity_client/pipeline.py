# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Several calls under way at once, their results in order; and items some at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def in_order(jobs: Iterable[Coroutine[Any, Any, T]], window: int) -> AsyncGenerator[T, None]:
    """The results of `jobs`, taken from the iterable only as they are begun, at most `window` at a time.

    The error of a job is raised in its turn. Whenever this ends, no job is left running.
    """
    pending: deque[asyncio.Task[T]] = deque()
    try:
        for job in jobs:
            pending.append(asyncio.ensure_future(job))
            if len(pending) >= window:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """The results of two jobs at the same time. Whenever this ends, neither is left running."""
    tasks = asyncio.ensure_future(one), asyncio.ensure_future(other)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def batches(items: AsyncIterator[T], most: int) -> AsyncGenerator[list[T], None]:
    """Items in lists of `most`; the last may have fewer."""
    some: list[T] = []
    async for item in items:
        some.append(item)
        if len(some) == most:
            yield some
            some = []
    if some:
        yield some
