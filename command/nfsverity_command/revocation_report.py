# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""All that a revocation says, and what this user's trust makes of it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfsverity_proto.statement import NO_END, PUBLIC_KEY, VERSION, Item, Kind, Revocation
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verifier import Certificates, Expected, Verifier
from nfsverity_publisher.keys import SigningKey
from nfsverity_publisher.revocation import RevocationReport
from nfsverity_store.revocation import PublishedRevocation

from .belief import Belief
from .failure import error_fields
from .output import count_text, name_fields, path_lines, percent_encoded, printable, seconds_text, shown
from .record_report import RecordReport, hash_name, judge, judged_fields, judged_lines, verdict

WHAT = {PUBLIC_KEY: "key", VERSION: "version"}


@dataclass(frozen=True, slots=True)
class RevocationView:
    """`report` is judged by what is believed; `new` and `invalid` are as in `RevocationReport`."""

    report: RecordReport
    new: frozenset[Item]
    invalid: tuple[bytes, ...]

    @property
    def claim(self) -> Revocation:
        claim = self.report.statement.claim
        if not isinstance(claim, Revocation):
            raise ValueError("this statement is not a revocation")
        return claim


def tree_url(root: Path) -> str:
    return "file://" + percent_encoded(os.fsencode(root.resolve()))


def judged(
    record: bytes, url: str, believed: Belief, certificates: Certificates, invalid: tuple[bytes, ...] = ()
) -> RevocationView:
    """Raises the `VerificationError` of steps 1 and 2."""
    expected = Expected(b"", believed.expected(url, url), url)
    report = judge(record, expected, Verifier(believed.trust, certificates, int(time.time())), Kind.REVOCATION)
    return RevocationView(report, frozenset(), invalid)


def of_report(made: RevocationReport, keys: Sequence[SigningKey]) -> RevocationView:
    """What was just published, judged as one who believes its signers will judge it."""
    record = PublishedRevocation(made.root).record(made.revocation.volume) or b""
    expected = Expected(b"", frozenset({made.revocation.volume}), tree_url(made.root))
    trust = [TrustEntry(key.certificate.der) for key in keys]
    report = judge(record, expected, Verifier(trust, {}, int(time.time())), Kind.REVOCATION)
    return RevocationView(report, frozenset(made.new), made.invalid)


def fields(view: RevocationView) -> dict[str, Any]:
    """A revocation as `--json` has it."""
    claim, report = view.claim, view.report
    return {
        "tree": report.url,
        "volume": claim.volume.hex(),
        **name_fields("label", claim.label),
        "generation": str(claim.when.generation),
        "issued": str(claim.when.issued),
        "not_after": None if claim.when.not_after == NO_END else str(claim.when.not_after),
        "hash": hash_name(report.statement.hash),
        "tag": None if report.tag is None else str(report.tag),
        "items": [
            {
                "what": WHAT.get(item.what, item.what),
                "hash": hash_name(item.hash),
                "digest": item.digest.hex(),
                "new": item in view.new,
            }
            for item in claim.items
        ],
        "attestations": [judged_fields(one) for one in report.judged],
        "verified": report.error is None,
        "error": None if report.error is None else error_fields(report.error),
        "invalid": [name_fields("path", path) for path in view.invalid],
    }


def text(view: RevocationView) -> str:
    """A revocation for people."""
    claim, report = view.claim, view.report
    end = claim.when.not_after
    rows = [
        ("tree", report.url),
        ("volume", f'{claim.volume.hex()} "{shown(claim.label)}"'),
        ("generation", str(claim.when.generation)),
        ("issued", seconds_text(claim.when.issued)),
        ("not after", "does not expire" if end == NO_END else f"{seconds_text(end)}: publish a new one before that"),
    ]
    for item in claim.items:
        new = ", new" if item in view.new else ""
        rows.append((WHAT.get(item.what, str(item.what)), f"{item.digest.hex()} ({hash_name(item.hash)}{new})"))
    if not claim.items:
        rows.append(("revoked", "no key and no version"))
    for number, one in enumerate(report.judged, 1):
        rows += [(f"signer {number}" if not index else "", line) for index, line in enumerate(judged_lines(one))]
    rows.append(("revocation", f"{len(report.data):,} bytes; {verdict(report.error)}"))
    if view.invalid:
        files = count_text(len(view.invalid), "file does not", "files do not")
        rows.append(("invalid", f"{files} verify any more: sign with another key, or sign other content"))
        rows += [("", line) for line in path_lines(view.invalid)]
    return printable("\n".join(f"{name:<11} {line}".rstrip() for name, line in rows))
