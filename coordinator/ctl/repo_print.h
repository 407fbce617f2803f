/* Showing and reading what several repo commands have in common. */
#ifndef COORDINATOR_CTL_REPO_PRINT_H
#define COORDINATOR_CTL_REPO_PRINT_H

#include "common/engine/problems.h"
#include "common/repo/repo.h"
#include "coordinator/ctl/command.h"

#define REPO_WHERE "--repo /srv/backup --password-file /etc/stillpoint/repo.pw"

/* A snapshot as an object, to be freed; as a line for people. */
json_t *repo_snapshot_json(const struct snapshot *s);
void repo_snapshot_line(const struct snapshot *s, struct buf *out);
/* One line each: to stderr, or as JSON errors to stdout. */
void repo_print_problems(const struct ctl *c, const struct problems *p);
/* A path that a terminal cannot obey and JSON can hold, quoted like Go does. malloc. */
char *repo_printable(const char *path) MUST_USE;

/* True if the snapshot is what --host, --path and --tag (all of them) ask for. */
bool repo_is_wanted(const struct ctl *c, const struct snapshot *s);
#define REPO_FILTER_OPTIONS                                                              \
    {"host", "NAME", "only snapshots of this host", 0},                                  \
        {"path", "PATH", "only snapshots of this path", 0},                              \
    {                                                                                    \
        "tag", "TAG", "only snapshots with this tag (repeatable: all of them)", 0        \
    }

/* The snapshots that the arguments from `first` on name, or else those wanted, oldest
 * first. *out is for repo_free_snapshots. */
struct err *repo_chosen(const struct ctl *c, struct repo_io *io, int first,
                        struct snapshot **out, size_t *n) MUST_USE;

/* "10", "64KiB", "10GiB". INVALID names the option. */
struct err *repo_read_bytes(const char *option, const char *text, uint64_t *out) MUST_USE;
/* "600", "90s", "10m", "2h". */
struct err *repo_read_seconds(const char *option, const char *text,
                              uint64_t *out) MUST_USE;

#endif
