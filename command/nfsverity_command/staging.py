# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Where files are written until they are whole, verified and synced; then they are renamed to where they belong.

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
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from nfsverity_proto.errors import NameCollision, PeerError, Stale, StatusError
from nfsverity_proto.hashes import Hash
from nfsverity_proto.path import split_path
from nfsverity_proto.tree import Shape
from nfsverity_store.content import open_below
from nfsverity_store.hashing import ChangedSize, build, hash_runs, next_data, next_hole
from nfsverity_store.layout import DIRECTORY, DIRECTORY_BYTES

from .failure import LocalProblem, say

PREFIX = ".nfsverity-get-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_UNFIT = frozenset((errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG))
"""How a file system says that it cannot have a name."""
_NO_SHARING = frozenset((errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.EBADF))
"""How a system says that it cannot copy from one file to another by itself."""
COPY = 2**24
"""Bytes that are copied at once: a clone of that length costs nothing, a copy ends soon."""
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@cache
def _umask() -> int:
    """As it was when it was first asked for: reading it is setting it, twice."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _named(error: OSError, destination: Path) -> OSError:
    """The error with the name of the destination, not of what stands in for it."""
    if error.filename is None or PREFIX in os.fsdecode(error.filename):
        error.filename = str(destination)
    error.filename2 = None
    return error


@contextlib.contextmanager
def _naming(destination: Path) -> Iterator[None]:
    """Errors inside name the destination, not what stands in for it."""
    try:
        yield
    except OSError as error:
        raise _named(error, destination)  # noqa: B904 - it is the same one


def mode_of(executable: bool) -> int:
    """The permissions of a file that is new."""
    return (0o777 if executable else 0o666) & ~_umask()


def _copy_range(source: int, target: int, at: int, stop: int, progress: Callable[[int], None]) -> None:
    """Bytes [at, stop) of one file, as many as there are, to the same place of another; shared where that can be."""
    while at < stop:
        count = _copy_some(source, target, at, min(stop - at, COPY))
        if not count:
            return
        at += count
        progress(count)


def _copy_some(source: int, target: int, at: int, count: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, at, at)
        except OSError as error:
            if error.errno not in _NO_SHARING:
                raise
    data = os.pread(source, count, at)
    return os.pwrite(target, data, at) if data else 0


class NewFile:
    """A file that is being written. Long runs of zeros become holes."""

    def __init__(self, fd: int, executable: bool, where: Path, *, resumed: bool = False) -> None:
        self.fd = fd
        self.where = where
        """Where it belongs, for errors."""
        self.executable = executable
        self.resumed = resumed
        """Whether a run before has left something in it, which `begin_as` keeps."""
        self._at = self._stored = 0

    @property
    def has_content(self) -> bool:
        """Whether something is in it that another run can use."""
        return self.resumed or self._stored > 0

    def write(self, data: memoryview) -> None:
        length = len(data)
        if data[0] == 0 == data[-1] and not any(data[:4096]) and bytes(length) == data:
            self._at += length
            return
        at, stop = self._at, self._at + length
        with _naming(self.where):
            while at < stop:
                at += os.pwrite(self.fd, data[at - self._at :], at)
        self._at = self._stored = stop

    def begin_as(self, old: Sequence[int], size: int, progress: Callable[[int], None]) -> None:
        """Be what open files have, cut off or continued with zeros to `size` bytes; each where none before has data.

        What a run before has left here comes first. Holes stay holes. The old files are only read, and may change
        meanwhile: what counts is what is in here then.
        """
        has_content = self.resumed
        with _naming(self.where):
            if not has_content:
                os.ftruncate(self.fd, 0)
            os.ftruncate(self.fd, size)
            for source in old:
                self._fill(source, min(os.fstat(source).st_size, size), has_content, progress)
                has_content = True
        self._at = self._stored = size

    def _fill(self, source: int, end: int, has_content: bool, progress: Callable[[int], None]) -> None:
        at = 0
        while at < end:
            start = next_data(source, next_hole(self.fd, at, end) if has_content else at, end)
            at = min(next_hole(source, start, end), next_data(self.fd, start, end) if has_content else end)
            _copy_range(source, self.fd, start, at, progress)

    def put(self, offset: int, data: memoryview) -> None:
        """Write in the middle of what is there."""
        with _naming(self.where):
            while data:
                count = os.pwrite(self.fd, data, offset)
                data, offset = data[count:], offset + count

    def finish(self, mtime: int | None) -> None:
        """Size, mode and time (nanoseconds) as they were signed; None: the time is not."""
        if self._stored < self._at:
            os.ftruncate(self.fd, self._at)
        os.fchmod(self.fd, mode_of(self.executable))
        if mtime is not None:
            with contextlib.suppress(OverflowError, OSError):  # a time that this system cannot have
                os.utime(self.fd, ns=(mtime, mtime))


SLOTS = 16
"""Of runs that write to one destination at the same time, so many can be resumed."""
_PASSING = (PeerError, StatusError, Stale, TimeoutError, ConnectionError)
"""After these another run may come further; after others it would not, or there is no room for what is left."""


def is_interruption(error: BaseException) -> bool:
    """Whether what was fetched is of use to the next run."""
    return isinstance(error, _PASSING) or not isinstance(error, Exception)


def _tell_left(path: Path) -> None:
    say(f"nfsverity: what was fetched is in {path}, for the next run")


def _name_of(destination: Path) -> str:
    """What a run gives to what is for a destination, so that the next one finds it."""
    return PREFIX + hashlib.sha256(os.fsencode(destination.name)).hexdigest()[:16]


@contextlib.contextmanager
def new_file(destination: Path, executable: bool, *, whole: bool = False) -> Iterator[NewFile]:
    """A file that is at `destination` when the context ends well, durably, in place of what was there.

    What an interrupted run has left of it is in there already, unless `whole`: it proves nothing.
    """
    if destination.is_dir() and not destination.is_symlink():
        raise IsADirectoryError(21, "there is a directory", str(destination))
    with _naming(destination), _opened(destination.parent) as parent:
        name, fd, resumed = _slot(destination, parent)
        file = NewFile(fd, executable, destination, resumed=resumed and not whole)
        try:
            if whole and resumed:
                os.ftruncate(fd, 0)
            yield file
            os.fsync(fd)
            os.replace(name, destination.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException as error:
            if is_interruption(error) and not whole and file.has_content:
                _tell_left(destination.parent / name)
            else:
                os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(fd)
        _remove_others(destination, parent)
        os.fsync(parent)


def new_link(destination: Path, target: bytes) -> None:
    """A symbolic link at `destination`, durably, in place of what was there. Raises `OSError`."""
    if destination.is_dir() and not destination.is_symlink():
        raise IsADirectoryError(21, "there is a directory", str(destination))
    with _naming(destination), _opened(destination.parent) as parent:
        name = PREFIX + secrets.token_hex(8)
        os.symlink(target, name, dir_fd=parent)
        try:
            os.replace(name, destination.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(name, dir_fd=parent)
            raise
        os.fsync(parent)


def has_left_over(destination: Path) -> bool:
    """Whether an interrupted run may have left something of a file."""
    name = _name_of(destination)
    return any(os.path.lexists(destination.parent / f"{name}.{number}") for number in range(SLOTS))


def _slot(destination: Path, parent: int) -> tuple[str, int, bool]:
    """A file for this run alone: its name, open, and whether a run before has left something in it."""
    for number in range(SLOTS):
        name = f"{_name_of(destination)}.{number}"
        with contextlib.suppress(FileExistsError):
            return name, _locked_new(name, parent), False
        fd = _left_by_us(name, parent)
        if fd is not None:
            return name, fd, True
        with contextlib.suppress(FileExistsError):  # it was no use, or is gone by now
            return name, _locked_new(name, parent), False
    name = PREFIX + secrets.token_hex(8)
    return name, _locked_new(name, parent), False


def _locked_new(name: str, parent: int) -> int:
    """Raises `FileExistsError`, also where another run took it at once for something left over."""
    fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=parent, follow_symlinks=False)):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    raise FileExistsError(errno.EEXIST, "another run has it, or had it")


def _left_by_us(name: str, parent: int) -> int | None:
    """What nobody writes to any more, or can write to but this user; else it is removed if it is this user's."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        ours = status.st_uid == os.geteuid()
        if ours and os.path.samestat(status, os.stat(name, dir_fd=parent, follow_symlinks=False)):
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not status.st_mode & 0o022:
                os.fchmod(fd, 0o600)
                return fd
            os.unlink(name, dir_fd=parent)
    except OSError:  # another run has it, or had it until now
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def remove_left_over(destination: Path) -> None:
    """What interrupted runs have left of a file that is in place now."""
    if has_left_over(destination):
        with _opened(destination.parent) as parent:
            _remove_others(destination, parent)


