# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The vectors of calls against the real server, on a loopback socket: what it answers, and when it hangs up."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import HOST, Served, publish_tree, serving
from vectors.form import unpacked
from vectors.messages import ARGUMENTS, STATUSES
from vectors.rpc import call

FOLDER = Path(__file__).parents[2] / "spec" / "vectors"
LAST = 0x80000000


def load(subject: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{subject}.json").read_text())["vectors"]
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("vectors") / "tree"
    publish_tree(root, {"file": b"content"})
    with serving(root) as running:
        yield running


def connect(served: Served) -> socket.socket:
    connection = socket.create_connection((HOST, served.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(struct.pack(">I", LAST | len(message)) + message)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            return data
        data += part
    return data


def answer(connection: socket.socket) -> bytes | None:
    """The next message; None where the server has hung up."""
    try:
        mark = receive(connection, 4)
        if not mark:
            return None
        length = struct.unpack(">I", mark)[0]
        assert length & LAST
        return receive(connection, length & ~LAST)
    except ConnectionResetError:
        return None


@pytest.mark.spec("fip-rpc-11", "fip-rpc-12")
def test_headers_of_calls_are_answered_as_the_draft_says(served: Served) -> None:
    vectors = [vector for vector in load("rpc") if vector["input"]["direction"] == "call"]
    assert len(vectors) > 60
    for vector in vectors:
        with connect(served) as connection:
            send(connection, unpacked(vector["input"]["message"]))
            found = answer(connection)
        if vector["outcome"] == "close":
            assert found is None, vector["id"]
        elif vector["valid"]:
            assert found is not None, vector["id"]
            xid, rest = found[:4], found[4:24]
            assert xid == struct.pack(">I", vector["output"]["xid"]), vector["id"]
            assert rest == struct.pack(">IIIII", 1, 0, 0, 0, 0), vector["id"]
        else:
            assert found == unpacked(vector["output"]["reply"]), vector["id"]


@pytest.mark.spec("fip-rpc-11", "fip-status-2", "fip-status-5")
def test_arguments_are_refused_as_the_draft_says(served: Served) -> None:
    vectors = [vector for vector in load("message") if vector["input"]["direction"] == "call"]
    assert len(vectors) > 300
    procedures = list(ARGUMENTS)
    garbage, invalid = struct.pack(">IIIII", 1, 0, 0, 0, 4), struct.pack(">IIIIII", 1, 0, 0, 0, 0, STATUSES["INVALID"])
    with connect(served) as connection:
        for number, vector in enumerate(vectors):
            given = vector["input"]
            if len(unpacked(given["bytes"])) > 60_000:  # a server may end the connection at a call of that length
                continue
            send(connection, call(unpacked(given["bytes"]), xid=number, proc=procedures.index(given["procedure"])))
            found = answer(connection)
            assert found is not None, vector["id"]
            assert found[:4] == struct.pack(">I", number), vector["id"]
            expected = {"garbage-args": [garbage], "invalid": [invalid], "refused": [garbage, invalid]}.get(
                vector["outcome"]
            )
            if expected is None:
                assert found[4:] not in (garbage, invalid), vector["id"]
            else:
                assert found[4:] in expected, vector["id"]
