# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The user's policy, read from a TOML file: what docs/policy.md tells its readers.

    policy.toml    in the user's configuration directory, unless another file is named

Without the file everything is enforced. A file that is named and not there, or that cannot be understood whole,
is an error and never the default: a rule that was lost could be the one that refuses (fim-policy-11).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfsverity_proto.errors import NfsVerityError
from nfsverity_proto.glob import Pattern
from nfsverity_proto.hashes import hash_by_name
from nfsverity_proto.policy import (
    ENFORCE_ALL,
    Action,
    Gate,
    Logged,
    Policy,
    Requirements,
    Rule,
    SignerName,
    WithoutRecord,
)
from nfsverity_proto.signature import SCHEME_NAMES
from nfsverity_proto.url import parse_url

from .policy_form import POLICY, Where
from .toml_lines import key_lines, line_of
from .trust_store import FILE_MAX, config_directory, state_directory

FILE_NAME = "policy.toml"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TOML_LINE = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy file."""

    line: int | None
    text: str
    of_form: bool = True
    """Whether the schema finds it too."""

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class PolicyError(NfsVerityError):
    """A policy cannot be used; `problems` is all that is wrong with it."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        self.path, self.problems = path, problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{path}: {problems[0]}{more}")


@dataclass(frozen=True, slots=True)
class UserPolicy:
    """A policy, and where its audit log is."""

    rules: Policy = ENFORCE_ALL
    log: Path | None = None
    """None: the one in the state directory."""
    sync: bool = False


def policy_path() -> Path:
    return config_directory() / FILE_NAME


def load_policy(path: Path | None = None) -> UserPolicy:
    """The policy in a file, or the user's; all is enforced where the user has none.

    Raises `PolicyError`; `OSError`, also where a file that is named is not there.
    """
    where = policy_path() if path is None else path
    try:
        with where.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        if path is None and not where.is_symlink():
            return UserPolicy()
        raise
    return parse_policy(data, where)


def parse_policy(data: bytes, path: Path) -> UserPolicy:
    """Raises `PolicyError` with everything that is wrong."""
    try:
        if len(data) > FILE_MAX:
            raise ValueError(f"it is longer than {FILE_MAX} bytes")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ValueError("it is not UTF-8") from None
        value = tomllib.loads(text)
        lines = key_lines(text)
    except (ValueError, RecursionError) as error:
        found = _TOML_LINE.search(str(error))
        line = None if found is None else int(found[1] or data.count(b"\n") + 1)
        raise PolicyError(path, (Problem(line, f"it is no TOML: {_TOML_LINE.sub('', str(error))}"),)) from error
    return policy_of(value, path, lines)


def policy_of(value: Any, path: Path, lines: Mapping[Where, int]) -> UserPolicy:
    """The policy that the values of a file make. Raises `PolicyError`."""
    known = dict(lines)
    wrong = list(POLICY.wrong(value, ()))
    problems = [Problem(line_of(known, where), _named(where, text)) for where, text in wrong]
    bad = {where for where, _ in wrong}
    value = _without(value, (), bad) if isinstance(value, dict) else {}
    builder = _Builder(known)
    rules: list[Rule] = []
    whole: list[Rule] = []
    for number, table in value.get("rule", {}).items():
        found = len(builder.problems)
        rule = builder.rule(number, {"name": "", "action": Action.ENFORCE, **table})
        rules.append(rule)
        if found == len(builder.problems) and not any(where[:2] == ("rule", number) for where in bad):
            whole.append(rule)
    audit = value.get("audit")
    logged = Logged.OFF if audit is None else Logged(audit.get("decisions", Logged.REQUIRED))
    policy = Policy(tuple(rules), logged, str(path))
    problems += [*builder.problems, *_about_names(rules), *_about_order(Policy(tuple(whole)))]
    if problems:
        raise PolicyError(path, _in_order(problems))
    audit = audit or {}
    return UserPolicy(policy, state_directory() / audit["log"] if "log" in audit else None, audit.get("sync", False))


