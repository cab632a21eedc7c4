# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is sent with a certificate: those that may help to build its path (fip-cert-2)."""

from __future__ import annotations

from collections.abc import Sequence

from nfsverity_proto.certificate import CHAIN_MAX, parse_certificate
from nfsverity_proto.errors import BadCertificate


def chain(der: bytes, certificates: Sequence[bytes]) -> tuple[bytes, ...]:
    """A certificate, and the issuers that there are, each after what it issued. By names only: clients verify."""
    found = [der]
    for issued in found:
        if len(found) < CHAIN_MAX:
            found += [other for other in certificates if other not in found and _may_have_issued(other, issued)]
    return tuple(found[:CHAIN_MAX])


def _may_have_issued(issuer: bytes, issued: bytes) -> bool:
    try:
        return parse_certificate(issuer).x509.subject == parse_certificate(issued).x509.issuer
    except BadCertificate:
        return False
