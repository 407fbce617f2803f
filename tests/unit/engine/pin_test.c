/* Pinning snapshots that exist, alone and as part of a set. */
#include "common/engine/pin.h"

#include "common/engine/backup.h"
#include "common/engine/retain.h"
#include "tests/unit/engine/temp_repo.h"
#include "tests/unit/store/fault_store.h"

static void set_up(void)
{
    temp_enter();
}

static struct repo *open_with(fault_script *script, void *ctx)
{
    struct store *store = NULL;
    struct repo *r = NULL;
    ck_ok(store_open(temp_path("repo"), STORE_RECLAIM, &store));
    if (script)
        store = fault_wrap(store, script, ctx);
    ck_ok(repo_open(store, "pw", 2, &r));
    return r;
}

static struct digest make(const char *const *tags, size_t n)
{
    struct digest id;
    AUTO(repo) struct repo *r = temp_open(true);
    const struct backup_opts o = {.hostname = "h",
                                  .path = "/p",
                                  .time = {1700000000, 0},
                                  .tags = tags,
                                  .tags_n = n};
    const struct backup_memory_file file = {"f", "text", 4};
    ck_ok(backup_memory(r, &o, &file, 1, &id));
    return id;
}

static struct err *pin_with(struct repo *r, const struct digest *id, bool unpin,
                            const char *label)
{
    char hex[65];
    const char *const names[] = {hex, hex};
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    AUTO(repo_lock) struct repo_lock *lock = NULL;
    ck_ok(repo_lock(r, false, &lock));
    const struct pin_opts o = {.unpin = unpin, .label = label, .lock = lock};
    digest_hex(id, hex);
    return pin_run(io, names, 2, &o);
}

static struct err *pin(const struct digest *id, bool unpin, const char *label)
{
    AUTO(repo) struct repo *r = open_with(NULL, NULL);
    return pin_with(r, id, unpin, label);
}

/* The only snapshot whose first id is the given one. */
static struct snapshot find(const struct digest *first, size_t *all)
{
    struct snapshot *list = NULL, found = {0};
    AUTO(repo) struct repo *r = temp_open(false);
    AUTO(repo_io) struct repo_io *io = repo_io_new(r);
    ck_ok(repo_snapshots(io, &list, all));
    for (size_t i = 0; i < *all; i++) {
        const struct digest *id = list[i].has_original ? &list[i].original : &list[i].id;
        if (!digest_equal(id, first))
            continue;
        ck_assert_ptr_null(found.hostname);
        found = list[i];
        list[i] = (struct snapshot){0};
    }
    ck_assert_ptr_nonnull(found.hostname);
    repo_free_snapshots(list, *all);
    return found;
}

START_TEST(a_pin_comes_and_goes_and_nothing_else_changes)
{
    static const char *const tags[] = {"daily"};
    const struct digest first = make(tags, 1);
    size_t n = 0;
    ck_ok(pin(&first, false, "audit"));
    struct snapshot s = find(&first, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert(retain_is_pinned(&s));
    ck_assert(strings_has(&s.tags, "pin=audit") && strings_has(&s.tags, "daily"));
    ck_assert(s.has_original && !digest_equal(&s.id, &first));
    ck_assert_int_eq(s.time.sec, 1700000000);
    const struct digest pinned = s.id;
    snapshot_fini(&s);
    ck_ok(pin(&pinned, false, "audit")); /* nothing to do: the same id */
    s = find(&first, &n);
    ck_assert(digest_equal(&s.id, &pinned));
    snapshot_fini(&s);
    ck_ok(pin(&pinned, true, "other"));
    s = find(&first, &n);
    ck_assert(retain_is_pinned(&s));
    snapshot_fini(&s);
    ck_ok(pin(&pinned, true, NULL));
    s = find(&first, &n);
    ck_assert(!retain_is_pinned(&s) && strings_has(&s.tags, "daily"));
    ck_assert_uint_eq(n, 1);
    snapshot_fini(&s);
    ck_err(pin(&first, false, NULL), ERR_NOT_FOUND);
}
END_TEST

START_TEST(labels_that_others_cannot_write_are_refused)
{
    const struct digest first = make(NULL, 0);
    ck_err(pin(&first, false, "a,b"), ERR_INVALID);
    ck_err(pin(&first, false, ""), ERR_INVALID);
    ck_err(pin(&first, false, "a\nb"), ERR_INVALID);
    ck_err(pin(&first, false, "\xff"), ERR_INVALID);
}
END_TEST

/* The record lists its parts by their ids. */
START_TEST(a_part_stands_for_its_sets_record)
{
    static const char *const part_tags[] = {"set=a", "partition=p"};
    static const char *const record_tags[] = {"stillpoint-set", "set=a"};
    const struct digest part = make(part_tags, 2);
    size_t n = 0;
    ck_err(pin(&part, false, NULL), ERR_INVALID);
    const struct digest record = make(record_tags, 2);
    ck_ok(pin(&part, false, NULL));
    struct snapshot s = find(&part, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert(!s.has_original && !retain_is_pinned(&s));
    snapshot_fini(&s);
    s = find(&record, &n);
    ck_assert(retain_is_pinned(&s) && strings_has(&s.tags, "set=a"));
    snapshot_fini(&s);
}
END_TEST

static enum fault fail_removal(void *ctx, const struct store_call *call)
{
    bool hit = call->op == STORE_REMOVE && strncmp(call->name, "snapshots/", 10) == 0;
    *(bool *)ctx |= hit;
    return hit ? FAULT_BROKEN : FAULT_NONE;
}

START_TEST(half_a_pin_is_finished_by_the_next)
{
    const struct digest first = make(NULL, 0);
    bool hit = false;
    size_t n = 0;
    struct repo_file *files = NULL;
    struct repo *r = open_with(fail_removal, &hit);
    ck_err(pin_with(r, &first, false, NULL), ERR_IO);
    ck_assert(hit);
    ck_ok(repo_list(r, REPO_SNAPSHOT, &files, &n));
    ck_assert_uint_eq(n, 2);
    free(files);
    repo_close(r);
    ck_ok(pin(&first, false, NULL));
    struct snapshot s = find(&first, &n);
    ck_assert_uint_eq(n, 1);
    ck_assert(retain_is_pinned(&s));
    snapshot_fini(&s);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("pin");
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, temp_make_dir, temp_tear_down);
    tcase_add_checked_fixture(tc, set_up, NULL);
    tcase_add_test(tc, a_pin_comes_and_goes_and_nothing_else_changes);
    tcase_add_test(tc, labels_that_others_cannot_write_are_refused);
    tcase_add_test(tc, a_part_stands_for_its_sets_record);
    tcase_add_test(tc, half_a_pin_is_finished_by_the_next);
    return suite_main("engine pin", tc);
}
