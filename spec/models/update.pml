/* SPDX-FileCopyrightText: the nfs-verity authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The update of one file of two units while two readers of one user read it: fip, "Versions and Updates", and
 * fim, "The Update Window" and "Marks". README.md says what is checked, what was found, and what was left out.
 *
 * Defined by who runs it: LYING (a server that answers anything) or not (an honest one, and a publisher), and at
 * most one of the mistakes, which all begin with M_; each of them has to make a property fail.
 */

/* Versions are numbers. 2 and 3 are of one generation: a publisher that lost its state signed it twice. A server
 * that lies has all of them. A unit, or a record, of which the number is 0 is of no signed version. */
#define FORGED 0
#define GENERATION(v) ((v) == 4 -> 3 : ((v) == 3 -> 2 : (v)))

#ifndef READERS
#define READERS 2
#endif
#ifndef LAST
#define LAST 2      /* the last version that the honest publisher makes, of 2 and 4; 1 is there */
#endif
#ifndef BUDGET
#define BUDGET 1    /* polls; in the protocol it is time, of which each poll costs at least 100 ms */
#endif
#ifndef OPENS
#define OPENS 2     /* how often the first reader opens the file, which may crash; the second does so once */
#endif

mtype = { RECORD, READ };                                          /* calls; a poll is `hold` */
mtype = { OK, UNCHANGED, UPDATING, CHANGED, NOTHING };             /* answers; NOTHING: not before the deadline */
mtype = { SERVED, REFUSED, MISMATCH, STALE, WAITED, UNREACHABLE }; /* what a reader ends with; WAITED is `updating` */

/* What is in storage. */
byte unit[2] = 1;
byte record = 1;
bool expected = false;   /* the server has reason to expect a new record, or the content of this one */

/* What is durable at the user: the mark of the file, for the version that it names. */
byte mark = FORGED;

/* Beside the protocol, for the properties only. */
byte shown = FORGED;     /* the highest version of which a byte was delivered */
bool ended[2] = false;
bool excused[2] = false; /* the server ceased to expect a publisher that was late, or a poll ended early */


/* The publisher: versions 2 and 4, each in one of six ways, with a crash after any one step. */

inline may_crash() {
    if
    :: skip
    :: atomic { crashes > 0 -> crashes--; excused[0] = true; excused[1] = true; expected = false;
                goto crashed }    /* and the server's patience ends */
    fi
}

inline put_content() {
    if
    :: atomic { unit[0] = v; unit[1] = v; expected = (record != v) }  /* renamed into place */
    :: atomic { unit[0] = v; expected = true }; may_crash();          /* written in place */
       atomic { unit[1] = v; expected = (record != v) }
    :: atomic { unit[0] = FORGED; unit[1] = FORGED; expected = true }; may_crash();  /* truncated first */
       atomic { unit[0] = v; unit[1] = v; expected = (record != v) }
    fi
}

inline put_record() {
    atomic { record = v; expected = (unit[0] != v || unit[1] != v) }
}

proctype Publisher() {
    byte v = 2, crashes = 1;
again:
    do
    :: v <= LAST ->
        if
        :: put_content(); may_crash(); put_record()
        :: put_record(); may_crash(); put_content()
        fi;
        v = v + 2
    :: else -> goto done
    od;
crashed:
    if
    :: goto again     /* it is started again, and does it all once more */
    :: goto done      /* it is not */
    fi;
done: skip
}


/* The server. It verifies nothing and keeps nothing between calls: each is answered at one moment, from what is
 * then in storage, and the reader acts on the answer some time later. So it needs no process; and a crash of it
 * is a call that is made again. Only a poll is held. */

inline honest(what, version, index) {
    if
    :: what == RECORD ->
        if
        :: record != version -> answer = OK; value = record
        :: record == version && expected -> answer = UPDATING
        :: else -> answer = UNCHANGED
        fi
    :: what == READ ->
        if
        :: record != version -> answer = CHANGED
        :: record == version -> answer = OK; value = unit[index]    /* it need not know better */
        :: record == version && unit[index] != version ->           /* it may */
            if
            :: expected -> answer = UPDATING
            :: else -> answer = CHANGED
            fi
        fi
    fi
}

