/* The round of PROTOCOL.md for one set: COORDS coordinators that take over from each other (or
 * one that is restarted so often), AGENTS agents, each with a guardian. With -DTWO_DOMAINS the
 * first agent has two freeze domains; with -DTWO_PARTS its first domain has two partitions;
 * with -DTWO_WAVES its second domain freezes when all else stands (step 2.6).
 * Checked by tests/model/run. Steps are quoted by their numbers in PROTOCOL.md.
 *
 * The network is the set of what was ever sent: a request or answer in it may be received at any
 * time later, any number of times, or never. That is loss, delay, doubling and reordering at
 * once. etcd is reached in the same way: a transaction once sent is applied at any time later,
 * or never, whatever its sender believes of it: that is every unknown outcome. Coordinators may
 * stop at any point (a crash, or a pause so long that they wake in another term); a lock may be
 * lost at any time; agents crash at any time; a hold ends at any time (its deadline, the death
 * of keeper, doer or agent); a freeze or capture under way then may or may not come to pass.
 *
 * Safety is asserted where it could break. Liveness (-DLIVE) is the formula at the end, under
 * weak fairness: whatever is possible for ever is done at last. There the last coordinator does
 * not fail, nor does its lease (-DMORTAL: it does, and only every freeze must end).
 *
 * -DRELAXED: the set is relaxed. A coordinator may leave out any agent that has not answered, at any
 * time, and goes on with the others; whoever takes over records those that have captured. The cut is
 * then the instant of the first Commit. (An agent that is left out may still be asked to freeze:
 * more than the product does. Waves only take orders of freezing away.)
 *
 * Each mutation breaks one rule, and the model must then fail: -DTHAW_FIRST -DCOMMIT_EARLY
 * -DNO_TOKEN -DREFREEZE -DTHAW_PER_PART -DBLIND_WRITE -DUNSEEN_EXPIRY -DABORT_UNKNOWN
 * -DINSPECT_LEAVES, with two waves -DREFREEZE_FIRST -DSKIP_WAVE; for liveness -DNO_DEADLINE -DNO_TIMEOUT -DNO_VERDICT. */
#ifndef COORDS
#define COORDS 2
#endif
#ifndef AGENTS
#define AGENTS 2
#endif
#ifdef TWO_DOMAINS
#define DOMAINS (AGENTS + 1)
#else
#define DOMAINS AGENTS
#endif
#ifdef TWO_PARTS
#define PARTS (DOMAINS + 1)
#else
#define PARTS DOMAINS
#endif
#define NODE(d) (d < AGENTS -> d : 0)
#define DOMAIN(q) (q < DOMAINS -> q : 0)
#define LAST(c) (c == COORDS - 1)

/* ---- etcd: the record, the lock that every write to it compares, what was sent ---- */

#define R_ABSENT 0
#define R_PREPARING 1
#define R_CAPTURED 2
#define R_ABORTED 3
byte record = R_ABSENT;
byte lock = 0;    /* token of the holder; 0: nobody. Coordinator c's token is c + 1 */
byte granted = 0; /* highest token ever granted */
typedef writes {
    bit v[4]; /* by the state that it stores */
};
writes sent[COORDS];

/* ---- the network ---- */

#define NOTHING 0
#define PREPARE 1
#define FREEZE 2
#define COMMIT 3
#define INSPECT 4
#define ABORT 5
#define FREEZE_SECOND 6
typedef row {
    bit v[7];
};
row asked[COORDS]; /* a phase's call goes to all agents at once */
/* What a coordinator waits for, and who has said yes to it. Answers to anything else come too
 * late to matter, and a no is as good as the timeout: it aborts. */
byte phase[COORDS];
typedef answers {
    bit v[AGENTS];
};
answers yes[COORDS];

#ifdef RELAXED
answers out[COORDS];   /* whom each coordinator has left out: for good (step 5.6) */
answers named[COORDS]; /* whose epochs its Commit names */
answers member;        /* of the recorded cut */
#define IS_OUT(c) (out[c].v[a])
#define IS_NAMED(c) (named[c].v[a])
#define IS_RECORDED(a) (member.v[a])
#else
#define IS_OUT(c) (false)
#define IS_NAMED(c) (true)
#define IS_RECORDED(a) (true)
#endif

