# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Served files at each gate, under each action; and what the audit log has of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nfsverity_client.audit import AuditLog
from nfsverity_client.audit_reading import check, summary
from nfsverity_client.gates import Gates
from nfsverity_client.opening import Opened, UnverifiedReader, is_verified, open_at
from nfsverity_client.reader import Reader
from nfsverity_client.session import Session, Settings
from nfsverity_proto.errors import Mismatch, StatusError, Unsigned, VerificationError
from nfsverity_proto.glob import Pattern
from nfsverity_proto.policy import Action, Gate, Logged, Policy, Requirements, Rule, SignerName, WithoutRecord
from nfsverity_proto.url import parse_url
from serving import Published, Served, keys, publish_tree, serving

DATA = bytes(range(256)) * 2048  # 8 units
FILES = {"good": DATA, "tampered": DATA, "bin/run": b"#!", "empty": b"", "changed": DATA}
NOBODYS = b"nobody's"
BAD = DATA[:300_000] + b"?" + DATA[300_001:]
GATES = [Gate.OPEN, Gate.READ, Gate.EXEC, Gate.MMAP]
ENFORCE, AUDIT, DISABLE = Action


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("tree") / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin/run").touch(mode=0o755)
    published = publish_tree(root, FILES)
    (root / "tampered").write_bytes(BAD)
    (root / "unsigned").write_bytes(NOBODYS)
    return published


@pytest.fixture(scope="module")
def served(published: Published) -> Iterator[Served]:
    with serving(published.root, show_all=True) as served:
        yield served


class Client:
    """A session under some rules, whose decisions are logged."""

    def __init__(self, served: Served, directory: Path) -> None:
        self.served, self.directory = served, directory
        self.log = AuditLog(directory / "audit.jsonl", state=directory)
        self.calls: list[str] = []

    def session(self, *rules: Rule, logged: Logged = Logged.REQUIRED, **settings: Any) -> Session:
        gates = Gates(Policy(rules, logged, "policy.toml"), self.log)
        session = Session(parse_url(self.served.url), Settings((keys().pin,), gates=gates, **settings))
        call = session.call_holding

        async def seen(procedure: Any, arguments: Any, **options: Any) -> Any:
            self.calls.append(procedure.name)
            return await call(procedure, arguments, **options)

        session.call_holding = seen  # type: ignore[method-assign]
        return session

    def lines(self) -> list[dict[str, Any]]:
        if not self.log.path.exists():
            return []
        return [line for line in map(json.loads, self.log.path.read_text().splitlines()) if line["event"] == "decision"]

    def said(self) -> list[tuple[str, str | None, str]]:
        return [(line["gate"], line["verdict"], line["outcome"]) for line in self.lines()]


@pytest.fixture
def client(served: Served, tmp_path: Path) -> Client:
    return Client(served, tmp_path)


def rule(action: Action = ENFORCE, gates: Sequence[Gate] = GATES, name: str = "r", **parts: Any) -> Rule:
    return Rule(name, action, 3, frozenset(gates), **parts)


async def read(session: Session, path: str, gate: Gate = Gate.OPEN) -> tuple[Opened, bytes]:
    async with session:
        opened = await open_at(session, path.encode(), gate)
        return opened, await opened.pread()


async def verdict(session: Session, path: str, gate: Gate = Gate.OPEN) -> str:
    try:
        await read(session, path, gate)
    except VerificationError as error:
        return error.verdict
    return "verified"


@pytest.mark.spec("fim-policy-4", "fip-plain-8")
@pytest.mark.parametrize("gate", GATES)
async def test_without_rules_every_gate_enforces(client: Client, gate: Gate) -> None:
    expected = {"good": "verified", "tampered": "mismatch", "unsigned": "unsigned", "bin/run": "verified"}
    if gate is Gate.EXEC:
        expected |= {"good": "policy-refused", "tampered": "policy-refused"}
    for path, due in expected.items():
        assert await verdict(client.session(logged=Logged.OFF), path, gate) == due
        assert await verdict(client.session(), path, gate) == due
    assert "PLAIN" not in client.calls
    assert {line["rule"] for line in client.lines()} == {"default"}


