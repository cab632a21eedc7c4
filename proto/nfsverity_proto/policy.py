# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Gates and policy: which rule decides, and what it asks of a record (fim, "Gates and Policy").

A rule is selected by what the verifier knows before it sees a record, and by nothing else: no function here
that selects takes one. What a rule requires narrows what the verifier brings, so that no rule makes a record
pass that would not pass without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .certificate import Certificate
from .errors import PolicyRefused, TooFewSigners, VerificationError
from .glob import Pattern, covered
from .trust import below, subject_of, subject_within
from .verification import Verified
from .verifier import Algorithms, Expected


class Gate(StrEnum):
    """An event at which it is asked whether something may go on."""

    OPEN = "open"
    READ = "read"
    EXEC = "exec"
    MMAP = "mmap"


class Action(StrEnum):
    ENFORCE = "enforce"
    """Go on only when verified."""
    AUDIT = "audit"
    """Go on, and log the verdict."""
    DISABLE = "disable"
    """Do not ask."""


class WithoutRecord(StrEnum):
    """What a rule that enforces does with a file that has no record."""

    REFUSE = "refuse"
    AUDIT = "audit"
    """Let it pass, and log it whatever else is logged."""
    ALLOW = "allow"


class Logged(StrEnum):
    """Whether decisions go to the audit log."""

    OFF = "off"
    ON = "on"
    """A decision that cannot be logged is told, and stands."""
    REQUIRED = "required"
    """What cannot be logged does not go on."""


