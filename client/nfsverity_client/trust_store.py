# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What this user believes, kept in files: trust entries (settings) and bindings (state).

    trust.json     in the user's configuration directory: signers, and what each is believed for
    bindings.json  in the user's state directory: the volume that a server had when it was first used

Both are JSON with a format number, for people to read. A change is written beside the file, synced and
renamed over it, one process at a time. A file that is damaged, of another format, or says something that this
program does not know is an error that names it: read as empty, it would widen what is believed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nfsverity_proto.certificate import certificates_in, parse_certificate
from nfsverity_proto.errors import BadCertificate, NfsVerityError
from nfsverity_proto.trust import TrustEntry

CONFIG_VARIABLE, STATE_VARIABLE = "NFSVERITY_CONFIG_DIR", "NFSVERITY_STATE_DIR"
CACHE_VARIABLE = "NFSVERITY_CACHE_DIR"
FORMAT = 1
FILE_MAX = 2**24
"""Bytes of a file that are read; more is damage."""
ID_LENGTH = 12
"""Hexadecimal digits of an entry's id."""
PREFIX_MIN = 6
"""Hexadecimal digits of a fingerprint that name an entry."""
VOLUME_LENGTH = 16


class TrustStoreError(NfsVerityError):
    """A file of the trust store cannot be used, or has not what was named."""

    advice = ""
    """What to do, where that is not the same for all of them."""


def config_directory() -> Path:
    return _directory(CONFIG_VARIABLE, "user_config_path")


def state_directory() -> Path:
    return _directory(STATE_VARIABLE, "user_state_path")


def cache_directory() -> Path:
    """Where what may be lost is kept; `node_cache` uses it."""
    return _directory(CACHE_VARIABLE, "user_cache_path")


def _directory(variable: str, function: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given)
    import platformdirs

    path: Path = getattr(platformdirs, function)("nfsverity", appauthor=False)
    return path


class ListFile:
    """A JSON file that holds one list, under `key`, beside the format number."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def damaged(self, why: object) -> TrustStoreError:
        return TrustStoreError(
            f"{self.path} is damaged: {why} (mend it, or move it away and tell again what you believe)"
        )

    def load(self) -> list[Any]:
        """The list; empty only where there is no file. Raises `TrustStoreError`, `OSError`."""
        try:
            with self.path.open("rb") as file:
                data = file.read(FILE_MAX + 1)
        except FileNotFoundError:
            return []
        if len(data) > FILE_MAX:
            raise self.damaged(f"it is longer than {FILE_MAX} bytes")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.damaged(error) from error
        if not isinstance(value, dict) or "format" not in value:
            raise self.damaged("it has no format number")
        if value["format"] != FORMAT:
            raise TrustStoreError(f"{self.path} is of format {value['format']}; this program knows {FORMAT}")
        items = value.get(self.key)
        if not isinstance(items, list) or set(value) != {"format", self.key}:
            raise self.damaged(f'beside "format" it has to hold the list "{self.key}", and only that')
        return items

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time; the lock goes with the process."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def replace(self, items: list[Any]) -> None:
        """Durable when it returns, for who has the lock. Whoever reads meanwhile has one of the lists, whole."""
        data = json.dumps({"format": FORMAT, self.key: items}, indent=2).encode() + b"\n"
        name = self.path.with_name(self.path.name + ".new")  # one for all, so that a killed process leaves no other
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException as error:
            if isinstance(error, OSError):
                error.filename, error.filename2 = str(self.path), None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A trust entry as it is kept."""

    id: str
    """Follows from the entry alone, so that the same entry is never there twice."""
    entry: TrustEntry
    added: str
    """The day (RFC 3339, UTC) on which it was added."""


class TrustStore:
    """The trust entries of this user. Reading raises `TrustStoreError` or `OSError`, never skips an entry."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file = ListFile((directory or config_directory()) / "trust.json", "entries")

    @property
    def path(self) -> Path:
        return self._file.path

    def entries(self) -> list[TrustEntry]:
        return [stored.entry for stored in self.stored()]

    def stored(self) -> list[StoredEntry]:
        """The entries with their ids, in the order in which they were added."""
        found = []
        for number, item in enumerate(self._file.load(), 1):
            try:
                found.append(_stored_entry(item))
            except (ValueError, BadCertificate) as error:
                raise self._file.damaged(f"entry {number}: {error}") from error
        return found

    def add(self, entry: TrustEntry) -> str:
        """The entry's id; it is there durably. Raises `BadCertificate` where the anchor is no certificate.

        That of a CA begins paths, and so is one for the library, too.
        """
        if entry.ca:
            _ = entry.certificate.x509
        item = _entry_item(entry)
        with self._file.locked():
            present = self.stored()
            if not any(stored.id == item["id"] for stored in present):
                self._file.replace([*self._file.load(), item])
        return str(item["id"])

    def remove(self, name: str) -> list[StoredEntry]:
        """Remove the entry with an id, or all entries of the certificate whose fingerprint begins with `name`.

        Raises `TrustStoreError` where there is none, or certificates of more than one signer fit.
        """
        name = name.lower().replace(":", "")
        with self._file.locked():
            items, present = self._file.load(), self.stored()
            gone = [stored for stored in present if stored.id == name]
            if not gone and len(name) >= PREFIX_MIN:
                gone = [stored for stored in present if _fingerprint(stored.entry.anchor).startswith(name)]
            if not gone:
                raise TrustStoreError(f"{self.path} has no entry {name}")
            if len({stored.entry.anchor for stored in gone}) > 1:
                raise TrustStoreError(f"{name} fits several signers in {self.path}: give more digits, or an id")
            ids = {stored.id for stored in gone}
            self._file.replace([item for item in items if item["id"] not in ids])
        return gone


class Bindings:
    """Which volume a server had at first use (fim, "Trust"). A server is named by the URL of its root."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file = ListFile((directory or state_directory()) / "bindings.json", "bindings")

    @property
    def path(self) -> Path:
        return self._file.path

    def all(self) -> dict[str, bytes]:
        """Server to volume ID, in the order in which they were made."""
        found: dict[str, bytes] = {}
        for number, item in enumerate(self._file.load(), 1):
            try:
                fields = object_fields(item, {"server", "volume", "made"})
                server, volume = text_field(fields, "server"), _volume(text_field(fields, "volume"))
                if server in found:
                    raise ValueError(f"a second binding of {server}")
            except ValueError as error:
                raise self._file.damaged(f"binding {number}: {error}") from error
            found[server] = volume
        return found

    def get(self, server: str) -> bytes | None:
        return self.all().get(_server_key(server))

    def bind(self, server: str, volume: bytes) -> bytes:
        """The volume that the server is bound to from now on, durably.

        It is `volume`, or that of another process that was first.
        """
        _volume(volume.hex())
        server = _server_key(server)
        with self._file.locked():
            present = self.all().get(server)
            if present is not None:
                return present
            item = {"server": server, "volume": volume.hex(), "made": now_text()}
            self._file.replace([*self._file.load(), item])
        return volume

    def remove(self, server: str) -> bytes:
        """The volume that the server was bound to. Raises `TrustStoreError` where it was not."""
        server = _server_key(server)
        with self._file.locked():
            present = self.all().get(server)
            if present is None:
                raise TrustStoreError(f"{self.path} has no binding of {server}")
            self._file.replace([item for item in self._file.load() if item["server"] != server])
        return present


