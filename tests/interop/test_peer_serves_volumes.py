# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The peer in C serves a volume that it made anew from the tree: our commands read it, our server answers alike."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from end_to_end.conftest import Nfsverity
from nfsverity_client.session import Session
from nfsverity_proto import messages as m
from nfsverity_proto.exported import decode_exported
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.statement import Tag, tag_of
from nfsverity_proto.url import Url
from nfsverity_store.layout import read_head
from nfsverity_store.revocation import revocation_path
from serving import HOST, Published, publish_as_volume, serving, session

from .test_peer_serves import BAD, RESOLVED, answer

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

UNIT = 65536
FILES = {
    "README": b"read me",
    "empty": b"",
    "a/b/c": random.Random(1).randbytes(UNIT),
    "a/b-": random.Random(2).randbytes(UNIT + 1),
    "a-b": random.Random(3).randbytes(20 * UNIT + 5),
    "large": random.Random(4).randbytes(2**21 + 1),
    "holes": bytes(3 * UNIT) + b"data" + bytes(2 * UNIT),
    "a directory/with caf\udce9": b"odd",
    **{f"many/{number:04}": b"%d" % number for number in range(300)},
    "/".join("d" * 40) + "/deep": b"deep",
}


def make(root: Path, **options: Any) -> Published:
    """With links, an empty directory, and a program."""
    published = publish_as_volume(root, FILES, **options)
    (root / "nothing").mkdir()
    (root / "a" / "link").symlink_to("b/c")
    (root / "dangling").symlink_to("no\nwhere")
    (root / "to-directory").symlink_to("a")
    (root / "README").chmod(0o755)
    os.mkfifo(root / "fifo")
    published.sign_volume(**options)
    return published


@dataclass
class Running:
    """The program."""

    process: subprocess.Popen[bytes]
    port: int

    def read_again(self) -> str:
        """Whether it found what it then serves."""
        self.process.send_signal(signal.SIGHUP)
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    @property
    def url(self) -> str:
        return f"nfsv://{HOST}:{self.port}"


class Volume:
    """A published tree as the peer takes it: with a member that `nfsverity export` took out of it."""

    def __init__(self, programs: Path, user: Nfsverity, published: Published, folder: Path) -> None:
        folder.mkdir()
        self.programs, self.user, self.published = programs, user, published
        self.key, self.certificate = published.keys.write(folder)
        self.exported = folder / "member.fim"
        user("trust", "add", self.certificate)
        self.export()

    def export(self) -> None:
        self.exported.unlink(missing_ok=True)
        self.user("export", self.published.root / "README", "-o", self.exported)

    def sign(self) -> None:
        self.user("sign", "--key", self.key, "--cert", self.certificate, self.published.root)
        self.export()

    @contextlib.contextmanager
    def served(self, *more: Path) -> Iterator[Running]:
        """Until the block ends. `more`: the file of a revocation."""
        command = [self.programs / "serve", "-v", self.exported, self.published.root, self.certificate, *more]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = process.stdout.readline()
            assert port, process.wait()
            try:
                yield Running(process, int(port))
                assert process.poll() is None
            finally:
                process.stdin.close()
        assert process.returncode == 0


@pytest.fixture
def user(tmp_path: Path) -> Nfsverity:
    return Nfsverity(tmp_path / "home")


@pytest.fixture
def volume(programs: Path, user: Nfsverity, tmp_path: Path) -> Volume:
    return Volume(programs, user, make(tmp_path / "tree"), tmp_path / "peer")


# The commands


def verdict(user: Nfsverity, *words: str, content: bytes = b"") -> str:
    """The one that `cat` ends in, having delivered no byte, or some of `content` and no other."""
    result = user("cat", *words, status=1)
    assert content.startswith(result.out)
    found = re.search(r"^nfsverity: nfsv://[^ ]+: ([a-z-]+): ", result.err, re.MULTILINE)
    assert found is not None, result.err
    return found[1]


