# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the commands for served files share: a session under this user's trust, and what they do with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nfsverity_client.heads import HEADS_MAX
from nfsverity_client.links import following
from nfsverity_client.listing import bounded, list_below, take_below
from nfsverity_client.opening import UnverifiedReader, open_at
from nfsverity_client.pipeline import in_order
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import MISSING
from nfsverity_client.session import Session, Settings
from nfsverity_client.volume import NewHead, find
from nfsverity_proto import messages as m
from nfsverity_proto.entry import FileNode, LinkNode, key_of_path
from nfsverity_proto.entry_range import entry_at
from nfsverity_proto.errors import (
    Absent,
    Hidden,
    LinkOutside,
    MalformedMessage,
    Mismatch,
    NfsVerityError,
    OtherHead,
    StatusError,
    Unsigned,
    VerificationError,
)
from nfsverity_proto.member import kind_of_record
from nfsverity_proto.record import Fingerprint, decode_record
from nfsverity_proto.signers import signers_to_fetch
from nfsverity_proto.statement import Kind
from nfsverity_proto.url import Url
from nfsverity_proto.verification import Verified
from nfsverity_proto.verifier import Expected

from . import ending
from .belief import Belief, announce
from .caching import Caching
from .checked import Checked, Range
from .failure import about, warn
from .progress import Meter
from .record_report import RecordReport, judge_here, judge_member_here
from .volume_report import Place, VolumeReport, head_report, place_in

if TYPE_CHECKING:
    from .revocation_report import RevocationView

FILES_AT_ONCE = 16
"""Files that are opened at the same time."""


def session_for(
    url: Url,
    believed: Belief,
    timeout: float,
    wait: float = 0.0,
    presentation: str = Presentation.INLINE,
    caching: Caching | None = None,
    *,
    remember: bool = True,
) -> Session:
    """`remember`: whether marks are judged by and kept, which who asks for old versions does not want."""
    settings = Settings(
        trust=believed.trust,
        volume=believed.volume,
        presentation=Presentation(presentation),
        wait=wait,
        timeout=timeout,
        revoked=believed.revoked,
        gates=believed.gates,
    )
    state = believed.state if remember else None
    cache, units = (None, None) if caching is None else (caching.cache, caching.units)
    session = Session(url, settings, believed.bindings, announce, cache, state, warn, units)
    if caching is not None:
        caching.sessions.append(session)
    return session


async def files_below(session: Session, path: bytes) -> list[tuple[bytes, int]]:
    """Every file at a path and below it, and its size, by the server's word. Raises `StatusError`, `PeerError`."""
    with about(session.url_of(path)):
        async with contextlib.aclosing(list_below(session, path, deep=True, by_word=True)) as found:
            return [(file.path, file.size) async for file in bounded(found) if file.size is not None]


async def check(session: Session, path: bytes, meter: Meter) -> Checked:
    """All of one file, verified; everything that is wrong with it. Nothing is waited for with `wait` 0."""
    url = session.url_of(path)
    try:
        with about(url):
            reader = await open_at(session, path, tolerant=True)
            if isinstance(reader, UnverifiedReader):
                verdict = await reader.judge()
                meter.add(reader.size)
                return Checked(url, path, None, unverified=reader.unverified, verdict=verdict)
            ranges = _merged([fault async for fault in reader.faults()])
    except NfsVerityError as error:
        return Checked(url, path, None, error)
    meter.add(reader.size)
    if not ranges:
        return Checked(url, path, reader.verified, seen_before=reader.seen_before)
    first, *more = ranges
    places = [place for place, _ in ranges if place is not None]
    return Checked(url, path, reader.verified, first[1], places, len(more), reader.seen_before)


async def check_link(session: Session, path: bytes, add: Callable[[Checked], None]) -> bool:
    """The link of a volume that a path names, if it does; whether there is something in the volume to go on with.

    Raises as `check_volume`.
    """
    found = await find(session, path, last=False)
    at, entry = (path, None) if found is None else found
    head = session.heads.accepted
    if head is None or entry is None or not isinstance(entry.node, LinkNode):
        return True
    url, target = session.url_of(at), entry.node.target
    add(Checked(url, at, head.verified, seen_before=head.seen_before, target=target))
    try:
        await find(session, path)
    except (Absent, LinkOutside):
        return False
    return True