/* ---- agents: what their journals say, or will before anybody hears of it ---- */

#define S_NONE 0
#define S_PREPARED 1
#define S_FREEZING 2
#define S_FROZEN 3
#define S_COMMITTING 4
#define S_CAPTURED 5
#define S_ABORTING 6
#define S_ABORTED 7
byte state[AGENTS];
byte token[AGENTS]; /* highest journaled */
byte owner[AGENTS]; /* token that prepared the set */
#ifdef TWO_WAVES
bit second; /* the first agent was asked for its second wave */
#define SECOND_ASKED (a != 0 || second)
#else
#define SECOND_ASKED (true)
#endif

/* ---- guardians ---- */

#define H_NONE 0
#define H_FREEZING 1
#define H_FROZEN 2
#define H_CAPTURING 3
#define H_DONE 4
#define H_ENDING 5
byte hold[AGENTS];
#define D_IDLE 0
#define D_CALLED 1 /* the freeze call is under way */
#define D_FROZEN 2 /* it has returned, the epoch is drawn */
#define D_THAWED 3
byte domain[DOMAINS];
bit broken[DOMAINS]; /* the epoch */
#define C_NONE 0
#define C_BEGUN 1 /* the epoch was unbroken when it began */
#define C_MADE 2
#define C_KEPT 3 /* looked at again, and unbroken still */
byte capture[PARTS];

/* ---- what really happened ---- */

bit frozen[DOMAINS]; /* by the kernel */
byte freezes[DOMAINS];
bit in_cut[DOMAINS]; /* frozen without a break since all were frozen together */
bit sound[PARTS];    /* the capture shows that instant */

#ifdef RELAXED
typedef domains {
    bit v[DOMAINS];
};
domains stands[COORDS]; /* frozen without a break since this one's Commit was sent */
#if COORDS > 1
#define NO_LONGER_STANDS(d) stands[0].v[d] = 0; stands[1].v[d] = 0
#else
#define NO_LONGER_STANDS(d) stands[0].v[d] = 0
#endif
#define SHOWS_CUT(q) (stands[owner[a] - 1].v[DOMAIN(q)])
#define MARK_CUT skip
#else
#define NO_LONGER_STANDS(d) skip
#define SHOWS_CUT(q) (in_cut[DOMAIN(q)])
#define MARK_CUT                                                                         \
    for (k : 0 .. DOMAINS - 1) {                                                         \
        in_cut[k] = (all -> 1 : in_cut[k]);                                              \
    }
#endif

inline kernel_freezes(d)
{
    frozen[d] = 1;
    freezes[d]++;
    assert(freezes[d] <= 1); /* I7 */
    all = true;
    for (k : 0 .. DOMAINS - 1) {
        all = all && frozen[k];
    }
    MARK_CUT;
    all = false;
    k = 0
}

inline kernel_thaws(d)
{
    frozen[d] = 0;
    in_cut[d] = 0;
    NO_LONGER_STANDS(d)
}

/* ---- an agent ---- */

/* I3: a request counts only with the highest token seen. */
#ifdef NO_TOKEN
#define OBEYS(c) (true)
#define OWNS(c) (true)
#else
#define OBEYS(c) (c + 1 >= token[a])
#define OWNS(c) (c + 1 >= token[a] && c + 1 == owner[a])
#endif
#define NOT_STALE(c) assert(c + 1 >= token[a])
#define RAISE(c) token[a] = (c + 1 > token[a] -> c + 1 : token[a])
#define IS_AWAITED(c, what) (phase[c] == what && !yes[c].v[a] && !IS_OUT(c))
#define SAY_YES(c) yes[c].v[a] = 1
#define UNDO state[a] = (state[a] == S_NONE -> S_ABORTED : S_ABORTING)
#define IS_OVER (state[a] >= S_ABORTING)

