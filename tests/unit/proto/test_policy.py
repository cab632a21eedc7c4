# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Which rule decides, and what it asks of a record."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto import policy
from nfsverity_proto.errors import PolicyRefused, VerificationError
from nfsverity_proto.glob import Pattern
from nfsverity_proto.hashes import HASH_NUMBERS
from nfsverity_proto.policy import (
    DEFAULT,
    Action,
    Asked,
    Gate,
    Logged,
    Policy,
    Requirements,
    Rule,
    SignerName,
    WithoutRecord,
    named,
    strictest,
)
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import verify_record
from nfsverity_proto.verifier import ALL_ALGORITHMS, Expected, Verifier
from oracle import records
from oracle.signers import ED25519, NOW, signed, signer

ML_DSA = 0x0905
STATEMENT = dataclasses.replace(records.Statement(), issued=NOW - 1000)
VOLUME, OTHER = STATEMENT.volume, bytes(16)
URL = "nfsv://host:7447/docs/file"
EXPECTED = Expected(STATEMENT.path, frozenset({VOLUME}), URL)


def asked(**parts: Any) -> Asked:
    return Asked(**({"gate": Gate.OPEN, "path": b"docs/file", "volumes": frozenset({VOLUME}), "url": URL} | parts))


def rule(name: str = "r", action: Action = Action.ENFORCE, **parts: Any) -> Rule:
    return Rule(name, action, **parts)


# selecting


@pytest.mark.spec("fim-policy-4")
@pytest.mark.parametrize("gate", Gate)
def test_where_no_rule_fits_all_is_enforced(gate: Gate) -> None:
    assert Policy().select(asked(gate=gate)) == policy.Selected(DEFAULT)
    only = rule(action=Action.DISABLE, paths=(Pattern("other"),))
    selected = Policy((only,)).select(asked(gate=gate))
    assert selected.rule.action is Action.ENFORCE
    assert selected.rule.unsigned is WithoutRecord.REFUSE
    assert selected.skipped == ((only, "the path fits none of its patterns"),)


@pytest.mark.spec("fim-policy-1", "fim-policy-2")
def test_a_rule_is_selected_by_what_is_known_beforehand_only() -> None:
    assert {field.name for field in dataclasses.fields(Asked)} == {"gate", "path", "volumes", "url"}
    for function in (Policy.select, Rule.why_not):
        assert set(inspect.signature(function).parameters) == {"self", "asked"}


@pytest.mark.spec("fim-policy-1")
@pytest.mark.parametrize(
    ("parts", "fits"),
    [
        ({}, {}),
        ({"gates": frozenset({Gate.OPEN, Gate.READ})}, {"gate": (Gate.OPEN, Gate.EXEC)}),
        ({"paths": (Pattern("x"), Pattern("docs/*"))}, {"path": (b"docs/file", b"docs/a/file")}),
        ({"volumes": frozenset({VOLUME, OTHER})}, {"volumes": (frozenset({VOLUME}), frozenset({VOLUME, b"x" * 16}))}),
        ({"volumes": frozenset({VOLUME})}, {"volumes": (frozenset({VOLUME}), None)}),
        ({"volumes": frozenset({VOLUME})}, {"volumes": (frozenset({VOLUME}), frozenset())}),
        ({"places": ("nfsv://host:7447/docs",)}, {"url": (URL, "nfsv://host:7447/docs2/file")}),
        ({"places": ("nfsv://host:7447/",)}, {"url": (URL, None)}),
        ({"places": ("nfsv://host:7447/",)}, {"url": (URL, "nfsv://host:74470/docs")}),
    ],
)
def test_what_a_rule_fits(parts: dict[str, Any], fits: dict[str, tuple[Any, Any]]) -> None:
    one = rule(**parts)
    assert one.why_not(asked()) is None
    for name, (good, bad) in fits.items():
        assert one.why_not(asked(**{name: good})) is None
        assert one.why_not(asked(**{name: bad}))
        assert Policy((one,)).select(asked(**{name: bad})).rule is DEFAULT


def test_the_first_rule_that_fits_decides() -> None:
    one, two, three = (rule(name, gates=frozenset({gate})) for name, gate in zip("abc", Gate, strict=False))
    rules = Policy((one, two, three, rule("d")))
    assert [rules.select(asked(gate=gate)).rule.name for gate in Gate] == ["a", "b", "c", "d"]
    assert [skipped.name for skipped, _ in rules.select(asked(gate=Gate.MMAP)).skipped] == ["a", "b", "c"]


