# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What became of each file that was to be verified, and how that is reported: `verify` and `get`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .failure import Exit, classified, error_fields, error_text, say, status_of, weightiest
from .output import count_text, identity_fields, name_fields, shown

if TYPE_CHECKING:
    from nfsverity_proto.signers import Signer
    from nfsverity_proto.statement import When
    from nfsverity_proto.verification import Verified

RANGES_SHOWN = 20
"""Bad ranges of one file that people are told; JSON has all."""

FILE_FIELDS = {
    "file": "its URL",
    "path": "in the tree",
    "path_base64": "only where the path is not UTF-8",
    "verdict": "verified; else the verdict, also of what is unverified; null where it was not judged, or could not be",
    "volume, label, generation": "of the record, if that verifies; else null",
    "label_base64": "only where the label is not UTF-8",
    "signers": "of the record: subject, fingerprint and scheme of each",
    "seen_before": "whether a version of it was accepted here before; else an older one passes; null: not known",
    "size": "as signed (decimal string), or null",
    "ranges": "bad bytes: offset and length (decimal strings), and expected and found, hashes of the first unit",
    "target": "where it leads, of a link that was named and is signed; else null",
    "target_base64": "only where that is not UTF-8",
    "unverified": "which rule of the policy let it pass without being verified, or null",
    "error": "why it did not verify (as below), or null",
}


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes that are not what was signed; the hashes are those of the first unit, where there are any."""

    offset: int
    length: int
    expected: str | None
    found: str | None


@dataclass(frozen=True, slots=True)
class Vouched:
    """What is told of a record that verified, and no more: there can be a million of them at once."""

    volume: bytes
    label: bytes
    when: When
    signers: tuple[Signer, ...]
    size: int | None
    """Of a file."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One file."""

    url: str
    path: bytes
    verified: Verified | Vouched | None
    """The record, where that verifies."""
    error: Exception | None = None
    ranges: Sequence[Range] = ()
    more: int = 0
    """Ranges beside the one that `error` is about."""
    seen_before: bool | None = None
    """Whether a version of it was accepted here before; None where that is not known."""
    unverified: str | None = None
    """Why it passed though it is not verified: which rule lets it."""
    verdict: str | None = None
    """Of what is unverified, where it was asked."""
    target: bytes | None = None
    """Of a link of a volume: where it leads. Then `verified` is the head."""


