#include "common/obs/failpoint.h"

#ifdef STILLPOINT_FAILPOINTS
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { WISH_BYTES = 256 };

/* What the variable says, or the file that it names; empty if nothing is wished. */
static void read_wish(const char *variable, char wish[WISH_BYTES])
{
    wish[0] = '\0';
    if (!variable || variable[0] != '@') {
        snprintf(wish, WISH_BYTES, "%s", variable ? variable : "");
        return;
    }
    FILE *f = fopen(variable + 1, "re");
    if (f && !fgets(wish, WISH_BYTES, f))
        wish[0] = '\0';
    if (f)
        fclose(f);
    wish[strcspn(wish, "\n")] = '\0';
}

void failpoint(const char *machine, const char *state)
{
    const char *variable = getenv("STILLPOINT_FAILPOINT");
    char wish[WISH_BYTES];
    read_wish(variable, wish);
    AUTO(str) char *name = mem_printf("%s:%s", machine, state);
    size_t n = strlen(name);
    if (strncmp(wish, name, n) != 0)
        return;
    bool stop = strcmp(wish + n, ":stop") == 0;
    if (!stop && wish[n] != '\0')
        return;
    if (variable[0] == '@')
        unlink(variable + 1);
    raise(stop ? SIGSTOP : SIGKILL);
}
#endif
