# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trees that are signed with a fresh key, and served by the real server on a loopback socket."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nfsverity_client.connection import Connection
from nfsverity_client.session import Session, Settings
from nfsverity_proto import messages as m
from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.hashes import hash_by_name
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import Url
from nfsverity_publisher.keys import SigningKey
from nfsverity_publisher.new_key import make_key
from nfsverity_publisher.publication import publish
from nfsverity_publisher.transaction import Options, Report
from nfsverity_publisher.volume import publish_volume
from nfsverity_server.catalog import Catalog
from nfsverity_server.listener import listen, serve
from nfsverity_server.service import Service
from nfsverity_server.trees import Trees
from oracle import signers

HOST = "127.0.0.1"
_NOW = int(time.time())


@dataclass(frozen=True)
class Keys:
    """A private key and the certificate that names it, as PEM, and ready to sign with."""

    private: bytes
    certificate: bytes
    signing: SigningKey

    @property
    def der(self) -> bytes:
        return self.signing.certificate.der

    @property
    def pin(self) -> TrustEntry:
        return TrustEntry(self.der)

    def write(self, directory: Path) -> tuple[Path, Path]:
        """The key's file and the certificate's."""
        key, certificate = directory / "me.key", directory / "me.crt"
        key.write_bytes(self.private)
        certificate.write_bytes(self.certificate)
        return key, certificate


def fresh_keys(algorithm: str = "ed25519", name: str = "publisher") -> Keys:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    private, certificate = make_key(name, algorithm, 30)
    der = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
    return Keys(
        private,
        certificate,
        SigningKey(serialization.load_pem_private_key(private, None), parse_certificate(der)),
    )


@cache
def keys(name: str = "publisher") -> Keys:
    """The same keys for the same name, fresh in each process."""
    return fresh_keys(name=name)


@dataclass(frozen=True)
class Authority:
    """A CA, a CA below it, and what they issue. Valid from an hour ago, for a week."""

    root_key: Any
    root: bytes
    middle_key: Any
    middle: bytes

    def issue(self, name: str = "publisher", **options: Any) -> Keys:
        """Keys whose certificate the lower CA has issued; `options` as for `signers.certificate`."""
        private = signers.KEYS[signers.ED25519]()
        lifetime = {"not_before": _NOW - 3600, "not_after": _NOW + 604800} | options
        der = signers.certificate(
            private.public_key(),
            signers.common_name(name),
            self.middle_key,
            signers.common_name("middle"),
            **({"signs": True} | lifetime),
        )
        return Keys(b"", b"", SigningKey(private, parse_certificate(der), [self.middle]))

    def entry(self, volume: bytes, subject: str = "CN=publisher") -> TrustEntry:
        return TrustEntry(self.root, ca=True, subject=subject, volumes=(volume,))


def authority() -> Authority:
    root_key, middle_key = (signers.KEYS[signers.ECDSA_P256]() for _ in range(2))
    lifetime = {"not_before": _NOW - 3600, "not_after": _NOW + 604800}
    name = signers.common_name("root")
    root = signers.certificate(root_key.public_key(), name, root_key, ca=True, **lifetime)
    middle = signers.certificate(
        middle_key.public_key(), signers.common_name("middle"), root_key, name, ca=True, **lifetime
    )
    return Authority(root_key, root, middle_key, middle)


@dataclass(frozen=True)
class Published:
    """A tree, and who signs it."""

    root: Path
    keys: Keys = field(default_factory=keys)

    @property
    def pin(self) -> TrustEntry:
        return self.keys.pin

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def replace(self, name: str, data: bytes) -> None:
        """As package managers do it: a new file, renamed over the old one."""
        new = self.root.parent / f"{self.root.name}.new"
        new.write_bytes(data)
        os.replace(new, self.root / name)

    def sign(
        self, *below: str, unit_size: int | None = None, hash: str | None = None, keys: Sequence[Keys] = (), **more: Any
    ) -> Report:
        options = Options(
            unit_log2=None if unit_size is None else unit_size.bit_length() - 1,
            hash=None if hash is None else hash_by_name(hash).number,
            **more,
        )
        signing = [one.signing for one in keys or (self.keys,)]
        report = publish(self.root, [os.fsencode(path) for path in below or ("",)], signing, options)
        assert not report.failed, report.failed
        return report

    def sign_volume(self, *below: str, **options: Any) -> Report:
        """As one volume."""
        paths = [os.fsencode(path) for path in below or ("",)]
        report = publish_volume(self.root, paths, [self.keys.signing], Options(**options))
        assert not report.failed, report.failed
        return report


