# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity get` of a volume: links, programs and empty directories as signed, and nothing fetched twice."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adversary import Adversary, between
from made_volume import MadeVolume, Put, directory, file, link
from nfsverity_proto import messages as m
from serving import Published, keys, publish_as_volume, serving

from .conftest import SECONDS, Nfsverity, Serve, Slow

MANY = {f"d{n // 100}/{n:03}": random.Random(n).randbytes(16_000 + n) for n in range(600)}
"""More than comes in one reply."""
PREFIX = ".nfsverity-get-"


@pytest.fixture
def user(nfsverity: Nfsverity, tmp_path: Path) -> Nfsverity:
    """Who believes the signer of what is published here."""
    _, certificate = keys().write(tmp_path)
    nfsverity("trust", "add", certificate)
    return nfsverity


@pytest.fixture
def published(tmp_path: Path) -> Published:
    files = {
        "a": b"first",
        "bin/tool": b"#!/bin/sh\n",
        "d/e/deep": b"deep",
        "large": bytes(range(256)) * 8192,
        "none": b"",
    }
    published = publish_as_volume(tmp_path / "tree", files)
    root = published.root
    (root / "bin" / "tool").chmod(0o755)
    (root / "empty").mkdir()
    (root / "d" / "up").symlink_to("../a")
    (root / "dir").symlink_to("d/e")
    (root / "dangling").symlink_to("nowhere")
    published.sign_volume()
    return published


def content_of(root: Path) -> dict[str, Any]:
    """What is below a directory: content, mode and time of files, targets of links, None for directories."""
    found: dict[str, Any] = {}
    for above, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(above) / name
            below = str(path.relative_to(root))
            if below.split("/")[0] == ".nfsverity":
                continue
            status = path.lstat()
            if path.is_symlink():
                found[below] = os.readlink(path)
            elif stat.S_ISDIR(status.st_mode):
                found[below] = None
            else:
                found[below] = path.read_bytes(), bool(status.st_mode & 0o111), status.st_mtime_ns
    return found


def left_over(above: Path) -> list[Path]:
    return [path for path in above.iterdir() if path.name.startswith(PREFIX)]


