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
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from nfsverity_proto.errors import NfsVerityError

from .directory import Directories
from .found import Found, Part
from .volume_part import VolumePart
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
    part: Path | None = None
    """An index of rows that are not here; it comes at the end."""

    def put(self, one: Found) -> None:
        if one.looks_same:
            self.unchanged += one.unchanged
        else:
            self.found.append(one)


def go_through(directories: Directories, plan: Plan, parts: Path | None = None) -> Generator[Done, None, None]:
    """Every directory of a plan, and below it, in any order. Raises `PublicationError`, `StoreError`, `OSError`.

    With `parts`, what its name begins with, each process puts the rows that it finds into an index of its own.
    """
    jobs = directories.terms.jobs
    alone = jobs < 2 or directories.told is not None
    return _alone(directories, plan) if alone else _together(directories, plan, jobs, parts)


def _next(plan: Plan, found: Found) -> Waiting:
    """What follows from a directory: those in it that were meant, each with the names that are meant there.

    The first is the last one here, as `pop` gives it: so all is gone through in the order of the volume, in which
    what is below one directory comes together.
    """
    following: Waiting = []
    for name in reversed(found.directories):
        path = found.path + b"/" + name if found.path else name
        only = plan.get(path)
        following.append((path, None if only is None else frozenset(only)))
    return [*following, *found.parts()]


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


def _together(directories: Directories, plan: Plan, jobs: int, parts: Path | None) -> Generator[Done, None, None]:
    unfinished = _Unfinished(directories)
    processes = _Processes(directories, plan, parts)
    try:
        processes.start(jobs)
        for done in processes.answers():
            for found in done.found:
                for path, size in found.hashed:  # by the file, as there is a pipe between
                    directories.done(path, size)
            yield Done([one for one in map(unfinished.take, done.found) if one is not None], done.unchanged)
        for one in unfinished.rest():
            yield Done([one])
        yield from processes.parts()
    finally:
        directories.close()
        processes.close()


class _Processes:
    """Those that go through directories, what each of them was given, and what is still to be given."""

    def __init__(self, directories: Directories, plan: Plan, parts: Path | None) -> None:
        self._made_of = (
            directories.root,
            directories.previous_path,
            directories.terms,
            directories.private,
            directories.notes,
        )
        self._plan, self._parts = plan, parts
        self._processes: list[BaseProcess] = []
        self._outstanding: dict[Connection, int] = {}
        """By the pipe to each process, what it was given and has not answered."""
        self._waiting = _start(plan)

    def start(self, jobs: int) -> None:
        context: Any = multiprocessing.get_context(start_method())
        method = context.get_start_method()
        for number in range(jobs):
            ours, theirs = context.Pipe()
            self._outstanding[ours] = 0
            inherited = tuple(self._outstanding) if method == "fork" else ()
            part = None if self._parts is None else self._parts.with_name(f"{self._parts.name}.{number}")
            arguments = (theirs, inherited, self._made_of, self._plan, part)
            process = context.Process(target=_work, args=arguments, daemon=True)
            self._processes.append(process)
            with starting(method):
                process.start()
            theirs.close()

    def answers(self) -> Iterator[Done]:
        """All, as they come."""
        from multiprocessing.connection import wait

        while self._waiting or any(self._outstanding.values()):
            self._feed()
            ready = wait([pipe for pipe, count in self._outstanding.items() if count])
            done = [self._answer(pipe) for pipe in self._outstanding if pipe in ready]
            self._feed()  # before the answers, which may keep us busy for longer than a process has work
            yield from done

    def _feed(self) -> None:
        for pipe in sorted(self._outstanding, key=self._outstanding.__getitem__):
            while self._waiting and self._outstanding[pipe] < AHEAD:
                given = self._given()
                self._outstanding[pipe] += 1
                others_wait = not self._waiting and not all(self._outstanding.values())
                self._send(pipe, given, ENTRIES_SOON if others_wait else ENTRIES)

    def _given(self) -> Waiting:
        """What a process gets of those that wait: little where there is little, so that none has nothing."""
        waiting = self._waiting
        count = min(GIVEN_MAX, 1 + len(waiting) // (2 * len(self._outstanding)))
        given = waiting[-count:]
        del waiting[-count:]
        return given

    def _send(self, pipe: Connection, given: Waiting, entries_max: int) -> None:
        with _not_ended():
            pipe.send((given, entries_max))

    def _answer(self, pipe: Connection) -> Done:
        with _not_ended():
            answer: tuple[Done, Waiting] | Exception = pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        done, left = answer
        self._outstanding[pipe] -= 1
        self._waiting += left
        return done

    def parts(self) -> Iterator[Done]:
        """At the end, the indexes of what they put."""
        if self._parts is None:
            return
        for pipe in self._outstanding:
            self._send(pipe, [], 0)
        for pipe in self._outstanding:
            yield self._answer(pipe)

    def close(self) -> None:
        for pipe in self._outstanding:
            pipe.close()
        stop(self._processes)


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


def _work(
    pipe: Connection, inherited: tuple[Connection, ...], made_of: tuple[Any, ...], plan: Plan, path: Path | None
) -> None:
    """A process: answers with what it found and what it left, or with the error that ends all.

    Given nothing, it answers with the part of the index that is at `path` then.
    """
    begin()
    for other in inherited:  # so that a pipe ends with its reader
        other.close()
    try:
        try:
            directories = Directories(*made_of, leaves_some=True)
            given = _received(pipe)
            with closing(VolumePart(path)) as part:
                while (work := given.get()) is not None:
                    waiting, entries_max = work
                    if waiting:
                        done = _some(directories, plan, waiting, entries_max)
                        part.put(done.found)
                    else:
                        done = Done(part=part.finish())
                    pipe.send((done, waiting))
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
