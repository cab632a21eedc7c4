# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Files opened at a gate: by the rule that decides there, verified or, where it says so, not (fim, "Gates and Policy").

Two gates are passed to read a file: the one at which it is opened, where its record is judged, and read, where
its units are. What is opened to be run or mapped is read under the rule of that gate.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import NoReturn

from nfsverity_proto import messages as m
from nfsverity_proto.errors import (
    Mismatch,
    NfsVerityError,
    PeerError,
    StatusError,
    VerificationError,
)
from nfsverity_proto.policy import Action, Gate, Logged, Rule, WithoutRecord, named
from nfsverity_proto.verification import Verified

from .gates import VERIFIED, Decision
from .presentation import SPAN, Presentation
from .reader import FETCH_DEFAULT, Reader, open_file
from .session import Session
from .streamed import Streamed

RESOLVES_MAX = 3


class GatedReader(Reader):
    """A reader at the gate read: what becomes of its first byte, and of what does not verify, is logged.

    Made only where something is to be logged.
    """

    def __init__(
        self, session: Session, path: bytes, presentation: Presentation | None, rule: Rule, gate: Gate
    ) -> None:
        super().__init__(session, path, presentation)
        self._rule, self._gate = rule, gate
        self._told = False

    def _decided(self, verdict: str, *, allowed: bool) -> None:
        decision = Decision(self._gate, self._rule, allowed, verdict, self.verified)
        self.session.settings.gates.decided(self.url, self.path, decision)

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncGenerator[memoryview, None]:
        try:
            async with contextlib.aclosing(super().stream(offset, length)) as parts:
                async for part in parts:
                    self._tell_once()
                    yield part
            self._tell_once()
        except VerificationError as error:
            self._decided(error.verdict, allowed=False)
            raise named(error, self._rule) from error.__cause__

    def passed(self) -> None:
        self._tell_once()

    def _tell_once(self) -> None:
        if not self._told:
            self._decided(VERIFIED, allowed=True)
            self._told = True

    async def faults(self) -> AsyncGenerator[Mismatch, None]:
        found = False
        async with contextlib.aclosing(super().faults()) as faults:
            async for fault in faults:
                if not found:
                    self._decided(fault.verdict, allowed=False)
                found = True
                yield fault
        if not found:
            self._tell_once()


