#include "common/mount/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/mem.h"

enum { NAME_LIMIT = 200 };

void view_free(struct view *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->n; i++)
        view_free(v->items[i]);
    free(v->items);
    free(v->name);
    free(v->target);
    free(v->path);
    free(v);
}

/* Tags are free text of whoever wrote the repository: a name for them that is one
 * component of a path. */
static char *safe_name(const char *text)
{
    char *name = mem_strndup(text, NAME_LIMIT);
    for (char *p = name; *p; p++)
        if (*p == '/' || (unsigned char)*p < ' ')
            *p = '_';
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        free(name);
        return mem_strdup("_");
    }
    return name;
}

/* Where an entry is, or belongs. */
static size_t place_of(const struct view *dir, const char *name, bool *found)
{
    size_t low = 0, high = dir->n;
    *found = false;
    while (low < high && !*found) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(dir->items[mid]->name, name);
        *found = order == 0;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
        if (*found)
            return mid;
    }
    return low;
}

const struct view *view_find(const struct view *dir, const char *name)
{
    bool found = false;
    size_t at = place_of(dir, name, &found);
    return found ? dir->items[at] : NULL;
}

/* Adds an entry; takes the name over. NULL if there is one of that name. */
static struct view *add(struct view *dir, enum view_kind kind, char *name,
                        struct go_time time)
{
    bool found = false;
    size_t at = place_of(dir, name, &found);
    if (found) {
        free(name);
        return NULL;
    }
    struct view *v = mem_zalloc(sizeof *v);
    v->kind = kind;
    v->name = name;
    v->time = time;
    mem_reserve((void **)&dir->items, &dir->cap, dir->n, sizeof(struct view *));
    memmove(dir->items + at + 1, dir->items + at, (dir->n - at) * sizeof(struct view *));
    dir->items[at] = v;
    dir->n++;
    return v;
}

/* The directory of that name, made when it is missing. */
static struct view *dir_in(struct view *dir, const char *text, struct go_time time)
{
    bool found = false;
    char *name = safe_name(text);
    size_t at = place_of(dir, name, &found);
    if (!found)
        return add(dir, VIEW_DIR, name, time);
    free(name);
    return dir->items[at]->kind == VIEW_DIR ? dir->items[at] : NULL;
}

static void add_snapshot(struct view *dir, char *name, const struct snapshot *s,
                         const char *path)
{
    struct view *v = add(dir, VIEW_SNAPSHOT, name, s->time);
    if (!v)
        return;
    v->id = s->id;
    v->tree = s->tree;
    v->path = mem_strdup(path);
}

static void add_link(struct view *dir, char *name, const struct snapshot *s, char *target)
{
    struct view *v = add(dir, VIEW_LINK, name, s->time);
    if (v)
        v->target = target;
    else
        free(target);
}

/* The value of a tag KEY=VALUE, or NULL. */
static const char *tag_of(const struct snapshot *s, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < s->tags.n; i++)
        if (strncmp(s->tags.items[i], key, n) == 0 && s->tags.items[i][n] == '=')
            return s->tags.items[i] + n + 1;
    return NULL;
}

static char *time_name(struct go_time t)
{
    char text[64];
    struct tm tm;
    time_t sec = (time_t)t.sec;
    if (!gmtime_r(&sec, &tm) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        return mem_strdup("unknown");
    return mem_strdup(text);
}

/* A link named by the time. Two of the same second: the later one gets its id as well. */
static void add_time(struct view *dir, const struct snapshot *s, const char *id,
                     char *target)
{
    char *name = time_name(s->time);
    const struct view *there = view_find(dir, name);
    bool same = there && there->target && strcmp(there->target, target) == 0;
    if (same) {
        free(name);
        free(target);
        return;
    }
    if (there) {
        char *longer = mem_printf("%s_%.8s", name, id);
        free(name);
        name = longer;
    }
    add_link(dir, name, s, target);
}

/* One part of a set; nodes may have partitions of the same name. */
static void add_part(struct view *sets, const struct snapshot *s, const char *set)
{
    struct view *dir = dir_in(sets, set, s->time);
    const char *partition = tag_of(s, "partition");
    if (!dir)
        return;
    char *name = safe_name(partition ? partition : ".set");
    if (view_find(dir, name)) {
        AUTO(str) char *full = mem_printf("%s@%s", name, s->hostname);
        free(name);
        name = safe_name(full);
    }
    add_snapshot(dir, name, s, s->paths.n == 1 && partition ? s->paths.items[0] : "/");
}

static void add_group(struct view *groups, const struct snapshot *s, const char *group,
                      const char *id, const char *set)
{
    struct view *dir = dir_in(groups, group, s->time);
    if (!dir)
        return;
    AUTO(str) char *name = safe_name(set);
    add_time(dir, s, id, mem_printf("../../sets/%s", name));
    /* Snapshots come oldest first. */
    struct view *latest = (struct view *)(uintptr_t)view_find(dir, "latest");
    if (!latest)
        latest = add(dir, VIEW_LINK, mem_strdup("latest"), s->time);
    free(latest->target);
    latest->target = mem_printf("../../sets/%s", name);
    latest->time = s->time;
}

static void add_one(struct view *root, const struct snapshot *s)
{
    const struct go_time none = {0};
    const char *set = tag_of(s, "set");
    const char *group = tag_of(s, "group");
    struct view *times = dir_in(root, "times", none);
    char hex[65];
    digest_hex(&s->id, hex);
    add_snapshot(dir_in(root, "snapshots", none), mem_strndup(hex, 8), s, "/");
    if (!set) {
        add_time(times, s, hex, mem_printf("../snapshots/%.8s", hex));
        return;
    }
    AUTO(str) char *name = safe_name(set);
    add_part(dir_in(root, "sets", none), s, set);
    add_time(times, s, hex, mem_printf("../sets/%s", name));
    if (group)
        add_group(dir_in(root, "groups", none), s, group, hex, set);
}

struct view *view_new(const struct snapshot *list, size_t n)
{
    static const char *const tops[] = {"groups", "sets", "snapshots", "times"};
    const struct go_time none = {0};
    struct view *root = mem_zalloc(sizeof *root);
    root->name = mem_strdup("");
    for (size_t i = 0; i < ARRAY_LEN(tops); i++)
        dir_in(root, tops[i], none);
    for (size_t i = 0; i < n; i++)
        add_one(root, &list[i]);
    return root;
}
