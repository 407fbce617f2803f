/* Drives a guardian by hand: commands on stdin, one a line; answers on stdout, one line
 * per item and then "end". The connection lives as long as the process.
 *
 *     arm SET HOLD_MS PART...      freeze SET HOLD_MS TIMEOUT_MS    commit SET PART...
 *     abort SET                    drop PART CAPTURE                list
 *     sleep MS
 *
 * The capture of PART in SET is "SET.PART". Epochs are remembered from the last freeze.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/shell/guard.h"
#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/base/mem.h"

#define MAX_WORDS 64
#define CALL_MS 20000

static struct token token = {.revision = 7};
static struct guard_item frozen[GUARD_MAX_PARTS];
static unsigned n_frozen;

static struct set_id set_of(const char *name)
{
    struct set_id set = {0};
    snprintf(set.text, sizeof(set.text), "%s", name);
    return set;
}

static void print_item(const struct guard_item *i)
{
    char epoch[33];
    hex_encode(i->epoch.b, sizeof(i->epoch.b), epoch);
    if (i->kind != GUARD_OK) {
        printf("item %s error %s %s\n", i->part.text,
               err_kind_name((enum err_kind)i->kind), i->text);
        return;
    }
    printf("item %s ok domain=%s epoch=%s pause_ms=%lld frozen=%lld captured=%lld "
           "thawed=%lld unbroken=%d evidence=%d partial=%d capture=%s path=%s\n",
           i->part.text, i->domain.text, epoch, (long long)i->pause_ms,
           (long long)i->frozen_at_ns, (long long)i->captured_at_ns,
           (long long)i->thawed_at_ns, i->unbroken, i->evidence, i->partial,
           i->capture.text, i->path);
}

static void print_reply(const struct guard_reply *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        print_item(&r->items[i]);
}

static struct err *do_arm(struct guard *g, char **word, size_t n)
{
    struct part_id parts[MAX_WORDS] = {0};
    const struct guard_reply *r;
    struct set_id set = set_of(word[1]);
    for (size_t i = 3; i < n; i++)
        snprintf(parts[i - 3].text, sizeof(parts[0].text), "%s", word[i]);
    bool probe = strcmp(word[0], "probe") == 0;
    TRY(guard_arm(g, &set, &token, probe, atoi(word[2]), parts, n - 3, CALL_MS, &r));
    print_reply(r);
    return NULL;
}

static struct err *do_freeze(struct guard *g, char **word)
{
    const struct guard_reply *r;
    struct set_id set = set_of(word[1]);
    TRY(guard_freeze(g, &set, &token, NULL, 0, atoi(word[2]), atoi(word[3]), CALL_MS,
                     &r));
    n_frozen = r->n;
    memcpy(frozen, r->items, r->n * sizeof(r->items[0]));
    print_reply(r);
    return NULL;
}

static struct err *do_commit(struct guard *g, char **word, size_t n)
{
    struct guard_part parts[MAX_WORDS] = {0};
    const struct guard_reply *r;
    struct set_id set = set_of(word[1]);
    struct digest digest;
    hash_bytes(word[1], strlen(word[1]), &digest);
    for (size_t i = 2; i < n; i++) {
        struct guard_part *p = &parts[i - 2];
        snprintf(p->part.text, sizeof(p->part.text), "%s", word[i]);
        capture_id_make(&set, &p->part, &p->capture);
        for (unsigned k = 0; k < n_frozen; k++)
            if (strcmp(frozen[k].part.text, word[i]) == 0)
                p->epoch = frozen[k].epoch;
    }
    TRY(guard_commit(g, &set, &token, &digest, parts, n - 2, CALL_MS, &r));
    print_reply(r);
    return NULL;
}

static struct err *do_drop(struct guard *g, char **word)
{
    struct guard_part p = {0};
    snprintf(p.part.text, sizeof(p.part.text), "%s", word[1]);
    snprintf(p.capture.text, sizeof(p.capture.text), "%s", word[2]);
    return guard_drop(g, &p, 1, CALL_MS);
}

static struct err *do_list(struct guard *g)
{
    const struct guard_reply *r;
    TRY(guard_list(g, 0, CALL_MS, &r));
    print_reply(r);
    printf("holds %s\n", r->text);
    return NULL;
}

static struct err *run(struct guard *g, char **word, size_t n)
{
    if (n >= 4 && (strcmp(word[0], "arm") == 0 || strcmp(word[0], "probe") == 0))
        return do_arm(g, word, n);
    if (n == 4 && strcmp(word[0], "freeze") == 0)
        return do_freeze(g, word);
    if (n >= 3 && strcmp(word[0], "commit") == 0)
        return do_commit(g, word, n);
    if (n == 3 && strcmp(word[0], "drop") == 0)
        return do_drop(g, word);
    if (n == 1 && strcmp(word[0], "list") == 0)
        return do_list(g);
    if (n == 2 && strcmp(word[0], "abort") == 0) {
        const struct guard_reply *r;
        struct set_id set = set_of(word[1]);
        return guard_abort(g, &set, &token, CALL_MS, &r);
    }
    if (n == 2 && strcmp(word[0], "sleep") == 0) {
        poll(NULL, 0, atoi(word[1]));
        return NULL;
    }
    return err_new(ERR_INVALID, "unknown command");
}

static size_t split(char *line, char **word)
{
    size_t n = 0;
    char *save = NULL;
    for (char *w = strtok_r(line, " \n", &save); w && n < MAX_WORDS;
         w = strtok_r(NULL, " \n", &save))
        word[n++] = w;
    return n;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: guard_ctl SOCKET\n");
        return 2;
    }
    AUTO(guard) struct guard *g = NULL;
    struct err *e = guard_open(argv[1], 5000, &g);
    if (e) {
        AUTO(str) char *text = err_text(e);
        printf("error %s %s\nend\n", err_kind_name(e->kind), text);
        err_free(e);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[8192];
    while (fgets(line, sizeof(line), stdin)) {
        char *word[MAX_WORDS];
        size_t n = split(line, word);
        e = n ? run(g, word, n) : NULL;
        if (e) {
            AUTO(str) char *text = err_text(e);
            printf("error %s %s\n", err_kind_name(e->kind), text);
            err_free(e);
        }
        puts("end");
    }
    return 0;
}
