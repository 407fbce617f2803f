#include "agent/shell/config.h"

#include <assert.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "agent/guardian/place.h"
#include "common/base/chunks.h"
#include "common/base/mem.h"
#include "common/model/ids.h"

/* ---- What the file may say ---- */

static const char *const quiesce_names[] = {"none", "fsfreeze", "cgroup", "hook", NULL};
static const char *const capture_names[] = {"btrfs", "reflink", "copy", NULL};

static struct err *check_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    if (!colon || colon == text || digits == 0 || digits > 5 || colon[1 + digits] != 0 ||
        strtol(colon + 1, NULL, 10) < 1 || strtol(colon + 1, NULL, 10) > 65535)
        return err_new(ERR_INVALID, "'%s' is not 'host:port'", text);
    return NULL;
}

static struct err *check_restore_dir(const char *text)
{
    size_t n = strlen(text);
    if (text[0] != '/' || n == 1 || text[n - 1] == '/' || strstr(text, "/.") ||
        strstr(text, "//"))
        return err_new(
            ERR_INVALID,
            "'%s' is not a plain absolute path below /: name a directory of its "
            "own, for example /var/restore",
            text);
    return NULL;
}

static struct err *check_exclude(const char *text)
{
    size_t n = strlen(text);
    if (text[0] != '/' && strchr(text, '/'))
        return err_new(
            ERR_INVALID,
            "'%s' holds '/' without beginning with it; write '/a/b' for a path "
            "from the partition's root, or 'b' for that name at any depth",
            text);
    if (text[n - 1] == '/')
        return err_new(ERR_INVALID, "'%s' ends with '/'; a folder is named like a file",
                       text);
    return NULL;
}

static struct err *check_chunks(const char *text)
{
    struct chunks unused;
    return chunks_parse(text, &unused);
}

#define AT(type, member) .offset = offsetof(struct type, member)
#define COUNT(type, member) .count = offsetof(struct type, member)

static const struct schema_field hook_fields[] = {
    {"freeze", SCHEMA_STRS, AT(config_hook, freeze), COUNT(config_hook, n_freeze),
     .required = true, .min = 1, .max = CONFIG_MAX_ARGS},
    {"thaw", SCHEMA_STRS, AT(config_hook, thaw), COUNT(config_hook, n_thaw),
     .required = true, .min = 1, .max = CONFIG_MAX_ARGS},
    {"check", SCHEMA_STRS, AT(config_hook, check), COUNT(config_hook, n_check), .min = 1,
     .max = CONFIG_MAX_ARGS},
};
static const struct schema hook_schema = {sizeof(struct config_hook), hook_fields,
                                          ARRAY_LEN(hook_fields)};

/* The next two schemas fill members of the partition itself. */
#define QUIESCE(member)                                                                  \
    .offset = offsetof(struct config_partition, quiesce.member) -                        \
              offsetof(struct config_partition, quiesce)
static const struct schema_field quiesce_fields[] = {
    {"method", SCHEMA_ENUM, QUIESCE(method), .required = true, .names = quiesce_names},
    {"cgroup", SCHEMA_PATH, QUIESCE(cgroup)},
    {"hook", SCHEMA_OPTIONAL, QUIESCE(hook), .schema = &hook_schema},
    {"timeout", SCHEMA_DURATION, QUIESCE(timeout_ms), .fallback = "5s", .min = 100,
     .max = 60000},
};
static const struct schema quiesce_schema = {
    sizeof(((struct config_partition *)0)->quiesce), quiesce_fields,
    ARRAY_LEN(quiesce_fields)};

#define CAPTURE(member)                                                                  \
    .offset = offsetof(struct config_partition, capture.member) -                        \
              offsetof(struct config_partition, capture)
static const struct schema_field capture_fields[] = {
    {"method", SCHEMA_ENUM, CAPTURE(method), .required = true, .names = capture_names},
    {"dir", SCHEMA_PATH, CAPTURE(dir)},
};
static const struct schema capture_schema = {
    sizeof(((struct config_partition *)0)->capture), capture_fields,
    ARRAY_LEN(capture_fields)};

