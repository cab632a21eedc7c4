# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity get` to where there is something already: only what differs is fetched."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from .conftest import SECONDS

BIG = bytes(range(256)) * 2048
UNIT = 65536


def changed(*offsets: int) -> bytes:
    data = bytearray(BIG)
    for offset in offsets:
        data[offset] ^= 0xFF
    return bytes(data)


def left_over(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".nfsverity-get")]


@pytest.mark.spec("fim-diff-3")
@pytest.mark.parametrize(
    ("old", "fetched"),
    [
        (changed(5), UNIT),
        (changed(0, UNIT - 1, 5 * UNIT, len(BIG) - 1), 3 * UNIT),
        (BIG[: 3 * UNIT + 1], 5 * UNIT),
        (BIG + b"more", 0),
        (b"something else", len(BIG)),
        (b"", len(BIG)),
        (os.urandom(len(BIG)), len(BIG)),
    ],
    ids=["one", "several", "shorter", "longer", "unrelated", "empty", "noise"],
)
def test_only_what_differs_is_fetched(nfsverity: Any, url: str, tmp_path: Path, old: bytes, fetched: int) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(old)
    report = nfsverity.json("get", url + "/big.bin", str(copy))
    assert copy.read_bytes() == BIG
    assert (report["fetched"], report["reused"]) == (str(fetched), str(len(BIG) - fetched))
    assert (report["files"][0]["fetched"], report["files"][0]["unchanged"]) == (str(fetched), False)
    assert left_over(tmp_path) == []


