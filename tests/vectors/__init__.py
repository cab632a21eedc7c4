# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
"""The program that makes spec/vectors, from the drafts' text alone: `make vectors`.

One module per subject. It imports `oracle` and nothing of the project, and draws nothing at random: keys come
from names, ECDSA nonces from RFC 6979, the salt of RSA-PSS is fixed, and what cannot be made anew (RSA primes,
ML-DSA keys and signatures) lies in inputs/.
"""
