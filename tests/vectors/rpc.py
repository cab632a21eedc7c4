# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Whole messages without their record marks: headers of calls and replies (RFC 5531 section 9; fip-rpc, fip-client)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from oracle.xdr import opaque, uint

from .form import Vector

PROGRAM, VERSION = 0x3046494D, 1
XID = 0x5EED0001
MAX32 = 2**32 - 1
NO_AUTH = uint(0) + uint(0)
SUCCESS, PROG_UNAVAIL, PROG_MISMATCH, PROC_UNAVAIL, GARBAGE_ARGS, SYSTEM_ERR = range(6)


def call(
    body: bytes = b"",
    *,
    xid: int = XID,
    type: int = 0,
    rpcvers: int = 2,
    prog: int = PROGRAM,
    vers: int = VERSION,
    proc: int = 1,
    cred: bytes = NO_AUTH,
    verf: bytes = NO_AUTH,
) -> bytes:
    return b"".join(map(uint, (xid, type, rpcvers, prog, vers, proc))) + cred + verf + body


def accepted(
    status: int, body: bytes = b"", *, xid: int = XID, type: int = 1, reply_stat: int = 0, verf: bytes = NO_AUTH
) -> bytes:
    return uint(xid) + uint(type) + uint(reply_stat) + verf + uint(status) + body


def denied(*words: int, xid: int = XID) -> bytes:
    return b"".join(map(uint, (xid, 1, 1, *words)))


def build() -> Iterator[Vector]:
    yield from _calls()
    yield from _replies()