def test_it_says_what_was_reused(nfsverity: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(changed(5))
    assert nfsverity("get", url + "/big.bin", tmp_path / "copy").text == "65,536 bytes fetched, 458,752 bytes reused\n"
    assert nfsverity("get", url + "/big.bin", tmp_path / "copy").text == "0 bytes fetched, 524,288 bytes reused\n"
    report = nfsverity.json("get", "--whole", url + "/big.bin", str(tmp_path / "copy"))
    assert (report["fetched"], report["reused"], report["files"][0]["unchanged"]) == (str(len(BIG)), "0", False)


def test_little_crosses_the_wire(nfsverity: Any, url: str, slow: Any, tmp_path: Path) -> None:
    """A proxy that passes on less than the file, and not much more than what differs."""
    proxy = slow(int(url.rpartition(":")[2]), UNIT + 4096)
    (tmp_path / "copy").write_bytes(changed(5))
    nfsverity("get", "--timeout", "20", proxy.url + "/big.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG
    assert not proxy.stalled.is_set()


@pytest.mark.spec("fim-diff-3")
def test_what_is_already_there_stays(nfsverity: Any, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "tool"
    nfsverity("get", url + "/sub/tool", copy)
    before = copy.stat()
    report = nfsverity.json("get", url + "/sub/tool", str(copy))
    assert (report["fetched"], report["reused"], report["files"][0]["unchanged"]) == ("0", "10", True)
    assert copy.stat().st_ino == before.st_ino
    os.utime(copy, ns=(0, 0))
    nfsverity("get", url + "/sub/tool", copy)
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) != (before.st_ino, 0)
    copy.chmod(0o700)
    nfsverity("get", url + "/sub/tool", copy)
    assert copy.stat().st_mode == before.st_mode


@pytest.mark.spec("fim-diff-3")
def test_a_file_that_only_looks_as_if_it_were_there(nfsverity: Any, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "big.bin"
    nfsverity("get", url + "/big.bin", copy)
    before = copy.stat()
    with copy.open("r+b") as file:
        file.seek(UNIT)
        file.write(b"!")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = nfsverity.json("get", url + "/big.bin", str(copy))
    assert report["fetched"] == str(UNIT)
    assert copy.read_bytes() == BIG


def test_links_are_replaced_and_not_followed(nfsverity: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(changed(5))
    (tmp_path / "link").symlink_to("target")
    assert nfsverity.json("get", url + "/big.bin", str(tmp_path / "link"))["reused"] == "0"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == changed(5)
    nfsverity("get", url + "/a.txt", tmp_path / "one")
    os.link(tmp_path / "one", tmp_path / "other")
    nfsverity("get", url + "/a.txt", tmp_path / "one")
    assert (tmp_path / "one").stat().st_nlink == 1, "whoever writes to the other name would change this one"
    os.mkfifo(tmp_path / "pipe")
    nfsverity("get", url + "/a.txt", tmp_path / "pipe")
    assert (tmp_path / "pipe").read_bytes() == b"hello\n"


def test_a_tree(nfsverity: Any, url: str, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    nfsverity("get", url + "/", mirror)
    inodes = {path: path.stat().st_ino for path in mirror.rglob("*") if path.is_file()}
    (mirror / "big.bin").write_bytes(changed(7 * UNIT))
    (mirror / "a.txt").unlink()
    (mirror / "mine").write_bytes(b"mine")
    report = nfsverity.json("get", url + "/", str(mirror))
    files = {file["path"]: file for file in report["files"]}
    assert (files["big.bin"]["fetched"], files["big.bin"]["unchanged"]) == (str(UNIT), False)
    assert (files["a.txt"]["fetched"], files["a.txt"]["unchanged"]) == ("6", False)
    assert sum(file["unchanged"] for file in report["files"]) == 4
    assert report["fetched"] == str(UNIT + 6)
    assert (mirror / "big.bin").read_bytes() == BIG
    assert (mirror / "sub" / "tool").stat().st_ino == inodes[mirror / "sub" / "tool"]
    assert nfsverity("get", url + "/", mirror).text.endswith("reused; 6 files of 6 unchanged\n")
    assert (mirror / "mine").read_bytes() == b"mine"
    assert nfsverity.json("get", "--whole", url + "/", str(mirror))["reused"] == "0"
    assert left_over(mirror) == []


def test_interrupted_it_leaves_what_was_there(nfsverity: Any, url: str, slow: Any, tmp_path: Path) -> None:
    old = b"old" * 100_000
    (tmp_path / "copy").write_bytes(old)
    proxy = slow(int(url.rpartition(":")[2]), 3 * UNIT)
    process = nfsverity.start("get", proxy.url + "/big.bin", tmp_path / "copy")
    assert proxy.stalled.wait(30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert (tmp_path / "copy").read_bytes() == old
    nfsverity("get", url + "/big.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, None], ids=["killed", "interrupted", "cut-off"])
@pytest.mark.parametrize("old", [None, changed(6 * UNIT + 1)], ids=["new", "old"])
def test_what_an_interrupted_run_fetched_is_taken_up(
    nfsverity: Any, serve: Any, alice: Any, signed: Path, slow: Any, tmp_path: Path, number: Any, old: bytes | None
) -> None:
    content = os.urandom(40 * 2**20)
    (signed / "large").write_bytes(content)
    nfsverity("sign", *alice.options, signed / "large")
    server, copy = serve(signed), tmp_path / "copies" / "large"
    copy.parent.mkdir()
    if old is not None:  # the last megabyte is in it, which is the last to be fetched
        copy.write_bytes(bytes(39 * 2**20) + content[39 * 2**20 :])
    before = None if old is None else copy.read_bytes()
    proxy = slow(server.port, 20 * 2**20)
    process = nfsverity.start("get", proxy.url + "/large", copy, stderr=subprocess.PIPE)
    assert proxy.stalled.wait(SECONDS)
    nfsverity("get", server.url + "/a.txt", copy.parent)  # which is nothing to it
    if number is None:
        proxy.close()
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, None: 3}[number]
    assert (copy.read_bytes() if copy.exists() else None) == before
    (left,) = left_over(copy.parent)
    assert (f"what was fetched is in {copy.parent / left}" in err.decode()) == (number is not signal.SIGKILL)
    with (copy.parent / left).open("r+b") as file:  # whatever is there is hashed again
        file.write(b"damaged")
    report = nfsverity.json("get", server.url + "/large", str(copy))
    assert copy.read_bytes() == content
    assert 15 * 2**20 < int(report["reused"]) < 39 * 2**20
    assert int(report["fetched"]) + int(report["reused"]) == len(content)
    assert left_over(copy.parent) == []


def test_runs_at_once_do_not_share_what_they_write(
    nfsverity: Any, url: str, form: str, shared_servers: Any, slow: Any, tmp_path: Path
) -> None:
    proxy, copy = slow(shared_servers(form).port, 3 * UNIT), tmp_path / "copies" / "copy"
    copy.parent.mkdir()
    process = nfsverity.start("get", proxy.url + "/big.bin", copy)
    assert proxy.stalled.wait(SECONDS)
    assert len(left_over(copy.parent)) == 1
    nfsverity("get", url + "/big.bin", copy)
    assert copy.read_bytes() == BIG
    process.kill()
    process.wait()
    nfsverity("get", url + "/big.bin", copy)
    assert left_over(copy.parent) == [], "what is in place already leaves nothing either"


def test_what_others_could_write_to_is_not_taken_up(nfsverity: Any, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copies" / "copy"
    copy.parent.mkdir()
    name = copy.parent / f".nfsverity-get-{hashlib.sha256(b'copy').hexdigest()[:16]}.0"
    for make in (
        lambda: (name.write_bytes(BIG), name.chmod(0o666)),
        lambda: ((tmp_path / "mine").write_bytes(BIG), os.link(tmp_path / "mine", name)),
        lambda: name.symlink_to(tmp_path / "mine"),
        lambda: os.mkfifo(name),
        lambda: name.mkdir(),
    ):
        make()
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW)
        assert nfsverity.json("get", url + "/big.bin", str(copy))["reused"] == "0"
        assert copy.read_bytes() == BIG
        assert not os.path.samestat(copy.stat(), os.fstat(held))
        os.close(held)
        copy.unlink()
        if name.is_dir():
            name.rmdir()
        else:
            name.unlink(missing_ok=True)
    assert (tmp_path / "mine").read_bytes() == BIG


def test_what_does_not_verify_leaves_what_was_there(nfsverity: Any, serve: Any, signed: Path, tmp_path: Path) -> None:
    before = (signed / "big.bin").stat()
    (signed / "big.bin").write_bytes(changed(3 * UNIT))
    os.utime(signed / "big.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    server = serve(signed)
    old = changed(3 * UNIT, 4 * UNIT)
    (tmp_path / "copy").write_bytes(old)
    nfsverity("get", "--wait", "0", server.url + "/big.bin", tmp_path / "copy", status=1)
    assert (tmp_path / "copy").read_bytes() == old
    (tmp_path / "copy").write_bytes(changed(4 * UNIT))
    report = nfsverity.json("get", "--wait", "0", server.url + "/big.bin", str(tmp_path / "copy"), status=0)
    assert report["fetched"] == str(UNIT), "the bad unit of the server is not needed: the copy has the good one"
    assert (tmp_path / "copy").read_bytes() == BIG


@pytest.mark.spec("fim-diff-3")
def test_a_copy_that_changes_while_it_is_read(nfsverity: Any, url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    stop = threading.Event()
    copy.touch()

    def scribble() -> None:
        at = 0
        with open(old, "r+b", buffering=0) as file:
            while not stop.is_set():
                at = (at + 12_345) % len(BIG)
                os.pwrite(file.fileno(), os.urandom(3), at)

    for _ in range(3):
        old = tmp_path / "old"
        old.write_bytes(BIG)
        copy.unlink()
        os.link(old, copy)  # what is written to one is in the other
        stop.clear()
        thread = threading.Thread(target=scribble)
        thread.start()
        try:
            nfsverity("get", url + "/big.bin", copy)
        finally:
            stop.set()
            thread.join()
        assert copy.read_bytes() == BIG
        assert not copy.samefile(old)


def test_a_sparse_file_of_1_tib(nfsverity: Any, serve: Any, alice: Any, signed: Path, tmp_path: Path) -> None:
    tib = 2**40
    for path, data in ((signed / "large", b"new"), (tmp_path / "copy", b"old")):
        with path.open("wb") as file:
            try:
                file.truncate(tib)
            except OSError:
                pytest.skip("the file system has no files of 1 TiB")
            os.pwrite(file.fileno(), data, 700 * 2**30)
    nfsverity("sign", *alice.options, signed / "large")
    url = serve(signed).url
    report = nfsverity.json("get", url + "/large", str(tmp_path / "copy"))
    assert (report["fetched"], report["reused"]) == (str(UNIT), str(tib - UNIT))
    status = (tmp_path / "copy").stat()
    assert (status.st_size, status.st_blocks * 512 <= 2 * UNIT) == (tib, True)
    with (tmp_path / "copy").open("rb") as file:
        assert os.pread(file.fileno(), 4, 700 * 2**30) == b"new\0"