class UnverifiedReader(Streamed):
    """A file that went through a gate under audit or disable, or without a record where a rule lets it.

    What it gives is what the server says. Under audit it is read as if it were enforced, until something does not
    verify: that is logged, and the rest is what lies there.
    """

    def __init__(
        self, session: Session, path: bytes, gate: Gate, rule: Rule, why: Rule, reader: Reader | None, *, plain: bool
    ) -> None:
        self.session, self.path = session, path
        self.unverified = f"{why} has let it pass"
        """Why it is not verified."""
        self._gate, self._rule = gate, rule
        self._reader = reader
        self._plain = plain
        """Whether what does not verify may be read all the same."""
        self._told = False
        self.verdict: str | None = None
        """Of what was read, as far as it was asked: of what fails, else verified. It changes nothing."""
        self._object = b""
        self.size = 0
        """Bytes, by the server's word."""

    @property
    def url(self) -> str:
        return self.session.url_of(self.path)

    @property
    def verified(self) -> NoReturn:
        raise ValueError(f"{self.url} is not verified: {self.unverified} (fim-policy-3)")

    @property
    def presentation(self) -> Presentation:
        return self.session.settings.presentation

    def pin(self) -> None:
        """As a reader has it. There is no version here to stay with."""

    async def resolve(self) -> None:
        """Find it, and its size. Raises `StatusError`, `PeerError`."""
        if self._reader is not None and not self._plain:
            self.size = self._reader.size
            return
        found = await self.session.resolve(self.path)
        if found.attributes.type is not m.FileType.FILE:
            raise StatusError(m.Status.IS_DIRECTORY)
        self._object, self.size = found.object, found.attributes.size

    def _decided(self, verdict: str | None, verified: Verified | None, *, allowed: bool = True) -> None:
        if not self._told:
            self.verdict = verdict or self.verdict
            decision = Decision(self._gate, self._rule, allowed, verdict, verified)
            self.session.settings.gates.decided(self.url, self.path, decision)
            self._told = True

    async def judge(self) -> str | None:
        """The verdict on all of it, where it is asked; nothing else is fetched."""
        reader = self._reader
        if reader is not None:
            async with contextlib.aclosing(self.stream()) as parts:
                async for _ in parts:
                    if self._reader is not reader:  # something did not verify; the rest only lies there
                        break
        return self.verdict

    async def stream(self, offset: int = 0, length: int | None = None) -> AsyncGenerator[memoryview, None]:
        """The bytes in order. Raises `StatusError`, `PeerError`; `VerificationError` only where read enforces."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("a negative offset or length")
        at = offset
        reader = self._reader
        if reader is not None:
            try:
                async with contextlib.aclosing(reader.stream(offset, length)) as parts:
                    async for part in parts:
                        self._decided(VERIFIED, reader.verified)
                        yield part
                        at += len(part)
                self._decided(VERIFIED, reader.verified)
                return
            except NfsVerityError as error:
                self._told = False
                verdict = error.verdict if isinstance(error, VerificationError) else None
                self._decided(verdict, reader.verified, allowed=self._plain)
                if not self._plain:
                    raise
                self._reader = None
        self._decided(None, None)
        async with contextlib.aclosing(self._lying_there(at, None if length is None else offset + length)) as parts:
            async for part in parts:
                yield part

    async def _lying_there(self, at: int, stop: int | None) -> AsyncGenerator[memoryview, None]:
        """PLAIN, which is called for no gate that enforces (fip-plain-8)."""
        resolves = 0
        while stop is None or at < stop:
            count = SPAN if stop is None else min(SPAN, stop - at)
            try:
                ok = await self.session.plain(self._object, at, count)
            except StatusError as error:
                resolves += 1
                if error.status is not m.Status.BAD_HANDLE or resolves > RESOLVES_MAX:
                    raise
                await self.resolve()
                continue
            if ok.data:
                yield memoryview(ok.data)
            at += len(ok.data)
            if ok.eof:
                return


Opened = Reader | UnverifiedReader


def is_verified(opened: Opened) -> bool:
    return isinstance(opened, Reader)


async def open_at(
    session: Session,
    path: bytes,
    gate: Gate = Gate.OPEN,
    *,
    presentation: Presentation | None = None,
    most: int = FETCH_DEFAULT,
    tolerant: bool = False,
) -> Opened:
    """Open the file at `path` as the session's policy says; as `open_file` where that enforces.

    Raises as `open_file`, and `AuditError` or `OSError` where a decision has to be logged and cannot be.
    """
    gates = session.settings.gates
    enter = session.rule(gate, path)
    reading = Gate.READ if gate is Gate.OPEN else gate
    read = enter if reading is gate else session.rule(reading, path)
    both = ((gate, enter), (reading, read))
    rules = tuple(dict.fromkeys((where, rule) for where, rule in both if rule.action is Action.ENFORCE))
    url = session.url_of(path)
    reader: Reader | None = None
    problem: Exception | None = None
    if enter.action is not Action.DISABLE or read.action is not Action.DISABLE:
        if gates.logs(read) is not Logged.OFF and len(rules) == len(set(both)):
            reader = GatedReader(session, path, presentation, read, reading)
        else:
            reader = Reader(session, path, presentation)
        reader.rules = rules
        lenient = tolerant or read.action is not Action.ENFORCE
        try:
            await open_file(session, path, most=most, tolerant=lenient, reader=reader)
        except (VerificationError, PeerError, StatusError) as error:
            if rules and not isinstance(error, VerificationError):
                raise
            reader, problem = None, error
    verdict = VERIFIED if reader is not None else getattr(problem, "verdict", None)
    lacking = problem is not None and session.lacks_record(problem)
    passes = problem is None or not rules or (lacking and _lets_unsigned_pass(rules))
    refused_here = not passes and enter.action is Action.ENFORCE
    verified = None if reader is None else reader.verified
    marked = lacking and passes and _audits_unsigned(rules)
    decision = Decision(gate, enter, not refused_here, verdict, verified)
    gates.decided(url, path, decision, at_least=Logged.ON if marked else Logged.OFF)
    if problem is not None and not passes:
        if not refused_here:
            gates.decided(url, path, Decision(reading, read, False, verdict))
        raise named(problem, rules[0][1]) if isinstance(problem, VerificationError) else problem
    if reader is not None and len(rules) == len(set(both)):
        return reader
    why = next((rule for _, rule in both if rule.action is not Action.ENFORCE), enter)
    use = reader if read.action is not Action.DISABLE else None
    plain = read.action is not Action.ENFORCE or lacking
    opened = UnverifiedReader(session, path, reading, read, why, use, plain=plain)
    opened.verdict = verdict
    await opened.resolve()
    return opened


def _lets_unsigned_pass(rules: tuple[tuple[Gate, Rule], ...]) -> bool:
    return all(rule.unsigned is not WithoutRecord.REFUSE for _, rule in rules)


def _audits_unsigned(rules: tuple[tuple[Gate, Rule], ...]) -> bool:
    return any(rule.unsigned is WithoutRecord.AUDIT for _, rule in rules)
