# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Compiling the peer: rpcgen makes C of the drafts' .x files, gcc programs of that and of ours."""

from __future__ import annotations

import shutil
import subprocess
from itertools import chain
from pathlib import Path

from . import xdr_language

SPEC = Path(__file__).resolve().parents[2] / "spec"
SOURCES = Path(__file__).resolve().parent / "peer"
XDR_FILES = ("fim.x", "fip.x")

STRICT = ("-Wall", "-Wextra", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
"""A wrong access, an overflow of a signed number and their like end a program with a report and status 99."""
GENERATED = ("-Wall", "-Werror", "-Wno-unused-variable")
"""rpcgen declares a variable in each of its functions, whether or not it uses it there."""

MADE = ("fim_xdr", "fip_xdr", "fip_svc", "fip_clnt")
"""By rpcgen."""
FORMAT = ("entries", "paths", "tree", "canonical")
VERIFIER = ("verify", "members", "ranges", "certificates", "signatures", "decoding", "marks", "revoked", *FORMAT)
CLIENT = ("calls", "session", "arguments", *VERIFIER)
PROGRAMS = {
    "peer": ("peer", "reader", *CLIENT),
    "peer-small": ("peer", "reader-small", *CLIENT),
    "bulk": ("bulk", "reader", *CLIENT),
    "listing": ("listing", *CLIENT),
    "check": ("check", "arguments", *VERIFIER),
    "shown": ("shown", "arguments", *VERIFIER),
    "judge": ("judge", "arguments", *VERIFIER),
    "serve": ("serve", "served", "serve_file", "serve_volume", "nodes", "arguments", *FORMAT, "fip_svc"),
    "list": ("list", "fip_clnt"),
    "codec": ("codec",),
}
"""Of our objects; those of the XDR are part of each. `peer-small` holds fewer nodes, so that small files are large."""


def run(*command: str, at: Path) -> str:
    """What a command prints. A failure, or any word on standard error, is an error that shows it."""
    done = subprocess.run(command, cwd=at, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def rpcgen(at: Path) -> None:
    """Headers, XDR functions, and the stubs of service and client, in folder `at`."""
    for name in XDR_FILES:
        shutil.copy(SPEC / name, at)
        base = name.removesuffix(".x")
        run("rpcgen", "-C", "-h", "-o", f"{base}.h", name, at=at)
        run("rpcgen", "-C", "-c", "-o", f"{base}_xdr.c", name, at=at)
    run("rpcgen", "-C", "-m", "-o", "fip_svc.c", "fip.x", at=at)
    run("rpcgen", "-C", "-l", "-o", "fip_clnt.c", "fip.x", at=at)


def build(at: Path) -> None:
    """All programs, in folder `at`."""
    rpcgen(at)
    for source in SOURCES.iterdir():
        shutil.copy(source, at)
    names = xdr_language.parse(SPEC / name for name in XDR_FILES)
    (at / "types.h").write_text("".join(f"TYPE({name}),\n" for name in names))
    flags = run("pkg-config", "--cflags", "libtirpc", "libcrypto", at=at).split()
    libraries = run("pkg-config", "--libs", "libtirpc", "libcrypto", at=at).split()

    def compile(source: str, *options: str, to: str | None = None) -> None:
        run(
            "gcc",
            "-std=gnu11",
            "-O1",
            *SANITIZED,
            *options,
            *flags,
            "-c",
            f"{source}.c",
            "-o",
            f"{to or source}.o",
            at=at,
        )

    for name in MADE:
        compile(name, *GENERATED)
    for name in sorted({"sanitized", *chain.from_iterable(PROGRAMS.values())} - {*MADE, "reader-small"}):
        compile(name, *STRICT)
    compile("reader", *STRICT, "-DTREE_NODES=8", to="reader-small")
    for program, objects in PROGRAMS.items():
        files = [f"{name}.o" for name in (*objects, "fim_xdr", "fip_xdr", "sanitized")]
        run("gcc", *SANITIZED, *files, "-o", program, *libraries, at=at)