async def test_what_is_logged_of_a_file_that_verifies(client: Client, served: Served) -> None:
    session = client.session()
    opened, data = await read(session, "good")
    assert isinstance(opened, Reader)
    assert data == DATA
    entered, was_read = client.lines()
    file = opened.verified.file
    assert entered["version"] == {
        "volume": file.volume.hex(),
        "path": "good",
        "generation": str(file.when.generation),
        "hash": 1,
        "tag": str(opened.verified.tag),
        "head": None,
    }
    for line, gate in ((entered, "open"), (was_read, "read")):
        assert line["file"] == f"{served.url}good"
        assert [line[key] for key in ("gate", "verdict", "rule", "line", "action", "outcome")] == [
            gate, "verified", "default", None, "enforce", "allowed"]  # fmt: skip
    assert check([client.log.path], state=client.directory).findings == []


async def test_many_reads_are_one_decision_and_a_bad_one_another(client: Client) -> None:
    async with client.session() as session:
        opened = await open_at(session, b"tampered")
        assert await opened.pread(0, 10) == await opened.pread(0, 10) == DATA[:10]
        with pytest.raises(Mismatch):
            await opened.pread(300_000, 1)
    assert client.said() == [
        ("open", "verified", "allowed"), ("read", "verified", "allowed"), ("read", "mismatch", "refused")]  # fmt: skip


async def test_an_empty_file_is_read_too(client: Client) -> None:
    assert (await read(client.session(), "empty"))[1] == b""
    assert client.said() == [("open", "verified", "allowed"), ("read", "verified", "allowed")]


# audit and disable


@pytest.mark.spec("fim-policy-3", "fip-plain-9")
@pytest.mark.parametrize("gate", [Gate.OPEN, Gate.EXEC, Gate.MMAP])
@pytest.mark.parametrize(("path", "data"), [("good", DATA), ("tampered", BAD), ("unsigned", NOBODYS), ("empty", b"")])
@pytest.mark.parametrize("action", [AUDIT, DISABLE])
async def test_what_is_not_enforced_is_delivered_and_not_verified(
    client: Client, gate: Gate, path: str, data: bytes, action: Action
) -> None:
    opened, found = await read(client.session(rule(action)), path, gate)
    assert found == data
    assert isinstance(opened, UnverifiedReader)
    assert not is_verified(opened)
    assert "line 3" in opened.unverified
    assert opened.size == len(data)
    with pytest.raises(ValueError, match="not verified"):
        _ = opened.verified
    if action is DISABLE:
        assert set(client.calls) == {"RESOLVE", "PLAIN"}
        assert {line["verdict"] for line in client.lines()} == {None}
    else:
        due = {"tampered": "mismatch", "unsigned": "unsigned"}.get(path, "verified")
        assert due in {line["verdict"] for line in client.lines()}
    assert {line["outcome"] for line in client.lines()} == {"allowed"}
    assert {line["action"] for line in client.lines()} == {str(action)}


async def test_ranges_of_what_is_audited(client: Client) -> None:
    async with client.session(rule(AUDIT)) as session:
        opened = await open_at(session, b"tampered")
        assert await opened.pread(299_990, 20) == BAD[299_990:300_010]
        assert await opened.pread(len(BAD) - 5) == BAD[-5:]
        assert await opened.pread(len(BAD) + 5, 10) == b""
        buffer = bytearray(10)
        assert await opened.preadinto(len(BAD) - 4, memoryview(buffer)) == 4
        with pytest.raises(ValueError):
            await opened.pread(-1)
        opened.pin()
        assert opened.presentation == "inline"
    assert client.said()[1] == ("read", "mismatch", "allowed")


