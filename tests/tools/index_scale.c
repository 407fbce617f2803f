/* How much memory the index of known blobs takes:
 *
 *   index_scale DIR BLOBS     makes an index of so many blobs, compacting it into DIR as
 * a repository does, then looks up a hundredth of them
 *
 * Prints bytes of the file, bytes a blob, and the peak of memory that is not the file's.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/mem.h"
#include "common/repo/index_cache.h"

enum { PACK_BLOBS = 100 };
static const char name[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void check(struct err *e)
{
    if (e)
        errx(1, "%s", err_text(e));
}

/* Anonymous memory now, in KiB. */
static long anonymous_kib(void)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "RssAnon:", 8) == 0)
            kib = strtol(line + 8, NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

static void add_pack(struct index *ix, unsigned long i)
{
    struct blob_entry list[PACK_BLOBS];
    struct digest pack;
    for (unsigned long j = 0; j < PACK_BLOBS; j++) {
        unsigned long number = i * PACK_BLOBS + j;
        list[j] = (struct blob_entry){
            .offset = (uint32_t)j * 1000, .length = 1000, .plain = 3000};
        hash_bytes(&number, sizeof number, &list[j].id);
    }
    hash_bytes(list, sizeof list, &pack);
    check(index_add_pack(ix, &pack, list, PACK_BLOBS));
}

int main(int argc, char **argv)
{
    struct index ix = {0};
    struct digest file = {{1}};
    const struct index_covered files = {&file, 1};
    struct stat st;
    long peak = 0;
    unsigned long blobs = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (!blobs)
        errx(2, "usage: index_scale DIR BLOBS");
    clock_t from = clock();
    for (unsigned long i = 0; i < blobs / PACK_BLOBS; i++) {
        add_pack(&ix, i);
        if (!index_cache_is_due(&ix, false))
            continue;
        peak = anonymous_kib() > peak ? anonymous_kib() : peak;
        check(index_cache_compact(argv[1], name, index_packs(&ix), &files, &ix));
    }
    check(index_cache_compact(argv[1], name, index_packs(&ix), &files, &ix));
    for (unsigned long i = 0; i < blobs / PACK_BLOBS; i++) {
        struct digest id;
        unsigned long number = i * PACK_BLOBS;
        hash_bytes(&number, sizeof number, &id);
        if (!index_has(&ix, BLOB_DATA, &id))
            errx(1, "blob %lu is missing", number);
    }
    AUTO(str) char *path = mem_printf("%s/%s/index", argv[1], name);
    if (stat(path, &st))
        err(1, "%s", path);
    printf("%zu blobs, file of %lld bytes (%.1f a blob), %.1f MiB of other memory, %.1f "
           "CPU-s\n",
           index_blobs(&ix), (long long)st.st_size,
           (double)st.st_size / (double)index_blobs(&ix), (double)peak / 1024,
           (double)(clock() - from) / CLOCKS_PER_SEC);
    index_fini(&ix);
    return 0;
}
