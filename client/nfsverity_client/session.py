# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A session with one server: what it gives is judged by the user's trust.

The I/O that `nfsverity_proto.verification` leaves out is here: certificates are fetched, the clock is read,
and the volume ID is bound to the server at first use.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    Absent,
    Equivocation,
    NoCertificate,
    NotMember,
    OtherHead,
    PeerError,
    Rollback,
    StatusError,
    Unsigned,
    VerificationError,
    WrongKind,
    WrongVolume,
)
from nfsverity_proto.marks import NO_MARKS
from nfsverity_proto.member import check_head, kind_of_record, verify_member
from nfsverity_proto.policy import Gate, Rule, named
from nfsverity_proto.record import Fingerprint, decode_record
from nfsverity_proto.revocation import Revocations, Revoked
from nfsverity_proto.signers import signers_to_fetch
from nfsverity_proto.statement import Item, Kind
from nfsverity_proto.trust import TrustEntry, expected_volumes
from nfsverity_proto.url import Url
from nfsverity_proto.verification import (
    Verified,
    accept_revocation,
    check_freshness,
    check_revoked,
    check_validity,
    verify_head,
    verify_record,
)
from nfsverity_proto.verifier import ALL_ALGORITHMS, Algorithms, Certificates, Expected, Verifier

from .budget import WaitBudget
from .cached_nodes import SessionNodes
from .calls import Calls
from .gates import ENFORCING, Gates, Rules, narrowed
from .heads import HEADS_MAX, Heads
from .marks import Judged, MarkStore, Raise, Seen, judged
from .node_cache import NodeCache
from .polls import Polls
from .presentation import Presentation
from .revocations import RevocationStore, accepted
from .state import State
from .unit_cache import UnitCache

Verify = Callable[[bytes | None, Expected, Verifier], Verified]
"""`verify_record`, or what judges another kind."""
CERTIFICATES_MAX = 64
"""Signers whose certificates are remembered."""


class Bindings(Protocol):
    """Where the volume ID that a server had at first use is kept; `trust_store.Bindings` is one."""

    def get(self, server: str) -> bytes | None:
        """The volume ID bound to a server's root URL."""

    def bind(self, server: str, volume: bytes) -> bytes:
        """Bind, durably before this returns; the volume ID that is then bound (another process may be first)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for. Times in seconds."""

    trust: tuple[TrustEntry, ...] = ()
    volume: bytes | None = None
    """The volume ID to expect; None: what trust entries or the binding say."""
    presentation: Presentation = Presentation.INLINE
    wait: float = 30.0
    """For all updates together; 0 = never wait."""
    timeout: float = 30.0
    """For one answer."""
    algorithms: Algorithms = ALL_ALGORITHMS
    gates: Gates = ENFORCING
    """What the policy says, and where it is logged."""
    revoked: frozenset[Item] = frozenset()
    """Keys and versions that the user revoked."""


