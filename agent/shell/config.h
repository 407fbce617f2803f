/* agent.yaml: what agent and guardian may do on this node. Both read the same file; the
 * guardian takes paths and hook commands from nowhere else (I10). Everything that can be
 * known to be impossible is refused here, when a person is looking, and not at the first
 * backup. Read once at start, read-only afterwards; any thread. */
#ifndef AGENT_SHELL_CONFIG_H
#define AGENT_SHELL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/conf/schema.h"

#define CONFIG_MAX_PARTITIONS 256
#define CONFIG_MAX_ARGS 32
#define CONFIG_DEFAULT_PATH "/etc/stillpoint/agent.yaml"

enum config_quiesce { CONFIG_NONE, CONFIG_FSFREEZE, CONFIG_CGROUP, CONFIG_HOOK };
enum config_capture { CONFIG_BTRFS, CONFIG_REFLINK, CONFIG_COPY };

/* Commands as argument lists, not NULL-terminated; [0] is an absolute path. */
struct config_hook {
    char **freeze, **thaw, **check; /* check: optional, n_check 0 */
    size_t n_freeze, n_thaw, n_check;
};

struct config_partition {
    char *name;
    char *path; /* of the tree or subvolume, normal form */
    struct schema_pair *labels;
    size_t n_labels;
    struct {
        int method;   /* enum config_quiesce */
        char *cgroup; /* CGROUP: below the cgroup2 mount, "/system.slice/db.service" */
        struct config_hook *hook; /* HOOK */
        int64_t timeout_ms;       /* of one hook command */
    } quiesce;
    struct {
        int method; /* enum config_capture */
        char *dir;  /* never NULL once read: the default is filled in */
    } capture;
    char **exclude; /* see config_excludes() */
    size_t n_exclude;
    char *chunks;   /* how its files are cut, for chunks_parse(); NULL: files */
    bool read_only; /* nobody writes it: may be captured without a pause */
    /* The newest capture stays until the next is stored, so that only what changed on
     * disk since then is read. Costs the space of what changes meanwhile. */
    bool keep_base;
};

struct config_repository {
    char *name, *url, *password_file;
    char *credentials; /* file with the storage's own credentials, or NULL */
};

struct config {
    char *cluster, *node;
    char *listen;        /* host:port of the agent's services */
    char *advertise;     /* host:port that coordinators dial, if not `listen`; or NULL */
    char *http_listen;   /* host:port of metrics and health, or NULL */
    char **coordinators; /* host:port each */
    size_t n_coordinators;
    struct {
        char *ca, *cert, *key;
    } tls;
    char *guardian_socket;
    struct schema_pair *labels;
    size_t n_labels;
    char *state_dir;
    char **restore_dirs; /* below these a coordinator may have parts restored (I10) */
    size_t n_restore_dirs;
    struct config_partition *partitions;
    size_t n_partitions;
    struct config_repository *repositories;
    size_t n_repositories;
    bool drills; /* a coordinator may kill or stop the agent and the guardian, on purpose
                  */
};

/* Reads and checks the file, which must belong to root and be writable by nobody else.
 * INVALID says file, line, column, key, why, and what to choose instead. */
struct err *config_read(const char *path, struct config **out) MUST_USE;
void config_free(struct config *c);
DEFINE_AUTO(config, struct config *, config_free);

/* The partition of that name, or NULL. Borrowed. */
const struct config_partition *config_partition(const struct config *c, const char *name);

/* True when `rel` (below the partition, beginning with '/') or a folder above it is left
 * out: by an entry that begins with '/' and matches the path from the partition's root,
 * or by one without, that matches a name at any depth. Entries are patterns of fnmatch(3)
 * in which '*' does not match '/'. The folder of captures is always left out. */
bool config_excludes(const struct config_partition *p, const char *rel);

/* True when `path` is `top` or lies below it; both in normal form. */
bool config_path_within(const char *path, const char *top);

#endif
