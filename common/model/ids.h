/* Names and ids of everything the protocol speaks of. One-field structs, so that two
 * kinds cannot be swapped silently. Pure. */
#ifndef COMMON_MODEL_IDS_H
#define COMMON_MODEL_IDS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"

enum {
    NAME_BYTES = 64,    /* of a name with its NUL */
    DOMAIN_BYTES = 192, /* of a freeze domain's id with its NUL */
    CAPTURE_BYTES = 160,
};

struct node_id {
    char text[NAME_BYTES];
};
struct group_id {
    char text[NAME_BYTES];
};
struct set_id {
    char text[NAME_BYTES];
};
struct part_id {
    char text[NAME_BYTES]; /* unique on its node */
};
struct domain_id {
    char text[DOMAIN_BYTES]; /* "<node>/<kind>:<what>" */
};
struct capture_id {
    char text[CAPTURE_BYTES]; /* "<set>.<partition>" */
};

/* True for 1 to 63 of a-z 0-9 . _ - that do not begin with a dot or dash: safe in etcd
 * keys, file names and certificates alike. */
bool name_is_valid(const char *text);

/* Copies a valid name; INVALID naming `what` otherwise. `to` holds NAME_BYTES. */
struct err *name_copy(char *to, const char *text, const char *what) MUST_USE;
/* Copies a domain id: printable, not empty, fits; INVALID otherwise. */
struct err *domain_copy(struct domain_id *to, const char *text) MUST_USE;

/* The id of the capture of one partition in one set. */
void capture_id_make(const struct set_id *set, const struct part_id *part,
                     struct capture_id *out);

#endif
