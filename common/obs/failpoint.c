#include "common/obs/failpoint.h"

#ifdef STILLPOINT_FAILPOINTS
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void failpoint(const char *machine, const char *state)
{
    const char *wanted = getenv("STILLPOINT_FAILPOINT");
    if (!wanted)
        return;
    AUTO(str) char *name = mem_printf("%s:%s", machine, state);
    if (strcmp(name, wanted) == 0)
        raise(SIGKILL);
}
#endif
