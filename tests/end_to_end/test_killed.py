# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A signer that is killed, or interrupted, at each step: the publication is the old one or the new one, whole.

A step is a system call that changes files. strace, from outside, has the first one of a kind end with the signal, then
the second, and so on.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nfsverity
from nfsverity_client.trust_store import CONFIG_VARIABLE, STATE_VARIABLE
from nfsverity_proto.hashes import hash_by_number
from nfsverity_proto.record import decode_record
from nfsverity_proto.statement import Content, File, decode_statement
from nfsverity_publisher.form import publish
from nfsverity_publisher.keys import load_signing_key
from nfsverity_publisher.transaction import Form, Options
from nfsverity_store.hashing import build, hash_runs
from nfsverity_store.kept import kept_tree
from nfsverity_store.layout import NotPublished, read_head
from nfsverity_store.nodes import MemoryStore, Nodes
from nfsverity_store.published import open_published
from nfsverity_store.revocation import revocation_path

from .conftest import COMMAND, SECONDS

pytestmark = [pytest.mark.tool("strace")]
CALLS = (
    "mkdir", "unlink", "rmdir", "unlinkat", "rename", "renameat", "truncate", "ftruncate", "fsync", "fdatasync",
    "flock", "copy_file_range", "sendfile", "pwrite64", "write",
)  # fmt: skip
"""What changes files, and the lock; `openat` makes none that a later call does not show."""
SIZE = 1100 * 4096
"""Of a file whose tree is a file of its own, in units of 4 KiB."""
VOLUME = bytes(range(16))
EACH = 2
"""Of a call that comes more often, so many are tried: the first ones, and the last."""

Edit = Callable[[Path], tuple[str, ...]]
"""Changes a tree; the arguments of `sign` that publish it."""


def first(tree: Path) -> tuple[str, ...]:
    shutil.rmtree(tree / ".nfsverity")
    return (str(tree),)


