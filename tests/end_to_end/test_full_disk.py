# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A disk with no room left: an error that names the file, nothing delivered or half made, and all well afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import FORMS

SIZE = 4 * 2**20
ROOMS = (0, 4096, 3 * 4096, 10 * 4096, 30 * 4096)
"""Bytes that are left: none, and so many that one thing after the other finds room."""
BIG = os.urandom(1_000_000)


class Disk:
    """A small file system; where none can be mounted, a limit for the size of files stands for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "small", path]
        try:
            self.mounted = subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.mounted = False
        self.options: dict[str, Any] = {}
        """For who starts the command."""

    def leave(self, room: int | None) -> None:
        """Have so many bytes left; None: enough."""
        filler = self.path / "filler"
        filler.unlink(missing_ok=True)
        if not self.mounted:
            self.options = {} if room is None else {"preexec_fn": lambda: _limit(room)}
        elif room is not None:
            status = os.statvfs(self.path)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - room or 1)

    def names(self) -> set[str]:
        return {str(path.relative_to(self.path)) for path in self.path.rglob("*")} - {"filler"}

    def is_named(self, err: str) -> bool:
        """Whether an error names a file there."""
        return f"{self.path if self.mounted else self.path.parent}/" in err

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", self.path], check=True)


def _limit(room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "small")
    yield disk
    disk.close()


def failed(disk: Disk, result: Any) -> bool:
    """Whether a run failed for want of room, as it should then."""
    if result.status == 0:
        return False
    assert result.status == 4, result.err
    assert disk.is_named(result.err), result.err
    assert "internal" not in result.err
    assert "Traceback" not in result.err
    return True


@pytest.mark.spec("fim-mark-3")
@pytest.mark.parametrize("part", ["state", "audit", "cache"])
def test_what_a_reader_keeps(nfsverity: Any, serve: Any, either: Path, disk: Disk, part: str) -> None:
    (either / "a.txt").write_bytes(b"hello\n")
    url = serve(either).url
    log: tuple[Any, ...] = ("--audit-log", disk.path / "log") if part == "audit" else ()
    if part != "audit":
        nfsverity.environment[f"NFSVERITY_{part.upper()}_DIR"] = str(disk.path / part)
    ended = []
    for room in ROOMS:
        for name in disk.path.iterdir():
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        if part == "audit":
            shutil.rmtree(nfsverity.home / "state", ignore_errors=True)
        disk.leave(room)
        result = nfsverity("cat", *log, f"{url}/big.bin", status=None, **disk.options)
        ended.append(failed(disk, result))
        if part == "cache" and room == 0 and disk.mounted:
            assert "warning: the node cache: " in result.err, "it is told, and the data is delivered all the same"
        assert result.out == (b"" if ended[-1] else (either / "big.bin").read_bytes())
        disk.leave(None)
        assert nfsverity("cat", *log, f"{url}/big.bin").out == (either / "big.bin").read_bytes()
        if log:
            nfsverity("audit", "verify", disk.path / "log")
        if part == "state":
            assert nfsverity.json("trust", "list")["marks"]
    if disk.mounted:
        assert (ended[0], ended[-1]) == (part != "cache", False)


@pytest.mark.parametrize("old", [None, b"old" * 200_000], ids=["new", "old"])
def test_a_file_that_is_fetched(
    nfsverity: Any, serve: Any, either: Path, alice: Any, disk: Disk, old: bytes | None
) -> None:
    (either / "large").write_bytes(BIG)
    nfsverity("sign", *alice.options, either)
    url, copy = serve(either).url, disk.path / "copy"
    for room in ROOMS:
        copy.unlink(missing_ok=True)
        if old is not None:
            copy.write_bytes(old)
        disk.leave(room)
        before = disk.names()
        result = nfsverity("get", f"{url}/large", copy, status=None, **disk.options)
        assert failed(disk, result)
        assert str(copy) in result.err or not disk.mounted
        assert disk.names() == before
        assert (copy.read_bytes() if old is not None else None) == old
    disk.leave(None)
    nfsverity("get", f"{url}/large", copy)
    assert copy.read_bytes() == BIG


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_tree_that_is_fetched(
    nfsverity: Any, serve: Any, either: Path, alice: Any, disk: Disk, existing: bool
) -> None:
    (either / "large").write_bytes(BIG)
    nfsverity("sign", *alice.options, either)
    url, copy = serve(either).url, disk.path / "copy"
    if existing:
        copy.mkdir()
        (copy / "a.txt").write_bytes(b"old")
    for room in ROOMS:
        disk.leave(room)
        before = disk.names()
        result = nfsverity("get", f"{url}/", copy, status=None, **disk.options)
        assert failed(disk, result)
        assert str(copy) in result.err or not disk.mounted
        assert disk.names() == before
        assert not existing or (copy / "a.txt").read_bytes() == b"old"
    disk.leave(None)
    nfsverity("get", f"{url}/", copy)
    assert (copy / "large").read_bytes() == BIG


@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize(
    ("form", "what"),
    [(form, what) for form in FORMS for what in ("first", "again", "revoke", "replace")] + [("volume", "renew")],
)
def test_what_is_published(
    nfsverity: Any, either: Path, alice: Any, bob: Any, disk: Disk, what: str, form: str
) -> None:
    """The publication is what it was, and verifies; with room it becomes what was asked for."""
    model = either
    for number in range(100):
        (model / f"file{number}").write_bytes(b"%d" % number)
    (model / "large").write_bytes(BIG)
    if what != "first":
        nfsverity("sign", *alice.options, "--unit-size", "4K", model)
    else:
        shutil.rmtree(model / ".nfsverity")
    tree = disk.path / "tree"
    ended = []
    for room in ROOMS:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(model, tree)
        arguments: tuple[Any, ...] = ("sign", *alice.options, "--unit-size", "4K")
        if what == "first":
            arguments += ("--as-volume" if form == "volume" else "--per-file", tree)
        elif what == "again":
            (tree / "a.txt").write_bytes(b"again")
            (tree / "large").write_bytes(BIG[::-1])
            arguments += (tree,)
        elif what == "renew":
            arguments = ("sign", *alice.options, "--renew", "--days", "9", tree)
        elif what == "replace":
            (disk.path / "new").write_bytes(BIG[::-1])
            arguments += ("--replace-with", disk.path / "new", tree / "large")
        else:
            arguments = ("revoke", *alice.options, "--revoke-key", bob.certificate, tree)
        disk.leave(room)
        before = disk.names()
        result = nfsverity(*arguments, status=None, **disk.options)
        ended.append(failed(disk, result))
        if ended[-1]:
            assert disk.names() - before <= {"tree/.nfsverity", "tree/.nfsverity/lock", "tree/.nfsverity/trees"}
        if what != "first" or not ended[-1]:
            shown = nfsverity.json("show", "--trust", alice.certificate, tree / "file1")
            assert shown["verified"]
        disk.leave(None)
        if what == "replace" and not ended[-1]:
            continue
        nfsverity(*arguments)
    if disk.mounted:
        assert ended[0]


def test_what_else_is_made(nfsverity: Any, signed: Path, alice: Any, disk: Disk) -> None:
    nfsverity.environment["NFSVERITY_CONFIG_DIR"] = str(disk.path / "config")
    for arguments, made in (
        (("keygen", disk.path / "key"), "key.key"),
        (("trust", "add", alice.certificate), "config/trust.json"),
        (("export", "-o", disk.path / "out", signed / "a.txt"), "out"),
    ):
        disk.leave(0)
        result = nfsverity(*arguments, status=None, **disk.options)
        assert failed(disk, result)
        assert disk.names() <= {"config", "config/trust.json.lock"}
        disk.leave(None)
        nfsverity(*arguments)
        assert made in disk.names()
        shutil.rmtree(disk.path / "config", ignore_errors=True)
        for name in disk.path.iterdir():
            name.unlink()
