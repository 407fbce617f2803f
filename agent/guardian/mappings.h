/* Which files a process has mapped shared and writable. Doer only, but pure reading. */
#ifndef AGENT_GUARDIAN_MAPPINGS_H
#define AGENT_GUARDIAN_MAPPINGS_H

#include <stdbool.h>

enum mappings_way {
    MAPPINGS_ASK, /* the kernel finds the next such mapping (Linux 6.11); else as below */
    MAPPINGS_READ /* every mapping is printed and parsed: a hundred times the work */
};

/* True of a path as the process's /proc/PID/maps shows it. */
typedef bool mappings_match(const void *ctx, const char *path);

/* Whether process `pid` has a shared writable mapping of a file that `match` wants; the
 * first one's path goes into `path`, of `size` bytes. A process that cannot be read, or
 * has ended, has none. */
bool mappings_find(int pid, enum mappings_way way, mappings_match *match, const void *ctx,
                   char *path, unsigned size);

#endif
