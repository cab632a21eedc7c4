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
from .failure import Exit, error_fields, say, status_of, tell, warn, weightiest
from .frame import Command, policy_options, presentation_option, timeout_option, trust_options
from .output import count_text, name_fields, printable, write_json
from .parameters import TARGET
from .progress import Meter, meter

if TYPE_CHECKING:
    from nfsverity._local import FileResult, LocalTree
    from nfsverity_proto.url import Url

    from .belief import Belief


_LEADS_OUT = "nfsverity: {} leads to nothing in the volume: what is there, if anything, was not looked at"


@click.command(
    cls=Command,
    examples=[
        ("All that a server has", "nfsverity verify nfsv://host:12049/"),
        ("A signed tree on this machine", "nfsverity verify /srv/data"),
        ("A file that came with what vouches for it", "nfsverity verify --exported data.csv.fim data.csv"),
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
        "links": "number of links that were named and are as signed; what they lead to in the volume is in `files`",
        "bytes": "of the files that were verified, a decimal string",
        **CACHE_FIELDS,
        "skipped": "links and special files on this machine: path (or path_base64) and reason",
        "errors": "why some of the targets could not be gone through (as below); else empty",
    },
)
@click.argument("targets", type=TARGET, nargs=-1, required=True, metavar="URL|PATH...")
@click.option(
    "--exported",
    type=click.Path(),
    metavar="OUT",
    help="Verify the one FILE by what `nfsverity export` took out for it, wherever it lies.",
)
@click.option(
    "--path", "path_in_tree", metavar="PATH", help="With --exported: its path in the tree.  [default: any of its name]"
)
@presentation_option
@trust_options
@policy_options
@timeout_option
@cache_option
def command(
    targets: tuple[Url | Path, ...],
    exported: str | None,
    path_in_tree: str | None,
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
    updated is reported as that, and so is one that a server has seen changing within the last seconds. A path names a
    file, directory or link in a signed tree on this machine.

    Of a volume, links and directories are verified, too. A link that is named is verified itself, and so is what it
    leads to in the volume; what is outside of that is nobody's word here, and told as not looked at.
    """
    from . import belief

    believed = belief.load(trust_files, volume, policy_file, audit_log)
    use = caching(no_cache)
    if (exported is not None and not (len(targets) == 1 and isinstance(targets[0], Path))) or (
        exported is None and path_in_tree is not None
    ):
        raise click.UsageError("--exported is about one file on this machine, and --path goes with it")
    checks, errors = Checks(), []
    skipped: list[tuple[bytes, str]] = []
    for target in targets:
        try:
            with meter("verifying") as shows:
                if exported is not None and isinstance(target, Path):
                    _verify_exported(Path(exported), target, path_in_tree, believed, checks)
                elif isinstance(target, Path):
                    _verify_local(target, believed, checks, skipped, shows)
                else:
                    _verify_served(target, believed, presentation, timeout, use, checks, shows)
        except Exception as error:
            if status_of(error) in (Exit.INTERNAL, Exit.USAGE):
                raise
            tell(error)
            errors.append(error)
    status = weightiest((checks.status, *(status_of(error) for error in errors)))
    if as_json:
        write_json(
            {
                "command": "verify",
                "status": int(status),
                **checks.fields(),
                "links": checks.links,
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


def _verify_exported(exported: Path, file: Path, path: str | None, believed: Belief, checks: Checks) -> None:
    import os

    from nfsverity._exported import judge_export, path_of
    from nfsverity._local_place import file_url
    from nfsverity_proto.errors import VerificationError, WrongPath
    from nfsverity_proto.exported import EXPORTED_MAX

    url = file_url(os.fsencode(os.path.abspath(file)))
    with exported.open("rb") as source:
        data = source.read(EXPORTED_MAX + 1)
    name = b""
    try:
        name = path_of(data)
        expected = name if path is None else os.fsencode(path)
        if path is None and name.rpartition(b"/")[2] != os.fsencode(file.name):
            raise WrongPath("it is for a file of another name", expected=file.name, found=os.fsdecode(name))
        believed_volume = next(iter(believed.volumes), None) if believed.volumes is not None else None
        verified = judge_export(data, file, expected, believed.trust, believed_volume, believed.state, believed.revoked)
    except VerificationError as error:
        error.where = url
        checks.add(Checked(url, name, None, error))
    else:
        checks.add(Checked(url, name, verified))


def _verify_local(path: Path, believed: Belief, checks: Checks, skipped: list[tuple[bytes, str]], shows: Meter) -> None:
    from nfsverity._local import LocalTree
    from nfsverity._local_place import locate_file

    from .belief import announce

    root, below = locate_file(path)
    tree = LocalTree(
        root,
        believed.trust,
        believed.volumes,
        believed.bindings,
        announce,
        progress=lambda _, count: shows.add(count),
        state=believed.state,
        refused=warn,
        revoked=believed.revoked,
        gates=believed.gates,
    )
    with contextlib.closing(tree):
        shows.expect(tree.size(below))
        for result in tree.verify(below):
            checks.add(_checked(tree, result))
            if result.target is not None and result.error is None and result.leads is None:
                say(_LEADS_OUT.format(tree.url_of(result.path)))
        skipped += tree.skipped


def _checked(tree: LocalTree, result: FileResult) -> Checked:
    ranges = [Range(bad.offset, bad.length, _hex(bad.expected), _hex(bad.found)) for bad in result.bad]
    if isinstance(result.error, OSError):
        result.error.filename = tree.url_of(result.path)
    url = tree.url_of(result.path)
    if result.unverified is not None:
        return Checked(url, result.path, None, unverified=result.unverified, verdict=result.verdict)
    return Checked(
        url,
        result.path,
        result.verified,
        result.error,
        ranges,
        seen_before=result.seen_before,
        target=result.target,
    )


def _hex(hash: bytes | None) -> str | None:
    return None if hash is None else hash.hex()


def _verify_served(
    url: Url, believed: Belief, presentation: str, timeout: float, use: Caching, checks: Checks, shows: Meter
) -> None:
    from .failure import about

    async def run() -> None:
        from nfsverity_client.pipeline import in_order

        from .network import FILES_AT_ONCE, check, check_link, check_volume, files_below, session_for

        async with session_for(url, believed, timeout, presentation=presentation, caching=use) as session:
            if await session.heads.current() is not None:
                if await check_link(session, url.path, checks.add):
                    await check_volume(session, url.path, shows, checks.add)
                else:
                    say(_LEADS_OUT.format(url))
                return
            found = await files_below(session, url.path)
            shows.expect(sum(size for _, size in found))
            jobs = (check(session, path, shows) for path, _ in found)
            async with contextlib.aclosing(in_order(jobs, FILES_AT_ONCE)) as results:
                async for checked in results:
                    checks.add(checked)

    with about(str(url)):
        ending.run(run())
