# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Verifying where files lie: against an oracle that compares unit by unit, and while the tree changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nfsverity._local import LocalTree
from nfsverity._local_place import file_url, locate
from nfsverity_client.trust_store import Bindings
from nfsverity_proto.errors import Hidden, Mismatch, Unsigned, WrongVolume
from nfsverity_proto.trust import TrustEntry
from nfsverity_publisher.keys import SigningKey, load_signing_key
from nfsverity_publisher.new_key import make_key
from nfsverity_publisher.plan import plan
from nfsverity_publisher.publication import publish
from nfsverity_publisher.transaction import Options
from nfsverity_publisher.volume import publish_volume
from nfsverity_store.layout import DIRECTORY

UNIT = 4096


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    directory = tmp_path_factory.mktemp("key")
    for name, data in zip(("k", "c"), make_key("alice", "ed25519", 9), strict=True):
        (directory / name).write_bytes(data)
    return load_signing_key(directory / "k", directory / "c")


def sign(path: Path, key: SigningKey, **options: Any) -> None:
    for root, below in plan([path]).items():
        report = publish(root, below, [key], Options(unit_log2=12, **options))
        assert report.failed == []


Open = Callable[..., LocalTree]


@pytest.fixture
def opened(key: SigningKey) -> Iterator[Open]:
    """Opens trees, as one who believes their signer."""
    with contextlib.ExitStack() as stack:

        def open_tree(root: Path, **more: Any) -> LocalTree:
            return stack.enter_context(contextlib.closing(LocalTree(root, [TrustEntry(key.certificate.der)], **more)))

        yield open_tree


def oracle(signed: bytes, present: bytes) -> list[tuple[int, int]]:
    """Bad ranges, by comparing unit by unit what was signed and what is there."""
    bad: list[tuple[int, int]] = []
    for start in range(0, max(len(signed), len(present)), UNIT):
        stop = min(start + UNIT, max(len(signed), len(present)))
        if start < len(signed):
            stop = min(stop, len(signed))
            if signed[start:stop] != present[start:stop]:
                bad.append((start, stop))
    if len(present) > len(signed):
        bad.append((len(signed), len(present)))
    merged: list[tuple[int, int]] = []
    for start, stop in bad:
        if merged and merged[-1][1] == start:
            merged[-1] = merged[-1][0], stop
        else:
            merged.append((start, stop))
    return merged