inline hold(version) {
#ifdef M_LOST_NEWS    /* it waits to see something else than what there is when it begins to wait */
    basis = record; reason = expected;
#else
    basis = version; reason = true;
#endif
    if
    :: record != basis -> answer = OK; value = record
    :: record == basis && reason && !expected -> answer = UNCHANGED
#ifndef HELD          /* a poll may end early */
    :: record == basis && expected -> answer = UPDATING; excused[me] = true
#endif
    fi;
    basis = 0; reason = false
}

inline lying() {
    if
    :: answer = UNCHANGED
    :: answer = UPDATING
    :: answer = CHANGED
    :: answer = NOTHING
    :: answer = OK; value = FORGED
    :: answer = OK; value = 1
    :: answer = OK; value = 2
    :: answer = OK; value = 3
    fi
}

#ifdef LYING
#define ASK(what, version, index) value = 0; lying();
#define WAIT(version) value = 0; lying()
#else
#define ASK(what, version, index) value = 0; honest(what, version, index);
#define WAIT(version) value = 0; hold(version)
#endif


/* Steps 0 to 12 for a record, in `good`: the signature, and the generation against the mark. */
#define VERIFIES(r) ((r) != FORGED && (GENERATION(r) > GENERATION(mark) || (r) == mark))

#if defined(M_NOT_STRICTLY)
#define NEWER(r, old) ((r) != (old) && GENERATION(r) >= GENERATION(old))
#elif defined(M_NO_GENERATION)
#define NEWER(r, old) ((r) != (old))
#else
#define NEWER(r, old) (GENERATION(r) > GENERATION(old))
#endif

/* The mark is raised, durably, in one transaction that compares again: another reader may have been faster. */
inline raise_mark() {
#ifdef M_BLIND_MARK
    good = true; mark = held
#else
    if
    :: VERIFIES(held) -> good = true; mark = held
    :: else -> good = false
    fi
#endif
}

inline deliver(index) {
    data = buffer[index];
    assert(data != FORGED);                                  /* nothing that no one signed */
    assert(first == FORGED || data == first);                /* no mix */
    assert(GENERATION(data) >= GENERATION(floor));           /* nothing below what was seen before the open */
    first = data;
    if
    :: GENERATION(data) > GENERATION(shown) -> shown = data
    :: else -> skip
    fi;
    data = 0; buffer[index] = 0; next++
}

inline may_die() {
    if
    :: skip
    :: opens > 0 -> goto open    /* what was not durable is gone; it is started again */
    fi
}

/* What was answered is forgotten: fewer states. */
#define GO(where) answer = 0; value = 0; good = false; goto where
#define END(how) verdict = how; GO(ends)

