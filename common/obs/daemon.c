#include "common/obs/daemon.h"

#include <getopt.h>
#include <stdio.h>

#include "common/base/version.h"
#include "common/obs/log.h"

static void help(const struct daemon *d, FILE *to)
{
    fprintf(to,
            "Usage: %s [--config FILE] [--check] [--verbose]\n"
            "\n"
            "%s\n"
            "\n"
            "  --config FILE  default %s\n"
            "  --check        read the configuration, say whether it is right, and exit\n"
            "  --verbose      log details too\n"
            "  --version      print the version\n"
            "\n"
            "Example: %s --config %s --check\n",
            d->name, d->purpose, d->default_config, d->name, d->default_config);
}

static int run(const struct daemon *d, const char *config, bool check_only)
{
    struct err *e = d->run(config, check_only);
    if (e) {
        log_err(LOG_LEVEL_ERROR, d->name, "failed", e);
        return 1;
    }
    if (check_only)
        printf("%s: right\n", config);
    return 0;
}

int daemon_main(const struct daemon *d, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"verbose", no_argument, NULL, 'v'},      {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    const char *config = d->default_config;
    bool check_only = false;
    int opt;
    while ((opt = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (opt) {
        case 'c':
            config = optarg;
            break;
        case 'k':
            check_only = true;
            break;
        case 'v':
            log_set_level(LOG_LEVEL_DEBUG);
            break;
        case 'V':
            printf("%s %s\n", d->name, STILLPOINT_VERSION);
            return 0;
        default:
            help(d, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    return run(d, config, check_only);
}