async def check_volume(session: Session, path: bytes, meter: Meter, add: Callable[[Checked], None]) -> None:
    """Every file of a volume at a path and below it: small ones many at a time, others as `check` does it.

    Raises `VerificationError` for the volume itself, `StatusError`, `PeerError`.
    """
    by_themselves: list[bytes] = []
    most = m.BULK_MAX if session.settings.gates.is_silent else 0
    async with contextlib.aclosing(take_below(session, path, deep=True, most=most)) as found:
        async for member in found:
            if not member.is_file:
                continue
            if member.content is None:  # what does not verify is asked for by itself, too: where it is bad, is found
                by_themselves.append(member.path)
                continue
            meter.add(len(member.content))
            head = session.heads.accepted
            seen_before = None if head is None else head.seen_before
            add(Checked(session.url_of(member.path), member.path, member.verified, seen_before=seen_before))
    jobs = (check(session, one, meter) for one in by_themselves)
    async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
        async for checked in results:
            add(checked)


def _merged(faults: Sequence[Mismatch]) -> list[tuple[Range | None, Mismatch]]:
    """Neighbouring bad units as one range, which has the hashes of its first unit."""
    merged: list[tuple[Range | None, Mismatch]] = []
    for fault in faults:
        if fault.offset is None or fault.length is None:
            merged.append((None, fault))
            continue
        last = merged[-1][0] if merged else None
        if last is not None and last.offset + last.length == fault.offset:
            last = Range(last.offset, last.length + fault.length, last.expected, last.found)
            merged[-1] = last, merged[-1][1]
        else:
            merged.append((Range(fault.offset, fault.length, fault.expected, fault.found), fault))
    return merged


def record_of(url: Url, believed: Belief, timeout: float) -> RecordReport | VolumeReport:
    """What the server has as the record of a file, or of a volume, judged.

    Raises `VerificationError`: `Unsigned`, and in a volume `Absent`, too; `StatusError`, `PeerError`.
    """
    with about(str(url)):
        return ending.run(_record_of(url, believed, timeout))


async def _record_of(url: Url, believed: Belief, timeout: float) -> RecordReport | VolumeReport:
    expected = Expected(url.path, believed.expected(str(url), url.server), str(url))
    async with session_for(url, believed, timeout) as session:
        try:
            for _ in range(HEADS_MAX):
                head = await _head_of(session)
                if head is None:
                    data = await _offered(session, url.path)
                    certificates = await _certificates(session, data, believed)
                    return judge_here(data, expected, believed, certificates, session.url_of)
                with contextlib.suppress(NewHead):
                    return await _of_volume(session, url, head, expected, believed)
            raise OtherHead("the volume changes faster than it can be read")
        except VerificationError as error:
            error.where = str(url)
            raise


async def _head_of(session: Session) -> bytes | None:
    """What the server has as the head of a volume; None for none."""
    try:
        head = (await session.call(m.RECORD, m.RecordArgs(m.ROOT_HANDLE, b"", 0))).record
    except StatusError as error:
        if error.status in (m.Status.IS_DIRECTORY, m.Status.UNSIGNED):
            return None
        raise
    return head if kind_of_record(head) == Kind.VOLUME else None


async def _offered(session: Session, path: bytes) -> bytes:
    """The record at a path."""
    handle = (await session.resolve(path)).object
    try:
        return (await session.call(m.RECORD, m.RecordArgs(handle, b"", 0))).record
    except StatusError as error:
        if error.status is m.Status.UNSIGNED:
            raise Unsigned("the server has no record for it") from error
        raise


