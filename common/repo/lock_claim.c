#include "common/repo/lock_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/hex.h"
#include "common/base/mem.h"

/* A lock file may be seen while another program still writes it: it is read again. */
enum { READ_TRIES = 4, READ_PAUSE_MS = 200 };

/* First line of a small system file; empty when it cannot be read. */
static void read_word(const char *path, char out[LOCK_WORD_BYTES])
{
    memset(out, 0, LOCK_WORD_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, out, LOCK_WORD_BYTES - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

void lock_claim_own(struct lock_claim *out)
{
    uint8_t random[16];
    *out = (struct lock_claim){.pid = getpid(), .uid = getuid()};
    gethostname(out->hostname, sizeof out->hostname - 1);
    snprintf(out->username, sizeof out->username, "%s",
             geteuid() == 0 ? "root" : "stillpoint");
    crypt_random(random, sizeof random);
    hex_encode(random, sizeof random, out->session);
    read_word("/proc/sys/kernel/random/boot_id", out->boot);
    ssize_t n = readlink("/proc/self/ns/pid", out->pidns, sizeof out->pidns - 1);
    out->pidns[n > 0 ? n : 0] = '\0';
}

void lock_claim_write(const struct lock_claim *c, struct buf *out)
{
    buf_str(out, "{\"time\":\"");
    go_time_format(out, c->time);
    buf_printf(out, "\",\"exclusive\":%s,\"hostname\":", c->exclusive ? "true" : "false");
    go_json_string(out, c->hostname, strlen(c->hostname));
    buf_str(out, ",\"username\":");
    go_json_string(out, c->username, strlen(c->username));
    buf_printf(out, ",\"pid\":%ld", c->pid);
    if (c->uid)
        buf_printf(out, ",\"uid\":%u", (unsigned)c->uid);
    if (getgid())
        buf_printf(out, ",\"gid\":%u", (unsigned)getgid());
    buf_str(out, ",\"stillpoint\":{\"session\":");
    go_json_string(out, c->session, strlen(c->session));
    buf_str(out, ",\"boot\":");
    go_json_string(out, c->boot, strlen(c->boot));
    buf_str(out, ",\"pidns\":");
    go_json_string(out, c->pidns, strlen(c->pidns));
    buf_printf(out, ",\"reclaims\":%s}}", c->reclaims ? "true" : "false");
}

static void copy_text(const json_t *o, const char *key, char *out, size_t bytes)
{
    const char *s = json_string_value(json_object_get(o, key));
    snprintf(out, bytes, "%s", s ? s : "");
}

struct err *lock_claim_read(const void *json, size_t n, struct lock_claim *out)
{
    json_t *o = json_loadb(json, n, 0, NULL);
    const json_t *ours = json_object_get(o, "stillpoint");
    const char *time = json_string_value(json_object_get(o, "time"));
    *out = (struct lock_claim){0};
    bool ok = time && go_time_parse(time, strlen(time), &out->time);
    out->exclusive = json_is_true(json_object_get(o, "exclusive"));
    out->pid = (long)json_integer_value(json_object_get(o, "pid"));
    out->uid = (uint32_t)json_integer_value(json_object_get(o, "uid"));
    copy_text(o, "hostname", out->hostname, sizeof out->hostname);
    copy_text(o, "username", out->username, sizeof out->username);
    copy_text(ours, "session", out->session, sizeof out->session);
    copy_text(ours, "boot", out->boot, sizeof out->boot);
    copy_text(ours, "pidns", out->pidns, sizeof out->pidns);
    out->reclaims = json_is_true(json_object_get(ours, "reclaims"));
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "a lock file is malformed");
    return NULL;
}

bool lock_claim_is_dead(const struct lock_claim *c, const struct lock_claim *own)
{
    if (strcmp(c->hostname, own->hostname) != 0 || c->pid <= 0)
        return false;
    /* Machines and containers may share a name: a number means nothing elsewhere. */
    if (c->session[0] &&
        (strcmp(c->boot, own->boot) != 0 || strcmp(c->pidns, own->pidns) != 0))
        return false;
    return kill((pid_t)c->pid, 0) && errno == ESRCH;
}

bool lock_claim_is_stale(const struct lock_claim *c, struct go_time now,
                         const struct lock_claim *own)
{
    return now.sec - c->time.sec > LOCK_STALE_S || lock_claim_is_dead(c, own);
}

bool lock_claim_same_holder(const struct lock_claim *a, const struct lock_claim *b)
{
    if (a->session[0] || b->session[0])
        return strcmp(a->session, b->session) == 0;
    return a->pid == b->pid && a->uid == b->uid && strcmp(a->hostname, b->hostname) == 0;
}

static struct err *read_lock(struct repo_io *io, const struct digest *id,
                             struct lock_claim *out)
{
    const struct timespec pause = {0, READ_PAUSE_MS * 1000000L};
    struct err *e = NULL;
    for (int i = 0; i < READ_TRIES; i++) {
        AUTO_BUF struct buf json = {0};
        err_free(e);
        if (i)
            nanosleep(&pause, NULL);
        e = repo_read_file(io, REPO_LOCK, id, &json);
        if (!e)
            e = lock_claim_read(json.data, json.len, out);
        out->id = *id;
        if (!e || e->kind == ERR_NOT_FOUND)
            return e;
    }
    return err_wrap(e, "read a lock");
}

struct err *lock_list(struct repo_io *io, struct lock_claim **out, size_t *n)
{
    struct repo_file *files = NULL;
    size_t count = 0, used = 0;
    TRY(repo_list(repo_io_repo(io), REPO_LOCK, &files, &count));
    struct lock_claim *list = mem_array(count, sizeof *list);
    struct err *e = NULL;
    for (size_t i = 0; i < count && !e; i++) {
        if (!files[i].bytes)
            continue;
        e = read_lock(io, &files[i].id, &list[used]);
        if (!e)
            used++;
        else if (e->kind == ERR_NOT_FOUND) /* given back since the listing */
            err_free(STEAL(e));
    }
    free(files);
    if (e) {
        free(list);
        return e;
    }
    *out = list;
    *n = used;
    return NULL;
}

/* An unreadable lock is removed only with `all`: nothing says who holds it. */
static bool may_go(struct repo_io *io, const struct repo_file *f, bool all,
                   struct go_time now, const struct lock_claim *own)
{
    struct lock_claim c;
    if (all || !f->bytes)
        return true;
    AUTO(err) struct err *e = read_lock(io, &f->id, &c);
    return !e && lock_claim_is_stale(&c, now, own);
}

struct err *lock_remove_stale(struct repo_io *io, bool all, size_t *removed)
{
    struct repo_file *files = NULL;
    struct lock_claim own;
    struct timespec now;
    size_t n = 0;
    struct err *e = NULL;
    *removed = 0;
    lock_claim_own(&own);
    clock_gettime(CLOCK_REALTIME, &now);
    TRY(repo_list(repo_io_repo(io), REPO_LOCK, &files, &n));
    for (size_t i = 0; i < n && !e; i++) {
        const struct go_time t = {now.tv_sec, 0};
        if (!may_go(io, &files[i], all, t, &own))
            continue;
        e = repo_remove_file(repo_io_repo(io), REPO_LOCK, &files[i].id);
        if (e && e->kind == ERR_NOT_FOUND)
            err_free(STEAL(e));
        *removed += !e;
    }
    free(files);
    return e;
}
