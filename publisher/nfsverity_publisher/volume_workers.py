# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The directories of a tree, gone through by several processes.

A process gets a few directories, goes on into those below them, and after a while gives back what it has not come
to, for any process to go on with; and so with the files of a directory that has many. So the one who puts all together
has little to do for each, whether directories are large or small, and however uneven the tree is.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from nfsverity_proto.errors import NfsVerityError

from .directory import Directories, Found, Part
from .workers import begin, start_method, starting, stop

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Plan = dict[bytes, set[bytes] | None]
"""Directories to begin with: which of their names are meant, or None for all of them and all below."""
Waiting = list[tuple[bytes, frozenset[bytes] | None] | Part]
"""Directories to go through, the next one last; with names, nothing but these. Or some files of one."""
AHEAD = 2
"""What each process has waiting, of what it is given at once."""
GIVEN_MAX = 64
"""Directories that are given at once."""
ENTRIES, BYTES = 2_000, 2**22
"""Looked at, or hashed, until a process answers: at most some 100 ms."""
ENTRIES_SOON = 50
"""The same where another process has nothing to do."""


@dataclass(slots=True)
class Done:
    """Directories that were gone through."""

    found: list[Found] = field(default_factory=list)
    """Those of which there is something to be said."""
    unchanged: int = 0
    """Files in the others: almost all, in a tree that is signed again."""

    def put(self, one: Found) -> None:
        if one.looks_same:
            self.unchanged += one.unchanged
        else:
            self.found.append(one)


def go_through(directories: Directories, plan: Plan) -> Generator[Done, None, None]:
    """Every directory of a plan, and below it, in any order. Raises `PublicationError`, `StoreError`, `OSError`."""
    jobs = directories.terms.jobs
    alone = jobs < 2 or directories.told is not None
    return _alone(directories, plan) if alone else _together(directories, plan, jobs)


def _next(plan: Plan, found: Found) -> Waiting:
    """What follows from a directory: those in it that were meant, each with the names that are meant there.

    The first is the last one here, as `pop` gives it: so all is gone through in the order of the volume, in which
    what is below one directory comes together.
    """
    following: Waiting = [*found.parts()]
    for name in reversed(found.directories):
        path = found.path + b"/" + name if found.path else name
        only = plan.get(path)
        following.append((path, None if only is None else frozenset(only)))
    return following


def _start(plan: Plan) -> Waiting:
    only = plan[b""]
    return [(b"", None if only is None else frozenset(only))]


def _alone(directories: Directories, plan: Plan) -> Generator[Done, None, None]:
    waiting = _start(plan)
    try:
        while waiting:
            yield _some(directories, plan, waiting)
    finally:
        directories.close()


def _some(directories: Directories, plan: Plan, waiting: Waiting, entries_max: int = ENTRIES) -> Done:
    """Some of those that wait, and of what is below them; the rest is left there."""
    done = Done()
    entries = size = 0
    while waiting and entries < entries_max and size < BYTES:
        work = waiting.pop()
        found = directories.hash_part(work) if isinstance(work, Part) else directories.go_through(*work)
        waiting += _next(plan, found)
        done.put(found)
        entries += 1 + len(found.rows) + found.unchanged
        size += sum(count for _, count in found.hashed)
    return done


def _given(waiting: Waiting, jobs: int) -> Waiting:
    """What one of the processes gets of those that wait: little where there is little, so that none has nothing."""
    count = min(GIVEN_MAX, 1 + len(waiting) // (2 * jobs))
    given = waiting[-count:]
    del waiting[-count:]
    return given


def _together(directories: Directories, plan: Plan, jobs: int) -> Generator[Done, None, None]:
    from multiprocessing.connection import wait

    context: Any = multiprocessing.get_context(start_method())
    method = context.get_start_method()
    made_of = (directories.root, directories.previous_path, directories.terms, directories.private, directories.notes)
    pipes: list[Connection] = []
    processes: list[BaseProcess] = []
    unfinished = _Unfinished(directories)
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            process = context.Process(
                target=_work, args=(theirs, tuple(pipes) if method == "fork" else (), made_of, plan), daemon=True
            )
            processes.append(process)
            with starting(method):
                process.start()
            theirs.close()
        waiting = _start(plan)
        outstanding = dict.fromkeys(pipes, 0)
        while waiting or any(outstanding.values()):
            for pipe in sorted(pipes, key=outstanding.__getitem__):
                while waiting and outstanding[pipe] < AHEAD:
                    given = _given(waiting, jobs)
                    outstanding[pipe] += 1
                    others_wait = not waiting and not all(outstanding.values())
                    with _not_ended():
                        pipe.send((given, ENTRIES_SOON if others_wait else ENTRIES))
            ready = wait([pipe for pipe in pipes if outstanding[pipe]])
            for pipe in [pipe for pipe in pipes if pipe in ready]:
                with _not_ended():
                    answer = pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                done, left = answer
                outstanding[pipe] -= 1
                waiting += left
                for found in done.found:
                    for path, size in found.hashed:  # by the file, as there is a pipe between
                        directories.done(path, size)
                yield Done([one for one in map(unfinished.take, done.found) if one is not None], done.unchanged)
        yield Done(list(unfinished.rest()))
    finally:
        directories.close()
        for pipe in pipes:
            pipe.close()
        stop(processes)


@contextmanager
def _not_ended() -> Iterator[None]:
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the second would be taken for standard output's
        raise OSError("a process that hashed files ended early") from None


class _Unfinished:
    """Directories of which files were left, and the parts of them that came since."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._found: dict[bytes, Found] = {}
        self._parts: dict[bytes, list[Found]] = {}

    def take(self, one: Found) -> Found | None:
        """A directory, once all of it is there but for large files."""
        if one.part is None:
            if not one.left and not one.large:
                return one
            self._found[one.path] = one
        else:
            self._parts.setdefault(one.path, []).append(one)
        found, parts = self._found[one.path], self._parts.get(one.path, [])
        if found.large or sum(len(part.rows) for part in parts) < len(found.left):
            return None
        return self._directories.put_together(self._found.pop(one.path), self._parts.pop(one.path))

    def rest(self) -> Iterator[Found]:
        """Those with large files, which are hashed now."""
        for path, found in self._found.items():
            parts = [*self._parts.pop(path, []), self._directories.hash_part(found.part_of(found.large))]
            yield self._directories.put_together(found, parts)


def _work(pipe: Connection, inherited: tuple[Connection, ...], made_of: tuple[Any, ...], plan: Plan) -> None:
    """A process: answers with what it found and what it left, or with the error that ends all."""
    begin()
    for other in inherited:  # so that a pipe ends with its reader
        other.close()
    try:
        try:
            directories = Directories(*made_of, leaves_some=True)
            given = _received(pipe)
            while (work := given.get()) is not None:
                waiting, entries_max = work
                pipe.send((_some(directories, plan, waiting, entries_max), waiting))
        except (BrokenPipeError, ConnectionResetError):
            return
        except (NfsVerityError, OSError) as error:
            pipe.send(error)
    except (BrokenPipeError, ConnectionResetError):
        return


def _received(pipe: Connection) -> SimpleQueue[tuple[Waiting, int] | None]:
    """What is given, received as soon as it is there; None at the end.

    Else who gives more than a pipe holds and who answers more than that would wait for each other.
    """
    given: SimpleQueue[tuple[Waiting, int] | None] = SimpleQueue()

    def receive() -> None:
        try:
            while True:
                given.put(pipe.recv())
        except (EOFError, OSError):
            given.put(None)

    threading.Thread(target=receive, daemon=True).start()
    return given
