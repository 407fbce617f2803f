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

/* Where an id would be if nothing had been in its way: digests are uniform,
 * so their first bytes are the hash. */
static size_t home(const struct idset *s, const struct digest *id)
{
    uint64_t h;
    memcpy(&h, id->b, sizeof h);
    return h & (s->cap - 1);
}

/* The slot that holds the id, or the free one where it belongs. */
static size_t find(const struct idset *s, const struct digest *id)
{
    size_t i = home(s, id);
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

/* What follows in the same run moves up, so that no search stops at the hole. */
bool idset_remove(struct idset *s, const struct digest *id)
{
    if (!s->cap)
        return false;
    size_t mask = s->cap - 1, hole = find(s, id);
    if (!s->used[hole])
        return false;
    for (size_t i = (hole + 1) & mask; s->used[i]; i = (i + 1) & mask) {
        size_t distance = (i - home(s, &s->slots[i])) & mask;
        if (distance < ((i - hole) & mask))
            continue;
        s->slots[hole] = s->slots[i];
        hole = i;
    }
    s->used[hole] = 0;
    s->count--;
    return true;
}

bool idset_has(const struct idset *s, const struct digest *id)
{
    return s->cap && s->used[find(s, id)];
}
