/* What a configuration file may say, as a table: each key with its type, its limits, its
 * default and the struct member it fills. Binding checks everything, refuses unknown keys
 * by naming the nearest known one, and leaves a complete struct. Any thread.
 *
 *     struct app { char *name; int64_t hold_ms; char **peers; size_t n_peers; };
 *     static const struct schema_field fields[] = {
 *         {"name", SCHEMA_NAME, .offset = offsetof(struct app, name), .required = true},
 *         {"hold_limit", SCHEMA_DURATION, .offset = offsetof(struct app, hold_ms),
 *          .fallback = "10s", .min = 100, .max = 60000},
 *         {"peers", SCHEMA_STRS, .offset = offsetof(struct app, peers),
 *          .count = offsetof(struct app, n_peers)},
 *     };
 *     static const struct schema app_schema = {sizeof(struct app), fields, 3};
 *
 * A struct starts zeroed. What schema_bind filled is freed by schema_release. */
#ifndef COMMON_CONF_SCHEMA_H
#define COMMON_CONF_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/conf/conf.h"

#define SCHEMA_MAX_TEXT 4096 /* bytes of one string */
#define SCHEMA_MAX_NAME 63   /* bytes of a SCHEMA_NAME */

/* The type of a key's value, and of the member it fills (in brackets). */
enum schema_type {
    SCHEMA_STR,  /* text, not empty [char *, owned; NULL when absent] */
    SCHEMA_NAME, /* a-z 0-9 . _ -, starting with a letter or digit [char *] */
    SCHEMA_PATH, /* absolute, normal form: no //, /./, /../ or / at the end [char *] */
    SCHEMA_BOOL, /* true or false [bool] */
    SCHEMA_INT,  /* whole number [int64_t] */
    SCHEMA_DURATION, /* 250ms, 10s, 5m [int64_t, milliseconds] */
    SCHEMA_SIZE,     /* 64KiB, 16MiB [uint64_t, bytes] */
    SCHEMA_ENUM,     /* one of .names [int, its index] */
    SCHEMA_STRS,     /* list of texts [char **, owned; .count] */
    SCHEMA_PAIRS,    /* map of text to text [struct schema_pair *, owned; .count] */
    SCHEMA_OBJECT,   /* map [struct of .schema; absent: its defaults, if any] */
    SCHEMA_OPTIONAL, /* map [pointer to struct of .schema, owned; NULL when absent] */
    SCHEMA_OBJECTS,  /* list of maps [pointer to array of .schema structs; .count] */
};

struct schema_pair {
    char *key;   /* owned */
    char *value; /* owned; may be "" */
};

struct schema;

struct schema_field {
    const char *key;
    enum schema_type type;
    size_t offset;            /* of the member */
    bool required;            /* refused when absent; in an absent OBJECT not asked for */
    const char *fallback;     /* default of a scalar, as it would be written */
    int64_t min, max;         /* of INT, DURATION (ms), SIZE (bytes); 0, 0: any >= 0.
                               * Of STRS, PAIRS, OBJECTS: how many; max 0: 10,000 */
    const char *const *names; /* ENUM: NULL-terminated */
    const struct schema *schema; /* OBJECT, OPTIONAL, OBJECTS */
    size_t count;                /* offset of the size_t beside STRS, PAIRS, OBJECTS */
    /* One more check of a text or of each text of STRS, or NULL; its INVALID error needs
     * to name neither file nor key. */
    struct err *(*check)(const char *text);
};

struct schema {
    size_t bytes; /* size of the struct */
    const struct schema_field *fields;
    size_t n;
};

/* Fills *out (schema->bytes large, overwritten) from the document. On error *out is
 * zeroed and owns nothing. INVALID names file, line, column and key. */
struct err *schema_bind(const struct conf *c, const struct schema *schema,
                        void *out) MUST_USE;
/* Frees everything schema_bind put into *obj and zeroes it; a zeroed one is fine. */
void schema_release(const struct schema *schema, void *obj);

#endif
