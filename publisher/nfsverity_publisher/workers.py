# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Hashing one large file in several processes.

Threads would not do: what they share of the interpreter costs as much as a unit. Worker k of n hashes the
pieces k, k + n, k + 2n … and writes their leaves to a pipe, which lets it be a piece or two ahead of the reader
and no more. A worker whose reader is gone, even killed, ends at its next piece.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfsverity_proto.hashes import Hash, hash_by_number
from nfsverity_proto.tree import Shape, zero_node
from nfsverity_store.content import open_below
from nfsverity_store.hashing import RUN_LOG2, Progress, Run, leaves, next_data, run_units
from nfsverity_store.index import Seen

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
PARALLEL_MIN = 2**26
"""Bytes from which on a file is hashed by several processes."""
PIECE_BYTES_LOG2 = 26
"""A piece is a run, or 64 MiB of one with large units."""


class Changed(OSError):
    """The file changed while it was being hashed."""

    def __init__(self, reason: str = "it changed while it was being signed") -> None:
        super().__init__(reason)


def runs(
    root: Path, names: Sequence[bytes], seen: Seen, shape: Shape, hash: Hash, jobs: int, progress: Progress,
    first: int = 0, end: int | None = None,
) -> Generator[Run, None, None]:  # fmt: skip
    """The runs [first, end) of a file, in order; all of them by default. Raises `OSError`, `Changed` among them."""
    import multiprocessing  # felt at every start, and needed for large files only

    wanted = first, shape.width(RUN_LOG2) if end is None else end
    pieces = _pieces_of(shape, *wanted)
    context: Any = multiprocessing.get_context(start_method())
    method = context.get_start_method()
    workers: list[BaseProcess] = []
    pipes: list[Connection] = []
    try:
        for worker in range(jobs):
            ours, theirs = context.Pipe(duplex=False)
            pipes.append(ours)
            inherited = tuple(pipes) if method == "fork" else ()
            mine = pieces[worker::jobs]
            arguments = (theirs, inherited, root, tuple(names), seen, shape, hash.number, mine)
            process = context.Process(target=_work, args=arguments, daemon=True)
            workers.append(process)
            with starting(method):
                process.start()
            theirs.close()
        yield from _assembled(shape, hash, wanted, _received(pipes, shape, pieces, progress))
    finally:
        for pipe in pipes:
            pipe.close()
        stop(workers)


@contextmanager
def starting(method: str) -> Iterator[None]:
    """A process started in here ignores Ctrl-C from its first instruction on: it prints no traceback.

    What comes meanwhile comes here when the context is left, where processes are forked. A new interpreter begins
    without what is held back, and with what is ignored: then Ctrl-C is ignored here, too, for so long. But in a
    thread other than the main one nothing is changed, as Python allows no handler to be set there; nor where the
    handler is not Python's, which could not be put back.
    """
    if method == "fork":
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def stop(processes: Iterable[BaseProcess]) -> None:
    """End processes, of which the last may not have been started."""
    for process in processes:
        if process.pid is not None:
            process.terminate()
            process.join()


def begin() -> None:
    """What a process does first that was started so: who started it ends it, and in no other way than at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _ENDING - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def start_method() -> str:
    """A fork takes 10 ms, a new interpreter 100; but with threads about, a fork may copy a lock that is held."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _piece_log2(shape: Shape) -> int:
    """A piece is this many units, as a power of two."""
    return min(RUN_LOG2, PIECE_BYTES_LOG2 - shape.unit_log2)


def _piece(shape: Shape, index: int) -> tuple[int, int]:
    """The units [first, end) of a piece."""
    log2 = _piece_log2(shape)
    return index << log2, min((index + 1) << log2, shape.units)


def _pieces_of(shape: Shape, first: int, end: int) -> range:
    """The pieces of the runs [first, end)."""
    log2 = RUN_LOG2 - _piece_log2(shape)
    return range(first << log2, min(end << log2, shape.width(_piece_log2(shape))))


def _work(
    pipe: Connection, inherited: Sequence[Connection], root: Path, names: Sequence[bytes], seen: Seen, shape: Shape,
    number: int, pieces: range,
) -> None:  # fmt: skip
    """A worker: sends the leaves of each of its pieces (None: it is a hole), or the error that ended it."""
    begin()
    for other in inherited:  # so that a pipe ends with its reader
        other.close()
    hash = hash_by_number(number)
    try:
        try:
            fd = open_below(root, names)
            if Seen.of(os.fstat(fd)) != seen:
                raise Changed
            for index in pieces:
                units = _piece(shape, index)
                start, stop = shape.unit_span(*units)
                whole = stop - start == shape.unit_size << _piece_log2(shape)
                hole = whole and next_data(fd, start, stop) >= stop
                pipe.send(None if hole else leaves(fd, shape, hash, *units))
        except OSError as error:
            pipe.send(error)
    except (BrokenPipeError, ConnectionResetError):
        return


def _received(
    pipes: Sequence[Connection], shape: Shape, pieces: range, progress: Progress
) -> Iterator[list[bytes] | None]:
    for index in pieces:
        try:
            piece = pipes[(index - pieces.start) % len(pipes)].recv()
        except EOFError:
            raise OSError("a process that hashed it ended early") from None
        if isinstance(piece, OSError):
            raise piece
        start, stop = shape.unit_span(*_piece(shape, index))
        progress(stop - start)
        yield piece


def _assembled(
    shape: Shape, hash: Hash, wanted: tuple[int, int], pieces: Iterator[list[bytes] | None]
) -> Iterator[Run]:
    """Runs from their pieces."""
    log2 = _piece_log2(shape)
    for index in range(*wanted):
        first, end = run_units(shape, index)
        parts = [next(pieces) for _ in range(first, end, 1 << log2)]
        if end - first == 1 << RUN_LOG2 and all(part is None for part in parts):
            yield None
            continue
        zero = zero_node(hash, shape.unit_log2, 0)
        yield [leaf for part in parts for leaf in (part or [zero] * (1 << log2))]
