# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Changed at random: what the peer in C verifies, the calls that it serves, and the replies that it reads.

Its programs are built with sanitizers, so that a wrong access is not passed over. None of them crashes; its verdicts
are ours; and nothing that was not signed verifies. Which changes are made follows from the seeds that are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adversary import HEADER, Reply, between, marked
from adversary import messages as adversary_messages
from end_to_end.conftest import Nfsverity
from nfsverity_proto import messages as m
from nfsverity_proto.entry_range import entry_at, verify_range
from nfsverity_proto.errors import VerificationError
from nfsverity_proto.exported import verify_exported
from nfsverity_proto.hashes import SHA256, hash_by_number
from nfsverity_proto.member import verify_member
from nfsverity_proto.record import Fingerprint, decode_record
from nfsverity_proto.statement import Volume as VolumeClaim
from nfsverity_proto.statement import tag_of
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.url import Url
from nfsverity_proto.verification import verify_head, verify_record, verify_revocation
from nfsverity_proto.verifier import Expected, Verifier
from nfsverity_store.layout import read_head
from oracle import merkle, records, signers, volumes
from oracle.xdr import opaque, uint
from serving import HOST, publish_as_volume, serving, session
from unit.proto.test_member import ENTRIES, FILES, HEAD, HEAD_RECORD, content

from .test_check import pem
from .test_peer_serves_volumes import Volume

pytestmark = [
    pytest.mark.tool("rpcgen", "gcc", library="libtirpc"),
    pytest.mark.tool(library="libcrypto"),
]

SIGNERS = [signers.signer(), signers.signer(signers.ECDSA_P256), signers.signer(signers.RSA_PSS)]
NOW = signers.NOW + 1000
ID = bytes(range(16))
PATH = b"bin/run"
INTERESTING = (0, 1, 2, 3, 31, 33, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 65536, 4095, 4096)