def _calls() -> Iterator[Vector]:
    first = ("fip-rpc-11",)

    def understood(
        slug: str, about: str, message: bytes, clauses: Sequence[str], proc: int = 1, xid: int = XID
    ) -> Vector:
        given = {"direction": "call", "message": message}
        return Vector(f"rpc-call-{slug}", about, clauses, given, output={"xid": xid, "procedure": proc})

    base = understood("limits", "LIMITS", call(), ("fip-rpc-1", "fip-rpc-4", "fip-rpc-8", "fip-rpc-11", "fip-rpc-12"))
    yield base
    yield understood("null", "NULL", call(proc=0), ("fip-rpc-3", "fip-ext-8"), 0)
    yield understood("getattr", "GETATTR", call(opaque(b""), proc=10), ("fip-rpc-11", "fip-handle-2"), 10)
    yield understood(
        "plain",
        "PLAIN, the last procedure",
        call(opaque(b"") + uint(0) * 2 + uint(1), proc=12),
        ("fip-rpc-11", "fip-handle-2"),
        12,
    )
    for slug, xid in (("0", 0), ("max", MAX32)):
        yield understood(f"xid-{slug}", f"xid {xid}", call(xid=xid), ("fip-rpc-16",), xid=xid)
    for slug, about, cred in (
        ("sys", "AUTH_SYS", uint(1) + opaque(uint(1) + opaque(b"client") + uint(0) * 2 + uint(0))),
        ("sys-empty", "AUTH_SYS without a body", uint(1) + uint(0)),
        ("sys-odd", "AUTH_SYS with a body that is none", uint(1) + opaque(b"\xff" * 7)),
        ("sys-400", "AUTH_SYS with 400 bytes", uint(1) + opaque(b"\1" * 400)),
        ("none-body", "AUTH_NONE with a body", uint(0) + opaque(b"x")),
    ):
        yield understood(
            f"cred-{slug}", f"credentials: {about}", call(cred=cred), ("fip-rpc-4", "fip-rpc-5", "fip-rpc-6")
        )
    for slug, about, verf in (
        ("sys", "of AUTH_SYS", uint(1) + opaque(b"x")),
        ("any", "of a flavor that nobody knows", uint(MAX32) + opaque(b"\1" * 400)),
        ("tls", "of AUTH_TLS", uint(7) + uint(0)),
    ):
        yield understood(f"verf-{slug}", f"a verifier {about}", call(verf=verf), ("fip-rpc-7",))

    def refused(
        slug: str,
        about: str,
        outcome: str,
        reply: bytes,
        clauses: Sequence[str],
        flags: Sequence[str] = (),
        **changed: Any,
    ) -> Vector:
        return base.fault(slug, about, outcome, clauses, flags=flags, message=call(**changed), output={"reply": reply})

    rpc_mismatch, auth_error = denied(0, 2, 2), denied(1, 2)
    for version in (0, 1, 3, MAX32):
        yield refused(
            f"rpcvers-{version}",
            f"RPC version {version}",
            "rpc-mismatch",
            rpc_mismatch,
            (*first, "fip-rpc-1"),
            rpcvers=version,
        )
    for flavor in (2, 3, 6, 7, 390003, MAX32):
        yield refused(
            f"flavor-{flavor}",
            f"credentials of flavor {flavor}",
            "auth-error",
            auth_error,
            ("fip-rpc-6", "fip-rpc-11"),
            cred=uint(flavor) + uint(0),
        )
    for program in (0, 100003, PROGRAM - 1, PROGRAM + 1, MAX32):
        yield refused(
            f"prog-{program}", f"program {program}", "prog-unavail", accepted(PROG_UNAVAIL), first, prog=program
        )
    for version in (0, 2, MAX32):
        yield refused(
            f"vers-{version}",
            f"version {version}",
            "prog-mismatch",
            accepted(PROG_MISMATCH, uint(1) + uint(1)),
            (*first, "fip-ext-1"),
            vers=version,
        )
    for procedure in (15, 16, 17, 18, 19, 255, 2**31, MAX32):
        clauses = ("fip-ext-8", "fip-rpc-11") if procedure <= 18 else first
        yield refused(
            f"proc-{procedure}",
            f"procedure {procedure}",
            "proc-unavail",
            accepted(PROC_UNAVAIL),
            clauses,
            proc=procedure,
            body=uint(0) * 3,
        )
    yield refused("args", "arguments where there are none", "garbage-args", accepted(GARBAGE_ARGS), first, body=uint(0))
    yield refused(
        "null-args",
        "NULL with arguments",
        "garbage-args",
        accepted(GARBAGE_ARGS),
        ("fip-rpc-3", "fip-rpc-11"),
        proc=0,
        body=uint(0),
    )
    yield refused("no-args", "GETATTR without arguments", "garbage-args", accepted(GARBAGE_ARGS), first, proc=10)
    order: list[tuple[str, dict[str, Any], str, bytes]] = [
        ("rpcvers", {"rpcvers": 3}, "rpc-mismatch", rpc_mismatch),
        ("flavor", {"cred": uint(6) + uint(0)}, "auth-error", auth_error),
        ("prog", {"prog": 100003}, "prog-unavail", accepted(PROG_UNAVAIL)),
        ("vers", {"vers": 4}, "prog-mismatch", accepted(PROG_MISMATCH, uint(1) + uint(1))),
        ("proc", {"proc": 99}, "proc-unavail", accepted(PROC_UNAVAIL)),
        ("args", {"body": b"\xff" * 12}, "garbage-args", accepted(GARBAGE_ARGS)),
    ]
    for at, (slug, changed, outcome, reply) in enumerate(order[:-1]):
        everything: dict[str, Any] = {}
        for _, later, _, _ in order[at:]:
            everything |= later
        del changed
        yield refused(
            f"first-{slug}",
            f"{outcome}, and all that comes after it",
            outcome,
            reply,
            first,
            ["several-faults"],
            **everything,
        )

    def closes(slug: str, about: str, message: bytes) -> Vector:
        return base.fault(slug, about, "close", ("fip-rpc-12",), message=message)

    whole = call()
    for length in (1, 3, 4, 8, 20, 24, 28, 32, 36, len(whole) - 1):
        yield closes(f"cut-to-{length}", f"a header cut to {length} bytes", whole[:length])
    for type in (1, 2, 0x01000000, MAX32):
        yield closes(f"type-{type}", f"a message of type {type}", call(type=type))
    yield closes("reply", "a reply", accepted(SUCCESS))
    for slug, cred in (
        ("401", uint(1) + opaque(b"\1" * 401)),
        ("announced", uint(1) + uint(MAX32)),
        ("padding", uint(1) + opaque(b"x", b"\1\0\0")),
        ("cut", uint(1) + uint(8) + bytes(4)),
    ):
        message = call(cred=cred, verf=b"" if slug in ("announced", "cut") else NO_AUTH)
        yield closes(f"cred-{slug}", f"credentials that are no XDR: {slug}", message)
    for slug, verf in (
        ("401", uint(1) + opaque(b"\1" * 401)),
        ("announced", uint(0) + uint(2**31)),
        ("padding", uint(0) + opaque(b"xyz", b"\1")),
    ):
        yield closes(f"verf-{slug}", f"a verifier that is no XDR: {slug}", call(verf=verf))
    yield base.fault(
        "rpcvers-cut",
        "another RPC version, and no canonical header",
        "close",
        ("fip-rpc-12",),
        flags=["several-faults"],
        message=call(rpcvers=3, verf=uint(0) + uint(5)),
    )