#define HEARS(c)                                                                         \
    :: atomic { /* step 1.2 */                                                           \
           asked[c].v[PREPARE] && OBEYS(c) && state[a] == S_NONE ->                      \
           NOT_STALE(c);                                                                 \
           RAISE(c);                                                                     \
           owner[a] = c + 1;                                                             \
           state[a] = S_PREPARED }                                                       \
    :: atomic { IS_AWAITED(c, PREPARE) && OWNS(c) && state[a] == S_PREPARED ->           \
           SAY_YES(c) }                                                                  \
    :: atomic { /* step 2.2: no entry of its own, a restart undoes what was prepared */  \
           asked[c].v[FREEZE] && OWNS(c) && state[a] == S_PREPARED ->                    \
           NOT_STALE(c);                                                                 \
           state[a] = S_FREEZING;                                                        \
           hold[a] = H_FREEZING }                                                        \
    :: atomic { /* step 2.5: the recorded answer, however often it is asked for */       \
           IS_AWAITED(c, FREEZE) && OWNS(c) && FIRST_STANDS && !IS_OVER ->               \
           SAY_YES(c) }                                                                  \
    HEARS_SECOND(c)                                                                      \
    :: atomic { /* step 3.2 */                                                           \
           asked[c].v[COMMIT] && IS_NAMED(c) && OWNS(c) && state[a] == S_FROZEN &&       \
               MAY_OBEY_COMMIT ->                                                        \
           NOT_STALE(c);                                                                 \
           state[a] = S_COMMITTING;                                                      \
           hold[a] = (hold[a] == H_FROZEN -> H_CAPTURING : hold[a]) }                    \
    :: atomic { /* step 3.4: promised already */                                         \
           IS_AWAITED(c, COMMIT) && OWNS(c) && state[a] == S_CAPTURED ->                 \
           SAY_YES(c) }                                                                  \
    :: atomic { /* step 5.3: the promise is withdrawn durably, then the guardian asked */\
           (asked[c].v[ABORT] || IS_OUT(c)) && MAY_HEAR_ABORT && OBEYS(c) && !IS_OVER -> \
           NOT_STALE(c);                                                                 \
           RAISE(c);                                                                     \
           UNDO }                                                                        \
    :: atomic { /* step 6.1: the token first; what an older one began ends */            \
           asked[c].v[INSPECT] && token[a] < c + 1 ->                                    \
           INSPECTED(c) }                                                                \
    :: atomic { IS_AWAITED(c, INSPECT) && TOKEN_RAISED(c) && state[a] == S_CAPTURED ->   \
           SAY_YES(c) }

#ifdef SKIP_WAVE
#define MAY_OBEY_COMMIT (true)
#else
#define MAY_OBEY_COMMIT SECOND_ASKED
#endif
#ifdef TWO_WAVES
/* Step 2.6: what stands stays as it is. */
#ifdef REFREEZE_FIRST
#define FIRST_AGAIN domain[0] = D_IDLE
#else
#define FIRST_AGAIN skip
#endif
#define FIRST_STANDS (state[a] >= S_FROZEN || (a == 0 && second))
#define HEARS_SECOND(c)                                                                  \
    :: atomic {                                                                          \
           a == 0 && asked[c].v[FREEZE_SECOND] && OWNS(c) && state[a] == S_FROZEN &&     \
               !second ->                                                                \
           NOT_STALE(c);                                                                 \
           second = 1;                                                                   \
           state[a] = S_FREEZING;                                                        \
           if                                                                            \
           :: hold[a] == H_FROZEN -> hold[a] = H_FREEZING; FIRST_AGAIN                   \
           :: else                                                                       \
           fi }                                                                          \
    :: atomic {                                                                          \
           a == 0 && IS_AWAITED(c, FREEZE_SECOND) && OWNS(c) && second &&                \
               state[a] >= S_FROZEN && !IS_OVER ->                                       \
           SAY_YES(c) }
#else
#define FIRST_STANDS (state[a] >= S_FROZEN)
#define HEARS_SECOND(c)
#endif

#ifdef INSPECT_LEAVES
#define INSPECTED(c) skip
#define TOKEN_RAISED(c) (true)
#else
#define TOKEN_RAISED(c) (token[a] == c + 1)
#define INSPECTED(c)                                                                     \
    RAISE(c);                                                                            \
    if                                                                                   \
    :: state[a] < S_CAPTURED -> UNDO                                                     \
    :: else                                                                              \
    fi
#endif

/* What is possible for ever happens at last, but faults need not: they are drawn at the start. */
#ifdef LIVE
bit fails[AGENTS];
bit deaf[AGENTS]; /* to Abort: those that are lost until the coordinator gives up */
#define MAY_CRASH fails[a]
#define MAY_HEAR_ABORT (!deaf[a])
#else
#define MAY_CRASH (true)
#define MAY_HEAR_ABORT (true)
#endif

