# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The formats and the checks of both drafts, as pure functions: no sockets, files, clocks or threads."""
