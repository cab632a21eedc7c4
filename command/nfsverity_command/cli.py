# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The group of all commands."""

from __future__ import annotations

import click

from . import DISTRIBUTION
from .frame import Commands

COMMANDS = {
    "keygen": "Make a signing key and its certificate.",
    "sign": "Sign files and trees.",
    "revoke": "Take keys and versions of a signed tree back.",
    "serve": "Serve a signed tree.",
    "trust": "Say which signers are believed, and for what.",
    "ls": "List what a server has.",
    "cat": "Write a served file to standard output, verified.",
    "get": "Copy served files to this machine, verified.",
    "show": "Show the record of a file, and who vouches for it.",
    "export": "Take out what vouches for one file, to go with it.",
    "verify": "Verify files and trees, served or on this machine.",
    "diff": "Say what differs between two versions, by their trees alone.",
    "cache": "Show or clear the node cache.",
    "policy": "Check the policy, and explain what it decides.",
    "audit": "Check the audit log, and sum it up.",
    "completion": "Print what a shell needs to complete commands.",
}


@click.group(
    cls=Commands,
    texts=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, expose_value=False, help="Print the traceback of an error.")
@click.version_option(package_name=DISTRIBUTION, message="nfsverity %(version)s")
def cli() -> None:
    """Sign files once; read them back verified, from servers and storage that need not be trusted.

    A first round: `nfsverity keygen me`, `nfsverity sign --key me.key --cert me.crt TREE`, `nfsverity serve TREE`;
    and where it is read, `nfsverity trust add me.crt` and `nfsverity get nfsv://HOST:PORT/ DEST`.
    """