proctype agent(byte a)
{
end:
    do
    HEARS(0)
#if COORDS > 1
    HEARS(1)
#endif
#ifdef REFREEZE
    :: atomic { asked[0].v[FREEZE] && state[a] == S_FROZEN && hold[a] == H_FROZEN &&
           freezes[a] == 1 ->
           domain[a] = D_IDLE; hold[a] = H_FREEZING; state[a] = S_FREEZING }
#endif
    /* what the guardian answers */
    :: atomic { state[a] == S_FREEZING && hold[a] == H_FROZEN -> state[a] = S_FROZEN }
    :: atomic { state[a] == S_COMMITTING && hold[a] == H_DONE -> state[a] = S_CAPTURED }
    :: atomic { state[a] >= S_FREEZING && state[a] <= S_COMMITTING &&
           (hold[a] == H_ENDING || hold[a] == H_NONE) -> state[a] = S_ABORTING }
    :: atomic { state[a] == S_ABORTING && hold[a] == H_NONE -> state[a] = S_ABORTED }
#ifndef NO_VERDICT
    /* step 5.4: registering, it hears the verdict */
    :: atomic { (record == R_ABORTED || (record == R_CAPTURED && !IS_RECORDED(a))) &&
           !IS_OVER -> UNDO }
#endif
    /* a crash: what was not captured is undone on restart, what is journaled stays */
    :: atomic { MAY_CRASH && state[a] >= S_PREPARED && state[a] <= S_COMMITTING ->
           state[a] = S_ABORTING }
    od
}

/* ---- its guardian: keeper and doer ---- */

#define MINE(d) (NODE(d) == a)
#define EACH_DONE(q) (!MINE(DOMAIN(q)) || capture[q] == C_KEPT)
#ifdef TWO_PARTS
#define SIBLINGS_MADE(d) (d != 0 || (capture[0] >= C_MADE && capture[DOMAINS] >= C_MADE))
#else
#define SIBLINGS_MADE(d) (true)
#endif

/* The deadline, or the death of keeper or doer, or the agent's socket closes: the epoch is
 * broken before anything is thawed. */
inline break_all()
{
    for (k : 0 .. DOMAINS - 1) {
        if
        :: MINE(k) && domain[k] != D_THAWED -> broken[k] = 1
        :: else
        fi
    }
    hold[a] = H_ENDING;
    k = 0
}

/* The doer does one thing at a time: it freezes in an order, captures in the reverse one,
 * domain by domain, and within a domain its partitions one after the other. */
#ifdef TWO_DOMAINS
#ifdef TWO_WAVES
#define FREEZE_TURN(d) (d != AGENTS || second)
#else
#define FREEZE_TURN(d) (d != AGENTS || domain[0] == D_FROZEN)
#endif
#define LAST_IS_THAWED(q) (q != 0 || domain[AGENTS] == D_THAWED)
#else
#define FREEZE_TURN(d) (true)
#define LAST_IS_THAWED(q) (true)
#endif
#ifdef TWO_PARTS
#define CAPTURE_TURN(q) (LAST_IS_THAWED(q) && (q != DOMAINS || capture[0] >= C_MADE))
#else
#define CAPTURE_TURN(q) LAST_IS_THAWED(q)
#endif

/* -DCOARSE: a freeze or a capture happens in one step; nothing gets between. */
#ifdef COARSE
#define AT_ONCE_FROZEN(d) kernel_freezes(d); domain[d] = D_FROZEN
#define AT_ONCE_MADE(q) sound[q] = SHOWS_CUT(q); capture[q] = C_MADE
#else
#define AT_ONCE_FROZEN(d) skip
#define AT_ONCE_MADE(q) skip
#endif

