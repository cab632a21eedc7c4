# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""How far it is, with MB/s, on standard error, and only where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INTERVAL = 0.1
"""Seconds between two changes of what is shown."""


class Meter:
    """Counts bytes. This one shows nothing."""

    def add(self, count: int) -> None: ...

    def expect(self, total: int) -> None:
        """How many bytes it will be altogether, as far as that is known."""


class _Shown(Meter):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._pending = 0
        self._next = 0.0

    def add(self, count: int) -> None:
        self._pending += count
        now = time.monotonic()
        if now >= self._next:
            self._progress.update(self._task, advance=self._pending, refresh=True)
            self._pending = 0
            self._next = now + INTERVAL

    def expect(self, total: int) -> None:
        self._progress.update(self._task, total=total, refresh=True)


@contextlib.contextmanager
def meter(what: str, total: int | None = None) -> Iterator[Meter]:
    """A meter that is shown while the context lasts, and then gone."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Meter()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,  # which would need a thread: with one, the publisher cannot fork
    ) as progress:
        yield _Shown(progress, progress.add_task(what, total=total))
