/* Configuration files: YAML read into a tree that remembers where each value stood. The
 * one door to libyaml. What a file may say is written down as a schema (schema.h); use
 * that, and this header only for reading and for refusing. Any thread.
 *
 *     AUTO(conf) struct conf *c = NULL;
 *     TRY(conf_read(path, &c));
 *     TRY(schema_bind(c, &group_schema, group));
 *     if (group->hold_limit_ms < group->freeze_timeout_ms)
 *         return conf_refuse(c, "hold_limit", "must be longer than freeze_timeout");
 *
 * The dialect is narrow on purpose: one document, string keys without duplicates, no
 * tags, no merge keys; anchors and aliases are fine within the limits below. */
#ifndef COMMON_CONF_CONF_H
#define COMMON_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"

#define CONF_MAX_BYTES ((size_t)1 << 20) /* of a file */
#define CONF_MAX_DEPTH 32                /* of nesting, aliases followed */
#define CONF_MAX_NODES 200000            /* of the tree, aliases copied out */
#define CONF_MAX_KEYS 1024               /* of one map */

enum conf_kind { CONF_SCALAR, CONF_LIST, CONF_MAP };

/* One value of the file. Keys of a map are in the order of the file. */
struct conf_node {
    enum conf_kind kind;
    bool plain;               /* scalar without quotes */
    unsigned line, column;    /* where it starts, from 1 */
    char *text;               /* scalar: never NULL, no NUL inside; owned */
    size_t n;                 /* list and map: number of values */
    struct conf_node **keys;  /* map: scalars, beside items; owned */
    struct conf_node **items; /* list and map: the values; owned */
};

struct conf;

/* Reads a file. Errors start with `file:line:column:`. INVALID what is not such YAML,
 * LIMIT what is too large, NOT_FOUND and IO as the system says. */
struct err *conf_read(const char *path, struct conf **out) MUST_USE;
/* The same for a file that names commands: DENIED unless it and every folder above it
 * belong to root (or to the calling user) and nobody else may write them. */
struct err *conf_read_trusted(const char *path, struct conf **out) MUST_USE;
/* The same for text already in memory; `name` stands for the file name in errors. */
struct err *conf_parse(const char *name, const char *text, size_t bytes,
                       struct conf **out) MUST_USE;
void conf_free(struct conf *c);
DEFINE_AUTO(conf, struct conf *, conf_free);

/* The whole document: always a map. Borrowed. */
const struct conf_node *conf_root(const struct conf *c);
/* The value at `path` ("partitions[2].quiesce.method"), or NULL. Borrowed. */
const struct conf_node *conf_find(const struct conf *c, const char *path);

/* Makes the INVALID error "file:line:column: key 'path': …" that points at the value at
 * `path`, or at the nearest one above it that the file has. `path` "" is the document. */
struct err *conf_refuse(const struct conf *c, const char *path, const char *fmt,
                        ...) MUST_USE PRINTF_LIKE(3, 4);

#endif