@dataclass(slots=True)
class Checks:
    """All files of one command."""

    files: list[Checked] = field(default_factory=list, repr=False)
    """Left out of `repr`, which asyncio makes, twice, of whatever the coroutine of `asyncio.run` returns."""
    advised: set[str] = field(default_factory=set)
    """Advice that was given already."""

    def add(self, checked: Checked) -> None:
        """Take it in; and where it is bad, say so at once."""
        self.files.append(_slim(checked))
        if checked.error is not None:
            self._tell(checked, checked.error)
        elif checked.unverified is not None:
            say(unverified_text(checked.url, checked.unverified, checked.verdict))

    def take_back(self, number: int, error: Exception) -> None:
        """A file that was added as a good one is none, and that is said."""
        before = self.files[number]
        self.files[number] = Checked(before.url, before.path, None, error)
        self._tell(self.files[number], error)

    def _tell(self, checked: Checked, error: Exception) -> None:
        text = error_text(error)
        advice = classified(error)[2]
        if advice in self.advised:  # once is enough
            text = text.removesuffix(f"\n  what to do: {advice}")
        self.advised.add(advice)
        say(text)
        if len(checked.ranges) > 1:
            for place in checked.ranges[:RANGES_SHOWN]:
                hashes = "" if place.expected is None else f" (expected {place.expected}, found {place.found})"
                say(f"  bytes {place.offset} to {place.offset + place.length - 1}{hashes}")
            if len(checked.ranges) > RANGES_SHOWN:
                say(f"  and {len(checked.ranges) - RANGES_SHOWN} more ranges (--json has all)")

    @property
    def bad(self) -> list[Checked]:
        return [checked for checked in self.files if checked.error is not None]

    @property
    def status(self) -> Exit:
        """What did not verify weighs more than what could not be judged."""
        statuses = {status_of(checked.error) for checked in self.files if checked.error is not None}
        return weightiest(statuses | ({Exit.UNVERIFIED} if self.unverified else set()))

    @property
    def unverified(self) -> int:
        """How many passed without being verified."""
        return sum(checked.unverified is not None for checked in self.files)

    @property
    def good_bytes(self) -> int:
        return sum(_size(checked) or 0 for checked in self.files if checked.error is None)

    @property
    def links(self) -> int:
        """How many are links, and as signed."""
        return sum(checked.target is not None and checked.error is None for checked in self.files)

    @property
    def good(self) -> int:
        """How many are files that were verified."""
        return len(self.files) - len(self.bad) - self.unverified - self.links

    def fields(self) -> dict[str, Any]:
        return {
            "files": [_file_fields(checked) for checked in self.files],
            "verified": self.good,
            "unverified": self.unverified,
            "failed": len(self.bad),
            "bytes": str(self.good_bytes),
        }

    def summary(self) -> str:
        """What was verified, and whose it is."""
        lines = [f"{count_text(self.good, 'file')} verified, {count_text(self.good_bytes, 'byte')}"]
        if self.links:
            lines[0] = f"{count_text(self.links, 'link')} as signed; {lines[0]}"
        if self.bad:
            lines[0] += f"; {count_text(len(self.bad), 'file')} not"
        if self.unverified:
            lines[0] += f"; {count_text(self.unverified, 'file')} UNVERIFIED, as the policy says"
        identities: dict[tuple[bytes, bytes, str], list[int]] = {}
        for checked in self.files:
            if checked.verified is not None:
                of = checked.verified
                signers = " and ".join(f'"{signer.certificate.subject}"' for signer in checked.verified.signers)
                identities.setdefault((of.volume, of.label, signers), []).append(of.when.generation)
        for (volume, label, signers), generations in identities.items():
            first, last = min(generations), max(generations)
            generation = f"generation {first}" if first == last else f"generations {first} to {last}"
            lines.append(f'volume {volume.hex()} "{shown(label)}", {generation}, signed by {signers}')
        new = sum(checked.error is None and checked.seen_before is False for checked in self.files)
        if new:
            it = "whether it is" if new == 1 else "whether they are"
            lines.append(f"{count_text(new, 'file')} seen for the first time: {it} the latest cannot be told")
        return "\n".join(lines)


def unverified_text(url: str, why: str, verdict: str | None) -> str:
    """What people are told of a file that is not verified, and passed."""
    return f"nfsverity: UNVERIFIED: {url}: {why}" + ("" if verdict is None else f" (its verdict: {verdict})")


def _verdict(checked: Checked) -> str | None:
    if checked.unverified is not None:
        return checked.verdict
    return "verified" if checked.error is None else getattr(checked.error, "verdict", None)


def _slim(checked: Checked) -> Checked:
    """The same, with no more of the record than is told."""
    if checked.error is not None or checked.target is not None or checked.verified is None:
        return replace(checked, verified=_vouched(checked))
    return Checked(checked.url, checked.path, _vouched(checked), seen_before=checked.seen_before)  # as almost all are


def _vouched(checked: Checked) -> Vouched | None:
    of = checked.verified
    if of is None or isinstance(of, Vouched):
        return of
    size = of.content.tree.size if checked.target is None else None
    return Vouched(of.volume, of.label, of.when, of.signers, size)


def _size(checked: Checked) -> int | None:
    vouched = _vouched(checked)
    return None if vouched is None else vouched.size


def _file_fields(checked: Checked) -> dict[str, Any]:
    verified, size = checked.verified, _size(checked)
    return {
        "file": checked.url,
        **name_fields("path", checked.path),
        "verdict": _verdict(checked),
        **identity_fields(verified),
        "seen_before": checked.seen_before,
        "size": None if size is None else str(size),
        "ranges": [
            {
                "offset": str(place.offset),
                "length": str(place.length),
                "expected": place.expected,
                "found": place.found,
            }
            for place in checked.ranges
        ],
        **({"target": None} if checked.target is None else name_fields("target", checked.target)),
        "unverified": checked.unverified,
        "error": None if checked.error is None else error_fields(checked.error),
    }