def certificate_file(path: Path) -> bytes:
    """The DER of the one certificate in a file, which is PEM or DER. Raises `TrustStoreError`, `OSError`."""
    with path.open("rb") as file:
        data = file.read(FILE_MAX)
    try:
        found = certificates_in(data) if b"-----BEGIN" in data else [data]
        for one in found:
            parse_certificate(one)
    except (ValueError, BadCertificate) as error:
        problem = TrustStoreError(f"{path} holds no certificate (PEM or DER), or a damaged one: {error}")
        problem.advice = "name the file that the publisher gives to its readers (`nfsverity keygen` calls it NAME.crt)"
        raise problem from error
    if len(found) != 1:
        raise TrustStoreError(f"{path} holds {len(found)} certificates: name a file with the one that is meant")
    return found[0]


def _server_key(server: str) -> str:
    """One spelling for the root of a server: without the slash at its end."""
    return server if server.endswith("//") else server.removesuffix("/")


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _entry_item(entry: TrustEntry) -> dict[str, Any]:
    from nfsverity_proto.signature import scheme_by_number

    item: dict[str, Any] = {
        "fingerprint": _fingerprint(entry.anchor),
        "name": entry.certificate.subject,
        "ca": entry.ca,
        "subject": entry.subject,
        "volumes": [_volume(volume.hex()).hex() for volume in entry.volumes],
        "prefixes": list(entry.prefixes),
        "schemes": [scheme_by_number(number).name for number in entry.schemes],
        "signers": entry.signers,
        "certificate": base64.b64encode(entry.anchor).decode(),
    }
    digest = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
    return {"id": digest[:ID_LENGTH], "added": now_text(), **item}


_ENTRY_FIELDS = {
    "id", "added", "fingerprint", "name", "ca", "subject", "volumes", "prefixes", "schemes", "signers", "certificate",
}  # fmt: skip


def _stored_entry(item: Any) -> StoredEntry:
    """Raises `ValueError`, `BadCertificate`."""
    from nfsverity_proto.signature import SCHEME_NAMES

    fields = object_fields(item, _ENTRY_FIELDS)
    anchor = base64.b64decode(text_field(fields, "certificate"), validate=True)
    if _fingerprint(anchor) != text_field(fields, "fingerprint"):
        raise ValueError("the fingerprint is not that of the certificate")
    signers, ca, subject = fields["signers"], fields["ca"], fields["subject"]
    if type(signers) is not int or type(ca) is not bool or not isinstance(subject, str | None):
        raise ValueError('"signers" is a number, "ca" is true or false, "subject" a string or null')
    schemes = _texts(fields, "schemes")
    unknown = [name for name in schemes if name not in SCHEME_NAMES]
    if unknown:
        raise ValueError(f"no signature scheme is named {unknown[0]}")
    entry = TrustEntry(
        anchor,
        ca,
        subject,
        tuple(_volume(volume) for volume in _texts(fields, "volumes")),
        tuple(_texts(fields, "prefixes")),
        tuple(SCHEME_NAMES[name] for name in schemes),
        signers,
    )
    _ = entry.certificate
    return StoredEntry(text_field(fields, "id"), entry, text_field(fields, "added"))


def object_fields(item: Any, names: set[str]) -> dict[str, Any]:
    """A JSON object with exactly these names: one more may be a limit that this program does not know."""
    if not isinstance(item, dict):
        raise ValueError("it is not an object")
    for name in sorted(names ^ set(item)):
        raise ValueError(f'"{name}" is {"not known here" if name in item else "missing"}')
    return item


def text_field(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is not a string')
    return value


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f'"{name}" is not a list of strings')
    return value


def _volume(text: str) -> bytes:
    volume = bytes.fromhex(text)
    if len(volume) != VOLUME_LENGTH:
        raise ValueError(f"a volume ID has {VOLUME_LENGTH} bytes, not {len(volume)}")
    return volume
