# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""How the server treats many, slow and impatient clients, and how it stops."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_server import connection, listener, trees
from nfsverity_server.connection import TREES_MAX
from nfsverity_server.trees import BUILDS_MAX, WAITING_MAX
from oracle.xdr import uint
from serving import Published, publish_tree
from unit.server.raw import Ended, Raw
from unit.server.running import Running, running

UNIT = 4096


class Gate:
    """Holds every tree that is being made until it is opened, and counts them."""

    def __init__(self, server: Running) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.built: list[bytes] = []
        self._build = server.service.trees.build
        server.service.trees.build = self._held  # type: ignore[method-assign]

    def _held(self, path: bytes, claims: Any) -> Any:
        self.built.append(path)
        self.entered.release()
        self.opened.wait()
        return self._build(path, claims)


@pytest.fixture
def many(tmp_path: Path) -> Published:
    """More files with trees than a server makes at a time."""
    files = {f"{number:02}": os.urandom(2 * UNIT) for number in range(WAITING_MAX + 8)}
    return publish_tree(tmp_path / "tree", files, unit_size=UNIT)


@contextmanager
def gated(root: Path) -> Iterator[tuple[Running, Gate]]:
    with running(root, keep=False) as server:
        gate = Gate(server)
        try:
            yield server, gate
        finally:
            gate.opened.set()


def proof(client: Raw, name: bytes) -> m.ProofArgs:
    handle, file, tag = client.file(name)
    return m.ProofArgs(handle, tag, file.content.tree.shape.height, 0, 1)


def answered(client: Raw, count: int = 1) -> None:
    """Until the server has dealt with all that was sent before."""
    for _ in range(count):
        client.call(m.LIMITS, None)


