# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""nfsv://HOST:PORT/PATH (RFC 3986; fip-url). The path's bytes are percent-encoded where they must be."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .path import split_path

SCHEME = "nfsv"
_KEPT = "/!$&'()*+,;=:@~"
"""What RFC 3986 section 3.3 allows in a path beside the unreserved characters."""


@dataclass(frozen=True, slots=True)
class Url:
    host: str
    port: int
    path: bytes = b""

    @property
    def server(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}://{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.server}/{quote(self.path, safe=_KEPT)}"

    def with_path(self, path: bytes) -> Url:
        return Url(self.host, self.port, path)


def is_url(text: str) -> bool:
    return text.lower().startswith(SCHEME + "://")


def parse_url(text: str) -> Url:
    """Raises `ValueError`, saying what is wrong with it."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    if parts.scheme.lower() != SCHEME:
        raise ValueError(f"{text}: a URL here begins with {SCHEME}://")
    if not host or not port:
        raise ValueError(f"{text}: a URL here names a host and a port, as {SCHEME}://HOST:PORT/PATH")
    if parts.query or parts.fragment or "?" in text or "#" in text or parts.username is not None:
        raise ValueError(f"{text}: a URL here has no user, query or fragment (write ? as %3F and # as %23)")
    path = unquote_to_bytes(parts.path).strip(b"/")
    try:
        split_path(path)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    return Url(host, port, path)