#define FREEZES(d)                                                                       \
    :: atomic { /* step 2.3 */                                                           \
           MINE(d) && hold[a] == H_FREEZING && domain[d] == D_IDLE && FREEZE_TURN(d) ->  \
           domain[d] = D_CALLED;                                                         \
           AT_ONCE_FROZEN(d) }                                                        \
    :: atomic { /* step 2.4, or too late: the call returns when it likes */              \
           MINE(d) && domain[d] == D_CALLED ->                                           \
           kernel_freezes(d);                                                            \
           domain[d] = D_FROZEN }                                                        \
    :: atomic { /* a doer that dies in the call may not have got there */                \
           MINE(d) && domain[d] == D_CALLED && hold[a] == H_ENDING ->                    \
           domain[d] = D_THAWED }                                                        \
    :: atomic { /* the thaw after a break */                                             \
           MINE(d) && hold[a] == H_ENDING && domain[d] == D_FROZEN ->                    \
           kernel_thaws(d);                                                              \
           domain[d] = D_THAWED }                                                        \
    :: atomic { /* step 3.3: the last capture is made: look again, thaw */               \
           LOOKS_AGAIN(d) ->                                                             \
           capture[d] = (capture[d] == C_MADE -> C_KEPT : capture[d]);                   \
           KEEP_SIBLING(d);                                                              \
           kernel_thaws(d);                                                              \
           domain[d] = D_THAWED }

#ifdef TWO_PARTS
#define KEEP_SIBLING(d)                                                                  \
    if                                                                                   \
    :: d == 0 && capture[DOMAINS] == C_MADE -> capture[DOMAINS] = C_KEPT                 \
    :: else                                                                              \
    fi
#else
#define KEEP_SIBLING(d) skip
#endif

#ifdef THAW_PER_PART
#define LOOKS_AGAIN(d)                                                                   \
    (MINE(d) && hold[a] == H_CAPTURING && !broken[d] &&                                  \
     (capture[d] == C_MADE || (d == 0 && capture[DOMAINS] == C_MADE)))
#else
#define LOOKS_AGAIN(d)                                                                   \
    (MINE(d) && hold[a] == H_CAPTURING && STANDS(d) && !broken[d] &&                     \
     capture[d] == C_MADE && SIBLINGS_MADE(d))
#endif
#ifdef SKIP_WAVE /* as if what nobody asked for stood */
#define STANDS(d) (domain[d] == D_FROZEN || domain[d] == D_IDLE)
#else
#define STANDS(d) (domain[d] == D_FROZEN)
#endif

#define CAPTURES(q)                                                                      \
    :: atomic { /* step 3.3: begun while unbroken… */                                    \
           MINE(DOMAIN(q)) && hold[a] == H_CAPTURING && capture[q] == C_NONE &&          \
               !broken[DOMAIN(q)] && CAPTURE_TURN(q) ->                                  \
           THAW_EARLY(q);                                                                \
           capture[q] = C_BEGUN;                                                         \
           AT_ONCE_MADE(q) }                                                        \
    :: atomic { /* …made whenever the call gets there */                                 \
           MINE(DOMAIN(q)) && capture[q] == C_BEGUN ->                                   \
           sound[q] = SHOWS_CUT(q);                                                      \
           capture[q] = C_MADE }
#ifdef THAW_FIRST
#define THAW_EARLY(q) kernel_thaws(DOMAIN(q))
#else
#define THAW_EARLY(q) skip
#endif

#ifdef TWO_DOMAINS
#ifdef TWO_WAVES
#define SECOND_FROZEN (a != 0 || !second || domain[AGENTS] == D_FROZEN)
#else
#define SECOND_FROZEN (a != 0 || domain[AGENTS] == D_FROZEN)
#endif
#else
#define SECOND_FROZEN (true)
#endif
#define EACH_THAWED(d) (!MINE(d) || domain[d] == D_IDLE || domain[d] == D_THAWED)
#define EACH_MADE(q) (!MINE(DOMAIN(q)) || capture[q] != C_BEGUN)
#if DOMAINS == 2
#define ALL_THAWED (EACH_THAWED(0) && EACH_THAWED(1))
#elif DOMAINS == 3
#define ALL_THAWED (EACH_THAWED(0) && EACH_THAWED(1) && EACH_THAWED(2))
#endif
#if PARTS == 2
#define ALL_KEPT (EACH_DONE(0) && EACH_DONE(1))
#define ALL_QUIET (ALL_THAWED && EACH_MADE(0) && EACH_MADE(1))
#elif PARTS == 3
#define ALL_KEPT (EACH_DONE(0) && EACH_DONE(1) && EACH_DONE(2))
#define ALL_QUIET (ALL_THAWED && EACH_MADE(0) && EACH_MADE(1) && EACH_MADE(2))
#elif PARTS == 4
#define ALL_KEPT (EACH_DONE(0) && EACH_DONE(1) && EACH_DONE(2) && EACH_DONE(3))
#define ALL_QUIET                                                                        \
    (ALL_THAWED && EACH_MADE(0) && EACH_MADE(1) && EACH_MADE(2) && EACH_MADE(3))