class TestTrees:
    @pytest.mark.spec("fip-server-11", "fip-server-12")
    def test_made_once_for_all_while_others_are_answered(self, published: Published) -> None:
        with gated(published.root) as (server, gate), server.client() as one, server.client() as two:
            args = proof(one, b"big")
            xids = [one.send(m.PROOF, args) for _ in range(16)]
            more = [two.send(m.PROOF, args) for _ in range(8)]
            more += [two.send(m.TREE, m.TreeArgs(args.object, args.tag, 0, i, 1)) for i in range(8)]
            assert gate.entered.acquire(timeout=20)
            answered(one)
            answered(two)
            handle, _, tag = one.file(b"top")
            assert isinstance(one.call(m.READ, m.ReadArgs(handle, tag, 0, 1, 0)), m.ReadOk), "on the same connection"
            assert not one.early
            assert not two.early
            gate.opened.set()
            first = one.reply(xids[0])[4:]
            assert all(one.reply(xid)[4:] == first for xid in xids[1:])
            assert all(two.reply(xid)[4:] == first for xid in more[:8])
            for xid in more[8:]:
                assert isinstance(two.result(m.TREE, xid), m.TreeOk)
            one.call(m.PROOF, args)
            assert gate.built == [b"big"]

    @pytest.mark.spec("fip-server-13", "fip-server-14", "fip-status-3")
    def test_one_connection_may_not_claim_all(self, many: Published) -> None:
        with gated(many.root) as (server, gate), server.client() as client, server.client() as other:
            xids = [client.send(m.PROOF, proof(client, b"%02d" % i)) for i in range(TREES_MAX + 3)]
            for xid in xids[TREES_MAX:]:
                assert client.result(m.PROOF, xid) is Status.BUSY
            waiting = other.send(m.PROOF, proof(other, b"30"))
            answered(other)
            assert not other.early
            gate.opened.set()
            for xid in xids[:TREES_MAX]:
                assert isinstance(client.result(m.PROOF, xid), m.ProofOk)
            assert isinstance(other.result(m.PROOF, waiting), m.ProofOk)
            assert isinstance(client.call(m.PROOF, proof(client, b"31")), m.ProofOk)

    @pytest.mark.spec("fip-server-13", "fip-server-14")
    def test_no_more_than_so_many_wait(self, many: Published) -> None:
        with gated(many.root) as (server, gate):
            clients = [server.client() for _ in range(WAITING_MAX // TREES_MAX)]
            args = [proof(clients[0], b"%02d" % i) for i in range(WAITING_MAX)]
            waiting = [
                (client, client.send(m.PROOF, args[at * TREES_MAX + i]))
                for at, client in enumerate(clients)
                for i in range(TREES_MAX)
            ]
            for client in clients:
                answered(client, 2)
            with server.client() as late:
                assert late.call(m.PROOF, proof(late, b"%02d" % (WAITING_MAX + 1))) is Status.BUSY
                same = late.send(m.PROOF, args[0])
                answered(late)
                assert len(gate.built) == BUILDS_MAX
                gate.opened.set()
                assert isinstance(late.result(m.PROOF, same), m.ProofOk)
            for client, xid in waiting:
                assert isinstance(client.result(m.PROOF, xid), m.ProofOk)
            for client in clients:
                client.sock.close()

    def test_a_client_that_goes_does_not_spoil_it_for_others(self, published: Published) -> None:
        with gated(published.root) as (server, gate), server.client() as stays:
            with server.client() as goes:
                goes.send(m.PROOF, proof(goes, b"big"))
                assert gate.entered.acquire(timeout=20)
                xid = stays.send(m.PROOF, proof(stays, b"big"))
                answered(stays)
            answered(stays)
            gate.opened.set()
            assert isinstance(stays.result(m.PROOF, xid), m.ProofOk)
            assert gate.built == [b"big"]

    @pytest.mark.parametrize("error", [FileNotFoundError(2, "x"), PermissionError(13, "x"), OSError(5, "x")])
    def test_what_keeps_a_tree_from_being_made(self, published: Published, error: OSError) -> None:
        expected = {2: Status.CHANGED, 13: Status.ACCESS, 5: Status.IO}[error.errno or 0]
        with running(published.root, keep=False) as server, server.client() as client:
            args = proof(client, b"big")

            def fails(path: bytes, claims: Any) -> Any:
                raise error

            build = server.service.trees.build
            server.service.trees.build = fails  # type: ignore[method-assign]
            assert client.call(m.PROOF, args) is expected
            server.service.trees.build = build  # type: ignore[method-assign]
            assert isinstance(client.call(m.PROOF, args), m.ProofOk)

    @pytest.mark.spec("fip-server-13")
    def test_the_trees_in_use_are_bounded(self, many: Published, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trees, "MEMORY_MAX", 5 * 96)
        with running(many.root, keep=False) as server, server.client() as client:
            first = client.raw(m.PROOF, proof(client, b"00"))
            for i in range(20):
                assert isinstance(client.call(m.PROOF, proof(client, b"%02d" % i)), m.ProofOk)
            assert len(server.service.trees._open) == 5
            assert client.raw(m.PROOF, proof(client, b"00")) == first

    def test_a_large_tree_is_not_held_in_memory(self, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trees, "IN_MEMORY_MAX", 100)
        with running(published.root) as server, server.client() as client:
            kept = client.raw(m.PROOF, proof(client, b"big"))
        with running(published.root, keep=False) as server, server.client() as client:
            assert client.raw(m.PROOF, proof(client, b"big")) == kept
            assert server.service.trees._memory() == 0


class TestSlowPeers:
    @pytest.mark.spec("fip-server-16")
    @pytest.mark.parametrize("part", [b"\x80", b"\x80\0\0\x28", b"\x80\0\0\x28" + bytes(39), b"\0\0\0\x04abcd"])
    def test_a_message_that_remains_incomplete(self, published: Published, part: bytes) -> None:
        with running(published.root, patience=0.2) as server, server.client() as client, server.client() as other:
            client.sock.sendall(part)
            assert client.ended()
            assert isinstance(other.call(m.LIMITS, None), m.LimitsOk), "an idle connection stays"

    @pytest.mark.spec("fip-server-16")
    def test_a_message_that_drips(self, published: Published) -> None:
        """The time is that of the whole message: a byte now and then does not prolong it."""
        with running(published.root, patience=0.5) as server, server.client() as client:
            client.sock.sendall(b"\x80\0\xff\xff")
            with contextlib.suppress(OSError):
                for _ in range(0xFFFE):
                    if select.select([client.sock], [], [], 0.05)[0]:
                        break
                    client.sock.sendall(b"\0")
            assert client.ended()

    @pytest.mark.spec("fip-server-16", "fip-server-15")
    @pytest.mark.parametrize("name", [b"large", b"small"])
    def test_replies_that_are_not_taken(self, tmp_path: Path, name: bytes) -> None:
        """By sendfile and by copies; others are served meanwhile, and afterwards it is gone."""
        files = {"large": os.urandom(2**20), "small": os.urandom(60_000)}
        published = publish_tree(tmp_path / "tree", files)
        with running(published.root, patience=0.3) as server, server.client() as other:
            with server.client(receive_buffer=4096) as client:
                handle, _, tag = client.file(name)
                for _ in range(300):
                    client.send(m.READ, m.ReadArgs(handle, tag, 0, 1, None))
                answered(other)
                ended = select.poll()
                ended.register(client.sock, select.POLLHUP | select.POLLERR)
                assert ended.poll(20_000), "nothing was taken, and the connection is still there"
            answered(other)

    @pytest.mark.spec("fip-rpc-15")
    def test_a_file_that_becomes_shorter_while_it_is_sent(self, tmp_path: Path) -> None:
        """What was announced cannot be sent: the connection ends, for there is no other way to say so."""
        published = publish_tree(tmp_path / "tree", {"large": os.urandom(2**22)}, unit_size=2**22)
        with running(published.root) as server:
            with server.client(receive_buffer=4096) as client:
                handle, _, tag = client.file(b"large")
                xids = [client.send(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) for _ in range(8)]
                client.exactly(4)
                os.truncate(published.root / "large", 10)
                with pytest.raises(Ended):
                    client.exactly(2**22 * len(xids))
            with server.client() as client:
                assert client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.UPDATING


@pytest.mark.spec("fip-server-13")
def test_many_connections_and_one_too_many(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 5)
    with running(published.root) as server:
        clients = [server.client() for _ in range(5)]
        for client in clients:
            answered(client)
        with server.client() as late:
            assert late.ended()
        clients.pop().sock.close()
        answered(clients[0])
        while True:
            with server.client() as client:
                try:
                    answered(client)
                    break
                except (Ended, OSError):
                    continue
        for client in clients:
            client.sock.close()


@pytest.mark.spec("fip-server-12")
def test_connections_take_turns(tmp_path: Path) -> None:
    """One that never lets the server wait does not keep the others from their answers."""
    published = publish_tree(tmp_path / "tree", {"f": b"f"})
    with running(published.root) as server, server.client() as busy, server.client() as other:
        handle = busy.handle(b"f")
        stop = threading.Event()

        def keep_busy() -> None:
            while not stop.is_set():
                xids = [busy.send(m.GETATTR, m.GetattrArgs(handle)) for _ in range(64)]
                for xid in xids:
                    busy.reply(xid)

        thread = threading.Thread(target=keep_busy)
        thread.start()
        answered(other, 20)
        stop.set()
        thread.join()


@pytest.mark.spec("fip-rpc-11")
def test_a_failure_of_the_server_itself(server: Running, client: Raw, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    handlers = server.service._handlers
    limits = handlers[m.LIMITS.number]
    handlers[m.LIMITS.number] = fails
    assert client.raw(m.LIMITS, None) == uint(1) + uint(0) + uint(0) + uint(0) + uint(5)
    assert "LIMITS failed" in caplog.text
    handlers[m.LIMITS.number] = lambda _: Status.NOT_FOUND
    assert client.raw(m.LIMITS, None)[-4:] == uint(5), "a status that the procedure has not"
    handlers[m.LIMITS.number] = limits
    assert isinstance(client.call(m.LIMITS, None), m.LimitsOk)


class TestStop:
    @pytest.mark.spec("fip-server-18", "fip-poll-3")
    def test_polls_end_and_calls_are_answered(self, published: Published) -> None:
        with gated(published.root) as (server, gate), server.client() as client, server.client() as idle:
            known = hashlib.sha256(client.record(b"top")).digest()
            poll = client.send(m.RECORD, m.RecordArgs(client.handle(b"top"), known, 60_000))
            made = client.send(m.PROOF, proof(client, b"big"))
            assert gate.entered.acquire(timeout=20)
            server.stop()
            assert client.result(m.RECORD, poll) is Status.UNCHANGED
            assert idle.ended()
            gate.opened.set()
            assert isinstance(client.result(m.PROOF, made), m.ProofOk)
            assert client.ended()
            with socket.socket() as late, pytest.raises(OSError):
                late.connect(("127.0.0.1", server.port))

    @pytest.mark.spec("fip-server-18")
    def test_a_reply_under_way_is_finished(self, tmp_path: Path) -> None:
        content = os.urandom(2**22)
        published = publish_tree(tmp_path / "tree", {"large": content}, unit_size=2**22)
        with running(published.root) as server, server.client(receive_buffer=4096) as client:
            handle, _, tag = client.file(b"large")
            xid = client.send(m.READ, m.ReadArgs(handle, tag, 0, 1, None))
            start = client.exactly(4)
            server.stop()
            message = client.exactly(int.from_bytes(start, "big") & 0x7FFFFFFF)
            assert message[:4] == uint(xid)
            assert message.endswith(content)
            assert client.ended()

    @pytest.mark.spec("fip-server-18", "fip-mark-8")
    def test_no_call_is_read_any_more(self, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that comes afterwards, or in part, gets no answer."""
        with running(published.root) as server, server.client() as client:
            answered(client)
            client.sock.sendall(b"\x80\0\0")
            server.stop()
            assert client.ended()

    def test_a_peer_that_takes_nothing_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "STOP_SECONDS", 0.3)
        published = publish_tree(tmp_path / "tree", {"large": os.urandom(2**22)}, unit_size=2**22)
        with running(published.root) as server, server.client(receive_buffer=4096) as client:
            handle, _, tag = client.file(b"large")
            for _ in range(8):
                client.send(m.READ, m.ReadArgs(handle, tag, 0, 1, None))
            client.exactly(4)

    def test_a_peer_that_does_not_close_is_not_waited_for(
        self, published: Published, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "HANG_UP", 0.1)
        with running(published.root) as server, server.client() as client:
            answered(client)
            server.stop()
            assert client.ended()

    def test_a_tree_that_is_being_made_is_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "STOP_SECONDS", 0.2)
        published = publish_tree(tmp_path / "tree", {"large": os.urandom(2**20)}, unit_size=UNIT)
        with running(published.root, keep=False) as server, server.client() as client:
            begun, go_on = threading.Event(), threading.Event()
            check: Callable[[int], None] = server.service.trees._go_on

            def held(count: int) -> None:
                begun.set()
                go_on.wait()
                check(count)

            server.service.trees._go_on = held  # type: ignore[method-assign]
            client.send(m.PROOF, proof(client, b"large"))
            assert begun.wait(20)
            server.stop()
            assert client.ended()
            go_on.set()
