#include "common/repo/idset.h"

#include <stdint.h>
#include <string.h>

#include "common/base/mem.h"

void idset_fini(struct idset *s)
{
    free(s->slots);
    free(s->used);
    *s = (struct idset){0};
}

/* The slot that holds the id, or the free one where it belongs. Digests are uniform, so
 * their first bytes are the hash. */
static size_t find(const struct idset *s, const struct digest *id)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof h);
    size_t i = h & (s->cap - 1);
    while (s->used[i] && !digest_equal(&s->slots[i], id))
        i = (i + 1) & (s->cap - 1);
    return i;
}

static void grow(struct idset *s)
{
    struct idset bigger = {.cap = s->cap ? s->cap * 2 : 64, .count = s->count};
    bigger.slots = mem_array(bigger.cap, sizeof *bigger.slots);
    bigger.used = mem_array(bigger.cap, 1);
    for (size_t i = 0; i < s->cap; i++) {
        if (!s->used[i])
            continue;
        size_t to = find(&bigger, &s->slots[i]);
        bigger.slots[to] = s->slots[i];
        bigger.used[to] = 1;
    }
    idset_fini(s);
    *s = bigger;
}

bool idset_add(struct idset *s, const struct digest *id)
{
    if (s->count * 4 >= s->cap * 3)
        grow(s);
    size_t i = find(s, id);
    if (s->used[i])
        return false;
    s->slots[i] = *id;
    s->used[i] = 1;
    s->count++;
    return true;
}

bool idset_has(const struct idset *s, const struct digest *id)
{
    return s->cap && s->used[find(s, id)];
}
