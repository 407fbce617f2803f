/* How urgently a thread of the guardian runs. Writers wait for some of what it does, and
 * on a busy machine each turn of a thread that waits its own turn makes them wait longer;
 * for the rest nobody waits. What the system does not permit (RLIMIT_RTPRIO, RLIMIT_NICE,
 * or CAP_SYS_NICE for both) is left as it is.
 *
 * Real time (sched(7)) only for what takes a moment of a processor's time: a thread that
 * runs on for ten seconds is ended by the kernel, and thaws as after any other death. */
#ifndef AGENT_GUARDIAN_URGENCY_H
#define AGENT_GUARDIAN_URGENCY_H

enum urgency {
    URGENCY_KEEP,  /* thawing, keeping the time: before all else, in real time */
    URGENCY_HOLD,  /* freezing, snapshots, checks: before all but that, in real time */
    URGENCY_COPY,  /* as the guardian was started: writers wait, but it takes a while */
    URGENCY_CHORE, /* nobody waits */
};

/* Notes how this process was started. Before the first of the others; its children, too,
 * know it. */
void urgency_init(void);
/* For the calling thread; calls nothing that is unsafe after a fork. Its children begin
 * as nice as anybody. */
void urgency_set(enum urgency u);

#endif
