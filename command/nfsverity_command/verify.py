# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity verify`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import ending
from .caching import CACHE_FIELDS, Caching, cache_option, caching
from .checked import FILE_FIELDS, Checked, Checks, Range
from .failure import Exit, error_fields, status_of, tell
from .frame import Command, policy_options, presentation_option, timeout_option, trust_options
from .output import count_text, name_fields, printable, write_json
from .parameters import TARGET
from .progress import Meter, meter

if TYPE_CHECKING:
    from nfsverity._local import FileResult, LocalTree
    from nfsverity_proto.url import Url

    from .belief import Belief


@click.command(
    cls=Command,
    examples=[
        ("All that a server has", "nfsverity verify nfsv://host:12049/"),
        ("A signed tree on this machine", "nfsverity verify /srv/data"),
        ("One file, by a signer who is not in the trust store", "nfsverity verify --trust me.crt /srv/data/bin/tool"),
    ],
    statuses={
        0: "every file is what was signed",
        1: "some file is not, or has no record",
        5: "a rule of the policy lets some file pass that is not verified; all others are",
    },
    fields={
        "command, status": '"verify", and the exit status',
        "files": "one object for each file, good or bad, with:",
        **{", ".join(f"files.{name}" for name in names.split(", ")): text for names, text in FILE_FIELDS.items()},
        "verified, unverified, failed": "numbers of files",
        "bytes": "of the files that were verified, a decimal string",
        **CACHE_FIELDS,
        "skipped": "links and special files on this machine: path (or path_base64) and reason",
        "errors": "why some of the targets could not be gone through (as below); else empty",
    },
)
@click.argument("targets", type=TARGET, nargs=-1, required=True, metavar="URL|PATH...")
@presentation_option
@trust_options
@policy_options
@timeout_option
@cache_option
def command(
    targets: tuple[Url | Path, ...],
    presentation: str,
    trust_files: tuple[str, ...],
    volume: bytes | None,
    policy_file: str | None,
    audit_log: str | None,
    timeout: float,
    no_cache: bool,
    as_json: bool,
) -> Exit:
    """Verify files and whole trees: every byte, against the records, by what you believe.

    Everything that is wrong is reported, not only the first: each bad file, and which bytes of it where the
    hashes tell; files without a record; records without a file. Nothing is waited for: a file that is being
    updated is reported as that. A path names a file or directory in a signed tree on this machine.
    """
    from . import belief

    believed = belief.load(trust_files, volume, policy_file, audit_log)
    use = caching(no_cache)
    checks, errors = Checks(), []
    skipped: list[tuple[bytes, str]] = []
    for target in targets:
        try:
            with meter("verifying") as shows:
                if isinstance(target, Path):
                    _verify_local(target, believed, checks, skipped, shows)
                else:
                    _verify_served(target, believed, presentation, timeout, use, checks, shows)
        except Exception as error:
            if status_of(error) in (Exit.INTERNAL, Exit.USAGE):
                raise
            tell(error)
            errors.append(error)
    statuses = {checks.status, *(status_of(error) for error in errors)}
    status = Exit.NOT_VERIFIED if Exit.NOT_VERIFIED in statuses else max(statuses - {Exit.UNVERIFIED}, default=Exit.OK)
    if status is Exit.OK and Exit.UNVERIFIED in statuses:
        status = Exit.UNVERIFIED
    if as_json:
        write_json(
            {
                "command": "verify",
                "status": int(status),
                **checks.fields(),
                **use.fields(),
                "skipped": [{**name_fields("path", path), "reason": reason} for path, reason in skipped],
                "errors": [error_fields(error) for error in errors],
            }
        )
    elif checks.files or not errors:
        click.echo(printable(checks.summary()))
        if skipped:
            click.echo(f"{count_text(len(skipped), 'link or special file', 'links and special files')} not looked at")
    return status


def _verify_local(path: Path, believed: Belief, checks: Checks, skipped: list[tuple[bytes, str]], shows: Meter) -> None:
    from nfsverity._local import LocalTree, locate

    from .belief import announce

    root, below = locate(path)
    tree = LocalTree(
        root,
        believed.trust,
        believed.volumes,
        believed.bindings,
        announce,
        lambda _, count: shows.add(count),
        state=believed.state,
        refused=tell,
        revoked=believed.revoked,
        gates=believed.gates,
    )
    with contextlib.closing(tree):
        shows.expect(tree.size(below))
        for result in tree.verify(below):
            checks.add(_checked(tree, result))
        skipped += tree.skipped


def _checked(tree: LocalTree, result: FileResult) -> Checked:
    ranges = [Range(bad.offset, bad.length, _hex(bad.expected), _hex(bad.found)) for bad in result.bad]
    if isinstance(result.error, OSError):
        result.error.filename = tree.url_of(result.path)
    url = tree.url_of(result.path)
    if result.unverified is not None:
        return Checked(url, result.path, None, unverified=result.unverified, verdict=result.verdict)
    return Checked(url, result.path, result.verified, result.error, ranges, seen_before=result.seen_before)


def _hex(hash: bytes | None) -> str | None:
    return None if hash is None else hash.hex()


def _verify_served(
    url: Url, believed: Belief, presentation: str, timeout: float, use: Caching, checks: Checks, shows: Meter
) -> None:
    from .failure import about

    async def run() -> None:
        from nfsverity_client.pipeline import in_order

        from .network import FILES_AT_ONCE, check, files_below, session_for

        async with session_for(url, believed, timeout, presentation=presentation, caching=use) as session:
            found = await files_below(session, url.path)
            shows.expect(sum(size for _, size in found))
            jobs = (check(session, path, shows) for path, _ in found)
            async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
                async for checked in results:
                    checks.add(checked)

    with about(str(url)):
        ending.run(run())
