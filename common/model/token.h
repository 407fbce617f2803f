/* Fencing tokens: who may act on a domain (invariant I3). Pure. */
#ifndef COMMON_MODEL_TOKEN_H
#define COMMON_MODEL_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

/* Revisions repeat after etcd is restored from a backup, hence the incarnation, which
 * restore and rebuild replace before any lock is granted. */
struct token {
    uint8_t incarnation[16];
    int64_t revision; /* create_revision of the group's lock key; 0: no token yet */
};

enum token_order {
    TOKEN_SAME,
    TOKEN_OLDER,   /* a was granted before b */
    TOKEN_NEWER,   /* a was granted after b */
    TOKEN_FOREIGN, /* of another incarnation: neither order exists */
};

/* How `a` stands to `b`. No token yet (revision 0) is older than every token. */
enum token_order token_compare(const struct token *a, const struct token *b);
bool token_is_set(const struct token *t);

#endif
