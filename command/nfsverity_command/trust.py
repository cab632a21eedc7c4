# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity trust`; `reset`, `revoke` and `unrevoke` are in `trust_state`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from .failure import about
from .frame import Command
from .output import count_text, name_fields, percent_encoded, printable, scheme_name, seconds_text, write_json
from .parameters import KEY_ALGORITHMS, LOCAL, PREFIX, VOLUME, local_url
from .trust_state import ITEM_FIELDS, listed_fields, reset, revoke, unrevoke

if TYPE_CHECKING:
    from nfsverity_client.trust_store import StoredEntry

ENTRY_FIELDS = {
    "id": "names the entry",
    "fingerprint": "SHA-256 of the certificate, hexadecimal",
    "subject": "of the certificate (RFC 4514)",
    "valid_until": "of the certificate (RFC 3339)",
    "added": "when (RFC 3339)",
    "ca": "whether it is a CA, and not itself the signer",
    "required_subject": "what the signer's subject must have, or null",
    "volumes, prefixes, schemes": "what it is believed for; none = any",
    "signers": "how many trusted signers such files need",
}


@click.group()
def command() -> None:
    """Say which signers are believed, and for what.

    Nothing is believed until you say so. `trust add` tells which certificate may sign, and for which volumes
    and URLs. Beside these entries, the volume that a server (or a tree on this machine) had at its first use
    is kept, and expected there from then on; `trust list` shows both, and `trust remove` takes either away.

    Of each volume, or of each file that has a record of its own, the highest version that was accepted is kept (a
    mark), and older ones are refused; `trust reset` accepts them again. At the first use there is no mark: nothing
    tells whether the version that you get then is the latest. `trust revoke` keeps a list of your own of keys and
    versions that are never accepted.
    """


command.add_command(reset, "reset")
command.add_command(revoke, "revoke")
command.add_command(unrevoke, "unrevoke")


