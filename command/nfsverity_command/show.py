# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .failure import Exit, tell
from .frame import Command, timeout_option, trust_options
from .output import write_json
from .parameters import TARGET
from .trust_state import MARK_FIELDS

if TYPE_CHECKING:
    from nfsverity_proto.url import Url

    from .belief import Belief
    from .record_report import RecordReport
    from .volume_report import VolumeReport


FIELDS = {
    "command, status": '"show", and the exit status',
    "file": "its URL",
    "type": "file; of a volume also link, directory, or volume, which is the head itself",
    "volume, label, path": "the identity that was signed; the path of a head is empty",
    "label_base64, path_base64, target_base64": "only where they are not UTF-8",
    "target": "of a link, where it leads, else null",
    "generation, issued, not_after": "decimal strings; times in Unix seconds; not_after null: does not expire",
    "executable": "true or false; like all up to tree_type of files only, else null",
    "mtime": "of the version, as the publisher claims: seconds.nanoseconds",
    "size": "of the content in bytes, a decimal string",
    "unit_size": "bytes",
    "units": "of the content, a decimal string",
    "tree_type": "number of the tree's type",
    "entries": "of a volume, a decimal string; of a file null",
    "hash": "name of the hash algorithm, or its number",
    "root, tag": "hexadecimal; of the head, where it is no file",
    "record_size": "bytes of the record, or of the head",
    "extensions": "one object for each, with:",
    "extensions.number, critical, value": "the value in hexadecimal",
    "attestations": "one object for each, with:",
    "attestations.type": "signature, membership, or a number",
    "attestations.fingerprint, fingerprint_hash, scheme": "of a signature; else null",
    "attestations.subject": "of the signer's certificate; null where that is not known",
    "attestations.verified": "whether it verifies, by what this user believes",
    "attestations.error": "why not (as below), or null",
    "head": "of what is in a volume: the tag of the head, and the entry of so many (decimal strings); else null",
    "mark": "the highest version that was accepted here, or null where none was yet, with:",
    **{", ".join(f"mark.{name}" for name in names.split(", ")): text for names, text in MARK_FIELDS.items()},
    "verified": "whether the record as a whole does",
    "error": "why not (as below), or null",
}


@click.command(
    cls=Command,
    examples=[
        ("The record of a served file", "nfsverity show nfsv://host:12049/bin/tool"),
        ("Of a file in a signed tree on this machine", "nfsverity show /srv/data/bin/tool"),
        ("The head of the volume that a server has", "nfsverity show nfsv://host:12049/"),
        ("As if a signer were believed", "nfsverity show --trust me.crt nfsv://host:12049/bin/tool"),
    ],
    statuses={0: "the record verifies", 1: "it does not; it is shown all the same, where it can be decoded"},
    fields=FIELDS,
)
@click.argument("target", type=TARGET, metavar="URL|FILE")
@trust_options
@timeout_option
def command(
    target: Url | Path, trust_files: tuple[str, ...], volume: bytes | None, timeout: float, as_json: bool
) -> Exit:
    """Show what the record of a file says, and what your trust makes of each signature.

    Of a volume, its root is its head: signers, generation, times, number of entries and root. A link or directory
    is an entry under the head, which is all that is signed of it; a link is shown and not followed, but for those
    on the way to what is named. The content is not read: that is `nfsverity verify`. No binding is made, and no mark.
    """
    from . import belief
    from .record_report import report_fields, report_text
    from .volume_report import VolumeReport, volume_fields, volume_text

    believed = belief.load(trust_files, volume)
    if isinstance(target, Path):
        report = _local(target, believed)
    else:
        from .network import record_of

        report = record_of(target, believed, timeout)
    status = Exit.OK if report.error is None else Exit.NOT_VERIFIED
    if as_json:
        fields = volume_fields(report) if isinstance(report, VolumeReport) else report_fields(report)
        write_json({"command": "show", "status": int(status), **fields})
    else:
        click.echo(volume_text(report) if isinstance(report, VolumeReport) else report_text(report))
    if report.error is not None:
        tell(report.error)
    return status


def _local(path: Path, believed: Belief) -> RecordReport | VolumeReport:
    import contextlib
    from dataclasses import replace

    from nfsverity._local import LocalTree
    from nfsverity._local_place import locate_file
    from nfsverity._local_volume import follow, look_up
    from nfsverity_proto.errors import Unsigned, VerificationError
    from nfsverity_proto.verifier import Expected
    from nfsverity_store.volume_view import VolumeView

    from .record_report import judge_here, judge_member_here
    from .volume_report import Place, head_report

    root, below = locate_file(path)
    with contextlib.closing(LocalTree(root, believed.trust, believed.volumes)) as tree:
        view, url = tree.index, tree.url_of(below) if below else tree.url
        expected = Expected(below, believed.expected(url, tree.url), url)
        if not isinstance(view, VolumeView):
            if path.is_dir():
                raise IsADirectoryError(21, "it is a directory, and only files have records", str(path))
            entry = view.by_path(below)
            if entry is None or entry.record is None:
                raise Unsigned("there is no record for it in the published tree", where=url)
            return judge_here(entry.record, expected, believed, tree.certificates(entry.record), tree.url_of)
        certificates = tree.certificates(view.record)
        report = head_report(view.record, url, expected, believed, certificates, tree.url_of)
        if not below:
            return report
        try:
            at, _ = follow(view, report.under, below, last=False)
            found = look_up(view, report.under, at) if at else None
        except VerificationError as problem:
            error = report.error or problem  # what is not under a head that verifies is no proof
            error.where = url
            raise error from None
        if found is None:
            return report
        if found[1].is_file:
            record = view.record_of(found[1])
            return judge_member_here(record, view.record, expected, believed, certificates, tree.url_of)
        return replace(report, place=Place(found[0], found[1].position))