def _remove_others(destination: Path, parent: int) -> None:
    for number in range(SLOTS):
        name = f"{_name_of(destination)}.{number}"
        fd = _left_by_us(name, parent)
        if fd is not None:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=parent)
            os.close(fd)


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
        self.path = above / _name_of(destination)
        with _naming(destination):
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
                fd = os.open(self.path, _DIRECTORY | os.O_NOFOLLOW)
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
            fd = os.open(path, _CREATE, 0o600, dir_fd=self._fd)
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
        with _naming(self.destination):
            self._commit()

    def _commit(self) -> None:
        self._remove_left_over()
        sync(self._fd)
        if not self.existing:
            os.chmod(self.path, 0o777 & ~_umask())
            os.rename(self.path, self.destination)
            with _opened(self.destination.parent) as parent:
                os.fsync(parent)
            return
        with _opened(self.destination) as top:
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
            _tell_left(self.path)
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
    return _named(error, destination / os.fsdecode(path))


def _descend(top: int, names: list[bytes]) -> int:
    """A directory below another, made where it is missing; no link is followed."""
    at = os.dup(top)
    for name in names:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=at)
            below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def sync(fd: int) -> None:
    """All of the file system that holds an open file is durable when this returns."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):  # macOS
        os.sync()
    elif libc.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