static const struct schema_field partition_fields[] = {
    {"name", SCHEMA_NAME, AT(config_partition, name), .required = true},
    {"path", SCHEMA_PATH, AT(config_partition, path), .required = true},
    {"labels", SCHEMA_PAIRS, AT(config_partition, labels),
     COUNT(config_partition, n_labels), .max = 64},
    {"quiesce", SCHEMA_OBJECT, AT(config_partition, quiesce), .required = true,
     .schema = &quiesce_schema},
    {"capture", SCHEMA_OBJECT, AT(config_partition, capture), .required = true,
     .schema = &capture_schema},
    {"exclude", SCHEMA_STRS, AT(config_partition, exclude),
     COUNT(config_partition, n_exclude), .max = 256, .check = check_exclude},
    {"chunks", SCHEMA_STR, AT(config_partition, chunks), .check = check_chunks},
    {"read_only", SCHEMA_BOOL, AT(config_partition, read_only)},
    {"keep_base", SCHEMA_BOOL, AT(config_partition, keep_base)},
};
static const struct schema partition_schema = {
    sizeof(struct config_partition), partition_fields, ARRAY_LEN(partition_fields)};

static const struct schema_field repository_fields[] = {
    {"name", SCHEMA_NAME, AT(config_repository, name), .required = true},
    {"url", SCHEMA_STR, AT(config_repository, url), .required = true},
    {"password_file", SCHEMA_PATH, AT(config_repository, password_file),
     .required = true},
    {"credentials", SCHEMA_PATH, AT(config_repository, credentials)},
};
static const struct schema repository_schema = {
    sizeof(struct config_repository), repository_fields, ARRAY_LEN(repository_fields)};

#define TLS(member)                                                                      \
    .offset = offsetof(struct config, tls.member) - offsetof(struct config, tls)
static const struct schema_field tls_fields[] = {
    {"ca", SCHEMA_PATH, TLS(ca), .required = true},
    {"cert", SCHEMA_PATH, TLS(cert), .required = true},
    {"key", SCHEMA_PATH, TLS(key), .required = true},
};
static const struct schema tls_schema = {sizeof(((struct config *)0)->tls), tls_fields,
                                         ARRAY_LEN(tls_fields)};

static const struct schema_field config_fields[] = {
    {"cluster", SCHEMA_NAME, AT(config, cluster), .required = true},
    {"node", SCHEMA_NAME, AT(config, node), .required = true},
    {"listen", SCHEMA_STR, AT(config, listen), .required = true, .check = check_address},
    {"advertise", SCHEMA_STR, AT(config, advertise), .check = check_address},
    {"http_listen", SCHEMA_STR, AT(config, http_listen), .check = check_address},
    {"coordinators", SCHEMA_STRS, AT(config, coordinators), COUNT(config, n_coordinators),
     .required = true, .min = 1, .max = 16, .check = check_address},
    {"tls", SCHEMA_OBJECT, AT(config, tls), .required = true, .schema = &tls_schema},
    {"guardian_socket", SCHEMA_PATH, AT(config, guardian_socket),
     .fallback = "/run/stillpoint/guardian.sock"},
    {"labels", SCHEMA_PAIRS, AT(config, labels), COUNT(config, n_labels), .max = 64},
    {"state_dir", SCHEMA_PATH, AT(config, state_dir),
     .fallback = "/var/lib/stillpoint/agent"},
    {"restore_dirs", SCHEMA_STRS, AT(config, restore_dirs), COUNT(config, n_restore_dirs),
     .max = 64, .check = check_restore_dir},
    {"partitions", SCHEMA_OBJECTS, AT(config, partitions), COUNT(config, n_partitions),
     .max = CONFIG_MAX_PARTITIONS, .schema = &partition_schema},
    {"repositories", SCHEMA_OBJECTS, AT(config, repositories),
     COUNT(config, n_repositories), .max = 64, .schema = &repository_schema},
    {"drills", SCHEMA_BOOL, AT(config, drills)},
};
static const struct schema config_schema = {sizeof(struct config), config_fields,
                                            ARRAY_LEN(config_fields)};

/* ---- Paths and patterns ---- */

bool config_path_within(const char *path, const char *top)
{
    size_t n = strlen(top);
    if (strcmp(top, "/") == 0)
        return true;
    return strncmp(path, top, n) == 0 && (path[n] == 0 || path[n] == '/');
}

static bool excludes_exactly(const struct config_partition *p, const char *rel)
{
    for (size_t i = 0; i < p->n_exclude; i++) {
        const char *pattern = p->exclude[i];
        const char *name = pattern[0] == '/' ? rel : strrchr(rel, '/') + 1;
        if (fnmatch(pattern, name, FNM_PATHNAME) == 0)
            return true;
    }
    size_t top = strcmp(p->path, "/") == 0 ? 0 : strlen(p->path);
    return strncmp(p->capture.dir, p->path, top) == 0 &&
           strcmp(p->capture.dir + top, rel) == 0;
}

