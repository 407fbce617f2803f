#include "agent/guardian/dirty.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/guardian/place.h"
#include "common/base/mem.h"

/* Adds up two lines "NAME VALUE"; -1 when the file cannot be read or has neither. */
static int64_t sum_lines(const char *path, const char *one, const char *other)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    char name[64];
    int64_t value, sum = -1;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63s %" SCNd64, name, &value) != 2)
            continue;
        if (strcmp(name, one) == 0 || strcmp(name, other) == 0)
            sum = (sum < 0 ? 0 : sum) + value;
    }
    fclose(f);
    return sum;
}

/* Absent without the memory controller. */
static int64_t of_cgroup(const struct config *c, const struct config_partition *p)
{
    AUTO(str) char *mount = NULL;
    AUTO(err) struct err *none = place_cgroup_mount(&mount);
    if (none)
        return -1;
    AUTO(str)
    char *path = mem_printf("%s%s/memory.stat", mount, place_domain_cgroup(c, p));
    return sum_lines(path, "file_dirty", "file_writeback");
}

int64_t dirty_bytes(const struct config *c, const struct config_partition *p)
{
    int64_t n = p->quiesce.method == CONFIG_CGROUP ? of_cgroup(c, p) : -1;
    if (n >= 0)
        return n;
    n = sum_lines("/proc/meminfo", "Dirty:", "Writeback:");
    return n < 0 ? 0 : n * 1024;
}
