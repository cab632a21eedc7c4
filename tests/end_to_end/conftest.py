# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The installed command, run as people run it: in processes of its own, with settings and state of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

COMMAND = shutil.which("nfsverity", path=os.path.dirname(sys.executable)) or "nfsverity"
SECONDS = 60
"""Within which everything here ends, unless something is wrong."""
ERROR_PATHS = ("error", "errors", "files.error", "trees.error", "attestations.error")


@dataclass
class Result:
    """What one run came to."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Nfsverity:
    """The command of one user."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("NFSVERITY_", "_NFSVERITY_"))}
        self.environment = {
            **kept,
            "NFSVERITY_CONFIG_DIR": str(self.home / "config"),
            "NFSVERITY_STATE_DIR": str(self.home / "state"),
            "NFSVERITY_CACHE_DIR": str(self.home / "cache"),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "COLUMNS": "100",
            "PATH": os.path.dirname(COMMAND) + os.pathsep + os.environ["PATH"],
        }

    def start(self, *arguments: str | bytes | Path, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([COMMAND, *arguments], env=self.environment, **options)

    def __call__(self, *arguments: str | bytes | Path, status: int | None = 0, **options: Any) -> Result:
        """Run it to its end; `status` is the exit status that is due."""
        done = subprocess.run(
            [COMMAND, *arguments], env=self.environment, capture_output=True, timeout=SECONDS, **options
        )
        result = Result(done.returncode, done.stdout, done.stderr.decode("utf-8", "surrogateescape"))
        if status is not None:
            assert result.status == status, f"{arguments}: status {result.status}\n{result.text}\n{result.err}"
            assert "Traceback" not in result.err, result.err
        return result

    def json(self, *arguments: str | bytes | Path, status: int = 0) -> Any:
        """Run it with --json: what it prints, which says its own exit status and has the documented keys."""
        result = self(*arguments, "--json", status=status)
        value = result.json
        assert value["status"] == status
        names = [word for word in arguments if isinstance(word, str)]
        if "error" not in value or "command" not in value or len(value) > 3:
            check_documented(names[0], names[1] if names[0] in ("trust", "policy", "audit", "cache") else None, value)
        else:
            check_error(value["error"])
        return value


def documented(fields: dict[str, str]) -> set[str]:
    """The paths of keys that a command's help has: `a.b, c` is a.b and a.c."""
    paths: set[str] = set()
    for names in fields:
        first, *more = names.split(", ")
        prefix = first.rpartition(".")[0]
        paths.add(first)
        paths.update(name if "." in name or not prefix else f"{prefix}.{name}" for name in more)
    return paths


def check_documented(name: str, subcommand: str | None, value: dict[str, Any]) -> None:
    """Every key is in the command's help, and every one that is not said to be optional is there."""
    from nfsverity_command.cli import cli

    command = cli.get_command(click.Context(cli), name)
    if subcommand is not None:
        assert isinstance(command, click.Group)
        command = command.commands[subcommand]
    fields: dict[str, str] = command.fields  # type: ignore[union-attr]
    known = documented(fields)
    _walk("", value, known)
    always = {path for path in known if "." not in path and not path.endswith("_base64")}
    assert always <= set(value), always - set(value)


def _walk(path: str, value: Any, known: set[str]) -> None:
    if path in ERROR_PATHS:
        for error in value if isinstance(value, list) else [value]:
            if error is not None:
                check_error(error)
    elif isinstance(value, list):
        for item in value:
            _walk(path, item, known)
    elif isinstance(value, dict) and (not path or any(name.startswith(path + ".") for name in known)):
        for key, item in value.items():
            below = f"{path}.{key}" if path else key
            assert below in known, f"{below} is not documented"
            _walk(below, item, known)


def check_error(error: dict[str, Any]) -> None:
    keys = set(error) - {"file_base64"}
    assert keys == {
        "kind", "verdict", "file", "message", "expected", "found", "rule", "offset", "length", "advice", "status"
    }  # fmt: skip
    assert error["kind"] in (
        "verification",
        "peer",
        "status",
        "usage",
        "local",
        "incomparable",
        "internal",
        "interrupted",
    )
    assert (error["verdict"] is not None) == (error["kind"] == "verification")


@pytest.fixture
def nfsverity(tmp_path: Path) -> Nfsverity:
    """The command of a user who believes nothing yet."""
    return Nfsverity(tmp_path / "home")


@dataclass(frozen=True)
class Keys:
    """The files of a key and its certificate."""

    key: Path
    certificate: Path
    fingerprint: str

    @property
    def options(self) -> tuple[str | Path, ...]:
        return ("--key", self.key, "--cert", self.certificate)


MakeKeys = Callable[..., Keys]


@pytest.fixture(scope="session")
def make_keys(tmp_path_factory: pytest.TempPathFactory) -> MakeKeys:
    """Makes a signer, once for each name and algorithm."""
    made: dict[tuple[str, str], Keys] = {}
    directory = tmp_path_factory.mktemp("keys")

    def make(name: str = "alice", algorithm: str = "ed25519") -> Keys:
        if (name, algorithm) not in made:
            path = directory / f"{name}-{algorithm}"
            value = Nfsverity(directory).json("keygen", "--algorithm", algorithm, str(path))
            made[name, algorithm] = Keys(path.with_suffix(".key"), path.with_suffix(".crt"), value["fingerprint"])
        return made[name, algorithm]

    return make


@pytest.fixture
def alice(make_keys: MakeKeys) -> Keys:
    return make_keys("alice")


@pytest.fixture
def bob(make_keys: MakeKeys) -> Keys:
    return make_keys("bob")


BIG = bytes(range(256)) * 2048
"""512 KiB: 8 units of the default size."""


def make_tree(root: Path) -> Path:
    """Files that are not signed yet: small, empty, executable, of several units, with odd names."""
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"hello\n")
    (root / "empty").write_bytes(b"")
    (root / "big.bin").write_bytes(BIG)
    (root / "sub" / "tool").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "tool").chmod(0o755)
    (root / "sub" / "deeper" / "a #?% b").write_bytes(b"odd\n")
    with open(os.fsencode(root) + b"/sub/caf\xe9", "wb") as file:
        file.write(b"latin\n")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, make_keys: MakeKeys) -> Path:
    """A tree, signed by alice, beside the settings of a user who believes her; `signed` is a copy of both.

    And the same in `records`, with a record for each file.
    """
    directory = tmp_path_factory.mktemp("template")
    alice, user = make_keys("alice"), Nfsverity(directory / "home")
    tree = make_tree(directory / "tree")
    records = shutil.copytree(tree, directory / "records" / "tree")
    user("sign", *alice.options, tree)
    user("sign", *alice.options, "--per-file", records)
    user("trust", "add", alice.certificate)
    return directory


