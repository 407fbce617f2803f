#include "agent/guardian/mappings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* PROCMAP_QUERY of linux/fs.h, which older headers do not have. */
struct query {
    uint64_t size, flags, from;
    uint64_t start, end, vma_flags, page_size, offset, inode;
    uint32_t dev_major, dev_minor, name_size, build_id_size;
    uint64_t name, build_id;
};
#define QUERY _IOWR('f', 17, struct query)
enum { WRITABLE = 0x02, SHARED = 0x08, COVERING_OR_NEXT = 0x10, FILE_BACKED = 0x20 };

/* True unless this kernel cannot be asked; then nothing has been searched. */
static bool ask(int fd, mappings_match *match, const void *ctx, char *path, unsigned size,
                bool *found)
{
    struct query q = {.size = sizeof(q),
                      .flags = WRITABLE | SHARED | COVERING_OR_NEXT | FILE_BACKED,
                      .name = (uintptr_t)path};
    for (*found = false; !*found; q.from = q.end) {
        q.name_size = size;
        if (ioctl(fd, QUERY, &q) != 0)
            return errno != ENOTTY && errno != EINVAL && errno != ENAMETOOLONG;
        *found = q.name_size > 0 && match(ctx, path);
    }
    return true;
}

/* "address perms offset dev inode   path" */
static bool read_all(int fd, mappings_match *match, const void *ctx, char *path,
                     unsigned size)
{
    FILE *f = fdopen(dup(fd), "re");
    if (!f)
        return false;
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    while (!found && getline(&line, &cap, f) > 0) {
        char perms[8] = "";
        const char *file = strchr(line, '/');
        if (!file || sscanf(line, "%*s %7s", perms) != 1 || perms[1] != 'w' ||
            perms[3] != 's')
            continue;
        snprintf(path, size, "%.*s", (int)strcspn(file, "\n"), file);
        found = match(ctx, path);
    }
    free(line);
    fclose(f);
    return found;
}

bool mappings_find(int pid, enum mappings_way way, mappings_match *match, const void *ctx,
                   char *path, unsigned size)
{
    char maps[32];
    snprintf(maps, sizeof(maps), "/proc/%d/maps", pid);
    int fd = open(maps, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool found;
    if (way == MAPPINGS_READ || !ask(fd, match, ctx, path, size, &found))
        found = read_all(fd, match, ctx, path, size);
    close(fd);
    return found;
}
