/* Looks for foreign writers of frozen domains beside the hold, on a thread of its own: it
 * reads all of /proc, which would take longer than everything else a pause is made of. It
 * begins when a domain stands still and must have found nothing before a capture of it
 * gets its name. Doer only; calls from its one working thread. */
#ifndef AGENT_GUARDIAN_LOOKOUT_H
#define AGENT_GUARDIAN_LOOKOUT_H

#include "agent/guardian/prepare.h"
#include "common/base/attr.h"
#include "common/base/err.h"

struct lookout;
/* Borrows `p`, which must not change between lookout_begin and lookout_end. Aborts if the
 * thread cannot be had; lives as long as the process. */
struct lookout *lookout_new(const struct prepare *p);
/* The domain stands still. Allocates nothing and waits for nothing. From now on the
 * search runs only when nobody else wants the processors, if it may come back from
 * that. */
void lookout_begin(struct lookout *l, unsigned domain);
/* Waits for what was begun, for a moment leaving it as it is, then with the priority that
 * the process has. CONFLICT names who else writes the domain's partitions, the
 * same for each call; or says that nothing was begun, in this process. */
struct err *lookout_result(struct lookout *l, unsigned domain) MUST_USE;
/* Waits for all that was begun, and forgets it. */
void lookout_end(struct lookout *l);

#endif
