# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which status a call gets where several apply: the order of the draft, for every pair of them (fip-status-2)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_proto.statement import Tag
from nfsverity_store.index import ROOT_ID, FileRow, Index, Seen
from nfsverity_store.layout import DIRECTORY, Head, head_path
from oracle import merkle, records, signers
from oracle.xdr import opaque, uhyper, uint
from serving import publish_tree
from unit.server.raw import Raw
from unit.server.running import running

UNIT = 4096
SIZE = 5 * UNIT
WRONG_TAG = Tag(1, b"w" * 32)
ALLOWED = json.loads((Path(__file__).parents[3] / "spec" / "statuses.json").read_text())
"""The statuses of each procedure, from the draft's table."""


@dataclass
class Call:
    """One call as it would be right, with what is wrong put into it."""

    procedure: m.Procedure[Any, Any]
    values: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> Any:
        v = self.values
        handle, path, tag = v.get("handle", b""), v.get("path", b""), v.get("tag")
        match self.procedure:
            case m.RESOLVE:
                return m.ResolveArgs(handle, path)
            case m.RECORD:
                return m.RecordArgs(handle, v.get("known", b""), 0)
            case m.TREE:
                return m.TreeArgs(handle, tag, v.get("level", 0), v.get("first", 0), v.get("count", 1))
            case m.PROOF:
                return m.ProofArgs(handle, tag, v.get("level", 3), v.get("first", 0), v.get("count", 1))
            case m.FETCH:
                return m.FetchArgs(handle, path, v.get("most", UNIT))
            case m.READ:
                return m.ReadArgs(handle, tag, v.get("first", 0), v.get("count", 1), v.get("level"))
            case m.READDIR:
                return m.ReaddirArgs(handle, b"", v.get("count", 1))
            case m.REVOCATION:
                return m.RevocationArgs(handle, v.get("known", b""))
            case m.PLAIN:
                return m.PlainArgs(handle, 0, v.get("count", 1))
            case _:
                return m.GetattrArgs(handle)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files for each situation: signed by the publisher, and made by the oracle where no publisher would."""
    files = {"good": b"g" * SIZE, "gone": b"g" * SIZE, "short": b"s" * SIZE, "d/f": b"f"}
    root = tmp_path_factory.mktemp("statuses") / "tree"
    publish_tree(root, files, unit_size=UNIT)
    (root / "unsigned").write_bytes(b"unsigned")
    (root / "gone").unlink()
    (root / "short").write_bytes(b"s" * (SIZE - 1))
    os.utime(root / "short", ns=(0, 0))
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Raw]:
    with running(root, show_all=True, keep=False, update_window=0) as server, server.client() as client:
        yield client


def handle(client: Raw, path: bytes) -> bytes:
    """Also of what is not there: as the server makes it."""
    return client.handle(b"good")[:17] + path


SITUATIONS: list[tuple[Status, dict[str, Any]]] = [
    (Status.INVALID, {"path": b".."}),
    (Status.INVALID, {"known": b"short"}),
    (Status.INVALID, {"most": 2**20 + 1}),
    (Status.INVALID, {"count": 0}),
    (Status.BAD_HANDLE, {"handle": b"nonsense"}),
    (Status.BAD_HANDLE, {"of": b"gone"}),
    (Status.NOT_FOUND, {"path": b"none"}),
    (Status.NOT_DIRECTORY, {"path": b"x", "of": b"good"}),
    (Status.IS_DIRECTORY, {"of": b"d"}),
    (Status.UNSIGNED, {"of": b"unsigned"}),
    (Status.CHANGED, {"tag": WRONG_TAG}),
    (Status.INVALID, {"first": 2**64 - 1}),
    (Status.INVALID, {"level": 64}),
    (Status.CHANGED, {"of": b"short"}),
]
"""What is wrong, in the order in which it is answered; a later one never masks an earlier one."""

USES: dict[str, set[str]] = {
    "RESOLVE": {"path", "handle", "of"},
    "RECORD": {"known", "handle", "of"},
    "TREE": {"tag", "count", "handle", "of", "first", "level"},
    "PROOF": {"tag", "count", "handle", "of", "first"},
    "FETCH": {"path", "most", "handle", "of"},
    "READ": {"tag", "count", "handle", "of", "first", "level"},
    "READDIR": {"count", "handle", "of"},
    "GETATTR": {"handle", "of"},
    "REVOCATION": {"known", "handle", "of"},
    "PLAIN": {"count", "handle", "of"},
}
PROCEDURES = [procedure for procedure in m.PROCEDURES.values() if procedure.name in USES]


def _applies(procedure: m.Procedure[Any, Any], status: Status, values: dict[str, Any]) -> bool:
    """Whether a procedure can be in a situation."""
    if not set(values) <= USES[procedure.name] or status.name not in ALLOWED[procedure.name]:
        return False
    if procedure is m.REVOCATION and status is Status.UNSIGNED:
        return values == {"of": b"unsigned"}  # any object will do, and no volume of these tests has a revocation
    if procedure is m.READDIR and status is Status.NOT_DIRECTORY:
        return False
    return not (procedure in (m.RESOLVE, m.GETATTR, m.RECORD) and values.get("of") in (b"short", b"unsigned", b"d"))


def _pairs() -> Iterator[tuple[m.Procedure[Any, Any], int, int]]:
    for procedure in PROCEDURES:
        able = [i for i, situation in enumerate(SITUATIONS) if _applies(procedure, *situation)]
        for first in able:
            for second in able:
                if first <= second and (first == second or not _clash(SITUATIONS[first][1], SITUATIONS[second][1])):
                    yield procedure, first, second


def _clash(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two situations cannot be in one call. `of` and `handle` are one argument; below files is no path."""
    if one.get("path") == b"none" and "of" in other:
        return True
    names = [{"handle" if name == "of" else name for name in values} for values in (one, other)]
    return bool(names[0] & names[1])


