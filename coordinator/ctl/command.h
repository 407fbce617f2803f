/* The command line's frame: a table of commands `noun verb`, parsed options, help, exit
 * codes. A file cmd_NOUN.c defines one table; adding it to ctl_tables in main.c is all it
 * takes. Data goes to stdout, messages to stderr. One thread but for signals. */
#ifndef COORDINATOR_CTL_COMMAND_H
#define COORDINATOR_CTL_COMMAND_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* restic's, so that scripts know them. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,
    CTL_USAGE = 2,
    CTL_PARTIAL = 3,
    CTL_NO_REPOSITORY = 10,
    CTL_LOCKED = 11,
    CTL_WRONG_PASSWORD = 12,
    CTL_INTERRUPTED = 130,
};

/* One option of a command; an array ends with a NULL name. */
struct ctl_option {
    const char *name; /* without "--" */
    const char *arg;  /* name of its value; NULL: a switch; "[=N]": may be left out */
    const char *help;
    char letter; /* short form, 0: none */
};

struct ctl;

/* One command; a table ends with a NULL noun. */
struct ctl_command {
    const char *noun;
    const char *verb;    /* "": the noun is a command by itself */
    const char *args;    /* of the help's first line: "SNAPSHOT [PATH]" */
    const char *summary; /* one line, lower case, no full stop */
    const struct ctl_option *options;
    const char *examples; /* lines, each indented by two blanks */
    int min_args;
    int max_args;
    /* Does it; the result becomes the exit status. */
    int (*run)(struct ctl *c);
};

/* A given option with its value ("" for a switch). */
struct ctl_given {
    const char *name;
    const char *value;
};

/* One call of the program. */
struct ctl {
    const struct ctl_command *command;
    bool json;  /* --json: machine-readable lines on stdout */
    bool quiet; /* -q: no messages but errors */
    struct ctl_given *given;
    size_t given_n;
    size_t given_cap;
    const char **args; /* borrowed from argv */
    int args_n;
};

/* Set by SIGINT and SIGTERM; commands hand it to what they call. */
extern atomic_bool ctl_cancelled;

/* Parses and runs; `tables` ends with NULL. Returns the exit status. */
int ctl_main(const struct ctl_command *const *tables, int argc, char **argv);

/* Value of an option, the last one given, or NULL. */
const char *ctl_value(const struct ctl *c, const char *option);
bool ctl_has(const struct ctl *c, const char *option);
/* All values of a repeatable option; *out is malloc, its items borrowed. */
size_t ctl_values(const struct ctl *c, const char *option, const char ***out);
/* Says which option is missing and returns CTL_USAGE. */
int ctl_missing(const struct ctl *c, const char *option);
/* Prints the error (JSON exit_error with --json) to stderr, frees it, returns the exit
 * status: `code`, but 130 when cancelled. */
int ctl_fail(const struct ctl *c, struct err *e, int code);
/* A message to stderr unless quiet or --json. */
void ctl_say(const struct ctl *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints one JSON line to stdout and frees it. */
void ctl_print_json(json_t *o);
/* Progress to a terminal on stderr: replaces the line; does nothing elsewhere. */
void ctl_status(const struct ctl *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void ctl_status_end(const struct ctl *c);

#endif