bool config_excludes(const struct config_partition *p, const char *rel)
{
    assert(rel[0] == '/');
    AUTO(str) char *prefix = mem_strdup(rel);
    for (char *end = prefix + strlen(prefix); end != prefix; end = strrchr(prefix, '/')) {
        *end = 0;
        if (excludes_exactly(p, prefix))
            return true;
    }
    return false;
}

const struct config_partition *config_partition(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->n_partitions; i++)
        if (strcmp(c->partitions[i].name, name) == 0)
            return &c->partitions[i];
    return NULL;
}

/* ---- What fits together ---- */

static void fill_capture_dir(const struct config *c, struct config_partition *p)
{
    if (p->capture.dir)
        return;
    const char *top = strcmp(p->path, "/") == 0 ? "" : p->path;
    if (p->capture.method == CONFIG_COPY)
        p->capture.dir = mem_printf("%s/captures", c->state_dir);
    else
        p->capture.dir = mem_printf("%s/.stillpoint", top);
}

static struct err *refuse(const struct conf *doc, size_t partition, const char *key,
                          const char *fmt, ...) PRINTF_LIKE(4, 5);
static struct err *refuse(const struct conf *doc, size_t partition, const char *key,
                          const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO(str) char *msg = mem_vprintf(fmt, ap);
    va_end(ap);
    AUTO(str) char *path = mem_printf("partitions[%zu].%s", partition, key);
    return conf_refuse(doc, path, "%s", msg);
}

static struct err *check_hook(const struct conf *doc, size_t i,
                              const struct config_hook *h)
{
    if (h->freeze[0][0] != '/' || h->thaw[0][0] != '/' ||
        (h->n_check > 0 && h->check[0][0] != '/'))
        return refuse(doc, i, "quiesce.hook",
                      "a command begins with an absolute path, so that no PATH decides "
                      "what root runs");
    return NULL;
}

static struct err *check_quiesce(const struct conf *doc, size_t i,
                                 const struct config_partition *p)
{
    int method = p->quiesce.method;
    if (method == CONFIG_CGROUP && !p->quiesce.cgroup)
        return refuse(doc, i, "quiesce",
                      "method cgroup needs 'cgroup: PATH', the cgroup that holds every "
                      "process that writes here");
    if (method != CONFIG_CGROUP && p->quiesce.cgroup)
        return refuse(doc, i, "quiesce.cgroup", "has no effect with method %s; remove it",
                      quiesce_names[method]);
    if (method == CONFIG_HOOK && !p->quiesce.hook)
        return refuse(doc, i, "quiesce",
                      "method hook needs 'hook: {freeze: [...], thaw: [...]}'");
    if (method != CONFIG_HOOK && p->quiesce.hook)
        return refuse(doc, i, "quiesce.hook", "has no effect with method %s; remove it",
                      quiesce_names[method]);
    if (method == CONFIG_HOOK)
        return check_hook(doc, i, p->quiesce.hook);
    return NULL;
}

static struct err *check_pair(const struct conf *doc, size_t i,
                              const struct config_partition *p)
{
    if (p->quiesce.method != CONFIG_FSFREEZE || p->capture.method == CONFIG_COPY)
        return NULL;
    return refuse(
        doc, i, "capture.method",
        "%s writes to the filesystem that quiesce fsfreeze has frozen and would "
        "block for ever; choose quiesce cgroup or hook, or capture copy with a "
        "dir on another filesystem",
        capture_names[p->capture.method]);
}

static struct err *check_cgroup(const struct conf *doc, size_t i,
                                const struct config_partition *p)
{
    if (p->quiesce.method != CONFIG_CGROUP)
        return NULL;
    if (strcmp(p->quiesce.cgroup, "/") == 0)
        return refuse(
            doc, i, "quiesce.cgroup",
            "the root cgroup cannot be frozen; put the writers into a cgroup of "
            "their own, such as /system.slice/NAME.service");
    AUTO(str) char *own = place_own_cgroup();
    if (own && config_path_within(own, p->quiesce.cgroup))
        return refuse(doc, i, "quiesce.cgroup",
                      "it contains this process ('%s'), which would freeze itself and "
                      "never thaw; name a cgroup that holds the writers only",
                      own);
    return NULL;
}

/* Whatever must go on while something is frozen. */
static struct err *check_fsfreeze_target(const struct conf *doc, size_t i,
                                         const struct config *c,
                                         const struct config_partition *p)
{
    struct err *e = place_may_freeze(p->path, c->state_dir, c->guardian_socket);
    if (!e)
        return NULL;
    AUTO(str) char *text = err_text(e);
    enum err_kind kind = e->kind;
    err_free(e);
    /* A filesystem that is not mounted now is looked at again when a set is prepared. */
    return kind == ERR_INVALID ? refuse(doc, i, "quiesce.method", "%s", text) : NULL;
}

