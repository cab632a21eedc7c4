# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Sign files, and read them back verified from servers that need not be trusted."""