SIZES = st.one_of(
    st.integers(0, 3 * UNIT), st.sampled_from([n * UNIT + d for n in (1, 2, 5, 8, 17) for d in (-1, 0, 1)])
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(size=SIZES, changes=st.lists(st.integers(0, 20 * UNIT), max_size=4), new_size=st.none() | SIZES)
def test_bad_ranges_are_those_of_the_oracle(
    key: SigningKey,
    opened: Open,
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    changes: list[int],
    new_size: int | None,
) -> None:
    root = tmp_path_factory.mktemp("t")
    content = hashlib.shake_128(size.to_bytes(4, "big")).digest(size)
    (root / "f").write_bytes(content)
    sign(root, key)
    changed = bytearray(content)
    if new_size is not None:
        changed = (changed + bytes(new_size))[:new_size]
    for offset in changes:
        if offset < len(changed):
            changed[offset] ^= 1
    (root / "f").write_bytes(changed)
    (result,) = opened(root).verify()
    expected = oracle(content, bytes(changed))
    assert [(bad.offset, bad.offset + bad.length) for bad in result.bad] == expected
    assert (result.error is None) == (changed == content)
    for bad in result.bad:
        first = content[bad.offset : min(bad.offset + UNIT, size)]
        if bad.expected is not None:
            assert bad.expected == hashlib.sha256(b"\0" + first).digest()
            assert bad.found == hashlib.sha256(b"\0" + changed[bad.offset : bad.offset + len(first)]).digest()


def test_a_file_of_many_runs(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    """Its kept tree is a file of its own; runs that are whole are not looked at in detail."""
    content = hashlib.shake_128(b"runs").digest(3 * 1024 * UNIT + 5)
    (tmp_path / "f").write_bytes(content)
    sign(tmp_path, key)
    with (tmp_path / "f").open("r+b") as file:
        for offset in (7 * UNIT, 1024 * UNIT - 1, 1024 * UNIT, 3 * 1024 * UNIT + 4):
            byte = content[offset] ^ 1
            file.seek(offset)
            file.write(bytes([byte]))
    (result,) = opened(tmp_path).verify()
    places = [(bad.offset, bad.length) for bad in result.bad]
    assert places == [(7 * UNIT, UNIT), (1023 * UNIT, 2 * UNIT), (3 * 1024 * UNIT, 5)]
    (kept,) = (tmp_path / DIRECTORY / "trees").iterdir()
    with kept.open("r+b") as file:  # one leaf of the first run: that run is then known as a whole only
        file.write(b"\0\1\2\3")
    (result,) = opened(tmp_path).verify()
    assert (result.bad[0].offset, result.bad[0].length) == (0, 1025 * UNIT)
    kept.unlink()
    (result,) = opened(tmp_path).verify()
    assert isinstance(result.error, Mismatch)
    assert result.bad == ()


def test_what_was_published_meanwhile_is_judged_anew(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    sign(tmp_path, key)
    tree = opened(tmp_path)
    generation = tree.head.generation
    (tmp_path / "f").write_bytes(b"newer")
    (tmp_path / "g").write_bytes(b"new")
    sign(tmp_path, key)
    results = {result.path: result for result in tree.verify()}
    assert [results[path].error for path in (b"f", b"g")] == [None, None]
    verified = results[b"f"].verified
    assert verified is not None
    assert verified.file.when.generation == tree.head.generation > generation


def test_the_first_of_two_processes_binds(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    (root / "f").write_bytes(b"x")
    sign(root, key)
    bindings, announced = Bindings(tmp_path), list[tuple[str, bytes]]()
    tree = opened(root, bindings=bindings, announce=lambda *made: announced.append(made))
    bindings.bind(tree.url, bytes(16))  # by another process, after this one looked
    (result,) = tree.verify()
    assert isinstance(result.error, WrongVolume)
    assert announced == []
    assert bindings.get(tree.url) == bytes(16)


def test_a_binding_is_announced_once(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    for name in "fgh":
        (root / name).write_bytes(b"x")
    sign(root, key)
    announced = list[tuple[str, bytes]]()
    tree = opened(root, bindings=Bindings(tmp_path), announce=lambda *made: announced.append(made))
    assert all(result.error is None for result in tree.verify())
    assert announced == [(file_url(os.fsencode(root)), tree.head.volume)]


def test_files_are_told_apart_from_what_replaced_them(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    for name in ("a", "b", "c/d", "e/f"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    sign(tmp_path, key)
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "new").write_bytes(b"x")
    (tmp_path / "b").unlink()
    os.mkfifo(tmp_path / "b")
    (tmp_path / "c" / "d").unlink()
    (tmp_path / "c").rmdir()
    (tmp_path / "c").write_bytes(b"x")
    (tmp_path / "e").rename(tmp_path / "elsewhere")
    (tmp_path / "e").symlink_to("elsewhere")
    tree = opened(tmp_path)
    found = {result.path: (type(result.error), getattr(result.error, "found", None)) for result in tree.verify()}
    assert found == {
        b"a": (Mismatch, "something else"),
        b"a/new": (Unsigned, None),
        b"b": (Mismatch, "something else"),
        b"c": (Unsigned, None),
        b"c/d": (Mismatch, "none"),
        b"e/f": (Mismatch, "none"),
        b"elsewhere/f": (Unsigned, None),
    }
    assert tree.skipped == [(b"e", "symbolic link")]


def test_what_is_too_deep_for_a_record_is_unsigned(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    sign(tmp_path, key)
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir(b"d", dir_fd=at)
        below = os.open(b"d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    results = {result.path.count(b"/"): result.error for result in opened(tmp_path).verify()}
    assert set(results) == {0, 300}
    assert isinstance(results[300], Unsigned)


def test_progress_and_size_agree(key: SigningKey, opened: Open, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, size in (("a", 0), ("b", 3 * UNIT + 1), ("d/c", 5)):
        (tmp_path / name).write_bytes(bytes(size) if size == 5 else os.urandom(size))
    sign(tmp_path, key)
    done: list[tuple[bytes, int]] = []
    tree = opened(tmp_path, progress=lambda *step: done.append(step))
    assert all(result.error is None for result in tree.verify())
    assert sum(count for _, count in done) == tree.size() == 3 * UNIT + 6
    assert (tree.size(b"d"), tree.size(b"b"), tree.size(b"none")) == (5, 3 * UNIT + 1, 0)


def test_locate(key: SigningKey, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    with pytest.raises(Unsigned):
        locate(tmp_path / "d" / "f")
    sign(tmp_path, key)
    (tmp_path / "to-f").symlink_to("d/f")
    (tmp_path / "to-d").symlink_to("d")
    assert locate(tmp_path) == (tmp_path, b"")
    assert locate(tmp_path / "d" / "f") == (tmp_path, b"d/f")
    assert locate(tmp_path / "to-d") == (tmp_path, b"d")
    with pytest.raises(Unsigned, match="symbolic link"):
        locate(tmp_path / "to-f")
    for missing in ("none", "d/none", "none/f"):
        with pytest.raises(FileNotFoundError):
            locate(tmp_path / missing)
    shutil.rmtree(tmp_path / "d")
    assert locate(tmp_path / "d" / "f") == (tmp_path, b"d/f")
    assert locate(tmp_path / "d") == (tmp_path, b"d")
    (tmp_path / "d").write_bytes(b"no directory")
    assert locate(tmp_path / "d" / "f") == (tmp_path, b"d/f")


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_directory_that_is_replaced_meanwhile(opened: Open, key: SigningKey, tmp_path: Path, change: str) -> None:
    root, deep = tmp_path / "tree", tmp_path / "tree" / "d" / "e"
    deep.mkdir(parents=True)
    for name in "abc":
        (deep / name).write_bytes(name.encode() * 5000)
    publish_volume(root, [b""], [key], Options(unit_log2=12))
    copy = shutil.copytree(root / "d", tmp_path / "copy")

    def progress(path: bytes, _: int) -> None:
        if path == b"d/e/a":
            shutil.rmtree(root / "d")
            if change == "replaced":
                copy.rename(root / "d")

    found = {result.path: result.error for result in opened(root, progress=progress).verify()}
    if change == "replaced":
        assert found == dict.fromkeys([b"d/e/a", b"d/e/b", b"d/e/c"])
    else:
        assert {path: type(error) for path, error in found.items() if error is not None} == {
            b"d/e/b": Hidden, b"d/e/c": Hidden
        }  # fmt: skip
