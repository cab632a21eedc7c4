# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Served trees by the library, blocking and not; signing and verifying where files lie; other processes."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nfsverity
from nfsverity import Mismatch, Presentation, StatusError, TrustEntry, VerificationError
from nfsverity_client.trust_store import Bindings, TrustStore
from nfsverity_proto.errors import Unreachable, Unsigned, Untrusted, WrongVolume
from nfsverity_publisher.lock import PublicationError
from serving import Published, Served, keys, publish_tree, serving

ACCENT = "\N{LATIN SMALL LETTER E WITH ACUTE}"
FILES = {"a/one": b"1", "a/b/two": b"2" * 100_000, "large": bytes(range(256)) * 20_000, ACCENT: b"n"}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish_tree(tmp_path_factory.mktemp("tree") / "tree", FILES)


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root) as served:
        yield served


def test_names(served: Served) -> None:
    with nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        assert [entry.name for entry in tree.list()] == [b"a", b"large", ACCENT.encode()]
        assert sorted(tree.walk()) == sorted(name.encode() for name in FILES)
        assert list(tree.walk("a")) == [b"a/one", b"a/b/two"] or list(tree.walk("a")) == [b"a/b/two", b"a/one"]
        for name, data in FILES.items():
            assert tree.read(name) == tree.read(name.encode()) == data
        with pytest.raises(ValueError):
            tree.open("../x")
        with pytest.raises(StatusError):
            tree.open("nothing")
        with pytest.raises(StatusError):
            tree.open("a")
        next(tree.walk())  # and no more of it


def test_a_directory_is_a_tree_too(served: Served) -> None:
    with nfsverity.open_tree(f"{served.url}a/b", trust=[keys().pin]) as tree:
        assert list(tree.walk()) == [b"two"]
        assert tree.read("two") == FILES["a/b/two"]


async def test_without_blocking(served: Served) -> None:
    async with nfsverity.open_tree_async(served.url, trust=[keys().pin]) as tree:
        assert [entry.name async for entry in tree.list("a")] == [b"b", b"one"]
        paths = [path async for path in tree.walk()]
        assert len(paths) == len(FILES)
        assert await asyncio.gather(*(tree.read(path) for path in paths)) == [FILES[path.decode()] for path in paths]
        reader = await tree.open("large", presentation="on-demand")
        assert reader.presentation is Presentation.ON_DEMAND
        assert await reader.pread(1000, 10) == FILES["large"][1000:1010]
        found = b"".join([bytes(part) async for part in reader.stream()])
        assert found == FILES["large"]


async def test_blocking_calls_work_where_an_event_loop_runs(served: Served) -> None:
    with nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        assert tree.read("a/one") == b"1"