def _replies() -> Iterator[Vector]:
    rule = ("fip-client-6", "fip-client-7")
    results = uint(4)

    def good(
        slug: str, about: str, message: bytes, clauses: Sequence[str], output: dict[str, Any], outcome: str = "ok"
    ) -> Vector:
        return Vector(
            f"rpc-reply-{slug}", about, clauses, {"direction": "reply", "message": message}, outcome, output=output
        )

    base = good(
        "success",
        "accepted, with results",
        accepted(SUCCESS, results),
        (*rule, "fip-rpc-10"),
        {"xid": XID, "results": results},
    )
    yield base
    yield good("empty", "accepted, without results", accepted(SUCCESS), rule, {"xid": XID, "results": b""})
    for status, name in (
        (PROG_UNAVAIL, "PROG_UNAVAIL"),
        (PROC_UNAVAIL, "PROC_UNAVAIL"),
        (GARBAGE_ARGS, "GARBAGE_ARGS"),
        (SYSTEM_ERR, "SYSTEM_ERR"),
    ):
        one = good(
            name.lower().replace("_", "-"),
            name,
            accepted(status),
            ("fip-rpc-13", "fip-ext-4"),
            {"xid": XID, "error": name},
            "refused",
        )
        yield one
        yield one.fault("more", "bytes after it", "malformed-reply", rule, message=accepted(status, bytes(4)))
    one = good(
        "prog-mismatch",
        "PROG_MISMATCH",
        accepted(PROG_MISMATCH, uint(1) + uint(3)),
        ("fip-rpc-13", "fip-ext-1"),
        {"xid": XID, "error": "PROG_MISMATCH", "low": 1, "high": 3},
        "refused",
    )
    yield one
    yield one.fault("cut", "without the versions", "malformed-reply", rule, message=accepted(PROG_MISMATCH, uint(1)))
    yield one.fault(
        "more", "bytes after it", "malformed-reply", rule, message=accepted(PROG_MISMATCH, uint(1) + uint(3) + uint(0))
    )
    one = good(
        "rpc-mismatch",
        "RPC_MISMATCH",
        denied(0, 2, 2),
        ("fip-rpc-13",),
        {"xid": XID, "error": "RPC_MISMATCH", "low": 2, "high": 2},
        "refused",
    )
    yield one
    yield one.fault("cut", "without the versions", "malformed-reply", rule, message=denied(0, 2))
    for number, name in ((1, "AUTH_BADCRED"), (2, "AUTH_REJECTEDCRED"), (5, "AUTH_TOOWEAK"), (7, "AUTH_FAILED")):
        one = good(
            name.lower().replace("_", "-"),
            name,
            denied(1, number),
            ("fip-rpc-13",),
            {"xid": XID, "error": "AUTH_ERROR", "auth_stat": number},
            "refused",
        )
        yield one
        yield one.fault("more", "bytes after it", "malformed-reply", rule, message=denied(1, number, 0))

    def bad(slug: str, about: str, message: bytes, clauses: Sequence[str] = rule) -> Vector:
        return base.fault(slug, about, "malformed-reply", clauses, message=message)

    whole = accepted(SUCCESS)
    for length in (0, 3, 4, 8, 12, 16, 20, 23):
        yield bad(f"cut-to-{length}", f"the first {length} bytes", whole[:length])
    for type in (0, 2, MAX32):
        yield bad(f"type-{type}", f"a message of type {type}", accepted(SUCCESS, results, type=type))
    for reply_stat in (2, 0x01000000, MAX32):
        yield bad(
            f"reply-stat-{reply_stat}",
            f"neither accepted nor denied: {reply_stat}",
            accepted(SUCCESS, results, reply_stat=reply_stat),
        )
    for status in (6, 0x01000000, MAX32):
        yield bad(f"accept-stat-{status}", f"accept_stat {status}", accepted(status, results))
    for status in (2, MAX32):
        yield bad(f"reject-stat-{status}", f"reject_stat {status}", denied(status, 0))
    for status in (15, 99, MAX32):
        yield bad(f"auth-stat-{status}", f"auth_stat {status}", denied(1, status))
    for slug, about, verf in (
        ("sys", "of AUTH_SYS", uint(1) + uint(0)),
        ("body", "of AUTH_NONE with a body", uint(0) + opaque(b"x")),
        ("tls", "of AUTH_TLS", uint(7) + uint(0)),
        ("starttls", "STARTTLS", uint(0) + opaque(b"STARTTLS")),
        ("401", "of 401 bytes", uint(0) + opaque(b"\1" * 401)),
        ("padding", "with padding that is not zero", uint(0) + opaque(b"x", b"\1\0\0")),
        ("announced", "that announces 2^32 - 1 bytes", uint(0) + uint(MAX32)),
    ):
        yield bad(f"verf-{slug}", f"a verifier {about}", accepted(SUCCESS, results, verf=verf), (*rule, "fip-rpc-10"))
    yield one.fault(
        "garbage-verf",
        "GARBAGE_ARGS with a verifier",
        "malformed-reply",
        rule,
        message=accepted(GARBAGE_ARGS, verf=uint(1) + uint(0)),
    )
