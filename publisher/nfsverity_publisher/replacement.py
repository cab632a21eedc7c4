# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""New content that is put in place together with its record (fim-upd-1)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from nfsverity_store.content import open_directory, open_file

from .lock import PublicationError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Replacement:
    """A file that is to be moved to `name` in an open directory."""

    def __init__(self, source: Path, directory: int, name: bytes) -> None:
        self.above = source.parent.resolve()
        self.source_name = os.fsencode(source.name)
        self.name = name
        self.source = open_directory(os.fsencode(self.above), directory)
        self._directory = os.dup(directory)
        if os.fstat(self.source).st_dev != os.fstat(directory).st_dev:
            self.close()
            raise PublicationError(f"{source} is on another file system than its new place: nothing is moved across")

    def open(self) -> int:
        """A descriptor of the file. Raises `NotRegular`, `OSError`."""
        try:
            return open_file(self.source_name, self.source)
        except OSError as error:
            error.filename = os.path.join(self.above, os.fsdecode(self.source_name))
            raise

    def move(self) -> None:
        os.rename(self.source_name, self.name, src_dir_fd=self.source, dst_dir_fd=self._directory)

    def sync(self) -> None:
        os.fsync(self._directory)
        os.fsync(self.source)

    def close(self) -> None:
        os.close(self.source)
        os.close(self._directory)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A signal that would end the program comes when the context is left.

    Python runs its handlers in the main thread, so that there is nothing to do in another one.
    """
    handlers = {number: signal.getsignal(number) for number in ENDING}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield
        return
    came: list[int] = []
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in came:
            signal.raise_signal(caught)
