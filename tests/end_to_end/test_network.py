# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity ls`, `cat`, `get`, `show` and `verify` for files that are served."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from .conftest import wait_for_bytes

FILES = 6
UNIT = 65536
BIG = bytes(range(256)) * 2048


@pytest.fixture
def signed(either: Path) -> Path:
    return either


def names(directory: Path) -> set[bytes]:
    base = os.fsencode(directory)
    return {
        os.path.relpath(os.path.join(at, name), base) for at, below, files in os.walk(base) for name in below + files
    }


# ls


def test_ls(nfsverity: Any, url: str) -> None:
    assert nfsverity("ls", url + "/").text == "a.txt\nbig.bin\nempty\nsub/\n"
    assert nfsverity("ls", url + "/sub").text == "caf\\xe9\ndeeper/\ntool\n"
    assert nfsverity("ls", url + "/sub/tool").text == "tool\n"
    below = nfsverity("ls", "-R", url).text.split("\n")
    assert below == ["a.txt", "big.bin", "empty", "sub/", "sub/caf\\xe9", "sub/deeper/", "sub/tool",
                     "sub/deeper/a #?% b", ""]  # fmt: skip


def test_ls_at_length(nfsverity: Any, url: str, form: str) -> None:
    lines = nfsverity("ls", "-l", url + "/sub").text.splitlines()
    assert lines[2].split()[:3] == ["-x", "verified" if form == "volume" else "signed", "10"]
    assert lines[1].startswith("d-")
    assert lines[2].endswith(" tool")


def test_ls_as_json(nfsverity: Any, url: str) -> None:
    entries = nfsverity.json("ls", "-R", url + "/")["entries"]
    odd = next(entry for entry in entries if entry["name"] is None)
    assert base64.b64decode(odd["name_base64"]) == b"sub/caf\xe9"
    assert odd["url"] == url + "/sub/caf%E9"
    tool = next(entry for entry in entries if entry["name"] == "sub/tool")
    assert (tool["type"], tool["signed"], tool["executable"], tool["size"]) == ("file", True, True, "10")
    assert nfsverity("cat", odd["url"]).out == b"latin\n"


# cat


@pytest.mark.parametrize("presentation", ["ahead", "on-demand", "inline", "reconstruct"])
def test_cat_in_each_presentation(nfsverity: Any, url: str, presentation: str) -> None:
    assert nfsverity("cat", "--presentation", presentation, url + "/big.bin").out == BIG


@pytest.mark.parametrize(
    ("options", "start", "stop"),
    [
        (["--offset", "5"], 5, None),
        (["--length", "7"], 0, 7),
        (["--offset", "65530", "--length", "12"], 65530, 65542),
        (["--offset", "64K", "--length", "64K"], 65536, 131072),
        (["--offset", str(len(BIG) - 1)], len(BIG) - 1, None),
        (["--offset", str(len(BIG))], len(BIG), None),
        (["--offset", "1T", "--length", "5"], len(BIG), None),
        (["--length", "0"], 0, 0),
    ],
)
def test_cat_of_a_range(nfsverity: Any, url: str, options: list[str], start: int, stop: int | None) -> None:
    assert nfsverity("cat", *options, url + "/big.bin").out == BIG[start:stop]


def test_cat_of_an_empty_file_and_of_odd_names(nfsverity: Any, url: str) -> None:
    assert nfsverity("cat", url + "/empty").out == b""
    assert nfsverity("cat", url + "/sub/deeper/a%20%23%3F%25%20b").out == b"odd\n"
    assert nfsverity("cat", os.fsencode(url) + b"/sub/caf\xe9").out == b"latin\n"


def test_cat_names_what_it_read_as_json_beside_the_data(nfsverity: Any, alice: Any, url: str, form: str) -> None:
    result = nfsverity("cat", "--json", "--length", "10", url + "/big.bin")
    announced, brace, report = result.err.partition("{")
    report = json.loads(brace + report)
    assert "used for the first time" in announced
    assert result.out == BIG[:10]
    assert (report["bytes"], report["size"], report["file"]) == ("10", str(len(BIG)), url + "/big.bin")
    assert report["signers"][0]["fingerprint"] == alice.fingerprint
    failed = nfsverity("cat", "--json", url + "/none", status=1 if form == "volume" else 3)
    error = json.loads(failed.err[failed.err.index("{") :])["error"]
    assert (error["kind"], error["verdict"]) == (("verification", "absent") if form == "volume" else ("status", None))
    assert failed.out == b""