@command.command(
    "add",
    cls=Command,
    examples=[
        ("Believe a signer", "nfsverity trust add release.crt"),
        ("Only for one volume", "nfsverity trust add release.crt --volume 0123456789abcdef0123456789abcdef"),
        ("Only for what one server has", "nfsverity trust add me.crt --prefix nfsv://host:12049/"),
        (
            "Signers whom a CA vouches for, by their subject",
            "nfsverity trust add ca.crt --ca --subject O=Example --prefix nfsv://host:12049/",
        ),
    ],
    statuses={4: "CERT is no certificate that can be used; or it, or the trust store, cannot be read or written"},
    fields={"command, status": '"trust add", 0', **ENTRY_FIELDS},
)
@click.argument("certificate", type=click.Path(), metavar="CERT")
@click.option("--volume", "volumes", type=VOLUME, multiple=True, metavar="ID", help="Only for this volume. Repeatable.")
@click.option(
    "--prefix",
    "prefixes",
    type=PREFIX,
    multiple=True,
    metavar="URL",
    help="Only at or below; that of a volume is its root. Repeatable.",
)
@click.option("--ca", is_flag=True, help="CERT is that of a CA: needs --subject, and --volume or --prefix.")
@click.option("--subject", metavar="RFC4514", help="The signer's subject must have these, as CN=release,O=Example.")
@click.option(
    "--signers",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    metavar="N",
    help="Files need so many trusted signers.",
)
@click.option(
    "--scheme", "schemes", type=click.Choice(KEY_ALGORITHMS), multiple=True, help="Only this scheme. Repeatable."
)
def add(
    certificate: str,
    volumes: tuple[bytes, ...],
    prefixes: tuple[str, ...],
    ca: bool,
    subject: str | None,
    signers: int,
    schemes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Believe the signer with the certificate in the file CERT (PEM or DER).

    Compare the fingerprint that is printed with the one that the signer tells you.
    """
    from nfsverity_client.trust_store import TrustStore, certificate_file
    from nfsverity_proto.signature import SCHEME_NAMES
    from nfsverity_proto.trust import TrustEntry

    if subject is not None:
        _check_subject(subject)
    numbers = tuple(SCHEME_NAMES[name] for name in schemes)
    anchor = certificate_file(Path(certificate))
    try:
        entry = TrustEntry(anchor, ca, subject, volumes, prefixes, numbers, signers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    store = TrustStore()
    with about(certificate):
        id = store.add(entry)
    stored = next(stored for stored in store.stored() if stored.id == id)
    if as_json:
        write_json({"command": "trust add", "status": 0, **_fields(stored)})
    else:
        click.echo(_text(stored))


def _check_subject(subject: str) -> None:
    from cryptography.x509 import Name

    try:
        name = Name.from_rfc4514_string(subject)
    except ValueError as error:
        raise click.BadParameter(f"{subject!r} is no distinguished name: {error}", param_hint="--subject") from error
    if not list(name):
        raise click.BadParameter("it names nothing", param_hint="--subject")


@command.command(
    "list",
    cls=Command,
    examples=[("All that is believed", "nfsverity trust list"), ("For a program", "nfsverity trust list --json")],
    statuses={4: "the trust store or the state is damaged or cannot be read"},
    fields={
        "command, status": '"trust list", 0',
        "trust_file, bindings_file": "where they are kept",
        "trust_file_base64, bindings_file_base64": "only where these are not UTF-8",
        "entries": "one object for each trust entry, with:",
        **{", ".join(f"entries.{name}" for name in names.split(", ")): text for names, text in ENTRY_FIELDS.items()},
        "bindings": "one object for each binding, with:",
        "bindings.server": "URL of the server's root, or of a tree on this machine",
        "bindings.volume": "the volume expected there",
        "state_file": "where marks and accepted revocations are kept",
        "state_file_base64": "only where it is not UTF-8",
        "marks": "one object for each volume of which versions were accepted, with:",
        "marks.volume, files": "its ID, and how many of its files have marks of their own",
        "marks.head": "the highest generation of a head of it, which is for all its files, or null",
        "latest": "the latest time of issue that was accepted (RFC 3339), or null",
        "revoked": "what you revoked, one object for each, with:",
        **{f"revoked.{name}": text for name, text in ITEM_FIELDS.items()},
        "revocations": "what publishers revoked, one object for each, with:",
        "revocations.volume": "for which it is revoked",
        **{f"revocations.{name}": text for name, text in ITEM_FIELDS.items()},
    },
)
def show_list(as_json: bool) -> None:
    """List trust entries and bindings, marks by volume, and what is revoked."""
    from nfsverity_client.marks import MarkStore
    from nfsverity_client.revocations import RevocationStore, RevokedList, item_text
    from nfsverity_client.trust_store import Bindings, TrustStore

    from .belief import user_state

    store, bindings, state = TrustStore(), Bindings(), user_state()
    entries, bound = store.stored(), bindings.all()
    own, marks = RevokedList().listed(), MarkStore(state)
    counts, heads, latest = marks.counts(), marks.heads(), marks.latest()
    revoked = [
        {"volume": volume.hex(), "item": item_text(item), "note": None, "since": seconds_text(since)}
        for volume, items in RevocationStore(state).all().items()
        for item, since in items
    ]
    if as_json:
        write_json(
            {
                "command": "trust list",
                "status": 0,
                **name_fields("trust_file", os.fsencode(store.path)),
                **name_fields("bindings_file", os.fsencode(bindings.path)),
                "entries": [_fields(stored) for stored in entries],
                "bindings": [{"server": server, "volume": volume.hex()} for server, volume in bound.items()],
                **name_fields("state_file", os.fsencode(state.path)),
                "marks": [
                    {
                        "volume": volume.hex(),
                        "files": files,
                        "head": str(heads[volume].generation) if volume in heads else None,
                    }
                    for volume, files in counts.items()
                ],
                "latest": None if latest is None else seconds_text(latest),
                "revoked": [listed_fields(listed) for listed in own],
                "revocations": revoked,
            }
        )
        return
    none = "" if entries else ": none; `nfsverity trust add CERT` adds one"
    click.echo(f"trust entries ({printable(str(store.path))}){none}")
    for stored in entries:
        click.echo(_text(stored))
    click.echo(f"bindings ({printable(str(bindings.path))}){'' if bound else ': none'}")
    for server, volume in bound.items():
        click.echo(f"{printable(server)}  volume {volume.hex()}")
    click.echo(f"marks ({printable(str(state.path))}){'' if counts else ': none'}")
    for volume, files in counts.items():
        texts = [f"all files, generation {heads[volume].generation}"] if volume in heads else []
        texts += [count_text(files, "file")] if files else []
        click.echo(f"volume {volume.hex()}  {'; '.join(texts)}")
    click.echo(f"revoked{'' if own or revoked else ': nothing'}")
    for listed in own:
        click.echo(printable(f"{item_text(listed.item)}  by you, {listed.added}  {listed.note}".rstrip()))
    for item in revoked:
        click.echo(f"{item['item']}  for volume {item['volume']}, {item['since']}")


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What can be removed, for completion in a shell."""
    from nfsverity_client.trust_store import Bindings, TrustStore

    entries = {stored.id: stored.entry.certificate.subject for stored in TrustStore().stored()}
    servers = {server: volume.hex() for server, volume in Bindings().all().items()}
    return [
        CompletionItem(name, help=text) for name, text in (entries | servers).items() if name.startswith(incomplete)
    ]


@command.command(
    "remove",
    cls=Command,
    examples=[
        ("An entry, by its id or its signer's fingerprint", "nfsverity trust remove 3f2a9c41d07b"),
        ("A binding, since the server has a new volume", "nfsverity trust remove nfsv://host:12049/"),
        ("The binding of a tree on this machine", "nfsverity trust remove /srv/data"),
    ],
    statuses={4: "there is no such entry or binding, or the trust store cannot be read or written"},
    fields={
        "command, status": '"trust remove", 0',
        "entries": "the entries that were removed, as in `trust list`",
        "bindings": "the bindings that were removed, as in `trust list`",
    },
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_names)
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove trust entries or bindings.

    NAME is the id of an entry, the beginning of a fingerprint (all entries of that signer), the URL of a
    server, or the path of a tree on this machine. With the last entry of a certificate, its marks go too.
    """
    from nfsverity_client.trust_store import Bindings, TrustStore

    entries: list[dict[str, Any]] = []
    bindings: list[dict[str, str]] = []
    for name in names:
        server = _server(name)
        if server is None:
            gone = TrustStore().remove(name)
            entries += [_fields(stored) for stored in gone]
            _drop_marks({stored.entry.anchor for stored in gone})
        else:
            bindings.append({"server": server, "volume": Bindings().remove(server).hex()})
    if as_json:
        write_json({"command": "trust remove", "status": 0, "entries": entries, "bindings": bindings})
        return
    for entry in entries:
        click.echo(f'removed entry {entry["id"]} of "{entry["subject"]}"')
    for binding in bindings:
        click.echo(f"removed the binding of {printable(binding['server'])} to volume {binding['volume']}")


def _drop_marks(anchors: set[bytes]) -> None:
    """The marks of an anchor go with its last entry (fim-mark-4)."""
    from nfsverity_client.audit import local_event
    from nfsverity_client.marks import MarkStore
    from nfsverity_client.trust_store import TrustStore
    from nfsverity_proto.record import fingerprint_of

    from .belief import user_state

    marks = MarkStore(user_state())
    for anchor in anchors - {entry.anchor for entry in TrustStore().entries()}:
        local_event("trust-removed", fingerprint=str(fingerprint_of(anchor)))
        marks.drop_anchor(anchor)


def _server(name: str) -> str | None:
    """The server that a URL or path names; None for what is neither."""
    from nfsverity_proto.url import is_url, parse_url

    if is_url(name):
        try:
            return parse_url(name).server
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="NAME") from error
    if name.startswith(LOCAL):
        return local_url(name)
    if "/" not in name and name not in (".", ".."):
        return None
    return "file://" + percent_encoded(os.fsencode(Path(name).resolve()))


def _fields(stored: StoredEntry) -> dict[str, Any]:
    entry, certificate = stored.entry, stored.entry.certificate
    return {
        "id": stored.id,
        "fingerprint": str(certificate.fingerprint),
        "subject": certificate.subject,
        "valid_until": seconds_text(certificate.not_after),
        "added": stored.added,
        "ca": entry.ca,
        "required_subject": entry.subject,
        "volumes": [volume.hex() for volume in entry.volumes],
        "prefixes": list(entry.prefixes),
        "schemes": [scheme_name(number) for number in entry.schemes],
        "signers": entry.signers,
    }


def _text(stored: StoredEntry) -> str:
    fields = _fields(stored)
    lines = [
        f'{stored.id}  {"CA " if fields["ca"] else ""}"{fields["subject"]}", valid until {fields["valid_until"]}',
        f"    fingerprint  {fields['fingerprint']} (SHA-256)",
        f"    for volumes  {' '.join(fields['volumes']) or 'any'}",
        f"    at URLs      {' '.join(fields['prefixes']) or 'any'}",
    ]
    if fields["required_subject"] is not None:
        lines.append(f"    with subject {fields['required_subject']}")
    if fields["schemes"]:
        lines.append(f"    by schemes   {' '.join(fields['schemes'])}")
    if fields["signers"] > 1:
        lines.append(f"    with         {fields['signers']} trusted signers at least")
    return printable("\n".join(lines))