@pytest.mark.spec("fip-status-1", "fip-status-2", "fip-status-6", "fip-status-7", "fip-tree-3",
                  "fip-tree-4", "fip-proof-2", "fip-fetch-3", "fip-read-2", "fip-read-7", "fip-record-2")  # fmt: skip
@pytest.mark.parametrize(
    ("procedure", "first", "second"),
    list(_pairs()),
    ids=lambda value: value.name if isinstance(value, m.Procedure) else str(value),
)
def test_the_first_status_that_applies(client: Raw, procedure: m.Procedure[Any, Any], first: int, second: int) -> None:
    status, values = SITUATIONS[first]
    call = Call(procedure, SITUATIONS[second][1] | values)
    if "tag" not in call.values:
        of = call.values.get("of", b"good")
        call.values["tag"] = client.file(b"short" if of == b"short" else b"good")[2]
    call.values.setdefault("handle", handle(client, call.values.get("of", b"good")))
    of_the_root = procedure is m.READDIR or "path" in call.values
    if of_the_root and "of" not in call.values and call.values["handle"] != b"nonsense":
        call.values["handle"] = b""
    assert client.call(procedure, call.arguments()) is status


@pytest.mark.spec("fip-status-1")
@pytest.mark.parametrize("procedure", m.PROCEDURES.values(), ids=lambda procedure: procedure.name)
def test_no_status_but_those_of_the_table_can_be_sent(procedure: m.Procedure[Any, Any]) -> None:
    assert {status.name for status in procedure.statuses} == set(ALLOWED[procedure.name])
    for status in set(Status) - procedure.statuses:
        with pytest.raises(ValueError):
            procedure.encode_result(status)


@pytest.mark.spec("fip-proof-3", "fip-status-2")
def test_a_range_under_two_nodes(client: Raw) -> None:
    good, _, tag = client.file(b"good")
    for args in ((good, tag, 1, 1, 2), (b"nonsense", WRONG_TAG, 1, 1, 2), (good, tag, 2, 3, 2)):
        assert client.call(m.PROOF, m.ProofArgs(*args)) is Status.INVALID
    assert client.call(m.READ, m.ReadArgs(good, tag, 1, 2, 1)) is Status.INVALID
    assert client.call(m.READ, m.ReadArgs(good, WRONG_TAG, 1, 2, 1)) is Status.CHANGED


