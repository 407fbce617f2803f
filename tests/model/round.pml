/* The round of PROTOCOL.md for one set: COORDS coordinators that take over from each other, AGENTS
 * agents with one freeze domain each. Checked by tests/model/run.
 *
 * The network is the set of what was ever sent: a request or answer in it may be received at any
 * time later, any number of times, or never. That is loss, delay, doubling and reordering at once.
 * Coordinators may stop for ever at any point (crash, or a pause so long that they wake in another
 * term); a lock may be lost at any time; an agent may crash at any time; a hold may expire at any
 * time. Steps are quoted by their numbers in PROTOCOL.md.
 *
 * Each mutation (-DTHAW_FIRST -DCOMMIT_EARLY -DNO_TOKEN -DREFREEZE -DBLIND_WRITE) breaks one rule; the
 * model must then fail. */
#ifndef COORDS
#define COORDS 2
#endif
#ifndef AGENTS
#define AGENTS 2
#endif

/* The record of the set in etcd, and the lock that every write to it compares. */
#define R_ABSENT 0
#define R_PREPARING 1
#define R_CAPTURED 2
#define R_ABORTED 3
byte record = R_ABSENT;
byte lock = 0;    /* token of the holder; 0: nobody. Coordinator c's token is c + 1 */
byte granted = 0; /* highest token ever granted */
bool was_captured = false, was_aborted = false;

/* What was sent: requests by coordinator and agent, answers likewise. */
#define PREPARE 0
#define FREEZE 1
#define COMMIT 2
#define ABORT 3
#define INSPECT 4
typedef row { bool v[5]; };
typedef peer { row to[AGENTS]; };
peer asked[COORDS], yes[COORDS];
typedef bits { bool v[AGENTS]; };
bits captured_said[COORDS]; /* the answer to Inspect was CAPTURED */

/* One agent, its guardian and its kernel. S_CAPTURED is journaled; a crash keeps it. */
#define S_NONE 0
#define S_PREPARED 1
#define S_FREEZING 2
#define S_FROZEN 3
#define S_CAPTURING 4
#define S_CAPTURED 5
#define S_ABORTED 6
byte state[AGENTS];
byte token[AGENTS];    /* highest journaled */
bool frozen[AGENTS];   /* by the kernel */
bool unbroken[AGENTS]; /* the epoch */
bool capture[AGENTS];  /* exists on disk */
byte freezes[AGENTS];

/* Ghosts: what really happened. */
bool together = false;     /* at some instant all domains were frozen by this set */
bool sound[AGENTS];        /* the capture shows that instant: made in that freeze, after it */
bool stale_act = false;

inline note_freeze()
{
    byte k = 0;
    bool all = true;
    for (k : 0 .. AGENTS - 1) {
        all = all && frozen[k];
    }
    together = together || all;
}

/* I3: a request counts only with the highest token seen. */
#ifdef NO_TOKEN
#define OBEYS(c, a) (true)
#else
#define OBEYS(c, a) (c + 1 >= token[a])
#endif
#ifdef REFREEZE
#define MAY_FREEZE(a) ((state[a] == S_PREPARED || state[a] == S_FROZEN) && freezes[a] < 2)
#else
#define MAY_FREEZE(a) (state[a] == S_PREPARED)
#endif
#define NOTE_STALE(c, a) stale_act = stale_act || c + 1 < token[a]
#define SET_TOKEN(c, a) token[a] = (c + 1 > token[a] -> c + 1 : token[a])

inline thaw(a)
{
    unbroken[a] = false; /* the epoch is broken before the thaw */
    frozen[a] = false;
}

inline undo(a)
{
    thaw(a);
    capture[a] = false;
    state[a] = S_ABORTED;
}

/* One step of an agent towards some coordinator, or of its own world. */
proctype agent(byte a)
{
    byte c;
end:
    do
    :: atomic {
        select(c : 0 .. COORDS - 1);
        if
        /* step 1.2 */
        :: asked[c].to[a].v[PREPARE] && OBEYS(c, a) && state[a] == S_NONE ->
            NOTE_STALE(c, a);
            SET_TOKEN(c, a);
            state[a] = S_PREPARED;
            yes[c].to[a].v[PREPARE] = true
        /* step 2.2: journaled before the guardian is asked */
        :: asked[c].to[a].v[FREEZE] && OBEYS(c, a) && MAY_FREEZE(a) ->
            NOTE_STALE(c, a);
            state[a] = S_FREEZING;
            freezes[a]++
        /* step 2.4: all of it frozen, epoch drawn */
        :: state[a] == S_FREEZING ->
            frozen[a] = true;
            unbroken[a] = true;
            state[a] = S_FROZEN;
            note_freeze()
        /* step 2.5: the recorded answer, however often it is asked for */
        :: asked[c].to[a].v[FREEZE] && OBEYS(c, a) && state[a] == S_FROZEN ->
            yes[c].to[a].v[FREEZE] = true
        /* step 3.3: capture while unbroken… */
        :: asked[c].to[a].v[COMMIT] && OBEYS(c, a) && state[a] == S_FROZEN && unbroken[a] ->
            NOTE_STALE(c, a);
#ifdef THAW_FIRST
            frozen[a] = false;
#endif
            capture[a] = true;
            sound[a] = frozen[a] && together;
            state[a] = S_CAPTURING
        /* …look again, thaw; step 3.4: journaled */
        :: state[a] == S_CAPTURING && unbroken[a] ->
            frozen[a] = false;
            state[a] = S_CAPTURED
        :: asked[c].to[a].v[COMMIT] && OBEYS(c, a) && state[a] == S_CAPTURED ->
            yes[c].to[a].v[COMMIT] = true
        /* step 5.3 */
        :: asked[c].to[a].v[ABORT] && OBEYS(c, a) && state[a] != S_ABORTED ->
            SET_TOKEN(c, a);
            undo(a)
        /* step 6.1: the token is journaled first; what was begun under an older one ends */
        :: asked[c].to[a].v[INSPECT] && OBEYS(c, a) && !yes[c].to[a].v[INSPECT] ->
            if
            :: state[a] == S_CAPTURED -> captured_said[c].v[a] = true
            :: else -> undo(a)
            fi;
            SET_TOKEN(c, a);
            yes[c].to[a].v[INSPECT] = true
        /* the hold expires, keeper or doer die, or the agent crashes: the guardian thaws, the
         * restart undoes; what is journaled as captured stays */
        :: state[a] >= S_PREPARED && state[a] <= S_CAPTURING -> undo(a)
        :: else
        fi
       }
    od
}

