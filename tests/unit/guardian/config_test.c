#include "agent/shell/config.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "tests/unit/suite.h"

static char dir[] = "/tmp/config_test.XXXXXX";
static char *file;

static void setup(void)
{
    strcpy(dir, "/tmp/config_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    file = mem_printf("%s/agent.yaml", dir);
}

static void teardown(void)
{
    unlink(file);
    rmdir(dir);
    free(file);
}

/* Writes a file whose partitions are `partitions`, and reads it. */
static struct err *read_with(const char *partitions, struct config **out)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f,
            "cluster: c\n"
            "node: n\n"
            "listen: 127.0.0.1:7000\n"
            "coordinators: ['10.0.0.1:7001', coord:7001]\n"
            "tls: {ca: /ca, cert: /cert, key: /key}\n"
            "state_dir: %s\n"
            "partitions:\n%s",
            dir, partitions);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(file, 0600), 0);
    return config_read(file, out);
}

/* Fails unless the partitions are refused with words that hold all the parts. */
static void expect_refusal(const char *partitions, const char *const *parts)
{
    struct config *c = NULL;
    struct err *e = read_with(partitions, &c);
    ck_assert_msg(e != NULL, "accepted: %s", partitions);
    AUTO(str) char *text = err_text(e);
    ck_assert_msg(e->kind == ERR_INVALID, "%s", text);
    for (; *parts; parts++)
        ck_assert_msg(strstr(text, *parts) != NULL, "'%s' not in: %s", *parts, text);
    err_free(e);
}
#define REFUSED(partitions, ...)                                                         \
    expect_refusal((partitions), (const char *const[]){__VA_ARGS__, NULL})

START_TEST(a_full_file_is_read)
{
    AUTO(config) struct config *c = NULL;
    ck_ok(read_with(" - name: db\n"
                    "   path: /srv/db\n"
                    "   labels: {tier: gold}\n"
                    "   quiesce: {method: cgroup, cgroup: /system.slice/db.service}\n"
                    "   capture: {method: btrfs}\n"
                    "   exclude: ['/tmp', '*.pid']\n"
                    " - name: web\n"
                    "   path: /srv/web\n"
                    "   quiesce:\n"
                    "     method: hook\n"
                    "     timeout: 2s\n"
                    "     hook: {freeze: [/bin/a, x], thaw: [/bin/b]}\n"
                    "   capture: {method: copy, dir: /var/captures}\n"
                    " - {name: old, path: /srv/old, read_only: true,\n"
                    "    quiesce: {method: none}, capture: {method: copy}}\n"
                    "repositories:\n"
                    " - {name: main, url: 's3:x/y', password_file: /etc/pw}\n",
                    &c));
    ck_assert_uint_eq(c->n_partitions, 3);
    const struct config_partition *db = config_partition(c, "db");
    ck_assert_str_eq(db->capture.dir, "/srv/db/.stillpoint");
    ck_assert_str_eq(db->quiesce.cgroup, "/system.slice/db.service");
    const struct config_partition *web = config_partition(c, "web");
    ck_assert_int_eq(web->quiesce.method, CONFIG_HOOK);
    ck_assert_int_eq(web->quiesce.timeout_ms, 2000);
    ck_assert_uint_eq(web->quiesce.hook->n_freeze, 2);
    ck_assert_str_eq(web->quiesce.hook->freeze[1], "x");
    ck_assert_str_eq(web->capture.dir, "/var/captures");
    AUTO(str) char *captures = mem_printf("%s/captures", dir);
    ck_assert_str_eq(config_partition(c, "old")->capture.dir, captures);
    ck_assert_str_eq(c->guardian_socket, "/run/stillpoint/guardian.sock");
    ck_assert_str_eq(c->repositories[0].url, "s3:x/y");
    ck_assert_ptr_null(config_partition(c, "nobody"));
}
END_TEST

START_TEST(captures_on_a_frozen_filesystem_are_refused)
{
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: fsfreeze}, capture: {method: "
            "btrfs}}\n",
            "agent.yaml:8:", "key 'partitions[0].capture.method'", "would block for ever",
            "choose quiesce cgroup or hook, or capture copy");
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: fsfreeze}, capture: {method: "
            "reflink}}\n",
            "would block for ever");
    /* /proc is mounted everywhere, and on no disk that matters. */
    REFUSED(" - {name: a, path: /proc, quiesce: {method: fsfreeze}, capture: {method: "
            "copy, dir: /proc/sys/x}}\n",
            "key 'partitions[0].capture.dir'", "choose a dir on another filesystem");
}
END_TEST

START_TEST(filesystems_that_must_go_on_are_not_frozen)
{
    REFUSED(" - {name: a, path: /, quiesce: {method: fsfreeze}, capture: {method: copy, "
            "dir: /proc/x}}\n",
            "key 'partitions[0].quiesce.method'", "the root filesystem",
            "choose quiesce cgroup or hook");
    /* The state lies in `dir`, on whatever filesystem /tmp is. */
    AUTO(str)
    char *partitions = mem_printf(
        " - {name: a, path: %s, quiesce: {method: fsfreeze}, capture: {method: "
        "copy, dir: /proc/x}}\n",
        dir);
    REFUSED(partitions, "fsfreeze would freeze");
}
END_TEST

START_TEST(cgroups_must_hold_writers_only)
{
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: cgroup, cgroup: /}, capture: "
            "{method: btrfs}}\n",
            "the root cgroup cannot be frozen");
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: cgroup}, capture: {method: "
            "btrfs}}\n",
            "needs 'cgroup: PATH'");
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: none, cgroup: /x}, capture: "
            "{method: btrfs}}\n",
            "has no effect with method none");
}
END_TEST