@pytest.mark.spec("fip-tree-3", "fip-tree-4")
@pytest.mark.parametrize(
    ("level", "first", "count", "valid"),
    [(0, 0, 5, True), (0, 0, 6, False), (0, 4, 1, True), (0, 5, 1, False), (0, 2**64 - 1, 1, False), (1, 2, 1, True),
     (1, 3, 1, False), (3, 0, 1, True), (3, 0, 2, False), (3, 1, 1, False), (4, 0, 1, False), (2**32 - 1, 0, 1, False),
     (0, 0, 0, False), (0, 0, 65_537, False), (0, 0, 2**32 - 1, False)],
)  # fmt: skip
def test_ranges_of_a_level(client: Raw, level: int, first: int, count: int, valid: bool) -> None:
    good, _, tag = client.file(b"good")
    result = client.call(m.TREE, m.TreeArgs(good, tag, level, first, count))
    assert isinstance(result, m.TreeOk) if valid else result is Status.INVALID


@pytest.mark.spec("fip-proof-2")
@pytest.mark.parametrize(
    ("level", "first", "count", "valid"),
    [(3, 0, 5, True), (3, 0, 6, False), (3, 4, 1, True), (3, 5, 1, False), (3, 2**64 - 1, 1, False), (4, 0, 1, False),
     (2**32 - 1, 0, 1, False), (3, 0, 0, False), (0, 3, 1, True), (3, 2**64 - 1, 2**32 - 1, False)],
)  # fmt: skip
def test_ranges_of_a_proof(client: Raw, level: int, first: int, count: int, valid: bool) -> None:
    good, _, tag = client.file(b"good")
    result = client.call(m.PROOF, m.ProofArgs(good, tag, level, first, count))
    assert isinstance(result, m.ProofOk) if valid else result is Status.INVALID


@pytest.mark.spec("fip-status-5")
@pytest.mark.parametrize(
    ("hash", "length", "fits"),
    [(1, 0, False), (1, 31, False), (1, 33, False), (1, 64, False), (8, 32, False), (0x10000, 33, False),
     (8, 64, True), (12, 64, True), (12345, 0, True), (12345, 64, True)],
)  # fmt: skip
def test_digests_of_another_length(client: Raw, hash: int, length: int, fits: bool) -> None:
    """As bytes, since the project's own messages would not hold them."""
    digest = uint(hash) + opaque(b"x" * length)
    calls = {
        4: (digest, Status.NOT_FOUND),
        5: (opaque(client.handle(b"good")) + digest + uint(0) + uhyper(0) + uint(1), Status.CHANGED),
    }
    for proc, (arguments, status) in calls.items():
        client.xid += 1
        header = b"".join(map(uint, (client.xid, 0, 2, m.PROGRAM, 1, proc)))
        client.message(header + (uint(0) + opaque(b"")) * 2 + arguments)
        accepted = client.reply(client.xid)[20:]
        refused = accepted in (uint(4), uint(0) + uint(10))
        assert (accepted == uint(0) + uint(status)) if fits else refused


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raw]:
    """Records with algorithms that are not known here, as a later publisher may make them."""
    root = tmp_path_factory.mktemp("foreign")
    (root / DIRECTORY).mkdir()
    index = Index(root / DIRECTORY / "index-1", writable=True)
    index.create()
    content = b"f" * SIZE
    for name, changes in {
        "hash": {"hash": 12, "root": b"r" * 64},
        "unknown-hash": {"hash": 4242, "root": b"r" * 17},
        "type": {"tree_type": 77},
        "kind": {"kind": 1},
        "good": {},
    }.items():
        values = {
            "path": name.encode(),
            "size": SIZE,
            "root": merkle.tree_hash(merkle.SHA256, merkle.cut(content, UNIT)),
        }
        record = signers.signed(records.Statement(**(values | changes)))  # type: ignore[arg-type]
        (root / name).write_bytes(content)
        seen = Seen.of((root / name).stat())
        index.put_files([FileRow(ROOT_ID, name.encode(), seen, False, 1, 12, b"", None, record, None)])
    index.close()
    head_path(root).write_bytes(Head(bytes(range(16)), b"label", 1, "index-1").encode())
    with running(root) as server, server.client() as client:
        yield client


