# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The server of the File Integrity Protocol. It never needs a private key."""
