# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Content and records that change while they are served: what is said, what is never sent, and who waits for what."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Iterator

import pytest

from nfsverity_proto import messages as m
from nfsverity_proto.messages import Status
from nfsverity_server import polls
from nfsverity_store.layout import DIRECTORY, head_path, read_head
from serving import Published
from unit.server.raw import Raw
from unit.server.running import Running, running

UNIT = 4096
LONG = 60_000
"""Milliseconds: a poll that ends by itself only after the test's own time limit would."""


@pytest.fixture(params=[True, False], ids=["kept", "rebuilt"])
def either(published: Published, request: pytest.FixtureRequest) -> Iterator[Raw]:
    with running(published.root, keep=request.param) as server, server.client() as client:
        yield client


@pytest.fixture
def rebuilding(published: Published) -> Iterator[Raw]:
    with running(published.root, keep=False) as server, server.client() as client:
        yield client


def same_size(published: Published, name: str) -> None:
    """Put other content of the same size in place of a file's, as if long ago."""
    path = published.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def poll(client: Raw, path: bytes, wait: int = LONG) -> int:
    """Ask for another record than the present one."""
    known = hashlib.sha256(client.record(path)).digest()
    return client.send(m.RECORD, m.RecordArgs(client.handle(path), known, wait))


def held(client: Raw) -> None:
    """Until the server has read what was sent before: it answers in the order of arrival what it can answer."""
    client.call(m.LIMITS, None)
    assert not client.early


class TestOtherContent:
    @pytest.mark.spec("fip-status-7", "fip-status-8", "fip-status-9", "fip-read-9", "fip-fetch-4")
    @pytest.mark.parametrize("size", [0, 5, 200_000])
    def test_another_size(self, either: Raw, published: Published, size: int) -> None:
        handle, _, tag = either.file(b"big")
        (published.root / "big").write_bytes(os.urandom(size))
        assert either.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.UPDATING
        assert either.call(m.READ, m.ReadArgs(handle, tag, 0, 1, 6)) is Status.UPDATING
        assert either.call(m.FETCH, m.FetchArgs(b"", b"big", UNIT)) is Status.UPDATING
        opened = either.call(m.FETCH, m.FetchArgs(b"", b"big", 0))
        assert opened == m.FetchOk(handle, either.record(b"big"), b"", b"")

    @pytest.mark.spec("fip-status-8", "fip-status-9")
    def test_another_size_for_long(self, published: Published) -> None:
        with running(published.root, update_window=0) as server, server.client() as client:
            handle, _, tag = client.file(b"big")
            (published.root / "big").write_bytes(b"other")
            assert client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.CHANGED
            assert client.call(m.FETCH, m.FetchArgs(b"", b"big", UNIT)) is Status.CHANGED
            known = hashlib.sha256(client.record(b"big")).digest()
            assert client.call(m.RECORD, m.RecordArgs(handle, known, 0)) is Status.UNCHANGED

    @pytest.mark.spec("fip-status-7", "fip-status-8", "fip-server-10")
    def test_a_tree_whose_root_is_another_is_not_sent(self, rebuilding: Raw, published: Published) -> None:
        """Nor are the data, once it is known."""
        handle, _, tag = rebuilding.file(b"big")
        same_size(published, "big")
        assert isinstance(rebuilding.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)), m.ReadOk), "nobody knows yet"
        assert rebuilding.call(m.TREE, m.TreeArgs(handle, tag, 0, 0, 1)) is Status.UPDATING
        assert rebuilding.call(m.PROOF, m.ProofArgs(handle, tag, 6, 0, 1)) is Status.UPDATING
        assert rebuilding.call(m.READ, m.ReadArgs(handle, tag, 0, 1, None)) is Status.UPDATING
        assert rebuilding.call(m.FETCH, m.FetchArgs(b"", b"big", 2**20)) is Status.UPDATING

    @pytest.mark.spec("fip-status-8", "fip-server-13")
    def test_what_is_known_to_be_another_content_is_not_hashed_again(self, published: Published) -> None:
        with running(published.root, keep=False, update_window=0) as server, server.client() as client:
            handle, _, tag = client.file(b"big")
            same_size(published, "big")
            builds = []
            build = server.service.trees.build
            server.service.trees.build = lambda *a: builds.append(a) or build(*a)  # type: ignore[method-assign,func-returns-value]
            for _ in range(3):
                assert client.call(m.PROOF, m.ProofArgs(handle, tag, 6, 0, 1)) is Status.CHANGED
            assert len(builds) == 1
            published.write({"big": b"back to something else"})
            published.sign("big")
            assert isinstance(client.call(m.FETCH, m.FetchArgs(b"", b"big", 2**20)), m.FetchOk)

    @pytest.mark.spec("fip-status-7")
    def test_a_kept_tree_answers_whatever_the_content_is(self, client: Raw, published: Published) -> None:
        handle, _, tag = client.file(b"big")

        def hashes() -> tuple[bytes, bytes]:
            tree = client.raw(m.TREE, m.TreeArgs(handle, tag, 0, 0, 38))
            return tree, client.raw(m.PROOF, m.ProofArgs(handle, tag, 6, 7, 1))

        before = hashes()
        same_size(published, "big")
        assert hashes() == before
        (published.root / "big").write_bytes(b"")
        assert hashes() == before

    @pytest.mark.spec("fip-status-8")
    def test_a_content_that_comes_back(self, rebuilding: Raw, published: Published) -> None:
        handle, _, tag = rebuilding.file(b"big")
        good = (published.root / "big").read_bytes()
        same_size(published, "big")
        assert rebuilding.call(m.PROOF, m.ProofArgs(handle, tag, 6, 0, 1)) is Status.UPDATING
        published.replace("big", good)
        assert isinstance(rebuilding.call(m.PROOF, m.ProofArgs(handle, tag, 6, 0, 1)), m.ProofOk)


