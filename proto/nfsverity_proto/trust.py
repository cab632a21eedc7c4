# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Trust entries: which signers are believed, and for what (fim, "Trust").

Entries are the verifier's own; nothing that a server sends makes or widens one.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .certificate import Certificate, parse_certificate
from .hashes import hash_by_number
from .record import Fingerprint

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class TrustEntry:
    """One anchor and its scope. Raises `ValueError` for a CA without subject or without scope (fim-trust-1)."""

    anchor: bytes
    """DER: the signer's certificate itself (a pin), or a CA's."""
    ca: bool = False
    subject: str | None = None
    """RFC 4514: attributes that the signer's subject must all have; for a CA, always given."""
    volumes: tuple[bytes, ...] = ()
    """Volume IDs it may speak for; none given = any."""
    prefixes: tuple[str, ...] = ()
    """URL prefixes it may speak for; none given = any."""
    schemes: tuple[int, ...] = ()
    """Signature schemes it may use; none given = any that the client accepts."""
    signers: int = 1
    """How many distinct trusted signers what it speaks for must have."""

    def __post_init__(self) -> None:
        if self.ca and not self.subject:
            raise ValueError("a CA is trusted only for a subject that is named")
        if self.ca and not (self.volumes or self.prefixes):
            raise ValueError("a CA is trusted only for volumes or URL prefixes that are named")
        if self.signers < 1:
            raise ValueError("at least one signer is needed")
        if self.subject is not None:
            subject_of(self.subject)

    @property
    def certificate(self) -> Certificate:
        """Raises `BadCertificate`."""
        return parse_certificate(self.anchor)

    def pins(self, fingerprint: Fingerprint) -> bool:
        """Whether this entry's anchor is the very signer that the fingerprint names."""
        if self.ca:
            return False
        digest = hash_by_number(fingerprint.hash).digest(self.anchor)
        return hmac.compare_digest(digest, fingerprint.digest)

    def covers_url(self, url: str | None) -> bool:
        return not self.prefixes or (url is not None and any(below(url, prefix) for prefix in self.prefixes))

    def covers(self, volume: bytes | None, url: str | None) -> bool:
        """Whether it may speak for this volume at this place; one without a URL is below no prefix (fim-trust-4)."""
        if self.volumes and volume not in self.volumes:
            return False
        return self.covers_url(url)

    def subject_fits(self, certificate: Certificate) -> bool:
        """Whether the certificate's subject has each attribute, with equal type and characters (fim-trust-6)."""
        return self.subject is None or subject_within(self.subject, certificate)


def subject_within(subject: str, certificate: Certificate) -> bool:
    """Whether the certificate's subject has each attribute of another, with equal type and characters."""
    has = {(attribute.type, attribute.text) for attribute in certificate.attributes}
    return all((attribute.oid.dotted_string, attribute.value) in has for attribute in subject_of(subject))


def subject_of(subject: str) -> x509.Name:
    """A subject as RFC 4514 writes one. Raises `ValueError`."""
    from cryptography import x509

    try:
        return x509.Name.from_rfc4514_string(subject)
    except (ValueError, TypeError, Warning) as error:
        raise ValueError(f"{subject!r} is no subject as RFC 4514 writes one, such as O=Example") from error


def below(url: str, prefix: str) -> bool:
    """Whether a URL is the prefix or below it, by whole path segments (fim-trust-3)."""
    return url == prefix or url.startswith(prefix if prefix.endswith("/") else prefix + "/")


def expected_volumes(trust: Sequence[TrustEntry], url: str | None) -> frozenset[bytes] | None:
    """The volume IDs that the trust entries leave possible at a URL; None where one leaves any."""
    covering = [entry for entry in trust if entry.covers_url(url)]
    if not covering or any(not entry.volumes for entry in covering):
        return None
    volumes: set[Any] = set()
    for entry in covering:
        volumes.update(entry.volumes)
    return frozenset(volumes)