def test_options(served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, certificate = keys().write(tmp_path)
    caplog.set_level(logging.WARNING, "nfsverity")
    with nfsverity.open_tree(served.url, trust=[certificate]) as tree, tree.open("a/one") as file:
        volume = file.verified.file.volume
    assert caplog.messages == [f"nfsv://127.0.0.1:{served.port} is from now on volume {volume.hex()} for you"]
    assert list(Bindings().all().values()) == [volume]
    with nfsverity.open_tree(served.url, trust=[certificate], volume=bytes(16)) as tree, pytest.raises(WrongVolume):
        tree.read("a/one")
    with nfsverity.open_tree(served.url) as tree, pytest.raises(Untrusted):
        tree.read("a/one")
    TrustStore().add(TrustEntry(keys().der))
    with nfsverity.open_tree(served.url) as tree:
        assert tree.read("a/one") == b"1"
    said = []
    bindings = Bindings(tmp_path / "other")
    with nfsverity.open_tree(
        served.url, bindings=bindings, on_binding=lambda *what: said.append(what), presentation="ahead"
    ) as tree:
        assert tree.read("large") == FILES["large"]
    assert len(said) == 1
    for bad in ("http://h:1/", "nfsv://h/", "nfsv://h:1/?q"):
        with pytest.raises(ValueError):
            nfsverity.open_tree(bad)
    with pytest.raises(ValueError):
        nfsverity.open_tree(served.url, volume=b"short")
    with pytest.raises(ValueError):
        nfsverity.open_tree(served.url, presentation="sideways")
    with pytest.raises(nfsverity.NfsVerityError):
        nfsverity.open_tree(served.url, trust=[key])
    with pytest.raises(FileNotFoundError):
        nfsverity.open_tree(served.url, trust=[tmp_path / "nothing"])


def test_nobody_listens() -> None:
    with nfsverity.open_tree("nfsv://127.0.0.1:1/", trust=[]) as tree, pytest.raises(Unreachable):
        tree.open("x")


# signing, and verifying where files lie


def test_sign_and_verify(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"x" * 100_000)
    (root / "g").write_bytes(b"g")
    key, certificate = keys().write(tmp_path)
    report = nfsverity.sign(root, key=key, certificate=certificate, form="records")
    assert report.signed == 2
    with caplog.at_level(logging.WARNING, "nfsverity"):
        verified = nfsverity.verify(root / "d" / "f", trust=[certificate])
    assert verified.content.tree.size == 100_000
    assert verified.content.tree.unit_log2 == 16
    assert len(caplog.messages) == 1
    assert verified.file.volume.hex() in caplog.messages[0]
    report = nfsverity.sign(root / "d", key=str(key), certificate=str(certificate), unit_size=4096, hash="blake3")
    assert report.signed == 1
    verified = nfsverity.verify(str(root / "d" / "f"), trust=[certificate])
    assert verified.content.tree.unit_log2 == 12
    assert verified.statement.hash == 0x10000
    assert nfsverity.sign(root, key=key, certificate=certificate).signed == 0, "what it has already is kept"
    with pytest.raises(WrongVolume):
        nfsverity.verify(root / "g", trust=[certificate], volume=bytes(16))
    with pytest.raises(Untrusted):
        nfsverity.verify(root / "g", trust=[])
    (root / "d" / "f").write_bytes(b"x" * 99_999 + b"y")
    with pytest.raises(Mismatch) as raised:
        nfsverity.verify(root / "d" / "f", trust=[certificate])
    assert (raised.value.offset, raised.value.length) == (24 * 4096, 100_000 - 24 * 4096)
    (root / "new").write_bytes(b"")
    with pytest.raises(Unsigned):
        nfsverity.verify(root / "new", trust=[certificate])
    with pytest.raises(Unsigned):
        nfsverity.verify(key, trust=[certificate])


@pytest.mark.parametrize("unit_size", [0, 1, 1000, 2048, 2**25])
def test_units_of_another_size(tmp_path: Path, unit_size: int) -> None:
    key, certificate = keys().write(tmp_path)
    with pytest.raises(ValueError):
        nfsverity.sign(tmp_path, key=key, certificate=certificate, unit_size=unit_size)


def test_sign_what_changed(tmp_path: Path) -> None:
    key, certificate = keys().write(tmp_path)
    (tmp_path / "d").mkdir()
    path = tmp_path / "d" / "f"
    path.write_bytes(bytes(range(256)) * 2048)
    nfsverity.sign(path, key=key, certificate=certificate)
    with path.open("r+b") as file:
        file.write(b"new")
        file.seek(0, os.SEEK_END)
        file.write(b"more")
    report = nfsverity.sign(path, key=key, certificate=certificate, changed=[(0, 3)])
    assert (report.bytes_hashed, report.whole) == (65536 + 4 + 2 * 65536, [])
    assert [change.ranges for change in report.changes] == [[(0, 65536), (524288, 4)]]
    assert nfsverity.verify(path, trust=[certificate]).content.tree.size == 524292
    with path.open("ab") as file:
        file.write(b"and more")
    report = nfsverity.sign(path, key=key, certificate=certificate, appended=True)
    assert report.whole == []
    assert nfsverity.verify(path, trust=[certificate]).content.tree.size == 524300
    (tmp_path / "new").write_bytes(b"replaced")
    nfsverity.sign(path, key=key, certificate=certificate, replace_with=tmp_path / "new")
    assert path.read_bytes() == b"replaced"
    assert nfsverity.verify(path, trust=[certificate]).content.tree.size == 8
    with pytest.raises(ValueError, match="range"):
        nfsverity.sign(path, key=key, certificate=certificate, changed=[(-1, 3)])


def test_what_cannot_be_signed(tmp_path: Path) -> None:
    key, certificate = keys().write(tmp_path)
    with pytest.raises(PublicationError, match="private key"):
        nfsverity.sign(tmp_path, key=key, certificate=certificate)
    with pytest.raises(FileNotFoundError):
        nfsverity.sign(tmp_path / "nothing", key=key, certificate=certificate)
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError):
        nfsverity.sign(tmp_path / "d", key=certificate, certificate=certificate)
    with pytest.raises(ValueError):
        nfsverity.sign(tmp_path / "d", key=key, certificate=certificate, hash="md5")


# other processes


def in_child(connection: object, tree: nfsverity.Tree, files: list[nfsverity.File]) -> None:
    found = [tree.read("a/one"), *(file.read(1000) for file in files)]
    connection.send(found)  # type: ignore[attr-defined]
    for file in files:
        file.close()
    tree.close()


@pytest.mark.skipif(not hasattr(multiprocessing, "get_context"), reason="there is no fork")
def test_what_was_opened_before_a_fork_works_on_both_sides(served: Served) -> None:
    context = multiprocessing.get_context("fork")
    large = FILES["large"]
    with nfsverity.open_tree(served.url, trust=[keys().pin]) as tree:
        files = [tree.open("large") for _ in range(3)]
        assert files[1].read(2**21) == large[: 2**21], "spans are under way ahead"
        assert files[2].read(1) == large[:1]
        ours, theirs = context.Pipe()
        child = context.Process(target=in_child, args=(theirs, tree, files))
        child.start()
        assert ours.recv() == [b"1", large[:1000], large[2**21 : 2**21 + 1000], large[1:1001]]
        child.join()
        assert child.exitcode == 0
        assert files[1].read(1000) == large[2**21 : 2**21 + 1000]
        assert tree.read("large") == large
        for file in files:
            file.close()
        ours.close()
        theirs.close()


