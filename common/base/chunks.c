#include "common/base/chunks.h"

#include <stdlib.h>
#include <string.h>

static struct err *parse_size(const char *text, size_t *out)
{
    char *unit = NULL;
    unsigned long n = text[0] >= '1' && text[0] <= '9' ? strtoul(text, &unit, 10) : 0;
    unsigned shift = n && strcmp(unit, "KiB") == 0   ? 10
                     : n && strcmp(unit, "MiB") == 0 ? 20
                                                     : 0;
    bool ok = shift && n <= (unsigned long)CHUNKS_MAX >> shift && (n & (n - 1)) == 0;
    if (!ok || n << shift < CHUNKS_MIN)
        return err_new(
            ERR_INVALID,
            "'%s' is neither files, database, nor a power of two from 4KiB to 8MiB",
            text);
    *out = n << shift;
    return NULL;
}

struct err *chunks_parse(const char *text, struct chunks *out)
{
    *out = (struct chunks){.database = strcmp(text, "database") == 0};
    if (out->database || strcmp(text, "files") == 0)
        return NULL;
    return parse_size(text, &out->bytes);
}

void chunks_count(struct chunks_sum *s, uint64_t file_bytes)
{
    uint64_t bytes = CHUNKS_DATABASE;
    for (size_t i = 0; i < ARRAY_LEN(s->pieces); i++, bytes *= 2)
        s->pieces[i] += file_bytes / bytes + (file_bytes % bytes != 0);
}

size_t chunks_bytes(const struct chunks *c, const struct chunks_sum *s)
{
    if (!c->database)
        return c->bytes;
    size_t i = 0, last = ARRAY_LEN(s->pieces) - 1;
    while (i < last && s->pieces[i] > CHUNKS_DIR_MAX)
        i++;
    return (size_t)CHUNKS_DATABASE << i;
}
