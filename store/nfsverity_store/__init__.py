# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""Metadata at rest: the index and the trees that lie beside a published tree."""
