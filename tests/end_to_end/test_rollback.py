# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Servers that go back, publishers that say two things, and a user who accepts it, or not."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nfsverity as api
from nfsverity_client.marks import MarkStore
from serving import Keys, Published, keys


@pytest.fixture
def signed(either: Path) -> Path:
    return either


FILES = 6
"""In the tree."""


def audited(user: Any) -> list[dict[str, Any]]:
    lines = (user.home / "state" / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def old(signed: Path, tmp_path: Path) -> Path:
    """What the tree was; after that, a.txt and the other files of `signed` became newer ones."""
    old = shutil.copytree(signed, tmp_path / "old")
    (signed / "a.txt").write_bytes(b"newer\n")
    return old


@pytest.fixture
def newer(nfsverity: Any, old: Path, signed: Path, alice: Any) -> Path:
    nfsverity("sign", *alice.options, signed)
    return signed


@pytest.fixture
def place(serve: Callable[..., Any], old: Path, newer: Path) -> Callable[[Path], str]:
    """Serves one tree after the other at the same URL, each by a process of its own."""
    running: list[Any] = []

    def serves(tree: Path) -> str:
        port = running[-1].port if running else 0
        if running:
            running[-1].stop()
        running.append(serve(tree, "--listen", f"127.0.0.1:{port}"))
        return str(running[-1].url)

    return serves


def generation_of(nfsverity: Any, where: str | Path) -> int:
    return int(nfsverity.json("show", str(where))["generation"])


@pytest.mark.spec("fim-mark-2", "fim-mark-3")
def test_a_server_that_goes_back_is_told(
    nfsverity: Any, place: Any, old: Path, newer: Path, tmp_path: Path, form: str
) -> None:
    url = place(newer)
    assert nfsverity("cat", f"{url}/a.txt").out == b"newer\n"
    now = generation_of(nfsverity, f"{url}/a.txt")
    place(old)
    for arguments in (("cat", f"{url}/a.txt"), ("get", f"{url}/a.txt", tmp_path / "one"), ("show", f"{url}/a.txt")):
        result = nfsverity(*arguments, status=1)
        assert "rollback" in result.err
        assert f"expected at least {now}" in result.err
        assert f"generation {now} was accepted here on 20" in result.err
        reset = f"`nfsverity trust reset {url}/" + (
            "`, which is for the whole volume" if form == "volume" else "a.txt`"
        )
        assert reset in result.err
        assert arguments[0] == "show" or result.out == b""
    assert not (tmp_path / "one").exists()
    nfsverity("get", f"{url}/", tmp_path / "all", status=1)
    assert not (tmp_path / "all" / "a.txt").exists()
    assert (tmp_path / "all" / "big.bin").exists() == (form == "per-file")
    verified = nfsverity.json("verify", f"{url}/", status=1)
    found = {file["path"]: file["verdict"] for file in verified["files"]}
    if form == "volume":
        assert (found, verified["errors"][0]["verdict"]) == ({}, "rollback")
    else:
        assert found.pop("a.txt") == "rollback"
        assert set(found.values()) == {"verified"}


def test_programs_are_told_too(nfsverity: Any, place: Any, old: Path, newer: Path, monkeypatch: Any, form: str) -> None:
    for name in ("NFSVERITY_CONFIG_DIR", "NFSVERITY_STATE_DIR"):
        monkeypatch.setenv(name, nfsverity.environment[name])
    url = place(newer)
    with api.open_tree(url) as tree:
        assert tree.read("a.txt") == b"newer\n"
    place(old)
    with api.open_tree(url) as tree:
        for name in ("a.txt", "empty") if form == "volume" else ("a.txt",):
            with pytest.raises(api.VerificationError, match="rollback"):
                tree.open(name)
        if form == "per-file":
            assert tree.read("empty") == b""
    with api.open_tree(url, state=api.State(nfsverity.home / "another")) as tree:  # who has seen nothing
        assert tree.read("a.txt") == b"hello\n"


def test_a_tree_on_this_machine_that_goes_back_is_told(
    nfsverity: Any, old: Path, newer: Path, monkeypatch: Any
) -> None:
    nfsverity("verify", newer)
    shutil.rmtree(newer)
    shutil.copytree(old, newer)
    result = nfsverity("verify", newer, status=1)
    assert result.err.count("rollback") == 1
    for name in ("NFSVERITY_CONFIG_DIR", "NFSVERITY_STATE_DIR"):
        monkeypatch.setenv(name, nfsverity.environment[name])
    with pytest.raises(api.VerificationError, match="rollback"):
        api.verify(newer / "a.txt")
    assert nfsverity.json("show", str(newer / "a.txt"), status=1)["error"]["verdict"] == "rollback"


@pytest.mark.parametrize("form", ["per-file"], indirect=True)  # a volume has one mark
@pytest.mark.spec("fim-mark-4")
def test_the_user_can_accept_it(nfsverity: Any, place: Any, old: Path, newer: Path) -> None:
    url = place(newer)
    nfsverity("verify", f"{url}/")
    now = generation_of(nfsverity, f"{url}/a.txt")
    place(old)
    refused = nfsverity("trust", "reset", f"{url}/a.txt", status=4)
    assert f"a.txt  generation {now}" in refused.err
    assert "--yes" in refused.err
    assert nfsverity.json("verify", f"{url}/a.txt", status=1)["failed"] == 1
    (dropped,) = nfsverity.json("trust", "reset", "--yes", f"{url}/a.txt")["marks"]
    assert (dropped["path"], dropped["generation"]) == ("a.txt", str(now))
    assert nfsverity("cat", f"{url}/a.txt").out == b"hello\n"
    (event,) = [event for event in audited(nfsverity) if event["event"] == "trust-reset"]
    assert (event["path"], event["generation"], event["tag"]) == ("a.txt", str(now), dropped["tag"])
    place(newer)
    assert nfsverity("cat", f"{url}/a.txt").out == b"newer\n"


@pytest.mark.spec("fim-mark-4")
@pytest.mark.parametrize("form", ["volume"], indirect=True)
@pytest.mark.parametrize("kind", ["served", "on this machine"])
def test_the_user_can_accept_an_older_volume_by_what_the_error_says(
    nfsverity: Any, place: Any, old: Path, newer: Path, kind: str
) -> None:
    copy = shutil.copytree(newer, newer.with_name("copy"))

    def goes_to(tree: Path) -> str:
        if kind == "served":
            return str(place(tree)) + "/"
        shutil.rmtree(newer, ignore_errors=True)
        return str(shutil.copytree(tree, newer)) + "/"

    root = goes_to(copy)
    nfsverity("verify", root)
    head = nfsverity.json("trust", "list")["marks"]
    assert [(mark["files"], mark["head"] is None) for mark in head] == [(0, False)]
    now = head[0]["head"]
    assert f"all files, generation {now}" in nfsverity("trust", "list").text
    goes_to(old)
    inside = nfsverity("trust", "reset", "--yes", f"{root}a.txt", status=4)
    assert "a.txt has no mark of its own" in inside.err
    for said in (
        nfsverity("verify", root, status=1).err,
        nfsverity("verify", f"{root}empty", status=1).err,
        inside.err,
    ):
        (command,) = re.findall(r"`nfsverity (trust reset [^`]*)`", said)
        refused = nfsverity(*shlex.split(command), status=4)
        assert f"all files  generation {now}" in refused.err
        assert "--yes" in refused.err
    assert nfsverity.json("trust", "list")["marks"] == head
    (dropped,) = nfsverity.json(*shlex.split(command), "--yes")["marks"]
    assert (dropped["kind"], dropped["path"], dropped["generation"]) == ("volume", "", now)
    assert nfsverity.json("trust", "list")["marks"] == []
    again = nfsverity("verify", root)
    assert f"{FILES} files seen for the first time" in again.text
    (event,) = [event for event in audited(nfsverity) if event["event"] == "trust-reset"]
    names = ("kind", "volume", "path", "generation", "tag")
    assert [event[name] for name in names] == [dropped[name] for name in names]
    nfsverity("audit", "verify")
    assert nfsverity.json("trust", "list")["marks"][0]["head"] < now
    goes_to(copy)
    nfsverity("verify", root)


@pytest.mark.spec("fim-head-2", "fip-vol-1", "fim-mark-4")
@pytest.mark.parametrize("form", ["per-file"], indirect=True)
def test_a_volume_that_is_none_any_more_is_told_and_can_be_accepted(
    nfsverity: Any, place: Any, old: Path, newer: Path, alice: Any
) -> None:
    """It became a volume, and was put back to what it was before that."""
    nfsverity("sign", *alice.options, "--as-volume", newer)
    url = place(newer)
    nfsverity("verify", f"{url}/")
    place(old)
    told = nfsverity("cat", f"{url}/a.txt", status=1)
    assert told.out == b""
    here = nfsverity("verify", "--volume", nfsverity.json("trust", "list")["marks"][0]["volume"], old, status=1)
    assert here.err.count("wrong-kind: the volume has a head") == FILES
    assert f"`nfsverity trust reset {old.as_uri()}/`, which is for the whole volume" in here.err
    (command,) = set(re.findall(r"`nfsverity (trust reset [^`]*)`", told.err))
    nfsverity(*shlex.split(command), "--yes")
    assert nfsverity("cat", f"{url}/a.txt").out == b"hello\n"


@pytest.mark.parametrize("form", ["per-file"], indirect=True)  # a volume has one mark
def test_a_directory_is_reset_with_all_below_it(nfsverity: Any, newer: Path) -> None:
    nfsverity("verify", newer)
    (before,) = nfsverity.json("trust", "list")["marks"]
    gone = nfsverity.json("trust", "reset", "--yes", str(newer / "sub"))["marks"]
    assert len(gone) == 3
    assert all((mark["path"] or "sub/").startswith("sub/") for mark in gone)
    assert nfsverity.json("trust", "list")["marks"][0]["files"] == before["files"] - 3
    assert len(nfsverity.json("trust", "reset", "--yes", str(newer))["marks"]) == before["files"] - 3
    assert nfsverity.json("trust", "reset", "--yes", str(newer))["marks"] == []


def test_a_terminal_is_asked(nfsverity: Any, newer: Path, form: str) -> None:
    nfsverity("verify", newer / "a.txt")
    target = newer if form == "volume" else newer / "a.txt"
    for answer, status in ((b"n\n", 4), (b"y\n", 0)):
        here, there = pty.openpty()
        os.write(here, answer)
        result = nfsverity("trust", "reset", target, status=status, stdin=there)
        assert "Drop this?" in result.err
        os.close(here)
        os.close(there)
    assert nfsverity.json("trust", "list")["marks"] == []


def test_nothing_is_reset_where_nothing_is_known(nfsverity: Any, newer: Path) -> None:
    assert "no volume is expected there yet" in nfsverity("trust", "reset", "--yes", newer, status=4).err
    nfsverity("trust", "reset", status=2)
    assert not (nfsverity.home / "state").exists()


@pytest.mark.spec("fim-mark-4")
def test_marks_go_with_the_last_entry_of_their_certificate(nfsverity: Any, alice: Any, old: Path, newer: Path) -> None:
    second = nfsverity.json("trust", "add", str(alice.certificate), "--volume", "00" * 16)["id"]
    nfsverity("verify", newer)
    nfsverity("trust", "remove", second)
    assert nfsverity.json("trust", "list")["marks"] != []
    nfsverity("trust", "remove", alice.fingerprint)
    assert nfsverity.json("trust", "list")["marks"] == []
    assert [event["event"] for event in audited(nfsverity)][-1] == "trust-removed"


def two_of_one_generation(directory: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Keys]:
    """Two publications of one volume and one moment, with other content."""
    signer = keys("two-faced")
    with monkeypatch.context() as patched:
        moment = time.time_ns()
        patched.setattr(time, "time_ns", lambda: moment)
        for name in ("one", "other"):
            (directory / name).mkdir()
            published = Published(directory / name, signer)
            published.write({"f": name.encode()})
            (published.sign_volume if form == "volume" else published.sign)(volume=b"V" * 16)
    return directory / "one", directory / "other", signer


def test_two_versions_of_one_generation_are_told(
    nfsverity: Any, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    one, other, signer = two_of_one_generation(tmp_path, form, monkeypatch)
    _, certificate = signer.write(tmp_path)
    nfsverity("trust", "add", certificate)
    url = place(one)
    assert nfsverity("cat", f"{url}/f").out == b"one"
    place(other)
    result = nfsverity("cat", f"{url}/f", status=1)
    assert result.out == b""
    assert "equivocation" in result.err
    assert "was accepted here on 20" in result.err
    assert "ask the publisher" in result.err
    report = nfsverity.json("verify", f"{url}/", status=1)
    errors = report["errors"] if form == "volume" else report["files"]
    assert [error["verdict"] for error in errors] == ["equivocation"]
    place(one)
    assert nfsverity("cat", f"{url}/f").out == b"one"


@pytest.mark.spec("fim-mark-5")
def test_a_first_use_is_called_one(nfsverity: Any, place: Any, old: Path, newer: Path, form: str) -> None:
    url = place(old)
    shown = nfsverity.json("show", f"{url}/a.txt")
    assert shown["mark"] is None
    assert "whether this is the latest cannot be told" in nfsverity("show", f"{url}/a.txt").text
    nfsverity("show", f"{url}/a.txt")
    first = nfsverity("verify", f"{url}/a.txt")
    assert "1 file seen for the first time: whether it is the latest cannot be told" in first.text
    assert "first time" not in nfsverity("verify", f"{url}/a.txt").text
    files = nfsverity.json("verify", f"{url}/")["files"]
    assert {file["path"]: file["seen_before"] for file in files if file["path"] in ("a.txt", "empty")} == {
        "a.txt": True,
        "empty": form == "volume",
    }
    mark = nfsverity.json("show", f"{url}/a.txt")["mark"]
    tag = shown["head"]["tag"] if form == "volume" else shown["tag"]
    assert (mark["generation"], mark["tag"]) == (shown["generation"], tag)


def test_the_users_own_list_revokes_keys_and_versions(nfsverity: Any, alice: Any, old: Path, newer: Path) -> None:
    tag = nfsverity.json("show", str(newer / "a.txt"))["tag"]
    (item,) = nfsverity.json("trust", "revoke", f"version:{tag}")["revoked"]
    assert item["item"] == f"version:sha256:{tag}"
    assert nfsverity.json("trust", "revoke", f"version:{tag}")["revoked"] == []
    files = {file["path"]: file["verdict"] for file in nfsverity.json("verify", str(newer), status=1)["files"]}
    assert files.pop("a.txt") == "revoked"
    assert set(files.values()) == {"verified"}
    nfsverity("trust", "unrevoke", f"version:{tag}")
    nfsverity("verify", newer)
    (key,) = nfsverity.json("trust", "revoke", str(alice.certificate))["revoked"]
    assert nfsverity.json("trust", "list")["revoked"] == [key]
    result = nfsverity("verify", newer, status=1)
    assert "revoked" in result.err
    assert nfsverity.json("show", str(newer / "a.txt"), status=1)["attestations"][0]["error"]["verdict"] == "revoked"
    nfsverity("trust", "unrevoke", key["item"])
    nfsverity("verify", newer)
    assert "has no key:" in nfsverity("trust", "unrevoke", alice.certificate, status=4).err
    said = [event["event"] for event in audited(nfsverity)][1:]
    assert said == [f"trust-{word}" for word in ("revoke", "revoke", "unrevoke", "revoke", "unrevoke", "unrevoke")]


@pytest.mark.parametrize("name", ["key:00", "version:md5:00", "key:sha256:xyz", "version:" + "0" * 63])
def test_what_is_no_item_is_not_revoked(nfsverity: Any, name: str) -> None:
    nfsverity("trust", "revoke", name, status=2)


def full(nfsverity: Any, *arguments: str | Path, room: int) -> subprocess.CompletedProcess[bytes]:
    """A run of the command in which no file may become longer than `room`."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = shutil.which("nfsverity", path=os.path.dirname(sys.executable)) or "nfsverity"
    return subprocess.run([command, *arguments], env=nfsverity.environment, capture_output=True, preexec_fn=limit)


@pytest.mark.spec("fim-mark-3")
def test_without_room_for_marks_nothing_is_delivered(
    nfsverity: Any, place: Any, newer: Path, old: Path, tmp_path: Path, form: str
) -> None:
    url = place(newer)
    nfsverity("verify", f"{url}/empty")  # binds the volume, and makes the file
    if form == "volume":
        nfsverity("trust", "reset", "--yes", f"{url}/")  # the mark that came with it, which is that of all files
    for arguments in (("cat", f"{url}/a.txt"), ("verify", f"{url}/a.txt"), ("verify", newer)):
        done = full(nfsverity, *arguments, room=1000)
        assert done.returncode == 4, done.stderr
        assert b"hello" not in done.stdout
        assert b"state.db" in done.stderr
        assert b"make room" in done.stderr
    assert nfsverity.json("show", f"{url}/a.txt")["mark"] is None
    if form == "per-file":
        assert full(nfsverity, "cat", f"{url}/empty", room=0).returncode == 4
    nfsverity("cat", f"{url}/a.txt")


@pytest.mark.spec("fim-mark-3")
def test_a_copy_that_stays_has_its_marks_too(
    nfsverity: Any, place: Any, newer: Path, old: Path, tmp_path: Path, form: str
) -> None:
    """Where nothing, or not all, is fetched since it is at the destination already."""
    url = place(newer)
    files = len(nfsverity.json("get", f"{url}/", str(tmp_path / "all"))["files"])
    nfsverity("get", f"{url}/big.bin", tmp_path / "one")
    state = nfsverity.home / "state" / "state.db"
    for source, destination, marks in ((f"{url}/", "all", files), (f"{url}/big.bin", "one", 1)):
        for path in state.parent.glob("state.db*"):
            path.unlink()
        nfsverity("get", source, tmp_path / destination)
        (kept,) = nfsverity.json("trust", "list")["marks"]
        assert (kept["files"], kept["head"] is None) == ((0, False) if form == "volume" else (marks, True))
    state.unlink()
    for _ in range(2):
        assert full(nfsverity, "get", f"{url}/", tmp_path / "all", room=10**4).returncode == 4
        assert full(nfsverity, "get", f"{url}/", tmp_path / "fresh", room=10**4).returncode == 4
    assert not (tmp_path / "fresh").exists()


def test_damaged_state_is_an_error_that_says_what_to_do(nfsverity: Any, newer: Path) -> None:
    nfsverity("verify", newer)
    state = nfsverity.home / "state" / "state.db"
    whole = state.read_bytes()
    for content in (b"", whole[:5000], b"x" * 9000):
        state.write_bytes(content)
        for arguments in (("verify", newer), ("show", newer / "a.txt"), ("trust", "list")):
            result = nfsverity(*arguments, status=4)
            assert "state.db: is damaged" in result.err
            assert "move it away" in result.err
        error = nfsverity.json("verify", str(newer / "a.txt"), status=4)["errors"][0]
        assert (error["kind"], error["file"]) == ("local", str(state))
    state.unlink()
    nfsverity("verify", newer)


READS = """
import os, sys
import nfsverity
with nfsverity.open_tree(sys.argv[1]) as tree:
    print("ready", flush=True)
    for name in tree.walk():
        with tree.open(name) as file:
            file.read()
            print(os.fsdecode(name), file.verified.file.when.generation, flush=True)
"""


@pytest.mark.spec("fim-mark-3")
def test_what_a_killed_reader_has_read_has_its_mark(
    nfsverity: Any, serve: Callable[..., Any], tmp_path: Path, alice: Any
) -> None:
    """A real server, and readers that are killed after some files, while each round has new versions of all."""
    tree = tmp_path / "many"
    tree.mkdir()
    nfsverity("trust", "add", alice.certificate)
    server = None
    for number in range(6):
        for name in range(120):
            (tree / f"f{name}").write_bytes(b"%d" % number)
        nfsverity("sign", *alice.options, "--per-file", tree)
        server = server or serve(tree)
        reader = subprocess.Popen(
            [sys.executable, "-c", READS, server.url], env=nfsverity.environment, stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout is not None
        lines = [reader.stdout.readline() for _ in range(1 + 7 * number)]
        reader.kill()
        lines += [line for line in reader.stdout.readlines() if line.endswith("\n")]
        reader.wait()
        reader.stdout.close()
        marks = MarkStore(api.State(nfsverity.home / "state"))
        kept = {os.fsdecode(each.of.path): str(each.mark.generation) for each in marks.find()}
        for line in lines[1:]:
            name, generation = line.split()
            assert kept[name] == generation
        marks.state.close()