def changed(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to three changes: of a bit, a byte, a word, or the length; or with a part of another one."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(data) + 1)
        word = at & ~3
        match chance.randrange(8):
            case 0 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 2:
                data = data[:word] + struct.pack(">I", chance.choice(INTERESTING)) + data[word + 4 :]
            case 3:
                data = data[:at]
            case 4:
                data = data[:word] + chance.randbytes(4 * chance.randrange(1, 5)) + data[word:]
            case 5:
                data = data[:word] + data[word + 4 * chance.randrange(1, 9) :]
            case 6:
                other = chance.choice(others)
                data = data[:word] + other[word : word + 4 * chance.randrange(1, 20)] + data[word + 4 :]
            case 7:
                number = chance.choice((chance.getrandbits(64), 2**63 - 1, 2**63, 2**64 - 1, chance.randrange(20)))
                data = data[:word] + struct.pack(">Q", number) + data[word + 8 :]
            case _:
                data += b"\0"
    return data


# What is verified

FILE = records.Statement(path=PATH).encode()
REVOCATION = records.Statement(kind=records.REVOCATION, items=((1, 1, bytes(32)), (2, 1, bytes(32)))).encode()
VOLUME = volumes.volume(ID, b"label", (5, signers.NOW, 2**63 - 1), len(ENTRIES), volumes.root(merkle.SHA256, ENTRIES))


def member(path: bytes) -> bytes:
    at = next(at for at, entry in enumerate(ENTRIES) if entry.path == path)
    body = uint(1) + opaque(HEAD.tag.digest) + volumes.range_of(merkle.SHA256, ENTRIES, at, at + 1)
    return records.record(content(FILES[path]), [(2, body)])


def ranges() -> Iterator[bytes]:
    for first in range(len(ENTRIES)):
        for end in range(first + 1, len(ENTRIES) + 1):
            yield volumes.range_of(merkle.SHA256, ENTRIES, first, end)


MEMBERS = [member(path) for path in FILES]
SEEDS: dict[str, list[bytes]] = {
    "r": [signers.signed(FILE, *SIGNERS[:count]) for count in (1, 2, 3)],
    "v": [signers.signed(REVOCATION, SIGNERS[0]), signers.signed(REVOCATION, *SIGNERS)],
    "h": [HEAD_RECORD, signers.signed(VOLUME, *SIGNERS)],
    "m": MEMBERS,
    "e": [volumes.exported(one, HEAD_RECORD) for one in MEMBERS],
    "g": list(ranges()),
    "b": [one.der for one in SIGNERS],
}
STATEMENTS = {"r": FILE, "v": REVOCATION, "h": VOLUME}


def resigned_export(chance: random.Random) -> bytes:
    """Under a head that was signed with any number of entries, and any root; the membership names it."""
    count = chance.choice((0, 1, 2, 3, 2**62 - 1, 2**63 - 1, chance.getrandbits(63), chance.randrange(100)))
    root = volumes.root(merkle.SHA256, ENTRIES) if chance.random() < 0.5 else chance.randbytes(32)
    statement = volumes.volume(ID, b"label", (5, signers.NOW, 2**63 - 1), count, root)
    first = chance.choice((0, 1, max(count - 1, 0), count, 2**64 - 1, chance.getrandbits(63)))
    entry = chance.choice(ENTRIES)
    proof = chance.randbytes(32 * chance.randrange(70))
    body = volumes.membership(1, merkle.SHA256(statement), first, [entry], proof)
    record = records.record(content(b"run"), [(2, body)])
    return volumes.exported(record, signers.signed(statement))


def cases(letter: str, count: int) -> list[bytes]:
    chance = random.Random(f"{letter} 1")
    seeds = SEEDS[letter]
    found = list(seeds)
    for _ in range(count):
        if letter in STATEMENTS and chance.random() < 0.3:
            statement = changed(chance, STATEMENTS[letter], list(STATEMENTS.values()))[:8192]
            found.append(signers.signed(statement, SIGNERS[0]))
        elif letter == "e" and chance.random() < 0.3:
            found.append(resigned_export(chance))
        else:
            found.append(changed(chance, chance.choice(seeds), seeds))
    return found


def theirs(programs: Path, folder: Path, letter: str, given: list[bytes]) -> list[str]:
    (folder / "pins").write_bytes(b"".join(pem(one.der) for one in SIGNERS))
    (folder / "head").write_bytes(HEAD_RECORD)
    words = [programs / "judge", ID.hex(), PATH, folder / "pins", str(NOW), folder / "head"]
    told = b"".join(letter.encode() + struct.pack(">I", len(one)) + one for one in given)
    done = subprocess.run(words, input=told, capture_output=True, timeout=100)
    answers = done.stdout.decode().split()
    crash = (letter, given[len(answers)].hex() if len(answers) < len(given) else "", done.stderr.decode())
    assert (done.returncode, done.stderr) == (0, b""), crash
    assert len(answers) == len(given)
    return answers


VERIFIER = Verifier([TrustEntry(one.der) for one in SIGNERS], {}, NOW)
EXPECTED = Expected(PATH, frozenset({ID}))
OURS: dict[str, Callable[[bytes], Any]] = {
    "r": lambda data: verify_record(data, EXPECTED, VERIFIER),
    "v": lambda data: verify_revocation(data, EXPECTED, VERIFIER),
    "h": lambda data: verify_head(data, EXPECTED, VERIFIER),
    "m": lambda data: verify_member(data, PATH, HEAD),
    "e": lambda data: verify_exported(data, EXPECTED, VERIFIER),
}


def ours(letter: str, data: bytes) -> str:
    try:
        OURS[letter](data)
    except VerificationError as error:
        return error.verdict
    return "verified"


NOT_KNOWN = {"unsupported"}
"""What it says of BLAKE3 and ML-DSA, too, which a verifier need not have; ours has them."""


@pytest.mark.spec("fim-dec-1", "fim-dec-3", "fim-ver-4", "fim-ver-5", "fim-ver-6", "fim-member-1", "fim-export-2")
@pytest.mark.parametrize("letter", OURS)
def test_the_verdicts_are_ours(programs: Path, tmp_path: Path, letter: str) -> None:
    given = cases(letter, 1500)
    found = theirs(programs, tmp_path, letter, given)
    different = [
        (data.hex(), one, other)
        for data, one in zip(given, found, strict=True)
        if (other := ours(letter, data)) != one and one not in NOT_KNOWN
    ]
    assert different[:3] == []
    assert len(Counter(found)) >= 6, "the changes reach many steps"
    if letter == "m":
        statements = {decode_record(one).statement for one in SEEDS["m"]}
        verified = [data for data, one in zip(given, found, strict=True) if one == "verified"]
        assert {decode_record(data).statement for data in verified} <= statements


@pytest.mark.spec("fim-range-1", "fim-range-3")
def test_ranges(programs: Path, tmp_path: Path) -> None:
    """What it takes for shown, we do, too."""
    given = cases("g", 3000)
    found = theirs(programs, tmp_path, "g", given)
    hash = hash_by_number(SHA256)
    claim = HEAD.statement.claim
    assert isinstance(claim, VolumeClaim)
    shown = 0
    for data, one in zip(given, found, strict=True):
        if one not in ("verified", "absent"):
            continue
        shown += 1
        decoded = m.ENTRIES.decode_result(struct.pack(">I", m.Status.OK) + data).range
        verify_range(claim, hash, decoded)
        assert (entry_at(claim, decoded, (b"bin", b"run")) is None) == (one == "absent")
    assert shown >= 10
    assert {"mismatch", "malformed", "malformed-reply"} <= set(found)


def test_certificates(programs: Path, tmp_path: Path) -> None:
    found = theirs(programs, tmp_path, "b", cases("b", 1500))
    assert {"verified", "bad-certificate", "untrusted"} >= set(found)


# What is served and read

TREE = {"a": b"a", "large": random.Random(7).randbytes(3 * 2**20 + 5), **{f"d/{i:03}": b"%d" % i for i in range(50)}}
CALL_HEADER = 40
"""Bytes of the header of a call, without credentials."""


@pytest.fixture(scope="module")
def volume(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    folder = tmp_path_factory.mktemp("fuzzed")
    published = publish_as_volume(folder / "tree", {"README": b"read me", **TREE})
    return Volume(programs, Nfsverity(folder / "home"), published, folder / "peer")


async def calls(port: int) -> list[bytes]:
    """Messages that are right, without their marks."""
    async with session(Url(HOST, port)) as caller:
        head = tag_of(decode_record((await caller.call(m.RECORD, m.RecordArgs(b"", b"", 0))).record).statement, 1)
        fetched = await caller.call(m.FETCH, m.FetchArgs(b"", b"large", 0))
    tag, large = tag_of(decode_record(fetched.record).statement, 1), fetched.object
    arguments: list[tuple[m.Procedure[Any, Any], Any]] = [
        (m.LIMITS, None),
        (m.RESOLVE, m.ResolveArgs(b"", b"d/007")),
        (m.RECORD, m.RecordArgs(large, bytes(32), 5)),
        (m.CERTIFICATE, m.CertificateArgs(Fingerprint(1, bytes(32)))),
        (m.TREE, m.TreeArgs(large, tag, 0, 3, 5)),
        (m.PROOF, m.ProofArgs(large, tag, 6, 3, 5)),
        (m.FETCH, m.FetchArgs(b"", b"large", 2**20)),
        (m.READ, m.ReadArgs(large, tag, 3, 5, 6)),
        (m.READDIR, m.ReaddirArgs(b"", b"a", 5)),
        (m.GETATTR, m.GetattrArgs(large)),
        (m.REVOCATION, m.RevocationArgs(b"", bytes(32))),
        (m.PLAIN, m.PlainArgs(large, 3, 100)),
        (m.ENTRIES, m.EntriesArgs(head, b"d", b"007", 5)),
        (m.BULK, m.BulkArgs(head, b"d", b"007", 5, 1000)),
    ]
    return [procedure.encode_call(7, one)[4:] for procedure, one in arguments]


async def send(port: int, messages: list[bytes]) -> bool:
    """All of them on one connection, and then a call that is right; whether that was answered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        for message in messages:
            writer.write(marked(message))
        writer.write(m.LIMITS.encode_call(0xFFFFFFF0, None))
        async for message in adversary_messages(reader):
            if message[:4] == b"\xff\xff\xff\xf0":
                return True
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return False


@pytest.mark.spec("fip-rpc-15")
async def test_changed_calls(volume: Volume) -> None:
    """The server lives on, and answers."""
    chance = random.Random("calls 1")
    with volume.served() as served:
        right = await calls(served.port)
        assert await send(served.port, right)
        answered = 0
        for _ in range(60):
            chosen = [chance.choice(right) for _ in range(10)]
            messages = [one[:CALL_HEADER] + changed(chance, one[CALL_HEADER:], right) for one in chosen]
            if chance.random() < 0.2:
                messages.append(changed(chance, chance.choice(right), right))
            answered += await asyncio.wait_for(send(served.port, messages), 60)
        assert answered > 30
        assert await send(served.port, right)


@pytest.mark.spec("fip-client-6", "fip-client-15")
@pytest.mark.parametrize("words", [["peer", "ahead"], ["peer", "on-demand"], ["peer", "inline"], ["bulk"], ["listing"]])
async def test_changed_replies(volume: Volume, words: list[str]) -> None:
    """A client takes nothing from them that was not signed, and ends as it should."""
    chance = random.Random(f"replies {words} 1")
    id = read_head(volume.published.root).volume.hex()
    program, *more = words
    path = "large" if program == "peer" else ""
    more += {"bulk": ["20", "1000"], "listing": ["20"]}.get(program, [])
    ends = Counter[int]()
    seen: list[bytes] = []

    async def on_reply(reply: Reply) -> None:
        body = reply.message[HEADER:]
        seen.append(body)
        if chance.random() < 0.12:
            # not in the data of a long reply alone, where most of the bytes are
            at = chance.choice((len(body), min(len(body), 400)))
            body = changed(chance, body[:at], seen) + body[at:]
        await reply.send(reply.message[:HEADER] + body)

    with serving(volume.published.root) as served:
        async with between(served.port) as adversary:
            adversary.on_reply = on_reply
            for _ in range(40):
                pipe = asyncio.subprocess.PIPE
                command = [volume.programs / program, HOST, str(adversary.port), id, path, volume.certificate, *more]
                started = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
                out, message = await asyncio.wait_for(started.communicate(), 60)
                assert started.returncode in (0, 1, 3, 4), message.decode()
                ends[started.returncode] += 1
                if program == "peer":
                    assert TREE["large"].startswith(out)
                    assert (started.returncode == 0) == (out == TREE["large"])
    assert len(ends) >= 3, ends
