# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity keygen`."""

from __future__ import annotations

import click

from .frame import Command
from .parameters import KEY_ALGORITHMS


@click.command(
    cls=Command,
    examples=[
        ("The key release.key and the certificate release.crt, for five years", "nfsverity keygen release"),
        ("One that withstands quantum computers", "nfsverity keygen --algorithm ml-dsa-65 release-pq"),
    ],
    statuses={4: "NAME.key or NAME.crt is there already (nothing is ever overwritten), or cannot be written"},
    fields={
        "command, status": '"keygen", 0',
        "key": "the file with the private key",
        "certificate": "the file with the certificate",
        "key_base64, certificate_base64": "only where these are not UTF-8",
        "algorithm": "as chosen",
        "subject": "of the certificate (RFC 4514)",
        "fingerprint": "SHA-256 of the certificate, hexadecimal",
        "not_after": "when the certificate ends (RFC 3339)",
    },
)
@click.argument("name", type=click.Path())
@click.option(
    "--algorithm", type=click.Choice(KEY_ALGORITHMS), default="ed25519", show_default=True, help="What it signs with."
)
@click.option(
    "--days",
    type=click.IntRange(1, 36500),
    default=1826,
    show_default=True,
    metavar="N",
    help="How long the certificate is valid. Files signed by it verify as long.",
)
def command(name: str, algorithm: str, days: int, as_json: bool) -> None:
    """Make a signing key, NAME.key, and its certificate, NAME.crt.

    The key is for this machine only (mode 0600, no password): keep it out of the trees that you sign. The
    certificate is for everybody: readers add it with `nfsverity trust add`, after they compared its
    fingerprint with what you tell them.
    """
    import os
    from pathlib import Path

    from nfsverity_proto.certificate import certificates_in, parse_certificate
    from nfsverity_publisher.new_file import write_new
    from nfsverity_publisher.new_key import make_key

    from .output import name_fields, printable, seconds_text, write_json

    key_file, certificate_file = Path(f"{name}.key"), Path(f"{name}.crt")
    for file in (key_file, certificate_file):
        if os.path.lexists(file):
            raise FileExistsError(17, "it is there already, and is not overwritten", str(file))
    title = Path(name).name
    if not title.isprintable() or not 1 <= len(title) <= 64:  # RFC 5280 appendix A: ub-common-name
        raise click.BadParameter("the name has to be 1 to 64 printable characters", param_hint="NAME")
    private, pem = make_key(title, algorithm, days)
    made: list[Path] = []
    try:
        for file, data, mode in ((key_file, private, 0o600), (certificate_file, pem, 0o644)):
            made.append(file)
            write_new(file, data, mode)
    except BaseException as error:
        if isinstance(error, FileExistsError):  # somebody else's
            made.pop()
        for file in made:
            file.unlink(missing_ok=True)
        raise
    certificate = parse_certificate(*certificates_in(pem))
    if as_json:
        write_json(
            {
                "command": "keygen",
                "status": 0,
                **name_fields("key", os.fsencode(key_file)),
                **name_fields("certificate", os.fsencode(certificate_file)),
                "algorithm": algorithm,
                "subject": certificate.subject,
                "fingerprint": str(certificate.fingerprint),
                "not_after": seconds_text(certificate.not_after),
            }
        )
        return
    text = (
        f"private key  {key_file} (keep it to yourself)\n"
        f"certificate  {certificate_file}, valid until {seconds_text(certificate.not_after)}\n"
        f"fingerprint  {certificate.fingerprint} (SHA-256)\n"
        "\n"
        f"Sign:   nfsverity sign --key {key_file} --cert {certificate_file} PATH...\n"
        f"Read:   give readers {certificate_file} and, on another way, the fingerprint; they type\n"
        f"        nfsverity trust add {certificate_file}"
    )
    click.echo(printable(text))
