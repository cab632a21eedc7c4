# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

FILES = 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_ready_when_it_prints_its_url_and_stops_gracefully(
    nfsverity: Any, serve: Any, signed: Path, number: int
) -> None:
    server = serve(signed)
    assert server.url.startswith("nfsv://127.0.0.1:")
    assert nfsverity("cat", server.url + "/a.txt").out == b"hello\n"
    with socket.create_connection(("127.0.0.1", server.port)):  # a client that is still there
        status, err = server.stop(number)
    assert status == 0
    assert "Traceback" not in err


def test_the_default_address_is_of_this_machine_only(nfsverity: Any) -> None:
    assert "[default: 127.0.0.1:12049]" in " ".join(nfsverity("serve", "--help").text.split())


def test_an_address_of_ipv6(nfsverity: Any, serve: Any, signed: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    server = serve(signed, "--listen", "[::1]:0")
    assert server.url.startswith("nfsv://[::1]:")
    assert nfsverity("cat", server.url + "/a.txt").out == b"hello\n"


def test_serving_to_everybody_is_said(serve: Any, signed: Path) -> None:
    server = serve(signed, "--listen", "0.0.0.0:0")
    assert server.url.startswith("nfsv://127.0.0.1:")
    assert "everybody who can reach 0.0.0.0 can read" in server.stop()[1]


def test_as_json(nfsverity: Any, signed: Path) -> None:
    process = nfsverity.start("serve", signed, "--listen", "127.0.0.1:0", "--json", stdout=subprocess.PIPE)
    lines = []
    while (line := process.stdout.readline()) != b"}\n":
        lines.append(line)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    report = json.loads(b"".join([*lines, b"}"]))
    assert (rest, process.returncode) == (b"", 0)
    assert set(report) == {"command", "status", "url", "volume", "label", "generation"}
    head = json.loads((signed / ".nfsverity" / "head").read_bytes())
    assert (report["volume"], report["generation"], report["label"]) == (head["volume"], head["generation"], "tree")


def test_only_signed_files_are_shown_unless_all_are_asked_for(nfsverity: Any, serve: Any, records: Path) -> None:
    (records / "new").write_bytes(b"new")
    (records / "folder").mkdir()
    (records / "link").symlink_to("/etc/passwd")
    names = nfsverity("ls", serve(records).url).text.split("\n")
    assert names == ["a.txt", "big.bin", "empty", "sub/", ""]
    server = serve(records, "--all")
    assert "new  (unsigned)\n" in nfsverity("ls", server.url).text
    assert "folder/\n" in nfsverity("ls", server.url).text
    assert "link" not in nfsverity("ls", server.url).text
    assert "unsigned" in nfsverity("cat", server.url + "/new", status=1).err
    result = nfsverity.json("verify", server.url, status=1)
    assert [file["path"] for file in result["files"] if file["verdict"] == "unsigned"] == ["new"]


def test_trees_can_be_made_anew(nfsverity: Any, serve: Any, signed: Path) -> None:
    for path in (signed / ".nfsverity" / "trees").iterdir():
        path.unlink()
    server = serve(signed, "--no-kept-trees")
    for presentation in ("ahead", "on-demand", "inline"):
        result = nfsverity("cat", "--presentation", presentation, server.url + "/big.bin")
        assert result.out == (signed / "big.bin").read_bytes()


@pytest.mark.spec("fim-rest-3")
def test_a_new_publication_is_served_without_a_restart(nfsverity: Any, alice: Any, serve: Any, signed: Path) -> None:
    server = serve(signed)
    assert nfsverity("cat", server.url + "/a.txt").out == b"hello\n"
    (signed / "sub" / "more").mkdir()
    (signed / "sub" / "more" / "new").write_bytes(b"new\n")
    (signed / "a.txt").write_bytes(b"hello again\n")
    nfsverity("sign", *alice.options, signed)
    assert nfsverity("cat", server.url + "/a.txt").out == b"hello again\n"
    assert nfsverity("cat", server.url + "/sub/more/new").out == b"new\n"


def test_it_never_writes_in_the_tree(nfsverity: Any, serve: Any, signed: Path) -> None:
    def state() -> list[tuple[bytes, int, int]]:
        return sorted(
            (os.path.join(at, name), os.lstat(os.path.join(at, name)).st_mtime_ns, os.lstat(at).st_mtime_ns)
            for at, folders, files in os.walk(os.fsencode(signed))
            for name in folders + files
        )

    before = state()
    server = serve(signed, "--no-kept-trees", "--all")
    nfsverity("verify", "--presentation", "ahead", server.url)
    assert server.stop()[0] == 0
    assert state() == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "no such directory"),
        ("tree/a.txt", "it is no directory"),
        ("tree/sub", "inside the published tree"),
        ("plain", "sign it first"),
    ],
)
def test_what_cannot_be_served_is_named(nfsverity: Any, signed: Path, tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "plain").mkdir()
    result = nfsverity("serve", tmp_path / name, "--listen", "127.0.0.1:0", status=4)
    assert name in result.err
    assert says in result.err


def test_an_address_that_is_not_to_be_had(nfsverity: Any, serve: Any, signed: Path) -> None:
    server = serve(signed)
    result = nfsverity("serve", signed, "--listen", f"127.0.0.1:{server.port}", status=4)
    assert f"cannot listen at 127.0.0.1:{server.port}" in result.err
    nfsverity("serve", signed, "--listen", "203.0.113.1:0", status=4)
    nfsverity("serve", signed, "--listen", "12049", status=2)