@pytest.mark.spec("fip-status-2", "fip-record-1", "fip-proof-6")
@pytest.mark.parametrize("name", [b"hash", b"unknown-hash", b"type"])
def test_algorithms_that_are_not_known(foreign: Raw, name: bytes) -> None:
    """The record is had all the same; what needs the tree is not supported, whatever the range."""
    assert foreign.record(name)
    handle = foreign.handle(name)
    tag = Tag(4242, b"x") if name != b"type" else foreign.file(name)[2]
    for level in (0, 60):
        assert foreign.call(m.TREE, m.TreeArgs(handle, tag, level, 0, 1)) is Status.NOT_SUPPORTED
        assert foreign.call(m.PROOF, m.ProofArgs(handle, tag, level, 0, 1)) is Status.NOT_SUPPORTED
        assert foreign.call(m.READ, m.ReadArgs(handle, tag, 0, 1, level)) is Status.NOT_SUPPORTED
    assert foreign.call(m.FETCH, m.FetchArgs(b"", name, 2**20)) is Status.NOT_SUPPORTED
    if name == b"type":
        assert foreign.call(m.TREE, m.TreeArgs(handle, WRONG_TAG, 0, 0, 1)) is Status.CHANGED


def test_a_record_of_another_kind_is_trouble_of_the_server(foreign: Raw) -> None:
    handle = foreign.handle(b"kind")
    assert foreign.call(m.READ, m.ReadArgs(handle, WRONG_TAG, 0, 1, None)) is Status.IO
    assert isinstance(foreign.call(m.FETCH, m.FetchArgs(b"", b"good", 2**20)), m.FetchOk)


UNPRIVILEGED = """
    import asyncio, os, sys
    from pathlib import Path
    from nfsverity_server.catalog import Catalog
    from nfsverity_server.listener import listen, serve
    from nfsverity_server.service import Service
    from nfsverity_server.trees import Trees
    import nfsverity_proto.certificate, encodings.idna
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    async def main():
        root, sock = Path(sys.argv[1]), listen("127.0.0.1", 0)
        service = Service(Catalog(root, show_all=True), Trees(root))
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, stop.set)
        await serve(service, sock, lambda: print(sock.getsockname()[1], flush=True), stop)
    asyncio.run(main())
"""


@pytest.mark.spec("fip-server-7", "fip-plain-6", "fip-server-8", "fip-status-2")
def test_who_may_not_read_a_file_gets_nothing_of_it() -> None:
    """The server runs as somebody who may not: what its clients may read is what it may read."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        root = Path(directory) / "tree"
        publish_tree(root, {"secret": b"s" * SIZE, "public": b"p", "closed/f": b"f", "d/f": b"f"}, unit_size=UNIT)
        (root / "unsigned").write_bytes(b"u")
        (root / "unsigned").chmod(0)
        (root / "secret").chmod(0)
        (root / "closed").chmod(0)
        script = [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), str(root)]
        with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdin is not None
            with Raw(int(server.stdout.readline())) as client:
                secret, _, tag = client.handle(b"secret"), None, WRONG_TAG
                assert client.call(m.RECORD, m.RecordArgs(secret, b"", 0)) is Status.ACCESS
                assert client.call(m.TREE, m.TreeArgs(secret, tag, 0, 0, 1)) is Status.ACCESS
                assert client.call(m.PROOF, m.ProofArgs(secret, tag, 0, 0, 1)) is Status.ACCESS
                assert client.call(m.READ, m.ReadArgs(secret, tag, 0, 1, None)) is Status.ACCESS
                assert client.call(m.FETCH, m.FetchArgs(b"", b"secret", 0)) is Status.ACCESS
                assert client.call(m.FETCH, m.FetchArgs(b"", b"unsigned", 0)) is Status.ACCESS
                for path in (b"secret", b"unsigned"):
                    assert client.call(m.PLAIN, m.PlainArgs(client.handle(path), 0, 9)) is Status.ACCESS
                assert client.call(m.RESOLVE, m.ResolveArgs(b"", b"closed/f")) is Status.ACCESS
                assert client.call(m.READDIR, m.ReaddirArgs(client.handle(b"closed"), b"", 9)) is Status.ACCESS
                assert client.call(m.READ, m.ReadArgs(secret, tag, 0, 0, None)) is Status.INVALID
                assert isinstance(client.call(m.FETCH, m.FetchArgs(b"", b"public", 9)), m.FetchOk)
            server.stdin.close()
            assert server.wait(20) == 0
        (root / "closed").chmod(0o755)