#endif

#define STILL_OPEN (hold[a] >= H_FREEZING && hold[a] <= H_CAPTURING)

proctype guardian(byte a)
{
    byte k = 0;
    bool all = false;
end:
    do
    FREEZES(0)
#if DOMAINS > 1
    FREEZES(1)
#endif
#if DOMAINS > 2
    FREEZES(2)
#endif
    CAPTURES(0)
#if PARTS > 1
    CAPTURES(1)
#endif
#if PARTS > 2
    CAPTURES(2)
#endif
#if PARTS > 3
    CAPTURES(3)
#endif
    :: atomic { hold[a] == H_FREEZING && domain[a] == D_FROZEN && SECOND_FROZEN ->
           hold[a] = H_FROZEN }
    :: atomic { hold[a] == H_CAPTURING && ALL_KEPT -> hold[a] = H_DONE }
    /* step 5.3, and the agent's socket */
    :: atomic { state[a] == S_ABORTING && hold[a] != H_NONE && hold[a] != H_ENDING ->
           break_all() }
    /* all thawed, the doer idle or dead: captures go, and the hold is over */
    :: atomic {
           hold[a] == H_ENDING && state[a] == S_ABORTING && ALL_QUIET ->
           for (k : 0 .. PARTS - 1) {
               if
               :: MINE(DOMAIN(k)) && capture[k] != C_NONE ->
                   assert(record != R_CAPTURED || !IS_RECORDED(a)); /* I6 */
                   capture[k] = C_NONE;
                   sound[k] = 0
               :: else
               fi
           }
           for (k : 0 .. DOMAINS - 1) {
               if
               :: MINE(k) -> broken[k] = 0; domain[k] = D_IDLE
               :: else
               fi
           }
           k = 0;
           hold[a] = H_NONE }
    od
}

/* hold_limit, and what else ends a hold by itself. */
proctype deadline(byte a)
{
    byte k = 0;
end:
    do
#ifdef UNSEEN_EXPIRY
    :: atomic { STILL_OPEN && frozen[a] -> kernel_thaws(a) }
#elif !defined(NO_DEADLINE)
    :: atomic { STILL_OPEN -> break_all() }
#else
    :: false
#endif
    od
}

/* ---- coordinators ---- */

#define MAY_DIE(c) (!LAST(c) || MORTAL_TOO)
#ifdef LIVE
#ifdef MORTAL
#define MORTAL_TOO true
#else
#define MORTAL_TOO false
#endif
#else
#define MORTAL_TOO false /* in safety, one that is never scheduled again is dead */
#endif
bit late[COORDS];

#define A1 (AGENTS > 1 -> 1 : 0)
#define A2 (AGENTS > 2 -> 2 : 0)
#define ALL_YES(c) (yes[c].v[0] && yes[c].v[A1] && yes[c].v[A2])
#ifdef COMMIT_EARLY
#define MAY_COMMIT(c) (yes[c].v[0] || yes[c].v[A1])
#else
#define MAY_COMMIT(c) ALL_YES(c)
#endif

#define FORGET_ANSWERS                                                                   \
    for (k : 0 .. AGENTS - 1) {                                                          \
        yes[c].v[k] = 0;                                                                 \
    }                                                                                    \
    k = 0
#define ASK(what)                                                                        \
    atomic {                                                                             \
        asked[c].v[what] = 1;                                                            \
        phase[c] = what                                                                  \
    }
/* The end of a phase of calls: by its answers, a refusal or its timeout, or our death. */
#ifdef RELAXED
#define SETTLED(c, i) (yes[c].v[i] || out[c].v[i])
#define ALL_OUT(c) (out[c].v[0] && out[c].v[A1] && out[c].v[A2])
#define LEAVES_OUT(i)                                                                    \
    :: atomic { IS_LATE(c) && i < AGENTS && !SETTLED(c, i) -> out[c].v[i] = 1 }