def again(tree: Path) -> tuple[str, ...]:
    (tree / "large").write_bytes(b"again" * (SIZE // 5))
    (tree / "small").write_bytes(b"again")
    (tree / "gone").unlink()
    return (str(tree),)


def in_part(tree: Path) -> tuple[str, ...]:
    with (tree / "large").open("r+b") as file:
        file.write(b"new")
        file.seek(0, os.SEEK_END)
        file.write(b"more")
    return ("--changed", "0:3", str(tree / "large"))


def appended(tree: Path) -> tuple[str, ...]:
    with (tree / "large").open("ab") as file:
        file.write(b"more" * 2048)
    return ("--appended", str(tree / "large"))


def replaced(tree: Path) -> tuple[str, ...]:
    new = tree.with_name("new")
    new.write_bytes(b"replaced" * (SIZE // 8))
    return ("--replace-with", str(new), str(tree / "large"))


def strace(
    nfsverity_: Any, arguments: tuple[Any, ...], output: Path, *options: str
) -> subprocess.CompletedProcess[bytes]:
    command = ["strace", "-f", "-qq", "-o", output, "-e", f"trace={','.join(CALLS)}", *options]
    return subprocess.run(
        [*command, COMMAND, *arguments], env=nfsverity_.environment, capture_output=True, timeout=SECONDS, check=False
    )


def published(tree: Path) -> dict[bytes, bytes]:
    """Every record; each kept tree is that of its content, or else of the one before that."""
    try:
        _, index = open_published(tree)
    except NotPublished:
        return {}
    found = {}
    for path, entry in index.files():
        assert entry.record is not None
        statement = decode_statement(decode_record(entry.record).statement)
        assert isinstance(statement.claim, File | Content)
        found[path] = entry.record
        content = statement.claim if isinstance(statement.claim, Content) else statement.claim.content
        hash = hash_by_number(statement.hash)
        nodes = kept_tree(tree, hash, content.tree, entry.tree)
        assert nodes is not None
        again = Nodes(hash, content.tree.shape, MemoryStore(bytearray(nodes.length)))
        leaves = nodes.run(0, 0, nodes.shape.units)
        hashes = [leaves[at : at + hash.length] for at in range(0, len(leaves), hash.length)]
        runs = [hashes[at : at + 1024] for at in range(0, len(hashes), 1024)]
        assert build(content.tree.shape, hash, runs, again) == content.tree.root
        assert again.store.read(0, again.length) == nodes.store.read(0, nodes.length)
    index.close()
    return found


def names_of(tree: Path) -> set[str]:
    """How the names in the metadata directory begin."""
    return {"head", "index", "lock", "trees"} | ({"nodes"} if read_head(tree).nodes is not None else set())


def check_new(tree: Path, certificate: Path) -> None:
    """Everything verifies, its kept tree is that of its content, and nothing is there that is not needed."""
    for path in published(tree):
        verified = nfsverity.verify(tree / os.fsdecode(path), trust=[certificate])
        fd = os.open(tree / os.fsdecode(path), os.O_RDONLY)
        shape, hash = verified.content.tree.shape, hash_by_number(1)
        assert build(shape, hash, hash_runs(fd, shape, hash), None) == verified.content.tree.root
        os.close(fd)
    names = {path.name for path in (tree / ".nfsverity").iterdir()}
    assert {"head", "lock", "trees", read_head(tree).index} <= names
    assert {name.partition("-")[0] for name in names} == names_of(tree)
    assert len(names) <= 5 + 2 * (read_head(tree).nodes is not None)  # parts of the publication before may be there
    kept = {path.name for path in (tree / ".nfsverity" / "trees").iterdir()}
    assert all(name.startswith("sha256-12-") for name in kept)
    assert len(kept) <= 2


@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize("form", ["--per-file", "--as-volume"])
@pytest.mark.parametrize(
    ("edit", "number"),
    [
        pytest.param(first, signal.SIGKILL, id="first-killed"),
        pytest.param(again, signal.SIGKILL, id="again-killed"),
        pytest.param(in_part, signal.SIGKILL, id="in-part-killed"),
        pytest.param(appended, signal.SIGKILL, id="appended-killed"),
        pytest.param(replaced, signal.SIGKILL, id="replaced-killed"),
        pytest.param(again, signal.SIGINT, id="again-interrupted"),
        pytest.param(replaced, signal.SIGINT, id="replaced-interrupted"),
    ],
)
def test_at_every_step(
    nfsverity: Any,
    alice: Any,
    tmp_path: Path,
    edit: Edit,
    number: signal.Signals,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    model, tree = tmp_path / "model", tmp_path / "tree"
    model.mkdir()
    (model / "large").write_bytes(os.urandom(SIZE))
    (model / "small").write_bytes(b"small")
    (model / "gone").write_bytes(b"gone")
    sign = ("sign", *alice.options, "--jobs", "1", "--unit-size", "4K", "--volume-id", VOLUME.hex(), form)
    signing = load_signing_key(alice.key, alice.certificate)
    nfsverity(*sign, model)

    def start(*options: str) -> tuple[dict[bytes, bytes], subprocess.CompletedProcess[bytes]]:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.rmtree(tmp_path / "state", ignore_errors=True)  # the tree goes back to its first version
        shutil.copytree(model, tree)
        arguments = edit(tree)
        before = published(tree)
        return before, strace(nfsverity, (*sign, *arguments), tmp_path / "calls", *options)

    _, done = start()
    assert done.returncode == 0, done.stderr
    check_new(tree, alice.certificate)
    steps = steps_of(tmp_path / "calls")
    assert {"rename", "fsync", "pwrite64", "unlink"} <= {call for call, _ in steps}
    ended = Counter[str]()
    for call, when in steps:
        before, done = start("-e", f"inject={call}:signal={number.name}:when={when}")
        assert done.returncode in (-number, 128 + number), (call, when, done.stderr)
        assert b"Traceback" not in done.stderr
        after = published(tree)
        ended["old" if after == before else "new"] += 1
        if edit is replaced and number == signal.SIGINT:
            check_records(tree, alice.certificate)
        if after != before:
            assert set(after) == {os.fsencode(path.name) for path in tree.iterdir() if path.is_file()}
            check_records(tree, alice.certificate)
        if number == signal.SIGINT and after == before and before:
            assert_clean(tree)
        chosen = Form.RECORDS if form == "--per-file" else Form.VOLUME
        publish(tree, [b""], [signing], Options(unit_log2=12, volume=VOLUME, form=chosen))
        check_new(tree, alice.certificate)
    assert set(ended) == {"old", "new"}


def steps_of(calls: Path) -> list[tuple[str, int]]:
    """Of what strace wrote: the calls to be tried, by name and number."""
    counts = Counter(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
    return [
        (call, when)
        for call, count in counts.items()
        for when in sorted({*range(1, EACH + 1), *range(count - EACH + 1, count + 1)} & set(range(1, count + 1)))
    ]


def check_records(tree: Path, certificate: Path) -> None:
    for path in published(tree):
        nfsverity.verify(tree / os.fsdecode(path), trust=[certificate])


def assert_clean(tree: Path) -> None:
    """Who can still tidy up leaves nothing of a publication that did not come about."""
    names = {path.name.partition("-")[0] for path in (tree / ".nfsverity").iterdir()}
    assert names == names_of(tree)
    assert len(list((tree / ".nfsverity" / "trees").iterdir())) == 1


@pytest.mark.timeout(300)
@pytest.mark.spec("fim-upd-1")
@pytest.mark.parametrize(
    ("what", "form"),
    [
        ("renew", "--as-volume"),
        *[(what, form) for what in ("revoke", "more") for form in ("--per-file", "--as-volume")],
    ],
)
def test_heads_and_revocations_at_every_step(
    nfsverity: Any, alice: Any, bob: Any, tmp_path: Path, what: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sign --renew`, a first `revoke`, and one that says more than one before."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    model, tree = tmp_path / "model", tmp_path / "tree"
    model.mkdir()
    (model / "large").write_bytes(os.urandom(SIZE))
    (model / "small").write_bytes(b"small")
    nfsverity("sign", *alice.options, "--unit-size", "4K", form, model)
    if what == "more":
        nfsverity("revoke", *alice.options, "--revoke-version", "sha256:" + "00" * 32, model)
    arguments: tuple[Any, ...] = ("sign", *alice.options, "--renew", "--days", "9", tree)
    if what != "renew":
        arguments = ("revoke", *alice.options, "--revoke-key", bob.certificate, tree)

    def start(*options: str) -> subprocess.CompletedProcess[bytes]:
        shutil.rmtree(tree, ignore_errors=True)
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        shutil.copytree(model, tree)
        return strace(nfsverity, arguments, tmp_path / "calls", *options)

    def said() -> tuple[Any, Any]:
        """By the head, and by the revocation: each verifies."""
        shown = nfsverity.json("show", "--trust", str(alice.certificate), str(tree / "small"))
        if not revocation_path(tree).exists():
            return shown["not_after"] is not None, ()
        listed = nfsverity.json("revoke", "--list", "--trust", str(alice.certificate), str(tree))
        return shown["not_after"] is not None, tuple(sorted(item["digest"] for item in listed["items"]))

    shutil.copytree(model, tree)
    old = said()
    done = start()
    assert done.returncode == 0, done.stderr
    new = said()
    assert new != old
    names = {path.name.partition("-")[0] for path in (tree / ".nfsverity").iterdir()}
    ended = Counter[str]()
    for call, when in steps_of(tmp_path / "calls"):
        done = start("-e", f"inject={call}:signal=SIGKILL:when={when}")
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (call, when, done.stderr)
        found = said()
        assert found in (old, new), (call, when)
        ended["old" if found == old else "new"] += 1
        check_records(tree, alice.certificate)
        nfsverity(*arguments)
        assert said() == new
        assert {path.name.partition("-")[0] for path in (tree / ".nfsverity").iterdir()} == names
    assert set(ended) == {"old", "new"}


@pytest.mark.parametrize("form", ["--per-file", "--as-volume"])
def test_an_export_at_every_step(nfsverity: Any, alice: Any, tmp_path: Path, form: str) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    out.mkdir()
    (tree / "small").write_bytes(b"small")
    nfsverity("sign", *alice.options, form, tree)
    arguments = ("export", "-o", out / "small.fim", tree / "small")
    assert strace(nfsverity, arguments, tmp_path / "calls").returncode == 0
    whole = (out / "small.fim").read_bytes()
    ended = Counter[int]()
    for call, when in steps_of(tmp_path / "calls"):
        (out / "small.fim").unlink(missing_ok=True)
        strace(nfsverity, arguments, tmp_path / "calls", "-e", f"inject={call}:signal=SIGKILL:when={when}")
        left = [path.read_bytes() for path in out.iterdir()]
        assert left in ([], [whole]), (call, when)
        ended[len(left)] += 1
        nfsverity(*arguments, status=4 if left else 0)
    assert set(ended) == {0, 1}
