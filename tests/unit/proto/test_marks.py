# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfsverity_proto.certificate import parse_certificate
from nfsverity_proto.marks import NO_MARKS, Mark, MarkKey, effective_now, time_to_keep, to_raise
from nfsverity_proto.statement import Kind, tag_of
from nfsverity_proto.trust import TrustEntry
from nfsverity_proto.verification import SKEW, verify_record, verify_revocation
from nfsverity_proto.verifier import Expected, Verifier
from oracle import records
from oracle.records import Statement
from oracle.signers import NOW, signed, signer

STATEMENT = Statement(issued=NOW)
EXPECTED = Expected(STATEMENT.path, frozenset([STATEMENT.volume]))


def key_of(der: bytes) -> bytes:
    return parse_certificate(der).key_id()


@pytest.mark.spec("fim-mark-7")
def test_each_signer_leaves_a_mark_under_each_entry_by_which_it_is_believed() -> None:
    """Two entries with one anchor share the mark; an entry that believes nobody here gets none."""
    one, other, absent = signer(), signer(name="other"), signer(name="absent")
    trust = [
        TrustEntry(one.der),
        TrustEntry(one.der, volumes=(STATEMENT.volume,)),
        TrustEntry(one.der, volumes=(bytes(16),)),
        TrustEntry(other.der),
        TrustEntry(absent.der),
    ]
    verified = verify_record(signed(STATEMENT, one, other), EXPECTED, Verifier(trust, {}, NOW))
    mark = Mark(STATEMENT.generation, tag_of(STATEMENT.encode(), 1))
    assert to_raise(verified) == {
        MarkKey(found.der, STATEMENT.volume, Kind.FILE, STATEMENT.path, key_of(found.der)): mark
        for found in (one, other)
    }


@pytest.mark.spec("fim-mark-7")
def test_the_mark_of_a_revocation_is_its_volumes() -> None:
    one = signer()
    statement = replace(STATEMENT, kind=records.REVOCATION)
    verified = verify_revocation(signed(statement, one), EXPECTED, Verifier([TrustEntry(one.der)], {}, NOW))
    (key,) = to_raise(verified)
    assert (key.kind, key.path, key.volume) == (Kind.REVOCATION, b"", STATEMENT.volume)


def test_there_are_no_marks_where_none_are_kept() -> None:
    assert NO_MARKS.under(b"anchor", bytes(16), Kind.FILE, b"path") == {}


times = st.integers(-(2**40), 2**40)


@pytest.mark.spec("fim-time-1", "fim-time-2")
@given(st.lists(st.tuples(times, st.integers(-SKEW, SKEW))))
def test_now_never_goes_back_and_is_never_ahead_of_all_clocks(steps: list[tuple[int, int]]) -> None:
    """Each statement is issued as late as step 12 lets it be, or earlier, so that the 300 seconds could add up."""
    kept, latest = -(2**63), -(2**63)
    for clock, ahead in steps:
        now = effective_now(clock, kept)
        assert now >= clock
        assert now >= kept
        latest = max(latest, clock)
        issued = now + ahead
        kept = max(kept, time_to_keep(issued, now))
        assert kept <= issued or kept <= now
        assert kept <= latest
