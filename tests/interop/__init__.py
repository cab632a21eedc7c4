# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""A peer in C, made by rpcgen and from the text of the drafts; and tests that it and we understand each other."""