static struct err *check_fsfreeze(const struct conf *doc, size_t i,
                                  const struct config *c,
                                  const struct config_partition *p)
{
    if (p->quiesce.method != CONFIG_FSFREEZE)
        return NULL;
    TRY(check_fsfreeze_target(doc, i, c, p));
    struct place source, target;
    struct err *e = place_of(p->path, &source);
    if (!e)
        e = place_of_nearest(p->capture.dir, &target);
    if (e) {
        err_free(e);
        return NULL;
    }
    if (place_same_superblock(&source, &target))
        return refuse(doc, i, "capture.dir",
                      "'%s' lies on the filesystem that quiesce fsfreeze has frozen, the "
                      "copy would block for ever; choose a dir on another filesystem",
                      p->capture.dir);
    return NULL;
}

static struct err *check_capture_dir(const struct conf *doc, size_t i,
                                     const struct config_partition *p)
{
    if (strcmp(p->capture.dir, "/") == 0 || strcmp(p->capture.dir, p->path) == 0)
        return refuse(doc, i, "capture.dir",
                      "'%s' cannot hold captures; choose a folder of its own, such as "
                      "'%s/.stillpoint'",
                      p->capture.dir, p->path);
    return NULL;
}

/* One partition inside another would be captured twice, at two instants perhaps. */
static struct err *check_nesting(const struct conf *doc, const struct config *c, size_t i,
                                 size_t k)
{
    const struct config_partition *inner = &c->partitions[i], *outer = &c->partitions[k];
    if (i == k || !config_path_within(inner->path, outer->path))
        return NULL;
    if (strcmp(inner->path, outer->path) == 0)
        return refuse(doc, i, "path", "is also the path of partition '%s'; name it once",
                      outer->name);
    size_t top = strcmp(outer->path, "/") == 0 ? 0 : strlen(outer->path);
    if (config_excludes(outer, inner->path + top))
        return NULL;
    return refuse(doc, i, "path",
                  "lies inside partition '%s' ('%s') and would be stored twice; add '%s' "
                  "to the exclude list of '%s', or make them one partition",
                  outer->name, outer->path, inner->path + top, outer->name);
}

static struct err *check_partition(const struct conf *doc, const struct config *c,
                                   size_t i)
{
    const struct config_partition *p = &c->partitions[i];
    for (size_t k = 0; k < i; k++)
        if (strcmp(c->partitions[k].name, p->name) == 0)
            return refuse(doc, i, "name", "'%s' is the name of partitions[%zu] already",
                          p->name, k);
    TRY(check_quiesce(doc, i, p));
    TRY(check_pair(doc, i, p));
    TRY(check_cgroup(doc, i, p));
    TRY(check_capture_dir(doc, i, p));
    for (size_t k = 0; k < c->n_partitions; k++)
        TRY(check_nesting(doc, c, i, k));
    return check_fsfreeze(doc, i, c, p);
}

/* Coordinators dial what the agent registers; "everywhere" is no place to dial. */
static struct err *check_listen(const struct conf *doc, const struct config *c)
{
    bool wildcard =
        strncmp(c->listen, "0.0.0.0:", 8) == 0 || strncmp(c->listen, "[::]:", 5) == 0;
    if (wildcard && !c->advertise)
        return conf_refuse(
            doc, "listen",
            "'%s' is every address of this machine, none that a coordinator "
            "could dial: add 'advertise: HOST:PORT', or listen on one address",
            c->listen);
    return NULL;
}

static struct err *check(const struct conf *doc, struct config *c)
{
    TRY(check_listen(doc, c));
    for (size_t i = 0; i < c->n_partitions; i++)
        fill_capture_dir(c, &c->partitions[i]);
    for (size_t i = 0; i < c->n_partitions; i++)
        TRY(check_partition(doc, c, i));
    for (size_t i = 0; i < c->n_repositories; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->repositories[k].name, c->repositories[i].name) == 0) {
                AUTO(str) char *path = mem_printf("repositories[%zu].name", i);
                return conf_refuse(doc, path, "'%s' is given twice",
                                   c->repositories[i].name);
            }
    return NULL;
}

struct err *config_read(const char *path, struct config **out)
{
    AUTO(conf) struct conf *doc = NULL;
    TRY(conf_read_trusted(path, &doc));
    AUTO(config) struct config *c = mem_zalloc(sizeof(*c));
    TRY(schema_bind(doc, &config_schema, c));
    TRY(check(doc, c));
    *out = STEAL(c);
    return NULL;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    schema_release(&config_schema, c);
    free(c);
}
