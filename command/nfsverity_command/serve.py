# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""`nfsverity serve`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .failure import LocalProblem, say
from .frame import Command
from .output import name_fields, shown, write_json
from .parameters import ADDRESS

if TYPE_CHECKING:
    from nfsverity_server.catalog import Catalog

DEFAULT = "127.0.0.1:12049"
"""This machine only; and the same port each time, since readers bind the volume to the URL."""


@click.command(
    cls=Command,
    examples=[
        ("Serve a signed tree to this machine", "nfsverity serve /srv/data"),
        ("To the network, at port 12049", "nfsverity serve /srv/data --listen 0.0.0.0:12049"),
        ("At any free port, for a script that reads the URL", "nfsverity serve /srv/data --listen 127.0.0.1:0"),
    ],
    statuses={
        0: "stopped by SIGINT or SIGTERM",
        4: "the tree is not published, or the address is not to be had",
    },
    fields={
        "command, status": '"serve", 0',
        "url": "of the root; printed when the server is ready",
        "volume": "of the tree",
        "label": "of the tree",
        "label_base64": "only where the label is not UTF-8",
        "generation": "of the present publication, a decimal string",
    },
)
@click.argument("tree", type=click.Path())
@click.option(
    "--listen",
    "address",
    type=ADDRESS,
    default=DEFAULT,
    show_default=True,
    metavar="HOST:PORT",
    help="Where. Port 0: any free one.",
)
@click.option("--all", "show_all", is_flag=True, help="Show files without a record too; reading one is `unsigned`.")
@click.option(
    "--no-kept-trees", is_flag=True, help="Make hash trees anew from the content instead of using the kept ones."
)
def command(tree: str, address: tuple[str, int], show_all: bool, no_kept_trees: bool, as_json: bool) -> int:
    """Serve the signed tree TREE, until SIGINT or SIGTERM.

    The URL of its root is printed when the server is ready. It serves files that have a record, and the
    directories above them, to whoever can reach the address: there is no access control and no encryption
    here. It needs no key and never writes in the tree; a new publication is served at once.
    """
    import asyncio
    import logging

    from nfsverity_server.catalog import Catalog
    from nfsverity_server.listener import listen

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    root = Path(tree).resolve()
    _check_root(root, tree)
    catalog = Catalog(root, show_all=show_all)
    host, port = address
    try:
        sock = listen(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LocalProblem(f"cannot listen at {host}:{port}: {reason} (choose another --listen)") from error
    if not _is_loopback(sock.getsockname()[0]):
        say(f"nfsverity: everybody who can reach {host} can read all signed files in {shown(str(root).encode())}")
    asyncio.run(_serve(catalog, sock, no_kept_trees, as_json))
    return 0


def _check_root(root: Path, given: str) -> None:
    from nfsverity_store.layout import DIRECTORY, find_root

    if not root.is_dir():
        raise NotADirectoryError(20, "it is no directory" if root.exists() else "no such directory", given)
    if not (root / DIRECTORY).is_dir():
        outer = find_root(root)
        if outer is not None:
            raise LocalProblem(
                f"{given} is inside the published tree {outer}: serve that (URL paths begin at its root)"
            )


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


async def _serve(catalog: Catalog, sock: Any, no_kept_trees: bool, as_json: bool) -> None:
    import asyncio
    import signal

    from nfsverity_server.listener import serve
    from nfsverity_server.service import Service
    from nfsverity_server.trees import Trees

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = Service(catalog, Trees(catalog.root, keep=not no_kept_trees))
    await serve(service, sock, lambda: _ready(catalog, sock, as_json), stop)


def _ready(catalog: Catalog, sock: Any, as_json: bool) -> None:
    from nfsverity_proto.url import Url

    host, port = sock.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    url = str(Url(host, port))
    if as_json:
        head = catalog.head
        write_json(
            {
                "command": "serve",
                "status": 0,
                "url": url,
                "volume": head.volume.hex(),
                **name_fields("label", head.label),
                "generation": str(head.generation),
            }
        )
    else:
        click.echo(url)