class Session(Calls):
    """Calls to a server, and the records that it gives, judged by the user's trust.

    `on_binding` is told the server and the volume ID when a binding is made, `on_refused` the verdict of a revocation
    that is not accepted, without which everything goes on. Without `state` no marks are kept, and
    the server is not asked what is revoked: then nothing tells an old version from the latest (fim-mark-5).
    """

    def __init__(
        self,
        url: Url,
        settings: Settings,
        bindings: Bindings | None = None,
        on_binding: Callable[[str, bytes], None] | None = None,
        cache: NodeCache | None = None,
        state: State | None = None,
        on_refused: Callable[[VerificationError], None] | None = None,
        units: UnitCache | None = None,
    ) -> None:
        super().__init__(url, settings.timeout)
        self.settings = settings
        self.budget = WaitBudget(settings.wait)
        self.nodes = SessionNodes(cache, units)
        self._bindings = bindings
        self._on_binding = on_binding
        self._marks = None if state is None else MarkStore(state)
        self._revocations = None if state is None else RevocationStore(state, settings.revoked)
        self._on_refused = on_refused
        self.heads = Heads(self)
        self._asking = asyncio.Lock()
        self._asked = False
        self._offered: bytes | None = None
        """A revocation that the server has, and that was not accepted yet."""
        self._refused_at: set[tuple[TrustEntry, ...]] = set()
        """The entries by which it was judged in vain."""
        self._bound: bytes | None = None
        self._certificates: dict[Fingerprint, Sequence[bytes]] = {}
        self.polls = Polls()

    async def close(self) -> None:
        """End what is under way. Nothing can be asked any more."""
        await super().close()
        await self.nodes.close()

    def _begin_again(self) -> None:
        self._asking = asyncio.Lock()
        self.heads.begin_again()
        self.polls = Polls()

    # records

    def rule(self, gate: Gate, path: bytes) -> Rule:
        """The rule of the policy for a file, by what is known before its record is (fim-policy-1)."""
        url = self.url_of(path)
        return self.settings.gates.select(gate, path, self._expected_volumes(url), url)

    async def verify(self, record: bytes | None, path: bytes, rules: Rules = ()) -> Verified:
        """Every step for the record of the file at `path`. Its marks are durable before this returns.

        Raises as `judge`.
        """
        judged = await self.judge(record, path, rules)
        if judged.raised is not None:
            await self.durable(judged.raised)
        return judged.verified

    async def judge(self, record: bytes | None, path: bytes, rules: Rules = ()) -> Judged:
        """Every step for the record of the file at `path`. The volume is bound at first use, before this returns.

        Nothing of it may be delivered before what it raises is `durable`. Raises `VerificationError`, `StatusError`,
        `PeerError`, `StateError`; `OSError` where a binding cannot be stored.
        """
        url = self.url_of(path)
        expected = Expected(path, self._expected_volumes(url), url)
        await self._learn_revoked(expected)
        seen = Seen(NO_MARKS if self._marks is None else self._marks)
        revoked = self.revoked
        try:
            if record is not None and (self.heads.accepted or kind_of_record(record) == Kind.CONTENT):
                return await self._member(record, expected, revoked, rules)
            verified = await self._verified(verify_record, record, expected, seen, revoked, rules)
        except VerificationError as error:
            for _, rule in rules:
                named(error, rule)
            raise
        if expected.volumes is None:
            self._bind(verified.volume)
        if self._marks is None:
            return Judged(verified)
        result = judged(self._marks, verified, expected, self.settings.trust, seen, revoked)
        if self._marks.many_waiting:
            self._marks.begin()
        return result

    async def judge_head(self, record: bytes) -> Judged:
        """Every step for the head of a volume. Its marks are durable when this returns. Raises as `judge`."""
        url = str(self.url)
        expected = Expected(b"", self._expected_volumes(url), url)
        await self._learn_revoked(expected)
        seen = Seen(NO_MARKS if self._marks is None else self._marks)
        revoked = self.revoked
        try:
            verified = await self._verified(verify_head, record, expected, seen, revoked)
        except VerificationError as error:
            error.where = error.where or url
            raise
        if expected.volumes is None:
            self._bind(verified.volume)
        if self._marks is None:
            return Judged(verified)
        result = judged(self._marks, verified, expected, self.settings.trust, seen, revoked)
        if result.raised is not None:
            await self.durable(result.raised)
        return Judged(verified, None, result.seen_before)

    def has_mark_of_head(self) -> bool:
        """Whether the volume that is expected here had a head before."""
        url = str(self.url)
        volumes = self._expected_volumes(url)
        if self._marks is None or volumes is None:
            return False
        return self._marks.has_head(volumes, self.settings.trust, url)

    def lacks_record(self, problem: Exception) -> bool:
        """Whether it says that a file has no record; of a volume whose head is known that has to be proved.

        fim-policy-12.
        """
        known = self.heads.accepted is not None or self.has_mark_of_head()
        return isinstance(problem, Absent) or (isinstance(problem, Unsigned) and not known)

    async def _member(self, record: bytes, expected: Expected, revoked: Revocations, rules: Rules) -> Judged:
        """A file of a volume, under the head that is accepted, or a newer one."""
        head = await self.heads.current()
        if head is None:
            raise NotMember("the server has no head for the volume that the record is of")
        for _ in range(HEADS_MAX):
            try:
                verified = verify_member(
                    record, expected.path, head.verified, narrowed(rules, self.settings.algorithms, expected)[0]
                )
                break
            except OtherHead:
                newer = await self.heads.after(head)
                if newer is None:
                    raise
                head = newer
        else:
            raise OtherHead("the volume changes faster than it can be read")
        self.check_member(verified, head.verified, expected, rules, revoked)
        return Judged(verified, None, head.seen_before)

    def check_member(
        self,
        verified: Verified,
        head: Verified,
        expected: Expected,
        rules: Rules,
        revoked: Revocations | None = None,
        now: int | None = None,
    ) -> None:
        """What is to be looked at beside the membership: the head at this place, and what is revoked.

        `now` is given where very many are judged at once.
        """
        now = self.now() if now is None else now
        for_volume = (revoked or self.revoked).of(verified.volume)
        algorithms, expected = narrowed(rules, self.settings.algorithms, expected)
        check_head(head, expected, self.settings.trust, now, algorithms)
        check_revoked(verified, for_volume)
        check_freshness(for_volume, now)
        for gate, rule in rules:
            rule.check(verified, gate, now)

    @property
    def revoked(self) -> Revocations:
        """All that is known to be revoked."""
        return self._revocations or Revoked(self.settings.revoked)

    def check_still_valid(self, head: Verified) -> None:
        """That a head that was accepted has not expired since. Raises `VerificationError`."""
        check_validity(head.statement, self.now())

    def now(self) -> int:
        """The time to judge by (fim-time-1)."""
        return int(time.time()) if self._marks is None else self._marks.now()

    async def durable(self, raised: Raise) -> None:
        """Wait until marks are on durable storage, together with all that wait.

        Raises `Rollback` or `Equivocation` where another process accepted a newer or another version meanwhile, and
        `StateError`.
        """
        if self._marks is None:
            raise ValueError("a session that keeps no marks")
        await self._marks.durable(raised)

    async def _verified(
        self,
        verify: Verify,
        record: bytes | None,
        expected: Expected,
        marks: Seen,
        revoked: Revocations,
        rules: Rules = (),
    ) -> Verified:
        """Judge a record, with certificates from the server where some are needed."""
        algorithms, expected = narrowed(rules, self.settings.algorithms, expected)

        def judge_at(now: int, certificates: Certificates) -> Verified:
            verifier = Verifier(self.settings.trust, certificates, now, algorithms, marks, revoked)
            verified = verify(record, expected, verifier)
            for gate, rule in rules:
                rule.check(verified, gate, now)
            return verified

        def judge(certificates: Certificates) -> Verified:
            if self._marks is None:
                return judge_at(int(time.time()), certificates)
            with self._marks.state.snapshot():
                return judge_at(self._marks.now(), certificates)

        try:
            return judge(self._certificates)
        except VerificationError as error:
            if isinstance(error, Rollback | Equivocation | WrongKind):
                self._explain(error, record)
                raise
            certificates, trouble = await self._fetch_signers(record)
            if not certificates and trouble is None:
                raise
            try:
                verified = judge({**self._certificates, **certificates})
            except NoCertificate:
                if trouble is not None:
                    raise trouble from None
                raise
            except (Rollback, Equivocation, WrongKind) as error:
                self._explain(error, record)
                raise
            self._remember(certificates, verified)
            return verified

    def _explain(self, error: VerificationError, record: bytes | None) -> None:
        if self._marks is not None and record is not None:
            self._marks.explain(error, record, self.url_of)

    def _expected_volumes(self, url: str) -> frozenset[bytes] | None:
        if self.settings.volume is not None:
            return frozenset((self.settings.volume,))
        volumes = expected_volumes(self.settings.trust, url)
        if volumes is not None:
            return volumes
        if self._bound is None and self._bindings is not None:
            self._bound = self._bindings.get(self.url.server)
        return None if self._bound is None else frozenset((self._bound,))

    def _bind(self, volume: bytes) -> None:
        if self._bound is None:
            self._bound = volume if self._bindings is None else self._bindings.bind(self.url.server, volume)
            if self._bound == volume and self._on_binding is not None:
                self._on_binding(self.url.server, volume)
        if self._bound != volume:
            raise WrongVolume("the record is of another volume", expected=self._bound.hex(), found=volume.hex())

    async def _fetch_signers(self, record: bytes | None) -> tuple[Certificates, PeerError | None]:
        """Certificates of signers that are not known here, from the server; believed only by their digest.

        And what went wrong where they could not be asked for: it matters only if one of them is needed.
        """
        found: dict[Fingerprint, Sequence[bytes]] = {}
        try:
            wanted = signers_to_fetch(decode_record(record or b""), self.settings.trust)
        except VerificationError:
            return found, None
        for signer in wanted:
            if signer not in self._certificates:
                try:
                    found[signer] = (await self.call(m.CERTIFICATE, m.CertificateArgs(signer))).certificates
                except StatusError:
                    continue  # it is not to be had
                except PeerError as error:
                    return found, error
        return found, None

    def _remember(self, certificates: Certificates, verified: Verified) -> None:
        """Those of signers whose signature has verified."""
        if len(self._certificates) > CERTIFICATES_MAX:
            self._certificates.clear()
        proven = {signer.certificate.der for signer in verified.signers}
        self._certificates |= {signer: chain for signer, chain in certificates.items() if chain[0] in proven}

    async def _learn_revoked(self, expected: Expected) -> None:
        """Ask what is revoked, once, and keep what is accepted, durably, before anything is judged (fim-rev-15).

        What the server does not say takes back nothing that is known (fim-rev-14). Raises `PeerError`, `StatusError`,
        `StateError`.
        """
        if self._revocations is None or self._marks is None or (self._asked and self._offered is None):
            return
        async with self._asking:
            if not self._asked:
                self._offered = await self._offered_revocation(self._revocations, expected)
                self._asked = True
            if self._offered is None:
                return
            covering = tuple(entry for entry in self.settings.trust if entry.covers_url(expected.url))
            if covering in self._refused_at:
                return
            try:
                await self._accept(self._marks, self._revocations, self._offered, expected)
                self._offered = None
            except VerificationError as error:  # it may be for another place, or from somebody who is believed there
                self._refused_at.add(covering)
                if self._on_refused is not None:
                    error.where = f"{self.url}: the revocation that the server has"
                    self._on_refused(error)  # fim-rev-9

    async def _offered_revocation(self, revocations: RevocationStore, expected: Expected) -> bytes | None:
        """What the server has that is not known here. Raises `StatusError` for one that cannot say (fip-revoke-11)."""
        known = [record for volume in expected.volumes or () if (record := revocations.known(volume)) is not None]
        try:
            return await self.revocation(hashlib.sha256(known[0]).digest() if known else b"")
        except StatusError as error:
            error.add_note(f"{self.url}: what it revokes")
            raise

    async def _accept(self, marks: MarkStore, revocations: RevocationStore, record: bytes, expected: Expected) -> None:
        if revocations.accepted(record):
            return
        seen = Seen(marks)
        verified = await self._verified(accept_revocation, record, expected, seen, revocations)
        await marks.durable(accepted(marks, revocations, verified, expected, self.settings.trust))