/* A reader. What it does alone is one step with the answer before it. */
proctype Reader(byte me) {
    mtype answer, verdict, trouble;
    byte opens = (me == 0 -> OPENS : 1);
    byte value, basis, data, held, first, floor, next, ready, budget;
    byte buffer[2];
    bool good, reason, pinned, polled, asked_again;

open:
    atomic {
        opens--;
#ifndef LYING
        excused[me] = !expected && (unit[0] != record || unit[1] != record);
#endif
        budget = BUDGET; pinned = false; polled = false; asked_again = false; next = 0; ready = 0;
        first = FORGED; floor = shown; buffer[0] = 0; buffer[1] = 0; held = 0; verdict = 0; trouble = 0;
        ASK(RECORD, FORGED, 0)
    };
    atomic {
        if
        :: answer == OK && VERIFIES(value) -> held = value; GO(read)
#ifdef M_REFUSED_AT_ONCE
        :: else -> END(REFUSED)
#else
        :: answer == OK && value != FORGED && !VERIFIES(value) -> held = value; answer = 0; value = 0
        :: else -> END(REFUSED)
#endif
        fi
    };
    atomic {    /* it is below the mark: but another reader may have seen an update that came after it */
        ASK(RECORD, held, 0)
        if
        :: answer == OK && VERIFIES(value) -> held = value; GO(read)
        :: else -> END(REFUSED)
        fi
    };

read:           /* units are received ahead of what is delivered */
    do
    :: atomic { ready < 2 ->
        ASK(READ, held, ready)
        if
#ifdef M_UNVERIFIED
        :: answer == OK -> buffer[ready] = value
#else
        :: answer == OK && value == held -> buffer[ready] = value
        :: answer == OK && value != held -> trouble = MISMATCH; GO(settle)
#endif
        :: answer == CHANGED || answer == UPDATING -> trouble = STALE; GO(settle)
        :: answer == UNCHANGED || answer == NOTHING -> END(UNREACHABLE)
        fi;
        ready++; polled = false; asked_again = false; trouble = 0; answer = 0; value = 0
       }
#ifdef M_DELIVERED_FIRST
    :: atomic { !pinned && next < ready -> deliver(next); pinned = true };
       may_die();
       atomic { raise_mark(); good = false }
#else
    :: atomic { !pinned && next < ready ->
        raise_mark();
        if
        :: good -> good = false
        :: else -> trouble = REFUSED; GO(settle)
        fi
       };
       may_die();
       atomic { deliver(next); pinned = true }
#endif
    :: atomic { pinned && next < ready -> deliver(next) }
    :: next == 2 -> verdict = SERVED; GO(ends)
    od;

settle:
    may_die();
    atomic {
        ASK(RECORD, held, 0)                            /* V1 */
turn:
        if
        :: answer == OK && VERIFIES(value) && NEWER(value, held) ->   /* V2 */
#ifndef M_PINNED_FOLLOWS
            if
            :: pinned -> END(STALE)
            :: else -> skip
            fi;
#endif
            held = value; polled = false; asked_again = false; trouble = 0;
#ifndef M_BUFFER_KEPT
            ready = next;
#endif
            GO(read)
        :: answer == NOTHING || answer == CHANGED -> END(UNREACHABLE)
        :: answer == UPDATING ->                        /* V4 */
            if
            :: budget == 0 -> END(WAITED)
            :: else -> skip
            fi;
#ifndef M_NO_BUDGET
            budget--;
#endif
            polled = true; asked_again = false;
            GO(poll)
        :: else ->                                      /* V3 */
            if
            :: polled ->
#ifndef M_POLLED_FOR_EVER
                polled = false;
#endif
                GO(read)
            :: !polled && !asked_again ->
#ifdef M_NOT_ASKED_AGAIN
                verdict = trouble; GO(ends)
#else
                asked_again = true; GO(read)
#endif
            :: !polled && asked_again -> verdict = trouble; GO(ends)
            fi
        fi
    };

poll:
    atomic {
        WAIT(held);
        goto turn
    };

ends:
    atomic {
#ifndef LYING
        /* An honest server, and a publisher in time: a reader that has delivered nothing is served, others told. */
        assert(verdict == SERVED || excused[me] || (pinned && verdict == STALE));
#endif
        if
        :: opens > 0 -> goto open
        :: else ->
            held = 0; first = 0; floor = 0; next = 0; ready = 0; budget = 0; buffer[0] = 0; buffer[1] = 0;
            answer = 0; value = 0; verdict = 0; trouble = 0; good = 0; pinned = 0; polled = 0; asked_again = 0;
            excused[me] = false; ended[me] = true
        fi
    }
}

init {
    atomic {
#ifndef LYING
        run Publisher();
#endif
        run Reader(0);
#if READERS == 2
        run Reader(1)
#else
        ended[1] = true
#endif
    }
}

ltl served_or_told { <> (ended[0] && ended[1]) }
