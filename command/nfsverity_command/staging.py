# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where the files of a tree are written until they are whole, verified and synced; then they take their places.

The place for it is on the file system of the destination, for one run at a time. What a run has there when it is
interrupted, or killed, the next run to the same destination takes up, and hashes like anything else; after any other
end there is nothing. Names come from a server: none may leave it, and two that this file system takes for one are
an error, not a replacement.

Others may be able to rename what is beside the destination, and so put another folder of this user there, or a link.
So it is held open, all is done from there, and what is not marked as left over is not touched.
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
from nfsverity_store.hashing import ChangedSize, Progress, build, hash_runs
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES

from .failure import LocalProblem
from .left_over import CREATE, DIRECTORY_FLAGS, PREFIX, is_interruption, name_of, named, naming, opened, tell_left
from .new_file import NewFile, mode_of

_MARK = PREFIX + "run"
"""A file in it, by which it is known again. No name of a server begins so."""
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
        self._name = name_of(destination)
        self.path = above / self._name
        try:
            with opened(above) as parent:
                if self.existing:
                    _remove_mark(parent)
                self._parent = os.dup(parent)
        except OSError as error:
            error.filename = str(destination)
            raise
        try:
            with naming(destination):
                self._fd, self.resumed = self._locked()
        except BaseException:
            os.close(self._parent)
            raise
        self._directories: set[bytes] = {b""}
        self._files: list[bytes] = []
        self._made: set[tuple[int, int]] = set()
        self._is_destination = False
        """Whether what is open is the destination by now."""

    def _locked(self) -> tuple[int, bool]:
        """The place, open, for nobody else to write to; and whether a run before has left something there."""
        while True:
            resumed = False
            try:
                os.mkdir(self._name, 0o700, dir_fd=self._parent)
            except FileExistsError:
                resumed = True
            try:
                fd = os.open(self._name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=self._parent)
            except FileNotFoundError:  # another run has just ended
                continue
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise _in_the_way(self.path) from error
                raise
            try:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise LocalProblem(f"{self.path} is somebody else's")
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise LocalProblem(f"another get is writing to {self.destination}") from None
                if self._is_in_place(fd):
                    _mark(fd, self.path)
                    os.fchmod(fd, 0o700)
                    return fd, resumed
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _is_in_place(self, fd: int) -> bool:
        """Whether what is open is what has the name."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(fd), os.stat(self._name, dir_fd=self._parent, follow_symlinks=False))
        return False

    def check(self, path: bytes) -> list[bytes]:
        """The names of a path that may be below the destination. Raises `LocalProblem`."""
        names = list(split_path(path))
        if not names:
            raise LocalProblem("a file without a name")
        if any(name.lower() == DIRECTORY_BYTES for name in names):
            raise LocalProblem(f"{DIRECTORY} is the name of metadata here, and not taken from a server")
        if any(name.lower().startswith(PREFIX.encode()) for name in names):
            raise LocalProblem(f"names that begin with {PREFIX} are for files until they are whole")
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
        return NewFile(fd, executable, os.path.join(self.destination, os.fsdecode(path)))

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
        if not self.resumed:  # all that is there is of this run, and whoever makes a file finds it
            return
        with contextlib.suppress(FileNotFoundError):
            if not self._is_left_over(path):
                raise FileExistsError(errno.EEXIST, "made in this run")
            if self._is_directory(path):
                shutil.rmtree(path, dir_fd=self._fd)
            else:
                os.unlink(path, dir_fd=self._fd)

    def take_left_over(
        self, path: bytes, executable: bool, shape: Shape, hash: Hash, root: bytes, mtime: int, progress: Progress
    ) -> bool:
        """Whether a run before has left the whole file, which is hashed again; then it is one of this run's."""
        try:
            fd = open_below(self._fd, self.check(path))
        except (OSError, LocalProblem):
            return False
        try:
            status = os.fstat(fd)
            if (status.st_size, status.st_mtime_ns) != (shape.size, mtime) or not self._is_left_over(path):
                return False
            others = status.st_uid != os.geteuid() or status.st_nlink != 1 or status.st_mode & 0o022
            if others:  # can write to it
                return False
            if build(shape, hash, hash_runs(fd, shape, hash, progress), None) != root:
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
                fd = open_below(self._fd, self.check(path))
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
            if not self._is_in_place(self._fd):
                raise LocalProblem(f"{self.path} was replaced while it was written to: nothing is at the destination")
            os.fchmod(self._fd, mode_of(True))
            os.rename(self._name, self.destination.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
            self._is_destination = True
            self._name = self.destination.name
            if not self._is_in_place(self._fd):
                raise LocalProblem(f"{self.destination} is not what was written: something was moved in its place")
            _remove_mark(self._fd)  # not before: without it nobody would take up what a kill leaves
            os.fsync(self._parent)
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
        if not self.resumed:
            return
        for _, directories, files, at in os.fwalk(".", topdown=False, onerror=_raise, dir_fd=self._fd):
            for name in files + directories:
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if (status.st_dev, status.st_ino) in self._made or name == _MARK:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(name, dir_fd=at)
                else:
                    os.unlink(name, dir_fd=at)

    def end(self, error: BaseException) -> None:
        """After an error: leave what was written for the next run, where that can use it."""
        if is_interruption(error):
            self.leave()
        else:
            self.close()

    def leave(self, *, silently: bool = False) -> None:
        """Leave what was written for the next run."""
        if os.listdir(self._fd) in ([_MARK], []):
            self.close()
            return
        if not silently and self._is_in_place(self._fd):
            tell_left(self.path)
        self._close()

    def close(self) -> None:
        """Nothing of it stays."""
        if not self._is_destination:
            with contextlib.suppress(OSError):
                for name in sorted(os.listdir(self._fd), key=_MARK.__eq__):  # the mark at last
                    if self._is_directory(os.fsencode(name)):
                        shutil.rmtree(name, ignore_errors=True, dir_fd=self._fd)
                    else:
                        os.unlink(name, dir_fd=self._fd)
                if self._is_in_place(self._fd):
                    os.rmdir(self._name, dir_fd=self._parent)
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._parent)


def _mark(fd: int, path: Path) -> None:
    """Mark a folder that is empty, or find the mark of a run before. Raises `LocalProblem` where it is neither."""
    if not os.listdir(fd):
        _make_mark(fd)
        return
    try:
        status = os.stat(_MARK, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        raise _in_the_way(path) from None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
        raise _in_the_way(path)


def _make_mark(fd: int) -> None:
    os.close(os.open(_MARK, CREATE, 0o600, dir_fd=fd))


def _remove_mark(destination: int) -> None:
    """Of a tree that is in place: by who made it, or by the next one where that was killed right then."""
    with contextlib.suppress(OSError):
        os.unlink(_MARK, dir_fd=destination)


def _in_the_way(path: Path) -> LocalProblem:
    return LocalProblem(f"{path} is in the way, and not what a get has left: look at what it is, and move it")


def _raise(error: OSError) -> None:
    raise error


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
