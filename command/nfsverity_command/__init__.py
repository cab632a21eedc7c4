# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The `nfsverity` command."""

NAME, DISTRIBUTION = "nfsverity", "nfs-verity"
COMPLETION_VARIABLE = "_NFSVERITY_COMPLETE"
STANDARD_OUTPUT = "standard output"
