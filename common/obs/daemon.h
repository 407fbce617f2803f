/* What the three daemons have in common: their options and how they say that they failed.
 */
#ifndef COMMON_OBS_DAEMON_H
#define COMMON_OBS_DAEMON_H

#include <stdbool.h>

#include "common/base/err.h"

struct daemon {
    const char *name;           /* "stillpoint-agent" */
    const char *purpose;        /* a sentence for --help */
    const char *default_config; /* path */
    /* Reads the configuration and, unless check_only, serves until it is told to stop. */
    struct err *(*run)(const char *config, bool check_only);
};

/* Parses --config --check --verbose --version --help and runs. Returns main's status: 0;
 * 1 after an error, which is logged; 2 for wrong usage. */
int daemon_main(const struct daemon *d, int argc, char **argv);

#endif
