# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The directories of a tree, gone through by several processes.

A directory is the unit of work: what a process sends back for one is rows and leaves for many files, so that the
one who puts them together has little to do for each.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nfsverity_proto.errors import NfsVerityError

from .directory import Directories, Found
from .workers import interrupts_ignored, start_method

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Plan = dict[bytes, set[bytes] | None]
"""Directories to begin with: which of their names are meant, or None for all of them and all below."""
AHEAD = 4
"""Directories that each process has waiting."""


def go_through(directories: Directories, plan: Plan) -> Iterator[Found]:
    """Every directory of a plan, and below it, in any order. Raises `PublicationError`, `StoreError`, `OSError`."""
    jobs = directories.terms.jobs
    alone = jobs < 2 or directories.told is not None
    return _alone(directories, plan) if alone else _together(directories, plan, jobs)


def _next(plan: Plan, found: Found) -> list[tuple[bytes, frozenset[bytes] | None]]:
    """What follows from a directory: those in it that were meant, each with the names that are meant there.

    The first is the last one here, as `pop` gives it: so all is gone through in the order of the volume, in which
    what is below one directory comes together, and rows are read by one query.
    """
    following = []
    for name in reversed(found.directories):
        path = found.path + b"/" + name if found.path else name
        only = plan.get(path)
        following.append((path, None if only is None else frozenset(only)))
    return following


def _start(plan: Plan) -> list[tuple[bytes, frozenset[bytes] | None]]:
    only = plan[b""]
    return [(b"", None if only is None else frozenset(only))]


def _alone(directories: Directories, plan: Plan) -> Iterator[Found]:
    waiting = _start(plan)
    try:
        while waiting:
            found = directories.go_through(*waiting.pop())
            waiting += _next(plan, found)
            yield found
    finally:
        directories.close()


def _together(directories: Directories, plan: Plan, jobs: int) -> Iterator[Found]:
    from multiprocessing.connection import wait

    context: Any = multiprocessing.get_context(start_method())
    forks = context.get_start_method() == "fork"
    arguments = (directories.root, directories.previous_path, directories.terms, directories.private)
    pipes: list[Connection] = []
    processes = []
    large: list[Found] = []
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            process = context.Process(
                target=_work, args=(theirs, tuple(pipes) if forks else (), arguments), daemon=True
            )
            with interrupts_ignored():
                process.start()
            processes.append(process)
            theirs.close()
        waiting = _start(plan)
        outstanding = dict.fromkeys(pipes, 0)
        while waiting or any(outstanding.values()):
            for pipe in sorted(pipes, key=outstanding.__getitem__):
                while waiting and outstanding[pipe] < AHEAD:
                    pipe.send(waiting.pop())
                    outstanding[pipe] += 1
            ready = wait([pipe for pipe in pipes if outstanding[pipe]])
            for pipe in [pipe for pipe in pipes if pipe in ready]:
                try:
                    found = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise OSError("a process that hashed files ended early") from None
                if isinstance(found, Exception):
                    raise found
                outstanding[pipe] -= 1
                for path, size in found.hashed:  # by the file, as there is a pipe between
                    directories.done(path, size)
                waiting += _next(plan, found)
                if found.large:
                    large.append(found)
                else:
                    yield found
        for found in large:
            yield directories.hash_large(found)
    finally:
        directories.close()
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.terminate()
            process.join()


def _work(pipe: Connection, inherited: tuple[Connection, ...], arguments: tuple[Any, ...]) -> None:
    """A process: answers each directory with what it found, or with the error that ends all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started it stops it
    for other in inherited:  # so that a pipe ends with its reader
        other.close()
    try:
        try:
            directories = Directories(*arguments, leave_large=True)
            while True:
                pipe.send(directories.go_through(*pipe.recv()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except (NfsVerityError, OSError) as error:
            pipe.send(error)
    except (BrokenPipeError, ConnectionResetError):
        return
