/* A directory's list in little memory: its entries one behind the other in one piece,
 * found by position or name. About 75 bytes an entry, its name, and 32 bytes for each
 * piece of a file. Names of users and groups are left out. Pure. */
#ifndef COMMON_ENGINE_DIRLIST_H
#define COMMON_ENGINE_DIRLIST_H

#include <stdbool.h>
#include <stddef.h>

#include "common/repo/tree.h"

/* A zeroed struct is an empty list. */
struct dirlist {
    struct buf bytes;
    uint32_t *at; /* where each entry begins */
    size_t n;
    size_t cap;
    uint64_t device_id; /* of most entries */
};
void dirlist_fini(struct dirlist *l);
/* Appends a copy of an entry. Needs: its name is behind all others'. */
void dirlist_add(struct dirlist *l, const struct node *nd);
/* Gives back the room kept for more entries. */
void dirlist_trim(struct dirlist *l);
/* What it takes. */
size_t dirlist_bytes(const struct dirlist *l);

/* An entry that is looked at, borrowed from its list. */
struct dirlist_entry {
    struct node node; /* not for node_fini; without user, group and attributes */
    const char *attrs;
};
/* Needs: at < l->n. */
void dirlist_get(const struct dirlist *l, size_t at, struct dirlist_entry *out);
const char *dirlist_name(const struct dirlist *l, size_t at);
/* By binary search; false: there is none. */
bool dirlist_find(const struct dirlist *l, const char *name, struct dirlist_entry *out);

/* The extended attributes, one at each call, from *at = e->attrs on; false: no more. */
struct dirlist_attr {
    const char *name;
    const void *value;
    size_t n;
};
bool dirlist_next_attr(const char **at, struct dirlist_attr *out);

#endif