PATTERNS = st.sampled_from(["**", "*", "a", "a/*", "a/**", "**/b"]).map(Pattern)
VOLUMES = st.sampled_from([VOLUME, OTHER])
PLACES = st.sampled_from(["nfsv://h:1/", "nfsv://h:1/a", "nfsv://g:1/"])
RULES = st.builds(
    Rule,
    name=st.just("r"),
    action=st.sampled_from(Action),
    gates=st.frozensets(st.sampled_from(Gate), min_size=1),
    paths=st.lists(PATTERNS, max_size=2).map(tuple),
    volumes=st.frozensets(VOLUMES),
    places=st.lists(PLACES, max_size=2).map(tuple),
)
ASKED = st.builds(
    Asked,
    gate=st.sampled_from(Gate),
    path=st.sampled_from([b"a", b"b", b"a/b", b"a/b/c", b"x/y/b"]),
    volumes=st.none() | st.frozensets(VOLUMES),
    url=st.none() | st.sampled_from(["nfsv://h:1/a/b", "nfsv://h:1/b", "nfsv://g:1/a"]),
)


@given(st.lists(RULES, max_size=4), ASKED)
def test_a_rule_that_is_hidden_is_never_selected(rules: list[Rule], what: Asked) -> None:
    numbered = tuple(dataclasses.replace(one, name=str(number)) for number, one in enumerate(rules))
    found = Policy(numbered)
    assert found.select(what).rule not in [later for later, _ in found.hidden()]


def test_a_rule_after_one_for_everything_is_hidden() -> None:
    one, two, three = rule("a", paths=(Pattern("bin/**"),)), rule("b"), rule("c", volumes=frozenset({VOLUME}))
    assert Policy((one, two)).hidden() == []
    assert Policy((one, two, three)).hidden() == [(three, two)]
    assert Policy((one, rule("d", paths=(Pattern("bin/x"),)))).hidden() != []
    assert Policy((three, rule("d"))).hidden() == []


# requiring


def judge(one: Rule, gate: Gate = Gate.OPEN, data: bytes | None = None, now: int = NOW, **parts: Any) -> str:
    """The verdict under a rule."""
    two = [signer(ED25519), signer(ML_DSA)]
    data = signed(STATEMENT, *two) if data is None else data
    trust = [TrustEntry(each.der) for each in two]
    algorithms, expected = one.narrowed(ALL_ALGORITHMS, dataclasses.replace(EXPECTED, **parts))
    try:
        one.check(verify_record(data, expected, Verifier(trust, {}, now, algorithms)), gate, now)
    except VerificationError as error:
        return error.verdict
    return "verified"


def asks(**parts: Any) -> Rule:
    return rule(requirements=Requirements(**parts))


FIRST, SECOND = signer(ED25519), signer(ML_DSA)
NAMES = [SignerName(one.digest.hex()) for one in (FIRST, SECOND)]
CLASSICAL = frozenset({ED25519})
NOBODY = SignerName("00" * 32)
LOG2 = STATEMENT.unit_log2


@pytest.mark.spec("fim-policy-6", "fim-policy-8")
@pytest.mark.parametrize(
    ("good", "bad", "verdict"),
    [
        ({"volumes": frozenset({VOLUME, OTHER})}, {"volumes": frozenset({OTHER})}, "wrong-volume"),
        ({"hashes": frozenset({1, 8})}, {"hashes": frozenset({8})}, "refused-algorithm"),
        ({"schemes": frozenset({ED25519})}, {"schemes": frozenset({0x0403})}, "refused-algorithm"),
        ({"unit_log2_min": LOG2}, {"unit_log2_min": LOG2 + 1}, "refused-algorithm"),
        ({"unit_log2_max": LOG2}, {"unit_log2_max": LOG2 - 1}, "refused-algorithm"),
        ({"signers": 2}, {"signers": 3}, "too-few-signers"),
        (
            {"signers": 1, "schemes": frozenset({ED25519})},
            {"signers": 2, "schemes": frozenset({ED25519})},
            "too-few-signers",
        ),
        ({"any_of": (NOBODY, NAMES[1])}, {"any_of": (NOBODY,)}, "policy-refused"),
        ({"all_of": tuple(NAMES)}, {"all_of": (NAMES[0], NOBODY)}, "policy-refused"),
        ({"any_of": (NAMES[1],)}, {"any_of": (NAMES[1],), "schemes": CLASSICAL}, "policy-refused"),
        ({"generation": STATEMENT.generation}, {"generation": STATEMENT.generation + 1}, "policy-refused"),
        ({"max_age": 1000}, {"max_age": 999}, "policy-refused"),
        ({"executable": STATEMENT.executable}, {"executable": True}, "policy-refused"),
    ],
)
def test_requirements(good: dict[str, Any], bad: dict[str, Any], verdict: str) -> None:
    assert judge(asks(**good)) == "verified"
    assert judge(asks(**bad)) == verdict
    for action in (Action.AUDIT, Action.DISABLE):
        assert judge(dataclasses.replace(asks(**bad), action=action)) == "verified"


