# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .failure import Exit, about, say
from .frame import Command, timeout_option, trust_options
from .output import name_fields, write_json
from .parameters import TARGET

if TYPE_CHECKING:
    from nfsverity_proto.url import Url

SUFFIX = ".fim"


@click.command(
    cls=Command,
    examples=[
        ("To data.csv.fim, which goes with the file", "nfsverity export /srv/data/data.csv"),
        ("Of a served file", "nfsverity export nfsv://host:12049/data.csv -o data.csv.fim"),
    ],
    statuses={1: "it is not signed, or (of a served file) its record does not verify"},
    fields={
        "command, status": '"export", and the exit status',
        "output": "the file that was written",
        "output_base64": "only where that is not UTF-8",
        "size": "of it, in bytes",
        "path": "of the file in its tree",
        "path_base64": "only where that is not UTF-8",
        "form": "volume: with the head of its volume; or records: a record that stands alone",
    },
)
@click.argument("target", type=TARGET, metavar="URL|FILE")
@click.option("-o", "--output", type=click.Path(), metavar="OUT", help="Where to.  [default: its name with .fim]")
@trust_options
@timeout_option
def command(
    target: Url | Path,
    output: str | None,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    timeout: float,
    as_json: bool,
) -> Exit:
    """Take out what vouches for one file, so that it can travel with the file.

    Whoever trusts the signer's certificate verifies the file with it anywhere, without a server and without the rest
    of the tree. Nothing is overwritten. A link in a volume stands for the file that it leads to: links and directories
    have no records of their own, and what is signed of them does not travel without the volume.
    """
    import os

    from nfsverity._exported import export, path_of
    from nfsverity_proto.exported import is_exported
    from nfsverity_publisher.new_file import write_new

    if isinstance(target, Path):
        data = export(target)
    else:
        from . import belief
        from .network import exported_of

        data = exported_of(target, belief.load(trust_files, volume), timeout)
    path = path_of(data)
    file = Path(output or os.fsdecode(path.rpartition(b"/")[2]) + SUFFIX)
    with about(str(file)):
        write_new(file, data, 0o644)
    if as_json:
        form = "volume" if is_exported(data) else "records"
        value = {
            **name_fields("output", os.fsencode(file)),
            "size": len(data),
            **name_fields("path", path),
            "form": form,
        }
        write_json({"command": "export", "status": int(Exit.OK), **value})
    else:
        say(f"nfsverity: {file}: {len(data):,} bytes, for {os.fsdecode(path)}")
    return Exit.OK