@pytest.mark.parametrize(
    ("enter", "reading", "path", "due", "procedures"),
    [
        (AUDIT, ENFORCE, "good", "delivered", {"FETCH", "READ"}),
        (AUDIT, ENFORCE, "tampered", "mismatch", None),
        (AUDIT, ENFORCE, "unsigned", "unsigned", None),
        (DISABLE, ENFORCE, "unsigned", "unsigned", None),
        (ENFORCE, AUDIT, "tampered", "delivered", None),
        (ENFORCE, AUDIT, "unsigned", "unsigned", {"FETCH"}),
        (ENFORCE, DISABLE, "tampered", "delivered", {"FETCH", "RESOLVE", "PLAIN"}),
        (DISABLE, AUDIT, "tampered", "delivered", None),
        (AUDIT, DISABLE, "unsigned", "delivered", None),
    ],
)
async def test_open_and_read_under_different_rules(
    client: Client, enter: Action, reading: Action, path: str, due: str, procedures: set[str] | None
) -> None:
    rules = [rule(enter, [Gate.OPEN], "enter"), rule(reading, [Gate.READ], "reading")]
    try:
        opened, data = await read(client.session(*rules), path)
        assert data == {"good": DATA, "tampered": BAD, "unsigned": NOBODYS}[path]
        assert not is_verified(opened)
        found = "delivered"
    except VerificationError as error:
        found = error.verdict
        assert client.said()[-1] == ("open" if enter is ENFORCE else "read", due, "refused")
    assert found == due
    if reading is ENFORCE:
        assert "PLAIN" not in client.calls
    if procedures is not None:
        assert procedures == set(client.calls) - {"LIMITS", "PROOF", "CERTIFICATE", "RECORD"}


# files without a record


@pytest.mark.spec("fim-policy-10")
@pytest.mark.parametrize("unsigned", WithoutRecord)
async def test_files_without_a_record(client: Client, unsigned: WithoutRecord) -> None:
    session = client.session(rule(unsigned=unsigned), logged=Logged.OFF)
    if unsigned is WithoutRecord.REFUSE:
        with pytest.raises(Unsigned, match=r"\[rule \"r\", line 3\]"):
            await read(session, "unsigned")
        assert "PLAIN" not in client.calls
    else:
        opened, data = await read(session, "unsigned")
        assert data == NOBODYS
        assert not is_verified(opened)
    assert client.said() == ([("open", "unsigned", "allowed")] if unsigned is WithoutRecord.AUDIT else [])
    for path, due in (("good", "verified"), ("tampered", "mismatch")):
        assert await verdict(client.session(rule(unsigned=unsigned)), path) == due


async def test_each_gate_has_to_let_an_unsigned_file_pass(client: Client) -> None:
    rules = [rule(gates=[Gate.OPEN], name="enter", unsigned=WithoutRecord.ALLOW), rule(gates=[Gate.READ])]
    assert await verdict(client.session(*rules), "unsigned") == "unsigned"
    assert await verdict(client.session(*rules[::-1]), "unsigned") == "unsigned"


# requirements


@pytest.mark.spec("fim-policy-6", "fim-policy-8", "fim-policy-9")
@pytest.mark.parametrize(
    ("requirements", "due"),
    [
        (Requirements(), "verified"),
        (Requirements(any_of=(SignerName("CN=publisher"),)), "verified"),
        (Requirements(any_of=(SignerName("CN=other"),)), "policy-refused"),
        (Requirements(signers=2), "too-few-signers"),
        (Requirements(hashes=frozenset({8})), "refused-algorithm"),
        (Requirements(unit_log2_max=12), "refused-algorithm"),
        (Requirements(volumes=frozenset({bytes(16)})), "wrong-volume"),
        (Requirements(generation=2**63), "policy-refused"),
        (Requirements(executable=True), "policy-refused"),
    ],
)
async def test_requirements_at_a_gate(client: Client, requirements: Requirements, due: str) -> None:
    session = client.session(rule(requirements=requirements))
    if due == "verified":
        assert await verdict(session, "good") == due
        return
    with pytest.raises(VerificationError) as refused:
        await read(session, "good")
    assert refused.value.verdict == due
    assert refused.value.rule == 'rule "r", line 3'
    assert client.said() == [("open", due, "refused")]
    opened, data = await read(client.session(rule(AUDIT, requirements=requirements)), "good")
    assert (is_verified(opened), data) == (False, DATA)


@pytest.mark.spec("fim-policy-9")
async def test_exec_needs_an_executable(client: Client) -> None:
    assert await verdict(client.session(), "bin/run", Gate.EXEC) == "verified"
    assert await verdict(client.session(), "good", Gate.EXEC) == "policy-refused"
    passed = ("exec", "verified", "allowed")
    assert client.said() == [passed, passed, ("exec", "policy-refused", "refused")]