def test_a_program_that_closes_nothing_ends(served: Served, tmp_path: Path) -> None:
    """And warns of nothing, but for what it left open itself."""
    _, certificate = keys().write(tmp_path)
    program = f"""
import nfsverity
tree = nfsverity.open_tree({served.url!r}, trust=[{str(certificate)!r}])
file = tree.open("large")
file.read(2**21)
kept = [file]
kept.append(kept)
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert "Traceback" not in ended.stderr


def test_closing_leaves_nothing_open(served: Served, tmp_path: Path) -> None:
    _, certificate = keys().write(tmp_path)
    program = f"""
import asyncio, gc
import nfsverity
with nfsverity.open_tree({served.url!r}, trust=[{str(certificate)!r}]) as tree:
    with tree.open("large") as file:
        file.read(2**21)
    next(tree.walk())
async def main():
    async with nfsverity.open_tree_async({served.url!r}, trust=[{str(certificate)!r}]) as tree:
        reader = await tree.open("large")
        async for part in reader.stream():
            break
asyncio.run(main())
gc.collect()
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stderr.splitlines() if "is from now on" not in line]
    assert not [line for line in said if not line.startswith("Executing <")]  # that it took long is no matter here


def test_verdicts_are_errors_of_one_root(served: Served) -> None:
    with nfsverity.open_tree(served.url, trust=[]) as tree, pytest.raises(VerificationError) as raised:
        tree.read("a/one")
    assert isinstance(raised.value, nfsverity.NfsVerityError)
    assert raised.value.where == f"{served.url}a/one"


POLICY = """\
format = 1
[[rule]]
name = "one"
path = "a/one"
action = "audit"
[[rule]]
name = "two"
path = "a/b/*"
action = "enforce"
[rule.require]
signers.count = 2
"""


@pytest.mark.spec("fim-policy-3", "fim-policy-9")
def test_policy(served: Served, published: Published, tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.toml", tmp_path / "audit.jsonl"
    policy.write_text(POLICY)
    options: nfsverity.TreeOptions = {"trust": [keys().pin], "policy": policy, "audit_log": log}
    with nfsverity.open_tree(served.url, **options) as tree:
        assert tree.read("large") == FILES["large"]
        with tree.open("a/one") as file:
            assert file.read() == b"1"
            assert file.unverified == 'rule "one", line 2 has let it pass'
            with pytest.raises(ValueError, match="not verified"):
                _ = file.verified
        with tree.open("large") as file:
            assert file.unverified is None
            assert file.verified.file.path == b"large"
        with pytest.raises(ValueError, match="not verified"):
            tree.read("a/one")
        with pytest.raises(VerificationError, match=r'too-few-signers: .*\[rule "two", line 6\]'):
            tree.open("a/b/two")
        with pytest.raises(VerificationError, match="policy-refused"):
            tree.open("large", gate="exec")
        with tree.open("large", gate="mmap") as file:
            assert file.read(10) == FILES["large"][:10]
        for gate in ("read", "none"):
            with pytest.raises(ValueError):
                tree.open("large", gate=gate)
    gates = [json.loads(line).get("gate") for line in log.read_text().splitlines()]
    assert gates == [None, "open", "read", "open", "read", "open", "open", "open", "exec", "mmap", "mmap"]
    with pytest.raises(ValueError, match="not verified"):
        nfsverity.verify(published.root / "a/one", trust=[keys().pin], policy=policy)
    with pytest.raises(VerificationError, match="too-few-signers"):
        nfsverity.verify(published.root / "a/b/two", trust=[keys().pin], policy=policy)
    assert nfsverity.verify(published.root / "a/one", trust=[keys().pin], policy=None).file.path == b"a/one"


@pytest.mark.spec("fim-policy-11")
def test_a_policy_that_cannot_be_used(served: Served, user: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        nfsverity.open_tree(served.url, policy=tmp_path / "none")
    (user / "config").mkdir(parents=True)
    (user / "config" / "policy.toml").write_text("format = 2")
    with pytest.raises(nfsverity.PolicyError):
        nfsverity.open_tree(served.url)
    with nfsverity.open_tree(served.url, trust=[keys().pin], policy=None) as tree:
        assert tree.read("a/one") == b"1"


def test_one_certificate_is_not_a_list_of_letters() -> None:
    with pytest.raises(TypeError, match=r"trust is a list: \['me.crt'\]"):
        nfsverity.open_tree("nfsv://127.0.0.1:1/", trust="me.crt")


def test_content_cannot_be_kept_without_a_cache() -> None:
    with pytest.raises(ValueError, match="only one of them"):
        nfsverity.open_tree("nfsv://localhost:1/", cache=False, cache_data=True)
