# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the files of a tree are written until they are whole, verified and synced; then they take their places.

The place for it is on the file system of the destination, for one run at a time. What a run has there when it is
interrupted, or killed, the next run to the same destination takes up, and hashes like anything else; after any other
end there is nothing. Names come from a server: none may leave it, and two that this file system takes for one are
an error, not a replacement.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from nfsverity_proto.errors import NameCollision
from nfsverity_proto.hashes import Hash
from nfsverity_proto.path import split_path
from nfsverity_proto.tree import Shape
from nfsverity_store.content import open_below
from nfsverity_store.hashing import ChangedSize, build, hash_runs
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES

from .failure import LocalProblem
from .left_over import CREATE, DIRECTORY_FLAGS, is_interruption, name_of, named, naming, opened, tell_left
from .new_file import NewFile, mode_of

_UNFIT = frozenset((errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG))
"""How a file system says that it cannot have a name."""


class NewTree:
    """Files for the directory `destination`. Nothing is there before `commit`; `close` removes what is left over.

    What was written can be left for the next run (`leave`), which finds it in the same place.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        if os.path.lexists(destination) and not destination.is_dir():
            raise NotADirectoryError(20, "there is something that is no directory", str(destination))
        self.existing = destination.is_dir()
        above = destination if self.existing else destination.parent
        self.path = above / name_of(destination)
        with naming(destination):
            self._fd, self.resumed = self._locked()
        self._directories: set[bytes] = {b""}
        self._files: list[bytes] = []
        self._made: set[tuple[int, int]] = set()

    def _locked(self) -> tuple[int, bool]:
        """The place, open, for nobody else to write to; and whether a run before has left something there."""
        while True:
            resumed = False
            try:
                self.path.mkdir(mode=0o700)
            except FileExistsError:
                resumed = True
            try:
                fd = os.open(self.path, DIRECTORY_FLAGS | os.O_NOFOLLOW)
            except FileNotFoundError:  # another run has just ended
                continue
            try:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise LocalProblem(f"{self.path} is somebody else's")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise LocalProblem(f"another get is writing to {self.destination}") from None
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.lstat(self.path)):
                        os.fchmod(fd, 0o700)
                        return fd, resumed
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def check(self, path: bytes) -> list[bytes]:
        """The names of a path that may be below the destination. Raises `LocalProblem`."""
        names = list(split_path(path))
        if not names:
            raise LocalProblem("a file without a name")
        if any(name.lower() == DIRECTORY_BYTES for name in names):
            raise LocalProblem(f"{DIRECTORY} is the name of metadata here, and not taken from a server")
        if self.existing and os.fsdecode(names[0]).lower() == self.path.name:
            raise LocalProblem(f"{self.path.name} is where files are until they are whole")
        return names

    def create(self, path: bytes, executable: bool) -> NewFile:
        """A new file; `path` is below the destination. Raises `LocalProblem`, `OSError`."""
        names = self.check(path)
        try:
            self._make_directory(b"/".join(names[:-1]))
            self._forget(path)
            fd = os.open(path, CREATE, 0o600, dir_fd=self._fd)
        except OSError as error:
            raise _unfit(error, self.destination, path) from error
        status = os.fstat(fd)
        self._made.add((status.st_dev, status.st_ino))
        return NewFile(fd, executable, self.destination / os.fsdecode(path))

    def leave_alone(self, path: bytes) -> None:
        """The file stays as it is at the destination. Its name is taken all the same, and nobody else's then.

        Raises `NameCollision`, `LocalProblem`, `OSError`.
        """
        os.close(self.create(path, False).fd)

    def link(self, path: bytes, target: bytes) -> None:
        """A symbolic link; where it leads to has been judged. Raises `NameCollision`, `LocalProblem`, `OSError`."""
        names = self.check(path)
        try:
            self._make_directory(b"/".join(names[:-1]))
            self._forget(path)
            os.symlink(target, path, dir_fd=self._fd)
        except OSError as error:
            raise _unfit(error, self.destination, path) from error
        self._made.add(self._identity(path))
        self.keep(path)

    def has_directory(self, path: bytes) -> bool:
        """Whether this run has made a directory of just that name."""
        return path in self._directories

    def directory(self, path: bytes) -> None:
        """A directory, which may stay empty. Raises `NameCollision`, `LocalProblem`, `OSError`."""
        self.check(path)
        try:
            self._make_directory(path)
        except OSError as error:
            raise _unfit(error, self.destination, path) from error

    def _make_directory(self, path: bytes) -> None:
        """Raises `FileExistsError` where there is something of another name that is the same here."""
        if path in self._directories:
            return
        self._make_directory(path.rpartition(b"/")[0])
        try:
            os.mkdir(path, 0o777, dir_fd=self._fd)
        except FileExistsError:
            if not self._is_left_over(path):
                raise
            if not self._is_directory(path):
                os.unlink(path, dir_fd=self._fd)
                os.mkdir(path, 0o777, dir_fd=self._fd)
        self._made.add(self._identity(path))
        self._directories.add(path)

    def _identity(self, path: bytes) -> tuple[int, int]:
        status = os.stat(path, dir_fd=self._fd, follow_symlinks=False)
        return status.st_dev, status.st_ino

    def _is_directory(self, path: bytes) -> bool:
        return stat.S_ISDIR(os.stat(path, dir_fd=self._fd, follow_symlinks=False).st_mode)

    def _is_left_over(self, path: bytes) -> bool:
        """Whether what is there is not of this run: one name for two entries is told, what is old is not missed."""
        return self._identity(path) not in self._made

    def _forget(self, path: bytes) -> None:
        """Remove what a run before has left there. Raises `FileExistsError` for what this one has made."""
        with contextlib.suppress(FileNotFoundError):
            if not self._is_left_over(path):
                raise FileExistsError(errno.EEXIST, "made in this run")
            if self._is_directory(path):
                shutil.rmtree(self.path / os.fsdecode(path))
            else:
                os.unlink(path, dir_fd=self._fd)

    def take_left_over(self, path: bytes, executable: bool, shape: Shape, hash: Hash, root: bytes, mtime: int) -> bool:
        """Whether a run before has left the whole file, which is hashed again; then it is one of this run's."""
        try:
            fd = open_below(self.path, self.check(path))
        except (OSError, LocalProblem):
            return False
        try:
            status = os.fstat(fd)
            if (status.st_size, status.st_mtime_ns) != (shape.size, mtime) or not self._is_left_over(path):
                return False
            if build(shape, hash, hash_runs(fd, shape, hash), None) != root:
                return False
            self._make_directory(path.rpartition(b"/")[0])
            os.fchmod(fd, mode_of(executable))
        except (OSError, ChangedSize):
            return False
        finally:
            os.close(fd)
        self._made.add((status.st_dev, status.st_ino))
        self.keep(path)
        return True

    @contextlib.contextmanager
    def left_over(self, path: bytes) -> Iterator[int | None]:
        """What a run before has left of a file, open."""
        fd: int | None = None
        if self.resumed:
            with contextlib.suppress(OSError, LocalProblem):
                fd = open_below(self.path, self.check(path))
        try:
            status = None if fd is None else os.fstat(fd)
            of_use = status is not None and status.st_size and (status.st_dev, status.st_ino) not in self._made
            yield fd if of_use else None
        finally:
            if fd is not None:
                os.close(fd)

    def keep(self, path: bytes) -> None:
        """The file is whole and verified: it is for the destination."""
        self._files.append(path)

    def take_back(self, path: bytes) -> None:
        """A file that was to be kept is not for the destination after all."""
        if path in self._files:
            self._files.remove(path)
            self.discard(path)

    def discard(self, path: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._made.discard(self._identity(path))
            os.unlink(path, dir_fd=self._fd)

    def commit(self) -> None:
        """One sync for all, and then everything takes its place: a new directory at once, else file by file."""
        with naming(self.destination):
            self._commit()

    def _commit(self) -> None:
        self._remove_left_over()
        sync(self._fd)
        if not self.existing:
            os.chmod(self.path, mode_of(True))
            os.rename(self.path, self.destination)
            with opened(self.destination.parent) as parent:
                os.fsync(parent)
            return
        with opened(self.destination) as top:
            for path in sorted(self._directories - {b""}):
                try:
                    os.close(_descend(top, path.split(b"/")))
                except OSError as error:  # nothing has been replaced yet
                    where = self.destination / os.fsdecode(path)
                    raise LocalProblem(f"{where} has to be a directory: {error.strerror}") from error
            for path in self._files:
                with contextlib.ExitStack() as stack:
                    directory, name = top, path
                    if b"/" in path:
                        above, _, name = path.rpartition(b"/")
                        directory = _descend(top, above.split(b"/"))
                        stack.callback(os.close, directory)
                    os.replace(path, name, src_dir_fd=self._fd, dst_dir_fd=directory)
            sync(top)

    def _remove_left_over(self) -> None:
        """What a run before has left and this one has not taken over."""
        for above, directories, files in os.walk(self.path, topdown=False):
            for name in files + directories:
                path = os.fsencode(os.path.relpath(os.path.join(above, name), self.path))
                if not self._is_directory(path):
                    if self._is_left_over(path):
                        os.unlink(path, dir_fd=self._fd)
                elif path not in self._directories:
                    with contextlib.suppress(OSError):
                        os.rmdir(path, dir_fd=self._fd)

    def end(self, error: BaseException) -> None:
        """After an error: leave what was written for the next run, where that can use it."""
        if is_interruption(error):
            self.leave()
        else:
            self.close()

    def leave(self, *, silently: bool = False) -> None:
        """Leave what was written for the next run."""
        with contextlib.suppress(OSError):
            self.path.rmdir()  # where nothing was
        if not silently and self.path.is_dir():
            tell_left(self.path)
        os.close(self._fd)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._fd)


def _unfit(error: OSError, destination: Path, path: bytes) -> Exception:
    """The error to raise where a name of the server cannot be had here."""
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return NameCollision("this file system takes its name for that of another file")
    if error.errno in _UNFIT:
        return LocalProblem(f"this file system cannot have its name: {error.strerror}")
    error.filename = None  # that of a place that is gone soon
    return named(error, destination / os.fsdecode(path))


def _descend(top: int, names: list[bytes]) -> int:
    """A directory below another, made where it is missing; no link is followed."""
    at = os.dup(top)
    for name in names:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=at)
            below = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def sync(fd: int) -> None:
    """All of the file system that holds an open file is durable when this returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # macOS
        os.sync()
    elif libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