@pytest.mark.spec("fim-policy-4")
def test_no_bad_byte_is_written(nfsverity: Any, serve: Any, signed: Path) -> None:
    with (signed / "big.bin").open("r+b") as file:
        file.seek(5 * UNIT)
        file.write(b"!")
    os.utime(signed / "big.bin", ns=(0, 10**18))  # as a storage would that lies about it
    server = serve(signed)
    result = nfsverity("cat", "--wait", "0", server.url + "/big.bin", status=1)
    assert BIG.startswith(result.out)
    assert len(result.out) <= 5 * UNIT
    assert f"{server.url}/big.bin: " in result.err
    good = nfsverity("cat", "--wait", "0", "--offset", str(6 * UNIT), server.url + "/big.bin", status=None)
    assert good.out in (BIG[6 * UNIT :], b"")


# get


def test_get_of_a_file(nfsverity: Any, url: str, tmp_path: Path) -> None:
    result = nfsverity("get", url + "/sub/tool", tmp_path / "tool")
    assert result.text == ""
    assert (tmp_path / "tool").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "tool").stat().st_mode & 0o111
    nfsverity("get", url + "/sub/caf%E9", tmp_path)
    assert (tmp_path / os.fsdecode(b"caf\xe9")).read_bytes() == b"latin\n"
    (tmp_path / "tool").write_bytes(b"old")
    nfsverity("get", url + "/big.bin", tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == BIG
    assert not (tmp_path / "tool").stat().st_mode & 0o111


def test_get_of_a_tree(nfsverity: Any, url: str, template: Path, tmp_path: Path) -> None:
    result = nfsverity("get", url + "/", tmp_path / "mirror")
    assert result.text == ""
    source = template / "tree"
    assert names(tmp_path / "mirror") == {name for name in names(source) if not name.startswith(b".nfsverity")}
    for name in names(tmp_path / "mirror"):
        path, copied = (os.path.join(os.fsencode(base), name) for base in (source, tmp_path / "mirror"))
        if os.path.isfile(path):
            with open(path, "rb") as original, open(copied, "rb") as copy:
                assert original.read() == copy.read()
            assert os.stat(path).st_mtime_ns == os.stat(copied).st_mtime_ns
    assert stat.S_IMODE((tmp_path / "mirror").stat().st_mode) == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_get_of_a_folder_among_other_files(nfsverity: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "mine").write_bytes(b"mine")
    (tmp_path / "mirror" / "tool").write_bytes(b"old")
    nfsverity("get", url + "/sub", tmp_path / "mirror")
    assert names(tmp_path / "mirror") == {b"mine", b"tool", b"caf\xe9", b"deeper", b"deeper/a #?% b"}
    assert (tmp_path / "mirror" / "tool").read_bytes() == b"#!/bin/sh\n"


def test_get_reports_as_json(nfsverity: Any, alice: Any, url: str, tmp_path: Path) -> None:
    report = nfsverity.json("get", url + "/", str(tmp_path / "mirror"))
    assert (report["verified"], report["failed"], report["destination"]) == (FILES, 0, str(tmp_path / "mirror"))
    assert {file["signers"][0]["fingerprint"] for file in report["files"]} == {alice.fingerprint}
    report = nfsverity.json("get", url + "/a.txt", str(tmp_path))
    assert (report["destination"], report["bytes"]) == (str(tmp_path / "a.txt"), "6")


@pytest.mark.spec("fim-policy-4")
def test_get_leaves_out_what_does_not_verify(
    nfsverity: Any, serve: Any, signed: Path, tmp_path: Path, form: str
) -> None:
    (signed / "a.txt").write_bytes(b"jello\n")
    server = serve(signed, "--all")
    (signed / "unsigned").write_bytes(b"new")
    report = nfsverity.json("get", "--wait", "0", server.url + "/", str(tmp_path / "mirror"), status=1)
    verdicts = {file["path"]: file["verdict"] for file in report["files"] if file["verdict"] != "verified"}
    if form == "per-file":  # a volume has not what nobody signed: that is no part of what is taken
        assert verdicts.pop("unsigned") == "unsigned"
    assert set(verdicts) == {"a.txt"}
    assert verdicts["a.txt"] in ("mismatch", "stale", "updating")
    present = names(tmp_path / "mirror")
    assert b"a.txt" not in present
    assert b"unsigned" not in present
    assert b"big.bin" in present
    nfsverity("get", "--wait", "0", server.url + "/a.txt", tmp_path / "a.txt", status=1)
    assert names(tmp_path) & {b"a.txt", b"unsigned"} == set()
    assert not [name for name in names(tmp_path) if name.startswith(b".nfsverity-get")]


@pytest.mark.parametrize(
    ("path", "destination"),
    [("/a.txt", "none/a.txt"), ("/", "none/mirror"), ("/", "file"), ("/a.txt", "folder/."), ("/a.txt", "full")],
)
def test_destinations_that_cannot_be_written(
    nfsverity: Any, url: str, tmp_path: Path, path: str, destination: str
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder" / "a.txt").mkdir(parents=True)
    (tmp_path / "full" / "a.txt").mkdir(parents=True)
    before = names(tmp_path)
    result = nfsverity("get", url + path, tmp_path / destination, status=4)
    assert str(tmp_path) in result.err
    assert {name for name in names(tmp_path) if not name.startswith(b"home")} == {
        name for name in before if not name.startswith(b"home")
    }


# show and verify


def test_show(nfsverity: Any, alice: Any, url: str) -> None:
    shown = nfsverity.json("show", url + "/sub/tool")
    assert (shown["path"], shown["executable"], shown["size"], shown["verified"]) == ("sub/tool", True, "10", True)
    assert shown["attestations"][0]["fingerprint"] == alice.fingerprint
    assert "record      " in nfsverity("show", url + "/sub/tool").text
    assert nfsverity.json("trust", "list")["bindings"] == []


def test_show_gets_the_certificates_that_are_not_pinned(nfsverity: Any, alice: Any, url: str) -> None:
    nfsverity("trust", "remove", alice.fingerprint)
    shown = nfsverity.json("show", url + "/a.txt", status=1)
    assert shown["attestations"][0]["subject"] == "CN=alice-ed25519"
    assert shown["error"]["verdict"] == "untrusted"
    assert nfsverity.json("show", "--trust", str(alice.certificate), url + "/a.txt")["verified"]


@pytest.mark.parametrize("presentation", ["ahead", "on-demand", "inline", "reconstruct"])
def test_verify(nfsverity: Any, url: str, presentation: str) -> None:
    report = nfsverity.json("verify", "--presentation", presentation, url + "/")
    assert (report["verified"], report["failed"]) == (FILES, 0)
    odd = next(file for file in report["files"] if file["path"] is None)
    assert base64.b64decode(odd["path_base64"]) == b"sub/caf\xe9"


def test_verify_says_whose_it_is(nfsverity: Any, url: str) -> None:
    shown = nfsverity.json("show", url + "/a.txt")
    text = nfsverity("verify", url + "/a.txt").text
    assert "1 file verified, 6 bytes" in text
    assert f'volume {shown["volume"]} "tree", generation {shown["generation"]}, signed by "CN=alice-ed25519"' in text


@pytest.mark.parametrize("options", [[], ["--no-kept-trees"]])
def test_verify_finds_every_bad_file_and_range_where_storage_lies(
    nfsverity: Any, serve: Any, signed: Path, options: list[str]
) -> None:
    big, before = signed / "big.bin", (signed / "big.bin").stat()
    with big.open("r+b") as file:
        for offset in (0, UNIT, 4 * UNIT + 9):
            file.seek(offset)
            file.write(b"!")
    (signed / "a.txt").write_bytes(b"jello\n")
    server = serve(signed, *options)
    for path in (big, signed / "a.txt"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = nfsverity.json("verify", server.url + "/", status=1)
    bad = {file["path"]: file for file in report["files"] if file["verdict"] != "verified"}
    assert set(bad) == {"big.bin", "a.txt"}
    assert report["verified"] == FILES - 2
    if not options and bad["big.bin"]["verdict"] == "mismatch":
        ranges = [(int(found["offset"]), int(found["length"])) for found in bad["big.bin"]["ranges"]]
        assert ranges == [(0, 2 * UNIT), (4 * UNIT, UNIT)]


def test_what_is_not_there(nfsverity: Any, url: str, form: str) -> None:
    """Of a volume that is proved; else it is the server's word."""
    for command in ("cat", "show", "ls", "verify"):
        result = nfsverity(command, url + "/none", status=1 if form == "volume" else 3)
        why = "absent: the volume has nothing of this name" if form == "volume" else "the server answered NOT_FOUND"
        assert f"{url}/none: {why}" in result.err


def test_a_directory_is_no_file(nfsverity: Any, url: str) -> None:
    result = nfsverity("cat", url + "/sub", status=3)
    assert f"{url}/sub: " in result.err
    assert "a directory" in result.err


# trust


def test_volumes_and_trust_for_one_run(nfsverity: Any, alice: Any, bob: Any, url: str) -> None:
    volume = nfsverity.json("show", url + "/a.txt")["volume"]
    nfsverity("trust", "remove", alice.fingerprint)
    assert "untrusted" in nfsverity("cat", url + "/a.txt", status=1).err
    assert "untrusted" in nfsverity("cat", "--trust", bob.certificate, url + "/a.txt", status=1).err
    assert nfsverity("cat", "--trust", alice.certificate, "--volume", volume, url + "/a.txt").out == b"hello\n"
    result = nfsverity("cat", "--trust", alice.certificate, "--volume", "ff" * 16, url + "/a.txt", status=1)
    assert "wrong-volume" in result.err
    assert nfsverity.json("trust", "list")["bindings"] == []


def test_the_volume_is_bound_at_first_use(nfsverity: Any, url: str) -> None:
    volume = nfsverity.json("show", url + "/a.txt")["volume"]
    assert f"from now on volume {volume} is expected there" in nfsverity("cat", url + "/a.txt").err
    assert nfsverity("cat", url + "/a.txt").err == ""
    assert nfsverity.json("trust", "list")["bindings"] == [{"server": url, "volume": volume}]
    nfsverity("trust", "remove", url + "/")
    assert nfsverity.json("trust", "list")["bindings"] == []


# updates


def test_a_read_waits_for_the_record_of_what_was_changed(nfsverity: Any, alice: Any, serve: Any, signed: Path) -> None:
    server = serve(signed)
    (signed / "a.txt").write_bytes(b"hello again\n")
    result = nfsverity("cat", "--wait", "0", server.url + "/a.txt", status=1)
    assert result.out == b""
    assert "updating" in result.err
    assert "--wait" in result.err
    waiting = nfsverity.start("cat", "--wait", "50", server.url + "/a.txt", stdout=subprocess.PIPE)
    nfsverity("sign", *alice.options, signed)
    out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (0, b"hello again\n")


# servers that are none, or stop


def test_a_server_that_is_not_there(nfsverity: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    for arguments in (["ls"], ["cat"], ["show"], ["verify"], ["get"]):
        more = [tmp_path / "x"] if arguments == ["get"] else []
        result = nfsverity(*arguments, f"nfsv://127.0.0.1:{port}/a", *more, status=3)
        assert f"nfsv://127.0.0.1:{port}" in result.err
        assert "what to do: " in result.err
    report = nfsverity("cat", f"nfsv://nowhere.invalid:{port}/a", status=3)
    assert "nowhere.invalid" in report.err


def _talk_nonsense(sock: socket.socket) -> None:
    while True:
        try:
            client, _ = sock.accept()
        except OSError:
            return
        with client:
            client.recv(1)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_server_of_something_else(nfsverity: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        threading.Thread(target=_talk_nonsense, args=(sock,), daemon=True).start()
        result = nfsverity.json("ls", f"nfsv://127.0.0.1:{sock.getsockname()[1]}/", status=3)
        assert result["error"]["kind"] == "peer"
        sock.shutdown(socket.SHUT_RDWR)


def test_a_server_that_says_nothing(nfsverity: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = f"nfsv://127.0.0.1:{sock.getsockname()[1]}"
        for command in ("ls", "cat", "show", "verify"):
            result = nfsverity(command, "--timeout", "0.2", server + "/a", status=3)
            assert "--timeout" in result.err
        nfsverity("get", "--timeout", "0.2", server + "/a", tmp_path / "a", status=3)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("path", "number", "status"),
    [
        ("/large", signal.SIGINT, 130),
        ("/", signal.SIGINT, 130),
        ("/large", signal.SIGTERM, 143),
        ("/", signal.SIGHUP, 129),
    ],
)
def test_a_get_that_is_stopped_leaves_nothing_but_for_the_next_one(
    nfsverity: Any, large: Any, slow: Any, tmp_path: Path, path: str, number: int, status: int
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "old").write_bytes(b"old")
    between = slow(large.port, 5 * 2**20)
    destination = tmp_path / "here" / ("old" if path == "/large" else "new")
    process = nfsverity.start("get", between.url + path, destination, stderr=subprocess.PIPE)
    assert between.stalled.wait(60)
    wait_for_bytes(tmp_path / "here", 2**21)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == status
    assert "Traceback" not in err
    (left,) = (name for name in os.listdir(tmp_path / "here") if name != "old")
    assert f"what was fetched is in {tmp_path / 'here' / left}, for the next run" in err
    assert (tmp_path / "here" / "old").read_bytes() == b"old"
    report = nfsverity.json("get", large.url + path, str(destination))
    assert int(report["reused"]) > 2**20
    assert set(os.listdir(tmp_path / "here")) == {"old", destination.name}


def test_a_connection_that_ends_is_begun_again(nfsverity: Any, large: Any, slow: Any, tmp_path: Path) -> None:
    between = slow(large.port, 5 * 2**20)
    process = nfsverity.start("cat", between.url + "/large", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    parts: list[bytes] = []
    reading = threading.Thread(target=lambda: parts.append(process.stdout.read()))
    reading.start()
    assert between.stalled.wait(60)
    between._left = 2**40
    for sock in between._sockets[1:]:
        sock.shutdown(socket.SHUT_RDWR)
    reading.join(60)
    assert process.wait(60) == 0, process.stderr.read().decode()
    process.stderr.close()
    process.stdout.close()
    assert parts[0] == b"".join(bytes([number]) * 2**20 for number in range(16))


@pytest.fixture
def large(nfsverity: Any, alice: Any, serve: Any, tmp_path: Path) -> Any:
    """A server of one file of 16 MiB, whose signer is believed."""
    folder = tmp_path / "served"
    folder.mkdir()
    with (folder / "large").open("wb") as file:
        for number in range(16):
            file.write(bytes([number]) * 2**20)
    nfsverity("sign", *alice.options, "--per-file", folder)
    nfsverity("trust", "add", alice.certificate)
    return serve(folder)


# output


def test_a_reader_that_goes_away_is_no_error(nfsverity: Any, large: Any) -> None:
    process = nfsverity.start("cat", large.url + "/large", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(10) == bytes(10)
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 141
    assert err.count("\n") <= 1  # the binding, at most


def test_a_slow_reader_is_waited_for(nfsverity: Any, large: Any) -> None:
    process = nfsverity.start(
        "cat", "--timeout", "2", large.url + "/large", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)  # twice as long as a reply may take
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert len(out) == 16 * 2**20


def test_output_that_cannot_be_written(nfsverity: Any, url: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    for arguments in (["cat", url + "/a.txt"], ["ls", url], ["trust", "list"], ["--help"]):
        with open("/dev/full", "wb") as full:
            process = nfsverity.start(*arguments, stdout=full, stderr=subprocess.PIPE)
            err = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 4
        assert "nfsverity: standard output: No space left on device\n" in err
        assert "Exception ignored" not in err


def test_a_copy_needs_a_directory_to_go_to(nfsverity: Any, url: str, tmp_path: Path) -> None:
    result = nfsverity("get", url + "/a.txt", tmp_path / "none" / "copy", status=4)
    assert f"{tmp_path / 'none'}: No such file or directory\n  what to do: make that directory first" in result.err


def test_a_closed_output_is_an_error(nfsverity: Any, url: str) -> None:
    line = ["sh", "-c", 'exec nfsverity cat "$0" >&-', url + "/a.txt"]
    done = subprocess.run(line, env=nfsverity.environment, capture_output=True, timeout=60)
    assert done.returncode == 4
    assert b"standard output is closed" in done.stderr


# usage


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"], ["cat"], ["get", "nfsv://h:1/a"], ["show"], ["verify"],
        ["ls", "/local"], ["cat", "nfsv://h/a"], ["cat", "nfsv://h:1/?a"],
        ["cat", "--offset", "-1", "nfsv://h:1/a"], ["cat", "--length", "x", "nfsv://h:1/a"],
        ["cat", "--wait", "-1", "nfsv://h:1/a"], ["cat", "--timeout", "0", "nfsv://h:1/a"],
        ["cat", "--presentation", "telepathy", "nfsv://h:1/a"], ["verify", "--volume", "xy", "nfsv://h:1/a"],
    ],
)  # fmt: skip
def test_what_is_a_mistake_of_usage(nfsverity: Any, arguments: list[str]) -> None:
    assert "Usage: nfsverity" in nfsverity(*arguments, status=2).err