@pytest.fixture
def signed(nfsverity: Nfsverity, template: Path, tmp_path: Path) -> Path:
    """The tree, signed by alice, whom the user believes."""
    shutil.copytree(template / "home", nfsverity.home)
    return shutil.copytree(template / "tree", tmp_path / "tree")


@pytest.fixture
def records(nfsverity: Nfsverity, template: Path, tmp_path: Path) -> Path:
    """The same with a record for each file."""
    shutil.copytree(template / "home", nfsverity.home)
    return shutil.copytree(template / "records" / "tree", tmp_path / "tree")


FORMS = ("volume", "per-file")
"""Of a publication: one signed head over all entries, or a record for each file."""


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Each form in turn."""
    return str(request.param)


@pytest.fixture
def either(form: str, nfsverity: Nfsverity, template: Path, tmp_path: Path) -> Path:
    """The tree, signed by alice, whom the user believes, in each form."""
    shutil.copytree(template / "home", nfsverity.home)
    tree = template / "tree" if form == "volume" else template / "records" / "tree"
    return shutil.copytree(tree, tmp_path / "tree")


@dataclass
class Server:
    """A running `nfsverity serve`."""

    process: subprocess.Popen[bytes]
    url: str
    """Of the root; without the slash at its end, so that a path can follow."""
    port: int

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit status, and what it said on standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, err.decode()


def start_server(user: Nfsverity, tree: Path, *options: str) -> Server:
    listen = () if "--listen" in options else ("--listen", "127.0.0.1:0")
    process = user.start("serve", tree, *listen, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        _, err = process.communicate(timeout=SECONDS)
        pytest.fail(f"serve did not start: {err.decode()}")
    url = line.removesuffix("/")
    return Server(process, url, int(url.rpartition(":")[2]))


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.kill()
    server.process.communicate()


Serve = Callable[..., Server]


@pytest.fixture
def serve(nfsverity: Nfsverity) -> Iterator[Serve]:
    """Starts servers, and stops those that still run at the end."""
    servers: list[Server] = []

    def start(tree: Path, *options: str) -> Server:
        servers.append(start_server(nfsverity, tree, *options))
        return servers[-1]

    yield start
    for server in servers:
        end(server)


@pytest.fixture(scope="session")
def shared_servers(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """A server of each form that no test changes, for all of them."""
    servers: dict[str, Server] = {}

    def of(form: str) -> Server:
        if form not in servers:
            tree = template / "tree" if form == "volume" else template / "records" / "tree"
            servers[form] = start_server(Nfsverity(tmp_path_factory.mktemp("server")), tree)
        return servers[form]

    yield of
    for server in servers.values():
        end(server)


@pytest.fixture
def url(form: str, shared_servers: Callable[[str], Server], template: Path, nfsverity: Nfsverity) -> str:
    """The URL of the root of the signed tree, in each form, no slash; the user believes its signer."""
    shutil.copytree(template / "home", nfsverity.home)
    return shared_servers(form).url


class Slow:
    """Between a client and a server: passes on some bytes of what the server says, and then nothing more."""

    def __init__(self, port: int, most: int) -> None:
        self._port = port
        self._left = most
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listening]
        self.url = f"nfsv://127.0.0.1:{self._listening.getsockname()[1]}"
        self.stalled = threading.Event()
        """Set when nothing more is passed on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, server]
                for source, sink, counts in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(source, sink, counts), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts and self._left < len(data):
                    sink.sendall(data[: self._left])
                    self.stalled.set()
                    return
                self._left -= len(data) if counts else 0
                sink.sendall(data)

    def close(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def wait_for_bytes(directory: Path, count: int) -> None:
    """Until so many bytes are in files of a directory."""
    deadline = time.monotonic() + SECONDS
    while sum(path.lstat().st_blocks * 512 for path in directory.rglob("*")) < count:
        assert time.monotonic() < deadline, f"{directory} has not become that large"
        time.sleep(0.01)


@pytest.fixture
def slow() -> Iterator[Callable[[int, int], Slow]]:
    """Makes a `Slow` before a port, which passes on so many bytes."""
    made: list[Slow] = []

    def make(port: int, most: int) -> Slow:
        made.append(Slow(port, most))
        return made[-1]

    yield make
    for each in made:
        each.close()
