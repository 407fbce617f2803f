#include "agent/guardian/janitor.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/guardian/answer.h"
#include "common/obs/log.h"

#define NO_CONN (-1)

void janitor_init(struct janitor *j, const struct slot_env *env)
{
    memset(j, 0, sizeof(*j));
    j->env = env;
    j->conn = NO_CONN;
    doer_init(&j->doer);
}

static void finish(struct janitor *j)
{
    if (j->conn != NO_CONN)
        j->env->reply(j->env->ctx, j->conn, &j->reply);
    j->busy = false;
    j->conn = NO_CONN;
}

static unsigned part_index(const struct janitor *j, const char *name)
{
    const struct config_partition *p = config_partition(j->env->config, name);
    assert(p != NULL);
    return (unsigned)(p - j->env->config->partitions);
}

/* Asks for the next part of a DROP, or for the LIST. */
static void ask(struct janitor *j)
{
    struct doer_request r = {.op = DOER_LIST};
    if (j->request.type == GUARD_DROP) {
        const struct guard_part *p = &j->request.parts[j->done];
        r.op = DOER_DROP;
        r.index = j->done;
        r.part = (uint16_t)part_index(j, p->part.text);
        memcpy(r.id, p->capture.text, sizeof(r.id));
    }
    doer_ask(&j->doer, &r);
}

void janitor_request(struct janitor *j, int conn, const struct guard_request *r,
                     const char *note)
{
    static struct guard_reply refusal;
    if (j->busy || j->doer.pid < 0) {
        answer_plain(&refusal, (enum guard_type)r->type, r->seq, ERR_UNAVAILABLE,
                     "another LIST or DROP is under way; ask again");
        j->env->reply(j->env->ctx, conn, &refusal);
        return;
    }
    memcpy(&j->request, r, GUARD_REQUEST_BYTES(r->n));
    j->conn = conn;
    j->busy = true;
    j->done = j->seen = 0;
    answer_plain(&j->reply, (enum guard_type)r->type, r->seq, GUARD_OK, note);
    if (r->type == GUARD_DROP && r->n == 0)
        finish(j);
    else
        ask(j);
}

void janitor_closed(struct janitor *j, int conn)
{
    if (j->conn == conn)
        j->conn = NO_CONN; /* what was asked is done all the same */
}

static struct guard_item *add_item(struct janitor *j, unsigned part, const char *id)
{
    assert(j->reply.n < GUARD_MAX_PARTS);
    const struct config_partition *p = &j->env->config->partitions[part];
    struct guard_item *item = &j->reply.items[j->reply.n++];
    memset(item, 0, sizeof(*item));
    item->kind = GUARD_OK;
    snprintf(item->part.text, sizeof(item->part.text), "%s", p->name);
    snprintf(item->capture.text, sizeof(item->capture.text), "%s", id);
    return item;
}

static void heard_capture(struct janitor *j, const struct doer_result *r)
{
    unsigned number = j->seen++;
    j->reply.total = j->seen;
    if (number < j->request.from || j->reply.n == GUARD_MAX_PARTS)
        return;
    const struct config_partition *p = &j->env->config->partitions[r->part];
    struct guard_item *item = add_item(j, r->part, r->id);
    item->partial = r->partial;
    int n = snprintf(item->path, sizeof(item->path), "%s/%s%s%s", p->capture.dir,
                     r->partial ? "." : "", r->id, r->partial ? ".partial" : "");
    if (n >= (int)sizeof(item->path))
        item->path[0] = 0;
}

static void heard_dropped(struct janitor *j, const struct doer_result *r)
{
    const struct guard_part *p = &j->request.parts[j->done++];
    struct guard_item *item = add_item(j, part_index(j, p->part.text), p->capture.text);
    if (!r->ok) {
        item->kind = (int32_t)r->kind;
        snprintf(item->text, sizeof(item->text), "%.*s", (int)sizeof(item->text) - 1,
                 r->text);
    }
    if (j->done == j->request.n)
        finish(j);
    else
        ask(j);
}

static void heard(struct janitor *j, const struct doer_result *r)
{
    if (!j->busy)
        return;
    if (r->op == DOER_CAPTURE)
        heard_capture(j, r);
    else if (r->op == DOER_DROP)
        heard_dropped(j, r);
    if (r->op != DOER_LIST)
        return;
    if (!r->ok) {
        j->reply.kind = (int32_t)r->kind;
        j->reply.n = 0;
        snprintf(j->reply.text, sizeof(j->reply.text), "%.*s",
                 (int)sizeof(j->reply.text) - 1, r->text);
    }
    finish(j);
}

void janitor_hear(struct janitor *j)
{
    static struct doer_result r;
    int fd, got;
    while ((got = doer_hear(&j->doer, &r, &fd)) > 0) {
        heard(j, &r);
        if (fd >= 0)
            close(fd);
    }
    j->doer_silent = got < 0;
}

void janitor_doer_died(struct janitor *j)
{
    janitor_hear(j);
    doer_bury(&j->doer);
    log_warn("guardian", "doer", "slot=janitor event=died");
    if (j->busy) {
        answer_plain(&j->reply, (enum guard_type)j->request.type, j->request.seq,
                     ERR_UNAVAILABLE, "the process that does this died; ask again");
        finish(j);
    }
    janitor_revive(j);
}

void janitor_revive(struct janitor *j)
{
    if (j->doer.pid > 0)
        return;
    j->doer_silent = false;
    log_err(LOG_LEVEL_WARN, "guardian", "doer",
            doer_start(&j->doer, j->env->config, j->env->life_lock));
}
