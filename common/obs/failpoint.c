#include "common/obs/failpoint.h"

#ifdef STILLPOINT_FAILPOINTS
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void failpoint(const char *machine, const char *state)
{
    static bool stood_still;
    const char *wanted = getenv("STILLPOINT_FAILPOINT");
    if (!wanted)
        return;
    AUTO(str) char *name = mem_printf("%s:%s", machine, state);
    size_t n = strlen(name);
    if (strncmp(wanted, name, n) != 0)
        return;
    if (wanted[n] == '\0')
        raise(SIGKILL);
    if (strcmp(wanted + n, ":stop") == 0 && !stood_still) {
        stood_still = true;
        raise(SIGSTOP);
    }
}
#endif