class TestRecordFirst:
    @pytest.mark.spec("fip-status-8", "fip-poll-4")
    def test_the_content_of_a_record_that_came_first_is_expected(self, published: Published) -> None:
        """And a poll that begins when the content has just come is not held: UPDATING was said for that."""
        old, new = (published.root / "big").read_bytes(), os.urandom(200_000)
        published.replace("big", new)
        signed = os.stat(published.root / "big")
        published.sign()
        published.replace("big", old)
        with running(published.root) as server, server.client() as client:
            server.service.trees.update_window = 60.0
            handle = client.handle(b"big")
            known = hashlib.sha256(client.record(b"big")).digest()
            assert client.call(m.RECORD, m.RecordArgs(handle, known, 0)) is Status.UPDATING
            published.replace("big", new)
            os.utime(published.root / "big", ns=(signed.st_atime_ns, signed.st_mtime_ns))
            assert client.call(m.RECORD, m.RecordArgs(handle, known, LONG)) is Status.UNCHANGED


class TestVersions:
    @pytest.mark.spec("fip-status-6", "fip-fetch-4", "fip-server-9")
    def test_a_tag_of_an_earlier_version(self, either: Raw, published: Published) -> None:
        handle, _, old = either.file(b"big")
        published.replace("big", os.urandom(3 * UNIT))
        published.sign()
        again, file, new = either.file(b"big")
        assert (again, new != old, file.content.tree.size) == (handle, True, 3 * UNIT)
        for args in (m.TreeArgs(handle, old, 0, 0, 1), m.ProofArgs(handle, old, 0, 0, 1)):
            procedure = m.TREE if isinstance(args, m.TreeArgs) else m.PROOF
            assert either.call(procedure, args) is Status.CHANGED
        assert either.call(m.READ, m.ReadArgs(handle, old, 0, 1, None)) is Status.CHANGED
        assert isinstance(either.call(m.READ, m.ReadArgs(handle, new, 0, 3, 2)), m.ReadOk)

    def test_a_new_publication_is_served_at_once(self, client: Raw, published: Published) -> None:
        """Without a restart, on the same connection: new files, new records, and what is gone."""
        published.write({"d/new": b"new", "top": b"newer"})
        assert client.call(m.RESOLVE, m.ResolveArgs(b"", b"d/new")) is Status.NOT_FOUND
        (published.root / "d" / "run").unlink()
        published.sign()
        assert bytes(client.call(m.FETCH, m.FetchArgs(b"", b"d/new", 9)).data) == b"new"
        assert bytes(client.call(m.FETCH, m.FetchArgs(b"", b"top", 9)).data) == b"newer"
        assert client.call(m.RESOLVE, m.ResolveArgs(b"", b"d/run")) is Status.NOT_FOUND

    def test_a_publication_that_cannot_be_read_is_passed_over(self, client: Raw, published: Published) -> None:
        before = client.record(b"top")
        good = head_path(published.root).read_bytes()
        for damage in (b"nonsense", good.replace(read_head(published.root).index.encode(), b"index-0")):
            (published.root / DIRECTORY / "head.new").write_bytes(damage)
            os.replace(published.root / DIRECTORY / "head.new", head_path(published.root))
            assert client.record(b"top") == before
        head_path(published.root).unlink()
        assert client.record(b"top") == before
        (published.root / "new").write_bytes(b"new")
        (published.root / DIRECTORY / "head.new").write_bytes(good)
        os.replace(published.root / DIRECTORY / "head.new", head_path(published.root))
        published.sign("new")
        assert bytes(client.call(m.FETCH, m.FetchArgs(b"", b"new", 9)).data) == b"new"

    def test_a_server_never_writes_in_the_tree(self, published: Published) -> None:
        def everything() -> dict[str, tuple[int, ...]]:
            found = {}
            for path in sorted([published.root, *published.root.rglob("*")]):
                status = path.lstat()
                found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            return found

        before = everything()
        for keep in (True, False):
            with running(published.root, keep=keep, show_all=True) as server, server.client() as client:
                for name in (b"big", b"top", b"d/e/deep"):
                    handle, file, tag = client.file(name)
                    height = file.content.tree.shape.height
                    client.call(m.PROOF, m.ProofArgs(handle, tag, height, 0, 1))
                    client.call(m.READ, m.ReadArgs(handle, tag, 0, 1, height))
                    assert client.result(m.RECORD, poll(client, name, 60)) is Status.UNCHANGED
                client.call(m.READDIR, m.ReaddirArgs(b"", b"", 100))
                assert everything() == before