def _without(value: dict[str, Any], where: Where, bad: Set[Where]) -> dict[str, Any]:
    """What of a table has the right form, so that the rest that is wrong can be told, too; rules by their number."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        place = (*where, key)
        if place in bad:
            continue
        if isinstance(item, dict):
            found[key] = _without(item, place, bad)
        elif place == ("rule",):
            rules = {number: table for number, table in enumerate(item) if isinstance(table, dict)}
            found[key] = {number: _without(table, (*place, number), bad) for number, table in rules.items()}
        elif isinstance(item, list):
            found[key] = [one for number, one in enumerate(item) if (*place, number) not in bad]
        else:
            found[key] = item
    return found


def _named(where: Where, text: str) -> str:
    keys = ".".join(str(key) for key in where if isinstance(key, str))
    return f"{keys}: {text}" if keys else text


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.line or 0))


def _about_names(rules: Iterable[Rule]) -> Iterator[Problem]:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if rule.name and rule.name in seen:
            text = f'rule: another one is named "{rule.name}", on line {seen[rule.name].line}'
            yield Problem(rule.line, text, of_form=False)
        seen.setdefault(rule.name, rule)


def _about_order(policy: Policy) -> Iterator[Problem]:
    for later, earlier in policy.hidden():
        text = f'rule "{later.name}" can never be reached: all that fits it fits {earlier}, which is before it'
        yield Problem(later.line, text, of_form=False)


class _Builder:
    """Rules of tables whose form is right; what is wrong in another way is collected."""

    def __init__(self, lines: dict[Where, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def _find(self, where: Where, text: str) -> None:
        self.problems.append(Problem(line_of(self._lines, where), _named(where, text), of_form=False))

    def rule(self, number: int, table: dict[str, Any]) -> Rule:
        where: Where = ("rule", number)
        action = Action(table["action"])
        if action is not Action.ENFORCE:
            for key in ("unsigned", "require"):
                if key in table:
                    self._find(
                        (*where, key), f'a rule whose action is "{action}" asks for nothing, so it has no "{key}"'
                    )
        paths: list[Pattern] = []
        for text in _some(table, "path"):
            try:
                paths.append(Pattern(text))
            except ValueError as error:
                self._find((*where, "path"), str(error))
        return Rule(
            table["name"],
            action,
            line_of(self._lines, where),
            frozenset(Gate(gate) for gate in _some(table, "gate")) or frozenset(Gate),
            tuple(paths),
            frozenset(map(bytes.fromhex, _some(table, "volume"))),
            tuple(self._places(where, table)),
            WithoutRecord(table.get("unsigned", WithoutRecord.REFUSE)),
            Logged(table["log"]) if "log" in table else None,
            self._requirements((*where, "require"), table.get("require", {})),
        )

    def _places(self, where: Where, table: dict[str, Any]) -> Iterator[str]:
        for text in _some(table, "place"):
            try:
                yield text.rstrip("/") or text if text.startswith("file:") else str(parse_url(text))
            except ValueError as error:
                self._find((*where, "place"), str(error))

    def _requirements(self, where: Where, table: dict[str, Any]) -> Requirements:
        sizes, signers = table.get("unit_size", {}), table.get("signers", {})
        low, high = sizes.get("min"), sizes.get("max")
        if low is not None and high is not None and low > high:
            self._find((*where, "unit_size"), f"no unit has {low} bytes at least and {high} at most")
        volumes, hashes, schemes = (_some(table, key) for key in ("volume", "hash", "scheme"))
        age = table.get("max_age")
        return Requirements(
            frozenset(map(bytes.fromhex, volumes)) or None,
            frozenset(hash_by_name(name).number for name in hashes) or None,
            frozenset(SCHEME_NAMES[name] for name in schemes) or None,
            None if low is None else low.bit_length() - 1,
            None if high is None else high.bit_length() - 1,
            tuple(self._signers((*where, "signers", "any"), signers)),
            tuple(self._signers((*where, "signers", "all"), signers)),
            signers.get("count", 1),
            table.get("min_generation", 0),
            None if age is None else int(age[:-1]) * _SECONDS[age[-1]],
            table.get("executable", False),
        )

    def _signers(self, where: Where, signers: dict[str, Any]) -> Iterator[SignerName]:
        for text in _some(signers, str(where[-1])):
            try:
                yield SignerName(text)
            except ValueError as error:
                self._find(where, str(error))


def _some(table: dict[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    return value if isinstance(value, list) else [value]
