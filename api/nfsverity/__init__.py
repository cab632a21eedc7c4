# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Read verified files from servers that need not be trusted; sign files; verify them where they lie.

    import nfsverity

    nfsverity.sign("tree", key="me.key", certificate="me.crt")
    with nfsverity.open_tree("nfsv://127.0.0.1:7447/", trust=["me.crt"]) as tree:
        with tree.open("docs/a.zip") as file:  # an ordinary binary file object
            ...

Every byte that is read was verified before; what does not verify raises the error of its verdict. (A policy of the
user can say otherwise for some files; these say so, as `file.unverified`.)
"""

from nfsverity_client.diff import Incomparable, Range
from nfsverity_client.listing import Listed
from nfsverity_client.opening import UnverifiedReader
from nfsverity_client.policy import PolicyError
from nfsverity_client.presentation import Presentation
from nfsverity_client.reader import Reader
from nfsverity_client.state import State, StateError
from nfsverity_proto.errors import (
    Mismatch,
    NfsVerityError,
    PeerError,
    StatusError,
    VerificationError,
)
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import Verified

from ._diff import diff, diff_trees
from ._difference import FileDifference
from ._exported import export, verify_export
from ._file import File
from ._publish import sign, verify
from ._tree import AsyncTree, Tree, TreeOptions, open_tree, open_tree_async

__all__ = [
    "AsyncTree",
    "File",
    "FileDifference",
    "Incomparable",
    "Listed",
    "Mismatch",
    "NfsVerityError",
    "PeerError",
    "PolicyError",
    "Presentation",
    "Range",
    "Reader",
    "State",
    "StateError",
    "StatusError",
    "Tree",
    "TreeOptions",
    "TrustEntry",
    "VerificationError",
    "UnverifiedReader",
    "Verified",
    "diff",
    "diff_trees",
    "export",
    "open_tree",
    "open_tree_async",
    "sign",
    "verify",
    "verify_export",
]