class TestPolls:
    @pytest.mark.spec("fip-poll-1")
    def test_a_new_record_ends_a_poll(self, client: Raw, published: Published) -> None:
        xid = poll(client, b"top")
        held(client)
        published.replace("top", b"newer")
        published.sign("top")
        result = client.result(m.RECORD, xid)
        assert result == m.RecordOk(client.record(b"top"))

    @pytest.mark.spec("fip-poll-1")
    def test_a_publication_without_a_new_record_does_not(self, client: Raw, published: Published) -> None:
        xid, other = poll(client, b"top", 600), poll(client, b"d/run")
        held(client)
        published.write({"d/run": b"another"})
        published.sign()
        assert isinstance(client.result(m.RECORD, other), m.RecordOk)
        assert not client.early
        assert client.result(m.RECORD, xid) is Status.UNCHANGED

    def test_it_is_told_within_a_tenth_of_a_second(self, server: Running) -> None:
        """As a bound of the code, for a test cannot tell how busy the machine is."""
        assert polls.INTERVAL <= 0.1

    @pytest.mark.spec("fip-poll-2", "fip-status-9")
    def test_the_wait_ends(self, client: Raw, published: Published) -> None:
        assert client.result(m.RECORD, poll(client, b"top", 1)) is Status.UNCHANGED
        (published.root / "top").write_bytes(b"changed, and not signed")
        assert client.result(m.RECORD, poll(client, b"top", 0)) is Status.UPDATING
        assert client.result(m.RECORD, poll(client, b"top", 1)) is Status.UPDATING

    @pytest.mark.spec("fip-poll-2", "fip-status-9")
    def test_a_touched_file_of_the_same_content(self, client: Raw, published: Published) -> None:
        """Its time was changed within the last few seconds: a new record may be on its way."""
        os.utime(published.root / "top")
        assert client.result(m.RECORD, poll(client, b"top", 0)) is Status.UPDATING
        published.sign()
        assert client.result(m.RECORD, poll(client, b"top", 0)) is Status.UNCHANGED

    @pytest.mark.spec("fip-poll-4")
    def test_a_reason_that_is_gone_ends_a_poll(self, published: Published) -> None:
        with running(published.root, update_window=0.3) as server, server.client() as client:
            (published.root / "top").write_bytes(b"changed")
            xid = poll(client, b"top")
            assert client.result(m.RECORD, xid) is Status.UNCHANGED

    @pytest.mark.spec("fip-poll-4")
    def test_a_content_that_comes_back_ends_a_poll(self, client: Raw, published: Published) -> None:
        status, content = (published.root / "top").stat(), (published.root / "top").read_bytes()
        (published.root / "top").write_bytes(b"changed")
        xid = poll(client, b"top")
        held(client)
        published.replace("top", content)
        os.utime(published.root / "top", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert client.result(m.RECORD, xid) is Status.UNCHANGED

    @pytest.mark.spec("fip-poll-5")
    def test_a_file_that_goes_ends_a_poll(self, client: Raw, published: Published) -> None:
        xid = poll(client, b"top")
        held(client)
        (published.root / "top").unlink()
        assert client.result(m.RECORD, xid) is Status.BAD_HANDLE

    @pytest.mark.spec("fip-poll-5")
    @pytest.mark.parametrize("show_all", [True, False])
    def test_a_record_that_goes_ends_a_poll(self, published: Published, show_all: bool) -> None:
        """The publisher forgets it; the file is still there, unsigned."""
        with running(published.root, show_all=show_all) as server, server.client() as client:
            xid = poll(client, b"d/run")
            held(client)
            volume = read_head(published.root).volume
            shutil.rmtree(published.root / DIRECTORY)
            published.sign("top", volume=volume)
            assert client.result(m.RECORD, xid) is (Status.UNSIGNED if show_all else Status.BAD_HANDLE)

    @pytest.mark.spec("fip-poll-6", "fip-poll-7", "fip-record-3")
    def test_no_more_than_four(self, client: Raw, published: Published) -> None:
        xids = [poll(client, b"top") for _ in range(4)]
        held(client)
        assert client.result(m.RECORD, poll(client, b"d/run")) is Status.BUSY
        assert client.result(m.RECORD, poll(client, b"d/run", 0)) is Status.UNCHANGED
        handle = client.handle(b"d/run")
        for known in (b"", b"k" * 32):
            assert isinstance(client.call(m.RECORD, m.RecordArgs(handle, known, LONG)), m.RecordOk), "not a poll"
        published.replace("top", b"newer")
        published.sign()
        for xid in xids:
            assert isinstance(client.result(m.RECORD, xid), m.RecordOk)
        xid = poll(client, b"d/run", 1)
        assert client.result(m.RECORD, xid) is Status.UNCHANGED

    @pytest.mark.spec("fip-poll-6")
    def test_each_connection_has_its_own(self, server: Running, published: Published) -> None:
        clients = [server.client() for _ in range(3)]
        xids = [[poll(client, b"top") for _ in range(4)] for client in clients]
        for client in clients:
            held(client)
        published.replace("top", b"newer")
        published.sign()
        for client, own in zip(clients, xids, strict=True):
            for xid in own:
                assert isinstance(client.result(m.RECORD, xid), m.RecordOk)
            client.sock.close()

    @pytest.mark.spec("fip-poll-1", "fip-record-2")
    @pytest.mark.parametrize(("known", "wait"), [(b"", 60_001), (b"k" * 31, 0), (b"k", 0), (b"k" * 32, 2**32 - 1)])
    def test_arguments_that_are_not_allowed(self, client: Raw, known: bytes, wait: int) -> None:
        for handle in (client.handle(b"top"), b"nonsense"):
            assert client.call(m.RECORD, m.RecordArgs(handle, known, wait)) is Status.INVALID

    def test_a_client_that_goes_takes_its_polls_along(self, server: Running) -> None:
        with server.client() as client:
            poll(client, b"top")
            held(client)
        with server.client() as client:
            while server.service._polls._held:
                held(client)

    @pytest.mark.spec("fip-poll-7")
    def test_data_is_read_while_polls_are_held(self, client: Raw, published: Published) -> None:
        """Replies do not mix, however a poll ends meanwhile."""
        content = (published.root / "big").read_bytes()
        handle, _, tag = client.file(b"big")
        polls = [poll(client, b"top") for _ in range(4)]
        held(client)
        reads = [client.send(m.READ, m.ReadArgs(handle, tag, 0, 38, 6)) for _ in range(20)]
        published.replace("top", b"newer")
        published.sign("top")
        reads += [client.send(m.READ, m.ReadArgs(handle, tag, 0, 38, 6)) for _ in range(20)]
        for xid in reads:
            assert bytes(client.result(m.READ, xid).data) == content
        for xid in polls:
            assert isinstance(client.result(m.RECORD, xid), m.RecordOk)


@pytest.mark.spec("fip-server-9", "fip-fetch-4")
def test_publications_while_clients_read(server: Running, published: Published) -> None:
    """Each FETCH is of one version: the content is what its record says, whatever is published meanwhile."""
    stop = threading.Event()
    contents = [bytes([65 + i]) * (UNIT * (i % 5) + 10) for i in range(20)]

    def publish() -> None:
        for content in contents * 2:
            published.replace("top", content)
            published.sign("top")
        stop.set()

    publisher = threading.Thread(target=publish)
    publisher.start()
    seen: set[int] = set()
    with server.client() as client:
        while not stop.is_set():
            result = client.call(m.FETCH, m.FetchArgs(b"", b"top", 2**20))
            if isinstance(result, Status):
                assert result in (Status.UPDATING, Status.CHANGED)
                continue
            seen.add(len(result.data))
    publisher.join()
    assert len(seen) > 1