def on_disk(root: Path) -> dict[str, Any]:
    """What a tree is, but for what a publisher keeps in it and what has no entry."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".nfsverity") or path.is_fifo():
            continue
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = "directory"
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & 0o100), path.stat().st_mtime_ns)
    return found


@pytest.mark.spec("fip-head-1", "fip-head-2", "fip-limits-9", "fim-vol-1", "fim-vol-2", "fim-vol-4")
def test_a_volume_is_read(volume: Volume, tmp_path: Path) -> None:
    user, root = volume.user, volume.published.root
    with volume.served() as served:
        report = user.json("verify", served.url)
        assert len(report["files"]) == len(FILES)
        assert {file["verdict"] for file in report["files"]} == {"verified"}
        for name in ("README", "empty", "a-b", "large", "holes", "/".join("d" * 40) + "/deep", "many/0299"):
            assert user("cat", f"{served.url}/{name}").out == FILES[name]
        assert user("cat", f"{served.url}/a/link").out == FILES["a/b/c"]
        user("get", served.url, tmp_path / "copy")
        with serving(root) as ours:
            for options in ((), ("-R",), ("-l",)):
                listed = user("ls", *options, served.url).out
                assert listed == user("ls", *options, ours.url).out
                assert listed.count(b"\n") >= 10
    assert on_disk(tmp_path / "copy") == on_disk(root)


@pytest.mark.spec("fim-range-3", "fip-entries-1", "fim-member-3", "fim-member-4")
def test_what_is_not_there_is_shown(volume: Volume) -> None:
    with volume.served() as served:
        for path in ("%01", "a/b/d", "a/none", "none/x", "zz", "README-", "fifo", "many/0300", "fifo/x"):
            assert verdict(volume.user, f"{served.url}/{path}") == "absent", path
        (volume.published.root / "a/b/c").unlink()
        assert verdict(volume.user, f"{served.url}/a/b/c") == "hidden"
        (volume.published.root / "a-b").unlink()
        (volume.published.root / "a-b").symlink_to("README")
        assert verdict(volume.user, f"{served.url}/a-b") == "hidden"


@pytest.mark.parametrize("name", ["README", "a-b", "large"])
def test_a_changed_byte_is_a_mismatch(volume: Volume, name: str) -> None:
    with volume.served() as served:
        with (volume.published.root / name).open("r+b") as file:
            file.seek(len(FILES[name]) // 2)
            file.write(b"\0\0")
        for presentation in ("ahead", "on-demand", "inline", "reconstruct"):
            options = ("--presentation", presentation, f"{served.url}/{name}")
            assert verdict(volume.user, *options, content=FILES[name]) == "mismatch", presentation
        report = volume.user.json("verify", served.url, status=1)
        assert {file["path"]: file["verdict"] for file in report["files"] if file["verdict"] != "verified"} == {
            name: "mismatch"
        }
        os.truncate(volume.published.root / name, 3)
        assert verdict(volume.user, f"{served.url}/{name}") == "stale"


@pytest.mark.spec("fip-vol-3", "fim-head-4", "fip-entries-3")
def test_a_new_head_is_served(volume: Volume) -> None:
    user, root = volume.user, volume.published.root
    old = volume.exported.read_bytes()
    with volume.served() as served:
        assert user("cat", f"{served.url}/README").out == b"read me"
        (root / "README").write_bytes(b"read me again")
        (root / "many/0007").unlink()
        assert served.read_again() == "not new"
        volume.sign()
        assert served.read_again() == "new"
        assert user("cat", f"{served.url}/README").out == b"read me again"
        assert verdict(user, f"{served.url}/many/0007") == "absent"
        assert len(user.json("verify", served.url)["files"]) == len(FILES) - 1
        (root / "many/0007").write_bytes(b"7")
    volume.exported.write_bytes(old)
    with subprocess.Popen(
        [volume.programs / "serve", "-v", volume.exported, root, volume.certificate],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as refused:
        _, words = refused.communicate(timeout=60)
    assert (refused.returncode, words) == (4, b"the tree is not what the head says\n")


def test_an_old_head_is_a_rollback(volume: Volume, tmp_path: Path) -> None:
    old = volume.exported.read_bytes()
    shutil.copytree(volume.published.root, tmp_path / "old", symlinks=True, ignore=shutil.ignore_patterns("fifo"))
    with volume.served() as served:
        volume.user("verify", served.url)
        id = read_head(volume.published.root).volume.hex()
    (volume.published.root / "README").write_bytes(b"newer")
    volume.sign()
    with volume.served() as served:
        volume.user("cat", "--volume", id, f"{served.url}/README")
    volume.exported.write_bytes(old)
    volume.published = Published(tmp_path / "old", volume.published.keys)
    with volume.served() as served:
        assert verdict(volume.user, "--volume", id, f"{served.url}/README") == "rollback"


@pytest.mark.spec("fip-revoke-1", "fip-revoke-7")
def test_what_is_revoked_is_told(volume: Volume) -> None:
    user, root = volume.user, volume.published.root
    user("revoke", "--key", volume.key, "--cert", volume.certificate, "--revoke-version", root / "README", root)
    with volume.served(revocation_path(root)) as served:
        assert verdict(user, f"{served.url}/README") == "revoked"
        assert user("cat", f"{served.url}/a-b").out == FILES["a-b"]


@pytest.mark.parametrize("hash", ["sha384", "sha512", "sha3-256"])
def test_hashes(programs: Path, user: Nfsverity, tmp_path: Path, hash: str) -> None:
    number = {"sha384": 7, "sha512": 8, "sha3-256": 10}[hash]
    volume = Volume(programs, user, make(tmp_path / "tree", hash=number, unit_log2=12), tmp_path / "peer")
    with volume.served() as served:
        assert len(user.json("verify", served.url)["files"]) == len(FILES)
        assert user("cat", f"{served.url}/a-b").out == FILES["a-b"]


# What was exported


@pytest.mark.spec("fim-export-1", "fim-export-2", "fim-export-3", "fim-rest-2")
def test_what_was_exported_verifies(volume: Volume, tmp_path: Path) -> None:
    """By the peer, with nothing but the certificate; and of an older head no more, with the mark of a newer one."""
    root, marks = volume.published.root, tmp_path / "marks"
    id = read_head(root).volume.hex()

    def check(exported: Path, path: str, content: Path, volume_id: str = id) -> str:
        words = [exported, content, volume_id, os.fsencode(path), volume.certificate, str(int(time.time()))]
        done = subprocess.run(
            [volume.programs / "check", "-m", marks, *words], capture_output=True, text=True, timeout=60
        )
        assert done.stderr == ""
        return done.stdout.strip()

    for number, name in enumerate(("README", "empty", "a-b", "many/0007", "/".join("d" * 40) + "/deep")):
        volume.user("export", root / name, "-o", tmp_path / f"{number}.fim")
        assert check(tmp_path / f"{number}.fim", name, root / name) == "verified"
    exported = tmp_path / "0.fim"
    assert check(exported, "a-b", root / "README") == "wrong-path"
    assert check(exported, "README", root / "README", bytes(16).hex()) == "wrong-volume"
    assert check(exported, "README", root / "empty") == "mismatch"
    (root / "empty").write_bytes(b"no more")
    volume.sign()
    assert check(exported, "README", root / "README") == "verified"
    assert check(volume.exported, "README", root / "README") == "verified"
    assert check(exported, "README", root / "README") == "rollback"


# Both servers


@dataclass(frozen=True)
class Both:
    """The same volume at our server and at the peer."""

    ours: int
    theirs: int
    root: Path
    head: bytes

    @property
    def tag(self) -> Tag:
        return tag_of(self.head[4 : 4 + int.from_bytes(self.head[:4], "big")], 1)


@pytest.fixture(scope="module")
def both(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    published = make(folder / "tree")
    volume = Volume(programs, Nfsverity(folder / "home"), published, folder / "peer")
    with serving(published.root) as ours, volume.served() as theirs:
        yield Both(ours.port, theirs.port, published.root, decode_exported(volume.exported.read_bytes()).head)


async def from_both(both: Both, call: Callable[[Session], Awaitable[Any]]) -> list[Any]:
    """What `call`, given a session, gets from each server."""
    answers = []
    for port in (both.ours, both.theirs):
        async with session(Url(HOST, port)) as caller:
            answers.append(await call(caller))
    return answers


LINKS = [b"a/link", b"dangling", b"to-directory", b"to-directory/b", b"fifo", b"nothing", b"nothing/x", b".nfsverity"]


@pytest.mark.spec("fip-server-4", "fip-server-5", "fip-server-6", "fip-resolve-3", "fip-resolve-4")
@pytest.mark.parametrize("path", RESOLVED + LINKS, ids=[ascii(path)[:40] for path in RESOLVED + LINKS])
async def test_both_resolve_alike(both: Both, path: bytes) -> None:
    async def call(caller: Session) -> Any:
        found = await answer(caller, m.RESOLVE, m.ResolveArgs(b"", path))
        fetched = await answer(caller, m.FETCH, m.FetchArgs(b"", path, 0))
        if isinstance(found, m.Status):
            assert fetched == found
            return found
        record = await answer(caller, m.RECORD, m.RecordArgs(found.object, b"", 0))
        return (found.attributes.type, found.attributes.has_record, fetched if fetched is m.Status else None, record)

    ours, theirs = await from_both(both, call)
    assert ours == theirs


@pytest.mark.spec("fip-head-1", "fip-head-2", "fip-record-3", "fip-fetch-1", "fip-fetch-2", "fip-server-10")
@pytest.mark.parametrize("path", [b"", b"a", b"README", b"empty", b"a/b-", b"a-b", b"many/0150"])
async def test_both_give_the_same_records_and_data(both: Both, path: bytes) -> None:
    async def call(caller: Session) -> Any:
        handle = (await caller.call(m.RESOLVE, m.ResolveArgs(b"", path))).object
        record = await answer(caller, m.RECORD, m.RecordArgs(handle, b"", 0))
        known = b"" if isinstance(record, m.Status) else hashlib.sha256(record.record).digest()
        again = [await answer(caller, m.RECORD, m.RecordArgs(handle, one, 0)) for one in (known, bytes(32), b"x")]
        fetched = []
        for most in (0, UNIT, UNIT + 1, 2**20):
            ok = await answer(caller, m.FETCH, m.FetchArgs(b"", path, most))
            fetched.append(ok if isinstance(ok, m.Status) else (ok.record, ok.proof, bytes(ok.data)))
        return record, again, fetched

    ours, theirs = await from_both(both, call)
    assert ours == theirs
    if path == b"":
        assert ours[0] == m.RecordOk(both.head)


@pytest.mark.spec("fip-tree-1", "fip-proof-1", "fip-read-1", "fip-read-6")
@pytest.mark.parametrize("tag", ["content", "head", "other"])
async def test_both_answer_about_a_member_alike(both: Both, tag: str) -> None:
    async def call(caller: Session) -> Any:
        found = {}
        for path in (b"a-b", b"", b"a"):
            handle = (await caller.call(m.RESOLVE, m.ResolveArgs(b"", path))).object
            record = (await caller.call(m.FETCH, m.FetchArgs(b"", b"a-b", 0))).record
            content = tag_of(record[4 : 4 + int.from_bytes(record[:4], "big")], 1)
            named = {"content": content, "head": both.tag, "other": Tag(1, bytes(32))}[tag]
            for level, first, count in ((0, 0, 1), (0, 3, 5), (5, 0, 21), (5, 20, 2), (2, 3, 2), (6, 0, 1), (0, 0, 0)):
                tree = await answer(caller, m.TREE, m.TreeArgs(handle, named, level, first, count))
                found[path, "tree", level, first, count] = getattr(tree, "hashes", tree)
                proof = await answer(caller, m.PROOF, m.ProofArgs(handle, named, level, first, count))
                found[path, "proof", level, first, count] = proof
                read = await answer(caller, m.READ, m.ReadArgs(handle, named, first, count, level))
                found[path, "read", level, first, count] = (
                    (read.proof, bytes(read.data)) if isinstance(read, m.ReadOk) else read
                )
        return found

    ours, theirs = await from_both(both, call)
    assert {key: ours[key] for key in ours if ours[key] != theirs[key]} == {}
    assert any(isinstance(value, tuple) for value in ours.values()) == (tag == "content")


PLACES = [
    (b"", b""), (b"", b"\x01"), (b"", b"a"), (b"", b"a-b"), (b"", b"many"), (b"", b"zzz"), (b"a", b""), (b"a", b"b"),
    (b"a/b", b""), (b"a-b", b""), (b"a directory", b""), (b"many", b""), (b"many", b"0149"), (b"many", b"9"),
    (b"not/there", b""), (b"zz", b"z"), (b"/".join([b"d"] * 40), b"deep"), (b"\xff" * 255, b"\xff" * 255),
]  # fmt: skip
BAD_PLACES = [
    (b"/", b""), (b"a/", b""), (b"a//b", b""), (b"..", b""), (b"a\0", b""), (b"", b"."), (b"", b"a/b"), (b"", b"\0"),
    (b"x" * 256, b""), (b"a/" * 256 + b"a", b""),
]  # fmt: skip


@pytest.mark.spec("fip-entries-1", "fip-entries-2", "fip-entries-3", "fip-entries-5", "fip-status-2")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 1024, 1025])
@pytest.mark.parametrize("tag", ["own", "other", "unknown"])
async def test_both_answer_entries_alike(both: Both, tag: str, count: int) -> None:
    named = {"own": both.tag, "other": Tag(1, bytes(32)), "unknown": Tag(99, b"x")}[tag]

    async def call(caller: Session) -> Any:
        return {
            (parent, name): await answer(caller, m.ENTRIES, m.EntriesArgs(named, parent, name, count))
            for parent, name in PLACES + BAD_PLACES
        }

    ours, theirs = await from_both(both, call)
    assert {place: theirs[place] for place in ours if ours[place] != theirs[place]} == {}
    shown = [one for one in ours.values() if isinstance(one, m.EntriesOk)]
    assert len(shown) == (len(PLACES) if tag == "own" and 2 <= count <= 1024 else 0)


@pytest.mark.spec("fip-bulk-1", "fip-bulk-2", "fip-bulk-3", "fip-bulk-4", "fip-bulk-5")
@pytest.mark.parametrize("count", [0, 2, 3, 400])
@pytest.mark.parametrize("most", [0, 7, UNIT, 2**21, 2**21 + 1])
async def test_both_answer_bulk_alike(both: Both, count: int, most: int) -> None:
    """But for what each leaves out."""

    async def call(caller: Session) -> Any:
        found = {}
        for parent, name in PLACES + BAD_PLACES:
            ok = await answer(caller, m.BULK, m.BulkArgs(both.tag, parent, name, count, most))
            found[parent, name] = ok if isinstance(ok, m.Status) else (ok.range, *contents(ok, most))
        return found

    def contents(ok: m.BulkOk, most: int) -> tuple[dict[bytes, bytes], list[bytes]]:
        came, start, data = {}, 0, bytes(ok.data)
        assert len(data) == sum(item.length for item in ok.items) <= most
        for entry, item in zip(ok.range.entries, ok.items, strict=True):
            if item.length:
                came[entry.path] = data[start : start + item.length]
                start += item.length
        return came, [item.statement for item in ok.items]

    ours, theirs = await from_both(both, call)
    for place in ours:
        if isinstance(ours[place], m.Status):
            assert theirs[place] == ours[place]
            continue
        (our_range, our_data, our_statements), (their_range, their_data, their_statements) = ours[place], theirs[place]
        assert their_range == our_range
        for path, data in their_data.items():
            assert data == FILES[os.fsdecode(path)]
            assert our_data.get(path, data) == data
        for entry, one, other in zip(our_range.entries, our_statements, their_statements, strict=True):
            assert one == other or b"" in (one, other)
            is_file = os.fsdecode(entry.path) in FILES
            assert bool(other) == is_file
            assert not other or hash_by_number(1).digest(other) == entry.node.content
    if count == 400 and most == 2**21:
        assert len(theirs[b"many", b""][1]) >= 300


@pytest.mark.spec("fip-dir-1", "fip-dir-5")
@pytest.mark.parametrize("path", [b"", b"a", b"many", b"nothing", b"a directory"])
@pytest.mark.parametrize("count", [1, 1024])
async def test_both_list_alike(both: Both, path: bytes, count: int) -> None:
    async def call(caller: Session) -> Any:
        handle = (await caller.call(m.RESOLVE, m.ResolveArgs(b"", path))).object
        answers = []
        for after in (b"", b"a", b"a-b", b"zz", b"0298"):
            ok = await answer(caller, m.READDIR, m.ReaddirArgs(handle, after, count))
            answers.append(([(entry.name, entry.attributes.type) for entry in ok.entries], ok.eof))
        return answers

    ours, theirs = await from_both(both, call)
    assert ours == theirs


async def test_limits_and_bad_handles(both: Both) -> None:
    async def call(caller: Session) -> Any:
        limits = await answer(caller, m.LIMITS, None)
        assert limits.capabilities == m.CAP_CORE | m.CAP_DATA | m.CAP_VOLUME
        return [
            await answer(caller, m.RECORD, m.RecordArgs(BAD, b"", 0)),
            await answer(caller, m.GETATTR, m.GetattrArgs(BAD)),
            await answer(caller, m.TREE, m.TreeArgs(bytes(32), both.tag, 0, 0, 1)),
            await answer(caller, m.REVOCATION, m.RevocationArgs(b"", b"")),
        ]

    ours, theirs = await from_both(both, call)
    assert ours == theirs