#ifdef COMMIT_EARLY
#define ENOUGH(answers) (answers)
#else
#define ENOUGH(answers)                                                                  \
    (SETTLED(c, 0) && SETTLED(c, A1) && SETTLED(c, A2) && !ALL_OUT(c))
#endif
#define AWAIT(answers)                                                                   \
    do                                                                                   \
    :: atomic { ENOUGH(answers) -> phase[c] = NOTHING; FORGET_ANSWERS; break }           \
    :: atomic { ALL_OUT(c) -> phase[c] = NOTHING; FORGET_ANSWERS; goto aborting }        \
    LEAVES_OUT(0)                                                                        \
    LEAVES_OUT(1)                                                                        \
    :: atomic { MAY_DIE(c) -> phase[c] = NOTHING; FORGET_ANSWERS; goto gone }            \
    od
#else
#define AWAIT(answers)                                                                   \
    if                                                                                   \
    :: atomic { answers -> phase[c] = NOTHING; FORGET_ANSWERS }                          \
    :: atomic { IS_LATE(c) -> phase[c] = NOTHING; late[c] = 0; FORGET_ANSWERS;           \
           goto aborting }                                                               \
    :: atomic { MAY_DIE(c) -> phase[c] = NOTHING; FORGET_ANSWERS; goto gone }            \
    fi
#endif
#ifdef LIVE
#define IS_LATE(c) (late[c])
#else
#define IS_LATE(c) (true)
#endif

/* What fails its compare for ever may as well be forgotten. */
#ifdef BLIND_WRITE
#define FORGET_WRITES(c) skip
#else
#define FORGET_WRITES(c)                                                                 \
    sent[c].v[R_PREPARING] = 0;                                                          \
    sent[c].v[R_CAPTURED] = 0;                                                           \
    sent[c].v[R_ABORTED] = 0
#endif

#ifdef RELAXED
#define COMMIT_NAMES                                                                     \
    atomic {                                                                             \
        for (k : 0 .. AGENTS - 1) {                                                      \
            named[c].v[k] = !out[c].v[k];                                                \
        }                                                                                \
        for (k : 0 .. DOMAINS - 1) {                                                     \
            stands[c].v[k] = frozen[k] && named[c].v[NODE(k)];                           \
        }                                                                                \
        k = 0;                                                                           \
        asked[c].v[COMMIT] = 1;                                                          \
        phase[c] = COMMIT                                                                \
    }
#else
#define COMMIT_NAMES ASK(COMMIT)
#endif

proctype coordinator(byte c)
{
    byte k = 0;
    /* steps 0.2 and 6.1: the lock is free, and nobody later has had it */
    atomic {
        lock == 0 && granted < c + 1 && record != R_CAPTURED && record != R_ABORTED ->
        lock = c + 1;
        granted = c + 1
    }
    if
    :: record == R_ABSENT -> sent[c].v[R_PREPARING] = 1 /* step 0.3 */
    :: record != R_ABSENT -> goto inspecting
    fi;
    /* step 4.3, here and below: whatever became of the answer, the record tells */
    if
    :: record != R_ABSENT
    :: lock != c + 1 -> goto gone
    :: MAY_DIE(c) -> goto gone
    fi;
    ASK(PREPARE);
    AWAIT(ALL_YES(c));
    ASK(FREEZE);
    AWAIT(MAY_COMMIT(c));
#if defined(TWO_WAVES) && !defined(SKIP_WAVE)
    ASK(FREEZE_SECOND);
    AWAIT(yes[c].v[0]);
#endif
    COMMIT_NAMES;
    AWAIT(ALL_YES(c));
recording:
    sent[c].v[R_CAPTURED] = 1; /* steps 4.1, 4.2 */
#ifdef ABORT_UNKNOWN
    asked[c].v[ABORT] = 1;
#endif
    goto outcome;
inspecting:
    ASK(INSPECT); /* step 6.1 */
    AWAIT(ALL_YES(c)); /* all say CAPTURED; or another answer, or silence for 15 s */
    goto recording;    /* step 6.2 */
aborting:
    asked[c].v[ABORT] = 1; /* step 5.2: agents at once, then the record */
    sent[c].v[R_ABORTED] = 1;
outcome:
    if
    :: record == R_CAPTURED || record == R_ABORTED
    :: lock != c + 1
    :: MAY_DIE(c) -> goto gone
    fi;
    atomic {
        if
        :: lock == c + 1 -> FORGET_WRITES(c); lock = 0
        :: else
        fi
    }
gone:
    skip
}

