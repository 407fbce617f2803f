#include "common/mount/view.h"

#include <string.h>

#include "common/base/mem.h"
#include "tests/unit/suite.h"

/* A snapshot numbered `id`, with tags up to the NULL. */
static void fill(struct snapshot *s, uint8_t id, int64_t sec, const char *const *tags)
{
    *s = (struct snapshot){.time = {sec, 5}, .hostname = mem_strdup("host")};
    memset(s->id.b, id, sizeof s->id.b);
    s->tree.b[0] = id;
    strings_add(&s->paths, "/data/p");
    for (; *tags; tags++)
        strings_add(&s->tags, *tags);
}

static const struct view *walk(const struct view *v, const char *path)
{
    AUTO(str) char *copy = mem_strdup(path);
    char *rest = copy, *part;
    while (v && (part = strsep(&rest, "/")))
        v = view_find(v, part);
    return v;
}

START_TEST(sets_groups_and_times_lead_to_snapshots)
{
    static const char *const one[] = {"stillpoint", "group=g", "set=s1", "partition=p",
                                      NULL};
    static const char *const two[] = {"stillpoint", "group=g", "set=s1", "partition=q",
                                      NULL};
    static const char *const three[] = {"stillpoint", "group=g", "set=s2", "partition=p",
                                        NULL};
    static const char *const foreign[] = {"daily", NULL};
    struct snapshot list[4];
    fill(&list[0], 1, 1000, one);
    fill(&list[1], 2, 1000, two);
    fill(&list[2], 3, 2000, three);
    fill(&list[3], 4, 3000, foreign);
    struct view *v = view_new(list, 4);
    const struct view *p = walk(v, "sets/s1/p");
    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(p->kind, VIEW_SNAPSHOT);
    ck_assert_int_eq(p->tree.b[0], 1);
    ck_assert_str_eq(p->path, "/data/p");
    ck_assert_int_eq(walk(v, "sets/s1/q")->tree.b[0], 2);
    ck_assert_uint_eq(walk(v, "sets")->n, 2);
    ck_assert_str_eq(walk(v, "groups/g/latest")->target, "../../sets/s2");
    ck_assert_str_eq(walk(v, "groups/g/1970-01-01T00:16:40Z")->target, "../../sets/s1");
    ck_assert_uint_eq(walk(v, "groups/g")->n, 3); /* a set's parts share one */
    ck_assert_str_eq(walk(v, "times/1970-01-01T00:50:00Z")->target,
                     "../snapshots/04040404");
    ck_assert_str_eq(walk(v, "snapshots/04040404")->path, "/");
    ck_assert_uint_eq(walk(v, "snapshots")->n, 4);
    view_free(v);
    for (int i = 0; i < 4; i++)
        snapshot_fini(&list[i]);
}
END_TEST

/* Whoever can write the repository chooses the tags. */
START_TEST(tags_cannot_make_paths)
{
    static const char *const tags[][4] = {
        {"set=..", "partition=.", NULL},        {"set=a/../b", "partition=/etc", NULL},
        {"set=", "partition=", "group=", NULL}, {"set=x\ny", "group=../..", NULL},
        {"set=a/../b", "partition=/etc", NULL},
    };
    struct snapshot list[5];
    for (uint8_t i = 0; i < 5; i++)
        fill(&list[i], i, i, tags[i]);
    struct view *v = view_new(list, 5);
    const struct view *sets = walk(v, "sets");
    for (size_t i = 0; i < sets->n; i++) {
        ck_assert_ptr_null(strchr(sets->items[i]->name, '/'));
        ck_assert_str_ne(sets->items[i]->name, "..");
        for (size_t k = 0; k < sets->items[i]->n; k++) {
            ck_assert_ptr_null(strchr(sets->items[i]->items[k]->name, '/'));
            ck_assert_str_ne(sets->items[i]->items[k]->name, ".");
        }
    }
    ck_assert_ptr_nonnull(walk(v, "sets/a_.._b/_etc"));
    ck_assert_ptr_nonnull(walk(v, "sets/a_.._b/_etc@host")); /* the same name twice */
    ck_assert_ptr_null(view_find(walk(v, "groups"), ".."));
    view_free(v);
    for (int i = 0; i < 5; i++)
        snapshot_fini(&list[i]);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("view");
    tcase_add_test(tc, sets_groups_and_times_lead_to_snapshots);
    tcase_add_test(tc, tags_cannot_make_paths);
    return suite_main("mount view", tc);
}
