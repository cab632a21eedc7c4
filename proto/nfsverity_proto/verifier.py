# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What a verifier brings: what was asked for, who is believed, what is known and accepted. None is the server's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .hashes import HASH_NUMBERS
from .marks import NO_MARKS, Marks
from .record import Fingerprint
from .revocation import NOTHING_REVOKED, Revocations
from .signature import SCHEME_NUMBERS
from .tree import UNIT_LOG2_MAX, UNIT_LOG2_MIN
from .trust import TrustEntry

Certificates = Mapping[Fingerprint, Sequence[bytes]]
"""By signer: the DER of its certificate, then of certificates that may lead to a CA."""


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What the client accepts, of what is implemented."""

    hashes: frozenset[int] = frozenset(HASH_NUMBERS)
    schemes: frozenset[int] = frozenset(SCHEME_NUMBERS)
    unit_log2s: frozenset[int] = frozenset(range(UNIT_LOG2_MIN, UNIT_LOG2_MAX + 1))


ALL_ALGORITHMS = Algorithms()


@dataclass(frozen=True, slots=True)
class Expected:
    """What the client asked for. It never comes from the server."""

    path: bytes
    volumes: frozenset[bytes] | None
    """The volume IDs that will do; None before the first use of a server."""
    url: str | None = None
    """For the scope of trust entries; None for local files."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """What the client brings: whom it believes, what it knows and accepts. It never comes from the server."""

    trust: Sequence[TrustEntry]
    certificates: Certificates
    now: int
    """In Unix seconds, and never before what was accepted shows (`marks.effective_now`)."""
    algorithms: Algorithms = ALL_ALGORITHMS
    marks: Marks = NO_MARKS
    """By default, nothing was accepted before."""
    revoked: Revocations = NOTHING_REVOKED
