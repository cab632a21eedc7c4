# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A policy at work: the rule that decides at a gate, and the line in the audit log that says what was decided."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfsverity_proto.policy import DEFAULT, ENFORCE_ALL, Asked, Gate, Logged, Policy, Rule, strictest
from nfsverity_proto.verification import Verified
from nfsverity_proto.verifier import Algorithms, Expected

from .audit import AuditError, AuditLog, default_log, name_fields

if TYPE_CHECKING:
    from .policy import UserPolicy

Rules = tuple[tuple[Gate, Rule], ...]
"""The rules that enforce, each with the gate at which it does."""
VERIFIED = "verified"


def narrowed(rules: Rules, algorithms: Algorithms, expected: Expected) -> tuple[Algorithms, Expected]:
    """What is accepted and expected under the rules."""
    for _, rule in rules:
        algorithms, expected = rule.narrowed(algorithms, expected)
    return algorithms, expected


def _warn(text: str) -> None:
    logging.getLogger("nfsverity").warning("%s", text)


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one file at one gate."""

    gate: Gate
    rule: Rule
    allowed: bool
    verdict: str | None
    """None where it was not asked, or could not be judged."""
    verified: Verified | None = None
    """The record, where it verifies."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Everything is enforced, and nothing logged, where nothing is given."""

    policy: Policy = ENFORCE_ALL
    log: AuditLog | None = None
    least: Logged = Logged.OFF
    """What is logged at least, whatever the rules say."""
    tell: Callable[[str], None] = _warn
    """Told of a decision that could not be logged, and did not have to be."""

    @property
    def is_silent(self) -> bool:
        """Whether everything is enforced and nothing logged, so that no file has to pass a gate by itself."""
        return not self.policy.rules and self.logs(DEFAULT) is Logged.OFF

    def select(self, gate: Gate, path: bytes, volumes: frozenset[bytes] | None, url: str) -> Rule:
        if not self.policy.rules:
            return DEFAULT
        return self.policy.select(Asked(gate, path, volumes, url)).rule

    def logs(self, rule: Rule) -> Logged:
        return strictest((self.least, self.policy.logs(rule)))

    def decided(self, url: str, path: bytes, decision: Decision, *, at_least: Logged = Logged.OFF) -> None:
        """Log a decision, if it is to be. It stands when this returns.

        Raises `AuditError` and `OSError` where it has to be logged and cannot be.
        """
        logged = strictest((at_least, self.logs(decision.rule)))
        if logged is Logged.OFF:
            return
        try:
            (self.log or AuditLog(default_log())).append("decision", **self._fields(url, path, decision))
        except (AuditError, OSError) as error:
            if logged is Logged.REQUIRED:
                raise
            self.tell(f"{url}: what was decided is not in the audit log: {error}")

    def _fields(self, url: str, path: bytes, decision: Decision) -> dict[str, Any]:
        rule = decision.rule
        return {
            "gate": str(decision.gate),
            "file": url,
            **name_fields("path", path),
            "version": None if decision.verified is None else _version(decision.verified),
            "verdict": decision.verdict,
            "rule": rule.name,
            "line": rule.line,
            "policy": None if rule.line is None else self.policy.source,
            "action": str(rule.action),
            "outcome": "allowed" if decision.allowed else "refused",
        }


def _version(verified: Verified) -> dict[str, Any]:
    file = verified.file
    return {
        "volume": file.volume.hex(),
        **name_fields("path", file.path),
        "generation": str(file.when.generation),
        "hash": verified.tag.hash,
        "tag": str(verified.tag),
        "head": None if verified.head_tag is None else str(verified.head_tag),
    }


ENFORCING = Gates()


def gates_of(user: UserPolicy, log: Path | None = None, tell: Callable[[str], None] = _warn) -> Gates:
    """A user's policy at work. With `log` every decision is logged there, or does not stand."""
    path = log or user.log
    return Gates(
        user.rules,
        None if path is None else AuditLog(path, sync=user.sync),
        Logged.OFF if log is None else Logged.REQUIRED,
        tell,
    )