async def test_rules_by_path_and_place(client: Client, served: Served) -> None:
    rules = [
        rule(DISABLE, name="other place", places=("nfsv://elsewhere:1/",)),
        rule(AUDIT, name="one", paths=(Pattern("un*"),), places=(served.url.rstrip("/"),)),
    ]
    assert (await read(client.session(*rules), "unsigned"))[1] == NOBODYS
    assert await verdict(client.session(*rules), "tampered") == "mismatch"
    assert [line["rule"] for line in client.lines()] == ["one", "one", "default", "default", "default"]


async def test_a_rule_for_a_volume_needs_it_to_be_expected(client: Client, published: Published) -> None:
    async with client.session() as session:
        volume = (await open_at(session, b"good")).verified.file.volume
    rules = [rule(AUDIT, volumes=frozenset({volume}))]
    assert await verdict(client.session(*rules), "unsigned") == "unsigned"
    assert await verdict(client.session(*rules, volume=volume), "unsigned") == "verified"
    assert await verdict(client.session(*rules, volume=bytes(16)), "unsigned") == "unsigned"


# changes


@pytest.mark.spec("fim-policy-5", "fim-cache-2")
async def test_after_a_write_the_next_gate_judges_anew(client: Client, published: Published) -> None:
    async with client.session() as session:
        assert await (await open_at(session, b"changed")).pread() == DATA
        (published.root / "changed").write_bytes(BAD)
        opened = await open_at(session, b"changed")
        with pytest.raises(Mismatch):
            await opened.pread()
        published.sign("changed")
        assert await (await open_at(session, b"changed")).pread() == BAD
    verdicts = [line["verdict"] for line in client.lines() if line["gate"] == "read"]
    assert verdicts == ["verified", "verified", "mismatch", "verified"]
    generations = {line["version"]["generation"] for line in client.lines()}
    assert len(generations) == 2
    (published.root / "changed").write_bytes(DATA)
    published.sign("changed")
    uses = summary([client.log.path]).uses
    assert [use.verdicts for use in uses] == [{"verified": 4, "mismatch": 1}, {"verified": 2}]


# the log


async def test_what_cannot_be_logged_does_not_go_on(client: Client) -> None:
    client.log.path.symlink_to("/dev/full")
    for action in Action:
        with pytest.raises(OSError):
            await read(client.session(rule(action)), "good")
    assert client.calls.count("PLAIN") == 0
    said: list[str] = []
    gates = Gates(Policy((), Logged.ON), client.log, tell=said.append)
    async with Session(parse_url(client.served.url), Settings((keys().pin,), gates=gates)) as session:
        assert await (await open_at(session, b"good")).pread() == DATA
    assert len(said) == 2
    assert "not in the audit log" in said[0]


async def test_what_is_not_logged(client: Client) -> None:
    await read(client.session(rule(AUDIT, logged=Logged.OFF)), "good")
    await read(client.session(logged=Logged.OFF), "good")
    assert client.lines() == []


async def test_what_is_not_there_is_no_decision(client: Client) -> None:
    for action in Action:
        for path in ("nothing", "bin"):
            with pytest.raises(StatusError):
                await read(client.session(rule(action)), path)
    assert not [line for line in client.lines() if line["verdict"] is not None]


@pytest.mark.spec("fip-plain-10", "fim-policy-3")
async def test_what_was_read_unverified_is_of_no_use_to_a_gate_that_enforces(client: Client) -> None:
    async with client.session(rule(AUDIT, [Gate.OPEN, Gate.READ])) as session:
        assert await (await open_at(session, b"tampered")).pread() == BAD
        assert await (await open_at(session, b"unsigned")).pread() == NOBODYS
        for path, due in ((b"tampered", Mismatch), (b"unsigned", Unsigned)):
            with pytest.raises(due):
                await (await open_at(session, path, Gate.MMAP)).pread()


async def test_a_handle_that_has_gone_is_resolved_again(client: Client, published: Published) -> None:
    async with client.session(rule(DISABLE)) as session:
        opened = await open_at(session, b"good")
        assert isinstance(opened, UnverifiedReader)
        opened._object = os.urandom(16)
        assert await opened.pread() == DATA
