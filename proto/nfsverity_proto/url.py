# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""nfsv://HOST:PORT/PATH (RFC 3986; fip, "URLs"). The path's bytes are percent-encoded where they must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from .path import check_name, split_path

SCHEME = "nfsv"
_KEPT = "!$&'()*+,;=:@~"
"""What stands for itself in a segment beside RFC 3986's unreserved characters: pchar (fip-url-7)."""
_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]*))?"
)
"""RFC 3986 section 3.2 without user information: host [ ":" port ]."""
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Url:
    """`host` in lower case, without the brackets of an IPv6 address; `path` as bytes, empty for the root."""

    host: str
    port: int
    path: bytes = b""

    @property
    def server(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.server}/{quote(self.path, safe='/' + _KEPT)}"

    def with_path(self, path: bytes) -> Url:
        return Url(self.host, self.port, path)


def is_url(text: str) -> bool:
    return text.lower().startswith(SCHEME + "://")


def parse_url(text: str) -> Url:
    """Raises `ValueError`, saying what is wrong with it."""
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None


def _parse(text: str) -> Url:
    if not is_url(text):
        raise ValueError(f"a URL here begins with {SCHEME}://")
    if "?" in text or "#" in text:  # fip-url-1
        raise ValueError("a URL here has no query or fragment (write ? as %3F and # as %23)")
    authority, slash, path = text[len(SCHEME + "://") :].partition("/")
    if "@" in authority:  # fip-url-1
        raise ValueError("a URL here names no user")
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["port"]:  # there is no default port until one is assigned
        raise ValueError(f"a URL here names a host and a port, as {SCHEME}://HOST:PORT/PATH")
    port = int(match["port"]) if len(match["port"]) <= 5 else 0
    if not 0 < port < 65536:
        raise ValueError(f"port {match['port']} is none of 1 to 65535")
    return Url(match["host"].strip("[]").lower(), port, _decode_path(path) if slash else b"")


def _decode_path(text: str) -> bytes:
    if _BARE_PERCENT.search(text):  # fip-url-6
        raise ValueError("a % that two hexadecimal digits do not follow (write it as %25)")
    if text.endswith("/"):  # fip-url-5
        text = text[:-1]
    if not text:  # fip-url-4
        return b""
    # Segments first, then their bytes (fip-url-2): %2F would be a byte of a name, and no name has it.
    # What came undecoded from a command line (PEP 383) stands for the bytes that it was.
    names = [unquote_to_bytes(segment.encode("utf-8", "surrogateescape")) for segment in text.split("/")]
    for name in names:  # fip-url-3
        check_name(name)
    path = b"/".join(names)
    split_path(path)
    return path