async def _of_volume(
    session: Session, url: Url, head: bytes, expected: Expected, believed: Belief
) -> RecordReport | VolumeReport:
    """The head, or what is at a path under it, whether the head verifies or not. Raises `NewHead`, as `record_of`."""
    certificates = await _certificates(session, head, believed)
    report = head_report(head, str(url), expected, believed, certificates, session.url_of)
    walk = following(url.path, last=False)
    place: Place | None = None
    with contextlib.closing(walk):
        try:
            at = next(walk)
            while True:
                place = await _place(session, report.under, at)
                at = walk.send(None if place is None else place.entry)
        except StopIteration as end:
            path, entry = end.value
        except (Absent, LinkOutside):
            if report.error is not None:  # then that is no proof
                raise report.error from None
            raise
    if entry is None or place is None:
        return report
    if not isinstance(entry.node, FileNode):
        return replace(report, place=place)
    try:
        data = await _offered(session, path)
    except Unsigned as error:
        raise Hidden("the volume has a file there, and the server has no record for it") from error
    except StatusError as error:
        if error.status not in MISSING:
            raise
        raise Hidden(f"the volume has a file there, and {error}") from error
    return judge_member_here(data, head, replace(expected, path=path), believed, certificates, session.url_of)


async def _place(session: Session, head: Verified, path: bytes) -> Place | None:
    """The entry at a path; None where it is shown that there is none."""
    key = key_of_path(path)
    try:
        found = (await session.call(m.ENTRIES, m.EntriesArgs(head.tag, *_parts(path), 2))).range
    except StatusError as error:
        if error.status is m.Status.CHANGED:
            raise NewHead from error
        raise
    try:
        place = place_in(head, found, key)
        entry_at(head.head, found, key)
    except ValueError as error:
        raise MalformedMessage(f"a reply to ENTRIES: {error} (fip-entries-6)") from error
    return place


def _parts(path: bytes) -> tuple[bytes, bytes]:
    parent, _, name = path.rpartition(b"/")
    return parent, name


def revocation_of(url: Url, believed: Belief, timeout: float) -> RevocationView:
    """What the server has as the revocation of what is at its root. Raises `Unsigned`, `StatusError`, `PeerError`."""
    with about(url.server):
        return ending.run(_revocation_of(url, believed, timeout))


async def _revocation_of(url: Url, believed: Belief, timeout: float) -> RevocationView:
    from .revocation_report import judged

    async with session_for(url, believed, timeout) as session:
        record = await session.revocation()
        if record is None:
            raise Unsigned("the server has no revocation", where=url.server)
        try:
            return judged(record, url.server, believed, await _certificates(session, record, believed))
        except VerificationError as error:
            error.where = url.server
            raise


async def _certificates(session: Session, data: bytes, believed: Belief) -> dict[Fingerprint, Sequence[bytes]]:
    """What the server has as the certificates of a record's signers, the pinned ones left out."""
    found: dict[Fingerprint, Sequence[bytes]] = {}
    for signer in signers_to_fetch(decode_record(data), believed.trust):
        with contextlib.suppress(StatusError):
            found[signer] = (await session.call(m.CERTIFICATE, m.CertificateArgs(signer))).certificates
    return found


def exported_of(url: Url, believed: Belief, timeout: float) -> bytes:
    """What vouches for a served file, verified; with the head of its volume, where it is in one."""
    with about(str(url)):
        return ending.run(_exported_of(url, believed, timeout))


async def _exported_of(url: Url, believed: Belief, timeout: float) -> bytes:
    from nfsverity_proto.exported import Exported, encode_exported
    from nfsverity_proto.record import membership_of

    async with session_for(url, believed, timeout) as session:
        reader = await open_at(session, url.path)
        if isinstance(reader, UnverifiedReader):
            raise Unsigned(f"it is not verified: {reader.unverified}", where=str(url))
        verified = reader.verified
        if verified.member is None:
            return verified.data
        head = session.heads.accepted
        if head is None or membership_of(verified.record.attestations[0]).head != head.verified.tag:
            raise OtherHead("the volume has changed meanwhile: try again", where=str(url))
        return encode_exported(Exported(verified.data, head.verified.data))