/* One transaction: compares the lock and that the record is still PREPARING (I3, I4). */
inline store(c, to)
{
    atomic {
        if
#ifdef BLIND_WRITE
        :: true ->
#else
        :: lock == c + 1 && record == R_PREPARING ->
#endif
            record = to;
            was_captured = was_captured || to == R_CAPTURED;
            was_aborted = was_aborted || to == R_ABORTED
        :: else -> goto lost
        fi
    }
}

inline ask_all(c, what)
{
    atomic {
        for (i : 0 .. AGENTS - 1) {
            asked[c].to[i].v[what] = true;
        }
        i = 0
    }
}

inline count_yes(c, what)
{
    atomic {
        n = 0;
        for (i : 0 .. AGENTS - 1) {
            n = n + (yes[c].to[i].v[what] -> 1 : 0);
        }
        i = 0
    }
}

proctype coordinator(byte c)
{
    byte i = 0, n = 0;
    bool all = true;
    /* step 0.2 and 6.1: the lock is free, and nobody later has had it */
    atomic { lock == 0 && granted < c + 1 && record != R_CAPTURED && record != R_ABORTED ->
             lock = c + 1; granted = c + 1 }
    if
    :: atomic { record == R_ABSENT && lock == c + 1 -> record = R_PREPARING } /* step 0.3 */
    :: record == R_PREPARING -> goto inspecting
    :: lock != c + 1 -> goto lost
    fi;
    ask_all(c, PREPARE);
    do
    :: count_yes(c, PREPARE);
       if :: n == AGENTS -> break :: else fi
    :: goto aborting /* a refusal or prepare_timeout */
    od;
    ask_all(c, FREEZE);
    do
    :: count_yes(c, FREEZE);
#ifdef COMMIT_EARLY
       if :: n > 0 -> break :: else fi
#else
       if :: n == AGENTS -> break :: else fi
#endif
    :: goto aborting
    od;
    ask_all(c, COMMIT);
    do
    :: count_yes(c, COMMIT);
       if :: n == AGENTS -> break :: else fi
    :: goto aborting
    od;
recording:
    store(c, R_CAPTURED); /* step 4.2 */
    goto done;
inspecting:
    skip;
    ask_all(c, INSPECT);
    do
    :: count_yes(c, INSPECT);
       if :: n == AGENTS -> break :: else fi
    :: goto aborting /* silence for 15 s */
    od;
    atomic {
        all = true;
        for (i : 0 .. AGENTS - 1) {
            all = all && captured_said[c].v[i];
        }
        i = 0
    }
    if
    :: all -> goto recording /* step 6.2 */
    :: else
    fi;
aborting:
    skip;
    ask_all(c, ABORT); /* step 5.2 */
    store(c, R_ABORTED);
done:
    skip;
    atomic { if :: lock == c + 1 -> lock = 0 :: else fi };
lost:
    skip
}

/* The lease of a holder that crashed or sleeps ends. */
proctype lease()
{
end:
    do
    :: atomic { lock != 0 -> lock = 0 }
    od
}

#ifdef REACH
#define REACHED was_captured
#else
#define REACHED false
#endif
#define BROKEN(a) (freezes[a] > 1 || (record == R_CAPTURED && (!capture[a] || !sound[a])))
proctype monitor()
{
    byte a = 0;
end:
    atomic {
        BROKEN(0) || BROKEN(AGENTS - 1) || (AGENTS == 3 && BROKEN(1)) ||
            (was_captured && was_aborted) || stale_act || REACHED ->
        for (a : 0 .. AGENTS - 1) {
            assert(freezes[a] <= 1);                                 /* I7 */
            assert(record != R_CAPTURED || (capture[a] && sound[a])) /* I1, I6 */
        }
        assert(!(was_captured && was_aborted)); /* I4 */
        assert(!stale_act)                      /* I3 */
#ifdef REACH /* proves that the model can get there at all */
        ; assert(!was_captured)
#endif
    }
}

init {
    atomic {
        byte k;
        for (k : 0 .. AGENTS - 1) {
            run agent(k);
        }
        for (k : 0 .. COORDS - 1) {
            run coordinator(k);
        }
        run lease();
        run monitor();
    }
}
