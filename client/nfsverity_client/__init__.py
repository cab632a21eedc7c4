# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The client of the File Integrity Protocol, and what its user trusts."""