def test_signers_by_subject() -> None:
    (attribute,) = FIRST_SUBJECT = [part for part in subject(FIRST).split(",") if part]
    assert judge(asks(any_of=(SignerName(attribute),))) == "verified", FIRST_SUBJECT
    assert judge(asks(all_of=(SignerName("O=Nobody"),))) == "policy-refused"
    for text in ("", "0" * 63, "nobody"):
        with pytest.raises(ValueError):
            SignerName(text)
    assert SignerName(":".join(f"{byte:02X}" for byte in FIRST.digest)).digest == FIRST.digest


def subject(one: Any) -> str:
    return TrustEntry(one.der).certificate.subject


@pytest.mark.spec("fim-policy-9")
@pytest.mark.parametrize("executable", [False, True])
def test_exec_needs_what_is_signed_as_executable(executable: bool) -> None:
    data = signed(dataclasses.replace(STATEMENT, executable=executable), FIRST)
    for gate in Gate:
        refused = gate is Gate.EXEC and not executable
        assert judge(DEFAULT, gate, data) == ("policy-refused" if refused else "verified")
        assert judge(rule(action=Action.AUDIT), gate, data) == "verified"


@pytest.mark.spec("fim-policy-7")
@given(
    st.builds(
        Requirements,
        volumes=st.none() | st.frozensets(VOLUMES, min_size=1),
        hashes=st.none() | st.frozensets(st.sampled_from([*HASH_NUMBERS, 99])),
        schemes=st.none() | st.frozensets(st.sampled_from([ED25519, ML_DSA, 1])),
        unit_log2_min=st.none() | st.integers(0, 40),
        unit_log2_max=st.none() | st.integers(0, 40),
        signers=st.integers(1, 3),
    ),
    st.none() | st.frozensets(VOLUMES),
)
def test_a_rule_only_narrows(requirements: Requirements, volumes: frozenset[bytes] | None) -> None:
    before = dataclasses.replace(EXPECTED, volumes=volumes)
    for action in Action:
        algorithms, after = rule(action=action, requirements=requirements).narrowed(ALL_ALGORITHMS, before)
        for name in ("hashes", "schemes", "unit_log2s"):
            assert getattr(algorithms, name) <= getattr(ALL_ALGORITHMS, name)
        assert (after.path, after.url) == (before.path, before.url)
        assert before.volumes is None or (after.volumes is not None and after.volumes <= before.volumes)


def test_what_is_required_of_the_volume_holds_at_first_use_too() -> None:
    assert judge(DEFAULT, volumes=None) == "verified"
    assert judge(asks(volumes=frozenset({OTHER})), volumes=None) == "wrong-volume"
    assert judge(asks(volumes=frozenset({VOLUME})), volumes=frozenset({OTHER})) == "wrong-volume"


def test_an_error_names_its_rule_once() -> None:
    one = rule("programs", line=7)
    error = named(PolicyRefused("no", expected="a", found="b"), one)
    assert str(error) == 'policy-refused: no (expected a, found b) [rule "programs", line 7]'
    assert named(error, rule("other")).rule == str(one)
    assert named(PolicyRefused("no"), DEFAULT).rule is None


def test_what_is_logged() -> None:
    found = Policy((), Logged.ON)
    assert found.logs(DEFAULT) is Logged.ON
    assert found.logs(rule(logged=Logged.OFF)) is Logged.OFF
    assert strictest([]) is Logged.OFF
    assert strictest([Logged.REQUIRED, Logged.ON]) is Logged.REQUIRED