@dataclass(frozen=True, slots=True)
class SignerName:
    """A signer, by the SHA-256 of its certificate or by attributes that its subject has."""

    text: str
    """64 hexadecimal digits, with or without colons, or a subject as RFC 4514 writes one."""

    def __post_init__(self) -> None:
        if self.digest is None and not list(subject_of(self.text)):
            raise ValueError(f"{self.text!r} names nobody")

    @property
    def digest(self) -> bytes | None:
        try:
            digest = bytes.fromhex(self.text.replace(":", ""))
        except ValueError:
            return None
        return digest if len(digest) == 32 else None

    def names(self, certificate: Certificate) -> bool:
        if self.digest is not None:
            return certificate.fingerprint.digest == self.digest
        return subject_within(self.text, certificate)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a record has to meet at a gate that enforces. Nothing given = nothing more than without a rule."""

    volumes: frozenset[bytes] | None = None
    hashes: frozenset[int] | None = None
    schemes: frozenset[int] | None = None
    unit_log2_min: int | None = None
    unit_log2_max: int | None = None
    any_of: tuple[SignerName, ...] = ()
    """One of these at least is among the signers."""
    all_of: tuple[SignerName, ...] = ()
    signers: int = 1
    """Distinct public keys."""
    generation: int = 0
    """At least."""
    max_age: int | None = None
    """Seconds since the statement was issued, at most."""
    executable: bool = False
    """The file is signed as one that may be run. At the gate exec this is always required (fim-policy-9)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; what it does not name fits any."""

    name: str
    action: Action
    line: int | None = None
    """Where it is in its file."""
    gates: frozenset[Gate] = frozenset(Gate)
    paths: tuple[Pattern, ...] = ()
    volumes: frozenset[bytes] = frozenset()
    """It fits only where the expected volume is known to be one of these."""
    places: tuple[str, ...] = ()
    """URLs at or below which it fits."""
    unsigned: WithoutRecord = WithoutRecord.REFUSE
    logged: Logged | None = None
    """None: as the policy says for all."""
    requirements: Requirements = Requirements()

    def __str__(self) -> str:
        where = "" if self.line is None else f", line {self.line}"
        return f'rule "{self.name}"{where}'

    def why_not(self, asked: Asked) -> str | None:
        """Why it does not fit; None where it does. By nothing that a provider sent (fim-policy-1, fim-policy-2)."""
        if asked.gate not in self.gates:
            return f"it is for the gates {', '.join(gate for gate in Gate if gate in self.gates)} only"
        if self.paths and not any(pattern.fits(asked.path) for pattern in self.paths):
            return "the path fits none of its patterns"
        if self.places and not any(asked.url is not None and below(asked.url, place) for place in self.places):
            return "it is for other places"
        if self.volumes:
            if not asked.volumes:
                return "it is for certain volumes, and none is known to be expected here yet"
            if not asked.volumes <= self.volumes:
                return "another volume than those it is for is, or may be, expected here"
        return None

    def hides(self, later: Rule) -> bool:
        """Whether a later rule can never be reached because of this one."""
        if not later.gates <= self.gates:
            return False
        if self.volumes and not (later.volumes and later.volumes <= self.volumes):
            return False
        if self.places and not (
            later.places and all(any(below(place, mine) for mine in self.places) for place in later.places)
        ):
            return False
        return not self.paths or (bool(later.paths) and all(covered(pattern, self.paths) for pattern in later.paths))

    # what it requires

    def narrowed(self, accepted: Algorithms, expected: Expected) -> tuple[Algorithms, Expected]:
        """What is accepted and expected under this rule: never more than without it (fim-policy-7)."""
        if self.action is not Action.ENFORCE:
            return accepted, expected
        asks = self.requirements
        sizes = frozenset(
            log2
            for log2 in accepted.unit_log2s
            if (asks.unit_log2_min is None or asks.unit_log2_min <= log2)
            and (asks.unit_log2_max is None or log2 <= asks.unit_log2_max)
        )
        algorithms = Algorithms(
            accepted.hashes if asks.hashes is None else accepted.hashes & asks.hashes,
            accepted.schemes if asks.schemes is None else accepted.schemes & asks.schemes,
            sizes,
        )
        if asks.volumes is not None:
            volumes = asks.volumes if expected.volumes is None else expected.volumes & asks.volumes
            expected = replace(expected, volumes=volumes)
        return algorithms, expected

    def check(self, verified: Verified, gate: Gate, now: int) -> None:
        """What steps 0 to 12 do not look at (fim-policy-8). Raises `TooFewSigners`, `PolicyRefused`."""
        if self.action is not Action.ENFORCE:
            return
        asks = self.requirements
        certificates = [signer.certificate for signer in verified.signers]
        keys = len({certificate.key_id() for certificate in certificates})
        if keys < asks.signers:
            raise TooFewSigners("too few trusted signers", expected=str(asks.signers), found=str(keys))
        named = " and ".join(f'"{certificate.subject}"' for certificate in certificates)
        if asks.any_of and not any(name.names(one) for name in asks.any_of for one in certificates):
            wanted = " or ".join(f'"{name.text}"' for name in asks.any_of)
            raise PolicyRefused("it is not signed by any that the rule names", expected=wanted, found=named)
        for name in asks.all_of:
            if not any(name.names(one) for one in certificates):
                raise PolicyRefused("a signer is missing that the rule names", expected=f'"{name.text}"', found=named)
        when = verified.file.when
        if when.generation < asks.generation:
            raise PolicyRefused(
                "the generation is below the one that the rule asks for",
                expected=f"at least {asks.generation}",
                found=str(when.generation),
            )
        if asks.max_age is not None and now - when.issued > asks.max_age:
            raise PolicyRefused(
                "it was issued longer ago than the rule allows",
                expected=f"at most {asks.max_age} seconds",
                found=f"{now - when.issued} seconds",
            )
        if (asks.executable or gate is Gate.EXEC) and not verified.file.executable:
            raise PolicyRefused("it is not signed as executable", expected="executable", found="not executable")


@dataclass(frozen=True, slots=True)
class Asked:
    """All that a rule is selected by."""

    gate: Gate
    path: bytes
    volumes: frozenset[bytes] | None
    """Those that will do, where the client knows; None before the first use of a place."""
    url: str | None


DEFAULT = Rule("default", Action.ENFORCE)
"""Where no rule fits (fim-policy-4)."""


@dataclass(frozen=True, slots=True)
class Selected:
    rule: Rule
    skipped: tuple[tuple[Rule, str], ...] = ()
    """The rules before it, each with why it does not fit."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order: the first that fits decides."""

    rules: tuple[Rule, ...] = ()
    logged: Logged = Logged.OFF
    """Of rules that do not say."""
    source: str | None = None
    """The file it was read from."""
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def select(self, asked: Asked) -> Selected:
        skipped: list[tuple[Rule, str]] = []
        for rule in self.rules:
            reason = rule.why_not(asked)
            if reason is None:
                return Selected(rule, tuple(skipped))
            skipped.append((rule, reason))
        return Selected(DEFAULT, tuple(skipped))

    def logs(self, rule: Rule) -> Logged:
        return self.logged if rule.logged is None else rule.logged

    def hidden(self) -> list[tuple[Rule, Rule]]:
        """Rules that can never be reached, each with the one that takes all before it does."""
        found: list[tuple[Rule, Rule]] = []
        for place, later in enumerate(self.rules):
            earlier = next((rule for rule in self.rules[:place] if rule.hides(later)), None)
            if earlier is not None:
                found.append((later, earlier))
        return found


ENFORCE_ALL = Policy()


def named(error: VerificationError, rule: Rule) -> VerificationError:
    """The error, which says from now on by which rule it is one."""
    if rule is not DEFAULT and error.rule is None:
        error.rule = str(rule)
    return error


def strictest(wishes: Iterable[Logged]) -> Logged:
    order: Sequence[Logged] = tuple(Logged)
    return max(wishes, key=order.index, default=Logged.OFF)
