# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The drafts once more, as short as they can be said: what tests compare with.

Nothing here imports the project, and nothing is fast. The trees recurse as the RFC defines them, XDR is
written with `struct`, and keys and certificates come straight from the cryptography library.
"""