def test_all_of_a_volume_as_it_was_signed(user: Nfsverity, serve: Serve, published: Published, tmp_path: Path) -> None:
    url = serve(published.root).url
    value = user.json("get", f"{url}/", str(tmp_path / "copy"))
    assert content_of(tmp_path / "copy") == content_of(published.root)
    assert {one["verdict"] for one in value["files"]} == {"verified"}
    assert value["verified"] == 5
    assert value["reused"] == "0"
    assert not left_over(tmp_path)
    user("get", f"{url}/dir", tmp_path / "by-link")
    assert content_of(tmp_path / "by-link").keys() == {"deep"}
    user("get", f"{url}/d/up", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"first"
    assert "absent" in user("get", f"{url}/d/none", tmp_path / "none", status=1).err


def test_an_existing_copy_is_brought_up_to_date(
    user: Nfsverity, serve: Serve, published: Published, tmp_path: Path
) -> None:
    copy, url = tmp_path / "copy", serve(published.root).url
    user("get", f"{url}/", copy)
    (copy / "mine").write_bytes(b"untouched")
    kept = {name: (copy / name).stat().st_ino for name in ("a", "bin/tool", "large", "d/e/deep")}
    value = user.json("get", f"{url}/", str(copy))
    assert [one["path"] for one in value["files"] if not one["unchanged"]] == []
    assert value["fetched"] == "0"
    assert {name: (copy / name).stat().st_ino for name in kept} == kept

    with (published.root / "large").open("r+b") as large:
        large.seek(1_000_000)
        large.write(b"changed")
    (published.root / "bin" / "tool").chmod(0o644)
    (published.root / "dangling").unlink()
    (published.root / "dangling").symlink_to("a")
    for number in range(20):
        (published.root / "empty" / f"new{number}").write_bytes(b"new %d" % number)
    published.sign_volume()
    (copy / "d" / "e" / "deep").unlink()
    (copy / "d" / "e" / "deep").symlink_to("/etc/hostname")
    value = user.json("get", f"{url}/", str(copy))
    assert content_of(copy) == {**content_of(published.root), "mine": content_of(copy)["mine"]}
    assert (copy / "mine").read_bytes() == b"untouched"
    assert int(value["fetched"]) == 65536 + 4 + sum(len(b"new %d" % number) for number in range(20))
    unchanged = {one["path"] for one in value["files"] if one["unchanged"]}
    assert unchanged == {"a", "none"}
    assert not left_over(copy)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_what_an_interrupted_run_had_is_not_fetched_again(
    user: Nfsverity,
    serve: Serve,
    slow: Callable[[int, int], Slow],
    tmp_path: Path,
    number: int,
    existing: bool,
) -> None:
    published = publish_as_volume(tmp_path / "tree", MANY)
    server = serve(published.root)
    copy = tmp_path / "copies" / "copy"
    (copy if existing else copy.parent).mkdir(parents=True)
    stalling = slow(server.port, 6 * 2**20)
    run = user.start("get", f"{stalling.url}/", copy, stderr=subprocess.PIPE)
    assert stalling.stalled.wait(SECONDS)
    second = user("get", f"{server.url}/", copy, status=4)
    assert "another get is writing" in second.err
    run.send_signal(number)
    run.communicate(timeout=SECONDS)
    assert not content_of(copy) or existing
    (place,) = left_over(copy if existing else copy.parent)
    whole = {str(path.relative_to(place)) for path in place.glob("d*/*") if path.stat().st_size}
    assert len(whole) > 100
    damaged = sorted(whole)[7]
    status = (place / damaged).stat()
    (place / damaged).write_bytes(bytes(status.st_size))
    os.utime(place / damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    (place / "d0" / "of another head").write_bytes(b"old")
    shutil.rmtree(place / "d1")
    (place / "d1").symlink_to("/")
    value = user.json("get", f"{server.url}/", str(copy))
    assert content_of(copy) == content_of(published.root)
    assert not left_over(copy if existing else copy.parent)
    reused = {one["path"] for one in value["files"] if one["reused"] != "0"}
    whole = {path for path in whole if not path.startswith("d1/")}
    assert reused >= whole - {damaged, max(whole)}
    assert damaged not in reused
    assert int(value["fetched"]) + int(value["reused"]) == sum(map(len, MANY.values()))


def test_a_copy_that_is_in_the_way(user: Nfsverity, serve: Serve, published: Published, tmp_path: Path) -> None:
    """Links at the destination are replaced where a file belongs, and not gone through where a directory does."""
    url, copy, outside = serve(published.root).url, tmp_path / "copy", tmp_path / "outside"
    outside.mkdir()
    (outside / "deep").write_bytes(b"mine")
    copy.mkdir()
    (copy / "a").symlink_to(outside / "deep")
    (copy / "dangling").symlink_to(outside)
    user("get", f"{url}/", copy)
    assert content_of(copy) == content_of(published.root)
    shutil.rmtree(copy / "d")
    (copy / "d").symlink_to(outside)
    result = user("get", f"{url}/", copy, status=4)
    assert f"{copy}/d has to be a directory" in result.err
    assert content_of(outside).keys() == {"deep"}
    assert (outside / "deep").read_bytes() == b"mine"


# what no good publisher signs


@pytest.fixture
async def adversary(tmp_path: Path) -> AsyncIterator[Adversary]:
    with serving(publish_as_volume(tmp_path / "honest", {"x": b"x"}).root) as server:
        async with between(server.port) as adversary:
            yield adversary


Puts = list[Put]
WICKED: list[tuple[Puts, set[str], int]] = [
    ([link(b"l", b"/etc/passwd")], {"l"}, 1),
    ([link(b"l", b"../outside")], {"l"}, 1),
    ([directory(b"d"), link(b"d/l", b"../../outside")], {"d/l"}, 1),
    ([directory(b"d"), link(b"d/up", b".."), link(b"l", b"d/up/../outside")], {"l"}, 1),
    ([directory(b"d"), link(b"d/up", b"e/.."), directory(b"d/e"), link(b"l", b"d/up/../../outside")], {"l"}, 1),
    ([link(b"l", b"d"), directory(b"d"), file(b"l/f", b"through")], {"l"}, 1),
    ([link(b"l", b"../outside"), file(b"l/f", b"through")], {"l"}, 1),
    ([link(b"l", b"/"), file(b"l/etc/f", b"through")], {"l"}, 1),
    ([file(b"f", b"f"), file(b"f/below", b"below a file")], {"f/below"}, 1),
    ([file(b".nfsverity/head", b"metadata")], {".nfsverity/head"}, 4),
    ([file(PREFIX.encode() + b"0123456789abcdef", b"later in the way")], {PREFIX + "0123456789abcdef"}, 4),
]  # fmt: skip


@pytest.mark.spec("fim-link-1", "fim-link-2", "fim-vol-3")
@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize(("puts", "refused", "status"), WICKED)
async def test_nothing_leaves_the_destination(
    user: Nfsverity, adversary: Adversary, tmp_path: Path, puts: Puts, refused: set[str], status: int, existing: bool
) -> None:
    work, outside = tmp_path / "work", tmp_path / "work" / "outside"
    outside.mkdir(parents=True)
    copy = work / "copy"
    if existing:
        copy.mkdir()
    made = MadeVolume([*puts, file(b"good", b"good")])
    adversary.on_call = made.serve
    value = await asyncio.to_thread(user.json, "get", str(adversary.where), str(copy), status=status)
    bad = {one["path"] for one in value["files"] if one["error"] is not None}
    assert bad == refused
    assert not content_of(outside)
    assert {path.name for path in work.iterdir()} == {"copy", "outside"}
    found = content_of(copy)
    assert found["good"][0] == b"good"
    for path in copy.rglob("*"):
        assert path.resolve().is_relative_to(copy.resolve()), path


async def test_all_links_for_who_asks_for_them(user: Nfsverity, adversary: Adversary, tmp_path: Path) -> None:
    adversary.on_call = MadeVolume([link(b"l", b"/etc/passwd"), link(b"m", b"../x"), file(b"good", b"good")]).serve
    arguments = "get", "--links", "all", str(adversary.where), str(tmp_path / "copy")
    assert (await asyncio.to_thread(user.json, *arguments))["failed"] == 0
    found = content_of(tmp_path / "copy")
    assert (found["l"], found["m"]) == ("/etc/passwd", "../x")


def test_names_that_the_terminal_has_not_are_escaped(nfsverity: Any, alice: Any, signed: Path, serve: Any) -> None:
    (signed / "price in \u20ac").write_bytes(b"1")
    nfsverity("sign", *alice.options, signed)
    nfsverity("trust", "add", alice.certificate)
    nfsverity.environment["PYTHONIOENCODING"] = "latin1"
    assert "price in \\u20ac" in nfsverity("ls", serve(signed).url).text


async def test_a_link_that_is_not_made_is_named(user: Nfsverity, adversary: Adversary, tmp_path: Path) -> None:
    adversary.on_call = MadeVolume([directory(b"d"), link(b"d/l", b"../../x"), file(b"good", b"good")]).serve
    result = await asyncio.to_thread(user, "get", str(adversary.where), str(tmp_path / "copy"), status=1)
    assert f"nfsverity: {adversary.where}d/l: link-outside: " in result.err


@pytest.mark.spec("fip-bulk-5")
async def test_a_listing_says_what_is_revoked_though_the_server_says_nothing_of_it(
    user: Nfsverity, adversary: Adversary
) -> None:
    """It may leave statements out; the entries name the versions all the same."""
    made = MadeVolume([file(b"good", b"good"), file(b"bad", b"bad")])

    async def serve(call: Any) -> None:
        if call.procedure is m.BULK:
            ok = made.bulk(call.arguments)
            await call.answer(replace(ok, items=tuple(m.BulkItem(b"", 0) for _ in ok.items), data=b""))
        else:
            await made.serve(call)

    (digest,) = [one.node.content.hex() for one in made.entries if one.path == b"bad"]
    await asyncio.to_thread(user, "trust", "revoke", f"version:sha256:{digest}")
    for on_call in (made.serve, serve):
        adversary.on_call = on_call
        listed = await asyncio.to_thread(user.json, "ls", str(adversary.where))
        assert {entry["name"]: entry["revoked"] for entry in listed["entries"]} == {"good": False, "bad": True}


async def test_names_and_targets_make_no_lines_of_their_own(user: Nfsverity, adversary: Adversary) -> None:
    fake = b"x: no\nverified: all of it is as signed"
    puts = [link(b"l", fake), link(b"m", b"../" + fake), link(b"n", b"/" + fake), file(b"good", b"good")]
    adversary.on_call = MadeVolume(puts).serve
    for command, path in (("cat", "l"), ("cat", "m"), ("cat", "n"), ("ls", "m/"), ("ls", ""), ("show", "l")):
        result = await asyncio.to_thread(user, command, str(adversary.where) + path, status=None)
        assert not [line for line in (result.text + result.err).splitlines() if line.startswith("verified: all")]