START_TEST(hooks_are_complete_and_absolute)
{
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: hook}, capture: {method: "
            "copy}}\n",
            "method hook needs");
    REFUSED(
        " - {name: a, path: /srv/a, quiesce: {method: hook, hook: {freeze: [x], thaw: "
        "[/y]}}, capture: {method: copy}}\n",
        "begins with an absolute path");
    REFUSED(" - {name: a, path: /srv/a, quiesce: {method: hook, hook: {freeze: [/x]}}, "
            "capture: {method: copy}}\n",
            "key 'partitions[0].quiesce.hook.thaw': is required");
}
END_TEST

START_TEST(names_and_paths_are_unique_and_not_nested)
{
#define PART(name, path)                                                                 \
    " - {name: " name ", path: " path                                                    \
    ", quiesce: {method: none}, capture: {method: copy}}\n"
    REFUSED(PART("a", "/srv/a") PART("a", "/srv/b"), "'a' is the name of partitions[0]");
    REFUSED(PART("a", "/srv/a") PART("b", "/srv/a"), "is also the path of partition");
    REFUSED(PART("a", "/srv") PART("b", "/srv/b"), "lies inside partition 'a' ('/srv')",
            "add '/b' to the exclude list of 'a'");
    REFUSED(PART("b", "/srv/b") PART("a", "/"), "key 'partitions[0].path'",
            "add '/srv/b' to the exclude");
    REFUSED(PART("a", "srv"), "relative path");
    struct config *c = NULL;
    ck_ok(read_with(PART("a", "/srv/a") PART("b", "/srv/ab"), &c));
    config_free(c);
    ck_ok(read_with(" - {name: a, path: /srv, quiesce: {method: none}, capture: {method: "
                    "copy}, exclude: [/b]}\n" PART("b", "/srv/b"),
                    &c));
    config_free(c);
}
END_TEST

START_TEST(excludes_match_from_the_root_or_by_name)
{
    AUTO(config) struct config *c = NULL;
    ck_ok(
        read_with(" - {name: a, path: /srv/a, quiesce: {method: none}, capture: {method: "
                  "btrfs}, exclude: ['/tmp', '*.pid', '/x/*/cache']}\n",
                  &c));
    const struct config_partition *p = &c->partitions[0];
    static const char *const out[] = {"/tmp",         "/tmp/deep/er",      "/a.pid",
                                      "/deep/b.pid",  "/x/1/cache",        "/x/1/cache/f",
                                      "/.stillpoint", "/.stillpoint/s.a/f"};
    static const char *const in[] = {"/tmpx",        "/deep/tmp", "/a.pids",
                                     "/x/1/2/cache", "/x/cache",  "/deep/.stillpoint"};
    for (size_t i = 0; i < ARRAY_LEN(out); i++)
        ck_assert_msg(config_excludes(p, out[i]), "%s is not left out", out[i]);
    for (size_t i = 0; i < ARRAY_LEN(in); i++)
        ck_assert_msg(!config_excludes(p, in[i]), "%s is left out", in[i]);
    struct config *bad = NULL;
    ck_err(
        read_with(" - {name: a, path: /srv/a, quiesce: {method: none}, capture: {method: "
                  "btrfs}, exclude: ['a/b']}\n",
                  &bad),
        ERR_INVALID);
}
END_TEST

START_TEST(addresses_have_a_port)
{
    static const char *const bad[] = {"host",   "host:",      ":7000",
                                      "host:0", "host:70000", "host:7x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO(str) char *more = mem_printf(" []\nhttp_listen: '%s'\n", bad[i]);
        REFUSED(more, "is not 'host:port'");
    }
}
END_TEST

/* One partition, so that the file is complete, then other keys below the list's end. */
static const char one_partition[] =
    " - {name: db, path: /srv/db, quiesce: {method: cgroup, cgroup: /db},"
    " capture: {method: btrfs}}\n";

static struct err *read_listening(const char *listen, const char *more,
                                  struct config **out)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f,
            "cluster: c\nnode: n\nlisten: '%s'\ncoordinators: [coord:7001]\n"
            "tls: {ca: /ca, cert: /cert, key: /key}\nstate_dir: %s\n%spartitions:\n%s",
            listen, dir, more, one_partition);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(file, 0600), 0);
    return config_read(file, out);
}

START_TEST(listening_everywhere_needs_an_address_to_dial)
{
    struct config *c = NULL;
    ck_err(read_listening("0.0.0.0:7000", "", &c), ERR_INVALID);
    ck_err(read_listening("[::]:7000", "", &c), ERR_INVALID);
    ck_ok(read_listening("0.0.0.0:7000", "advertise: 'n.example:7000'\n", &c));
    ck_assert_str_eq(c->advertise, "n.example:7000");
    config_free(c);
}
END_TEST

START_TEST(a_file_that_others_may_write_is_refused)
{
    struct config *c = NULL;
    ck_ok(read_with(" []\n", &c));
    config_free(c);
    ck_assert_int_eq(chmod(file, 0666), 0);
    ck_err(config_read(file, &c), ERR_DENIED);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("config");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_full_file_is_read);
    tcase_add_test(tc, captures_on_a_frozen_filesystem_are_refused);
    tcase_add_test(tc, filesystems_that_must_go_on_are_not_frozen);
    tcase_add_test(tc, cgroups_must_hold_writers_only);
    tcase_add_test(tc, hooks_are_complete_and_absolute);
    tcase_add_test(tc, names_and_paths_are_unique_and_not_nested);
    tcase_add_test(tc, excludes_match_from_the_root_or_by_name);
    tcase_add_test(tc, addresses_have_a_port);
    tcase_add_test(tc, listening_everywhere_needs_an_address_to_dial);
    tcase_add_test(tc, a_file_that_others_may_write_is_refused);
    return suite_main("config", tc);
}