def publish_as_volume(root: Path, files: Mapping[str, bytes], **options: Any) -> Published:
    """Write files, and sign them all as one volume."""
    root.mkdir(exist_ok=True)
    published = Published(root, keys())
    published.write(files)
    published.sign_volume(**options)
    return published


def publish_tree(root: Path, files: Mapping[str, bytes], *, signer: Keys | None = None, **options: Any) -> Published:
    """Write files, and sign them all."""
    root.mkdir(exist_ok=True)
    published = Published(root, signer or keys())
    published.write(files)
    published.sign(**options)
    return published


@dataclass
class Served:
    """A server that runs."""

    root: Path
    port: int
    service: Service

    @property
    def url(self) -> str:
        return f"nfsv://{HOST}:{self.port}/"

    @property
    def where(self) -> Url:
        return Url(HOST, self.port)


@contextmanager
def serving(root: Path, *, port: int = 0, show_all: bool = False, **trees: Any) -> Iterator[Served]:
    """Serve a published tree, by an event loop in a thread, until the block ends. `trees` is for `Trees`."""
    started: list[Served] = []

    async def run(ready: Callable[[], None], stop: asyncio.Event) -> None:
        service = Service(Catalog(root, show_all=show_all), Trees(root, **trees))
        sock = listen(HOST, port)
        started.append(Served(root, sock.getsockname()[1], service))
        await serve(service, sock, ready, stop)

    with in_a_thread("server", run):
        yield started[0]


@contextmanager
def in_a_thread(name: str, run: Callable[[Callable[[], None], asyncio.Event], Awaitable[None]]) -> Iterator[None]:
    """Have an event loop run something beside the block: it calls `ready`, and ends when `stop` is set."""
    failed: list[BaseException] = []
    ready = threading.Event()
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def until_stopped() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        await run(ready.set, stop)

    def body() -> None:
        try:
            asyncio.run(until_stopped())
        except BaseException as error:  # noqa: BLE001 - it is raised where the block ends
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name=name)
    thread.start()
    ready.wait()
    try:
        if failed:
            raise failed[0]
        yield
    finally:
        for loop, stop in stopping:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failed:
        raise failed[0]


@asynccontextmanager
async def session(where: Url | Served, *trust: TrustEntry, **settings: Any) -> AsyncIterator[Session]:
    """A session that believes `trust` (the default signer where nothing is given)."""
    url = where.where if isinstance(where, Served) else where
    settings.setdefault("timeout", 20.0)
    async with Session(url, Settings(trust=trust or (keys().pin,), **settings)) as opened:
        yield opened


@dataclass(frozen=True)
class Made:
    """A call that a client made."""

    name: str
    arguments: Any
    at: float
    """By the event loop's time."""


@contextmanager
def calls_made() -> Iterator[list[Made]]:
    """The calls that are made meanwhile, on any connection of this process."""
    made: list[Made] = []
    call_holding = Connection.call_holding

    async def noting(self: Connection, procedure: m.Procedure[Any, Any], arguments: Any) -> Any:
        made.append(Made(procedure.name, arguments, asyncio.get_running_loop().time()))
        return await call_holding(self, procedure, arguments)

    Connection.call_holding = noting  # type: ignore[method-assign]
    try:
        yield made
    finally:
        Connection.call_holding = call_holding  # type: ignore[method-assign]