/* The timeouts of a coordinator's phases, and an agent that says no. */
#ifdef LIVE
proctype timer(byte c)
{
end:
    do
#ifndef NO_TIMEOUT
    :: atomic { phase[c] != NOTHING && !late[c] -> late[c] = 1 }
#else
    :: false
#endif
    od
}
#endif

/* One transaction: compares the lock and that the record is what it was (I3, I4). */
#ifdef BLIND_WRITE
#define MAY_WRITE(c, from) (true)
#else
#define MAY_WRITE(c, from) (lock == c + 1 && record == from)
#endif
#ifdef RELAXED
#define RECORD_MEMBERS(c)                                                                \
    for (k : 0 .. AGENTS - 1) {                                                          \
        member.v[k] = !out[c].v[k];                                                      \
    }                                                                                    \
    assert(!member.v[0] || !member.v[A1] || owner[0] == owner[A1]) /* one Commit */
#else
#define RECORD_MEMBERS(c) skip
#endif
#define WRITES(c)                                                                        \
    :: atomic { sent[c].v[R_PREPARING] && MAY_WRITE(c, R_ABSENT) ->                      \
           sent[c].v[R_PREPARING] = 0;                                                   \
           record = R_PREPARING }                                                        \
    :: atomic { sent[c].v[R_CAPTURED] && MAY_WRITE(c, R_PREPARING) ->                    \
           sent[c].v[R_CAPTURED] = 0;                                                    \
           assert(record != R_ABORTED); /* I4 */                                         \
           record = R_CAPTURED;                                                          \
           RECORD_MEMBERS(c);                                                            \
           assert(!REACHED);                                                             \
           for (k : 0 .. PARTS - 1) {                                                    \
               assert(!IS_RECORDED(NODE(DOMAIN(k))) ||                                   \
                      (capture[k] == C_KEPT && sound[k])) /* I1, I6 */                   \
           }                                                                             \
           k = 0 }                                                                       \
    :: atomic { sent[c].v[R_ABORTED] && MAY_WRITE(c, R_PREPARING) ->                     \
           sent[c].v[R_ABORTED] = 0;                                                     \
           assert(record != R_CAPTURED); /* I4 */                                        \
           record = R_ABORTED }
#if defined(REACH) && defined(RELAXED)
#define REACHED (!member.v[0])
#elif defined(REACH) /* proves that the model can get there at all */
#define REACHED true
#else
#define REACHED false
#endif

proctype etcd()
{
    byte k = 0;
end:
    do
    WRITES(0)
#if COORDS > 1
    WRITES(1)
#endif
    od
}

/* The lease of a holder that crashed or sleeps ends. */
#ifdef LIVE
#define MAY_END (lock != 0 && MAY_DIE(lock - 1))
#else
#define MAY_END (lock != 0)
#endif
proctype lease()
{
end:
    do
    :: atomic { MAY_END -> FORGET_WRITES(lock - 1); lock = 0 }
    od
}

init {
    atomic {
        byte i;
        for (i : 0 .. AGENTS - 1) {
#ifdef LIVE
            if
            :: fails[i] = 1
            :: skip
            fi;
            if
            :: deaf[i] = 1
            :: skip
            fi;
#endif
            run agent(i);
            run guardian(i);
            run deadline(i);
        }
        for (i : 0 .. COORDS - 1) {
            run coordinator(i);
#ifdef LIVE
            run timer(i);
#endif
        }
        run etcd();
        run lease();
    }
}

#ifdef LIVE
#if DOMAINS > 2
#define FREE (!frozen[0] && !frozen[1] && !frozen[2])
#else
#define FREE (!frozen[0] && !frozen[1])
#endif
#if PARTS > 2
#define CLEAN (!capture[0] && !capture[1] && !capture[2])
#else
#define CLEAN (!capture[0] && !capture[1])
#endif
#ifdef MORTAL
ltl every_freeze_ends { <>[] FREE }
#else
ltl every_run_ends {
    <>[] (FREE && lock == 0 && (record == R_CAPTURED || (record == R_ABORTED && CLEAN)))
}
#endif
#endif
