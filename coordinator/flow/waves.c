#include "coordinator/flow/waves.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static bool is(const char *name, const char *node, const char *partition)
{
    size_t n = strlen(node);
    return strncmp(name, node, n) == 0 && name[n] == '/' &&
           strcmp(name + n + 1, partition) == 0;
}

static bool has(char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Entry `at` of wave `w`, against all before it. */
static struct err *check_entry(const struct wave *waves, size_t w, size_t at)
{
    const char *name = waves[w].partitions[at];
    if (has(waves[w].partitions, at, name))
        return err_new(ERR_INVALID, "field 'waves[%zu]': '%s' is listed twice", w, name);
    for (size_t i = 0; i < w; i++)
        if (has(waves[i].partitions, waves[i].n, name))
            return err_new(ERR_INVALID, "field 'waves[%zu]': '%s' is in wave %zu already",
                           w, name, i + 1);
    return NULL;
}

static struct err *check_wave(char *const *partitions, size_t n, const struct wave *waves,
                              size_t w)
{
    if (waves[w].n == 0)
        return err_new(ERR_INVALID, "field 'waves[%zu]': no partitions", w);
    for (size_t i = 0; i < waves[w].n; i++) {
        if (!has(partitions, n, waves[w].partitions[i]))
            return err_new(ERR_INVALID,
                           "field 'waves[%zu]': '%.160s' is none of the group's "
                           "partitions",
                           w, waves[w].partitions[i]);
        TRY(check_entry(waves, w, i));
    }
    return NULL;
}

struct err *waves_check(char *const *partitions, size_t n, const struct wave *waves,
                        size_t n_waves)
{
    if (n_waves == 0)
        return NULL;
    if (n_waves > WAVES_MAX)
        return err_new(ERR_INVALID, "field 'waves': %zu, at most %d are allowed", n_waves,
                       WAVES_MAX);
    for (size_t w = 0; w < n_waves; w++)
        TRY(check_wave(partitions, n, waves, w));
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t w = 0; w < n_waves && !found; w++)
            found = has(waves[w].partitions, waves[w].n, partitions[i]);
        if (!found)
            return err_new(ERR_INVALID, "field 'waves': '%s' is in none of them",
                           partitions[i]);
    }
    return NULL;
}

size_t waves_find(const struct wave *waves, size_t n_waves, const char *node,
                  const char *partition)
{
    for (size_t w = 0; w < n_waves; w++)
        for (size_t i = 0; i < waves[w].n; i++)
            if (is(waves[w].partitions[i], node, partition))
                return w;
    return 0;
}

int64_t waves_deadline_ms(const struct round *r, int64_t now_ms)
{
    int64_t n = (int64_t)r->conf.n_waves;
    if (!r->conf.relaxed)
        return r->freeze_from_ms + r->conf.freeze_timeout_ms;
    int64_t at_ms =
        r->freeze_from_ms + r->conf.freeze_timeout_ms * ((int64_t)r->wave + 1) / n;
    int64_t share_ms = r->conf.freeze_timeout_ms / n;
    return now_ms + share_ms > at_ms ? now_ms + share_ms : at_ms;
}

int64_t waves_predict_ms(const struct round *r)
{
    int64_t sum_ms = 0;
    for (size_t wave = 0; wave < r->conf.n_waves; wave++) {
        int64_t slowest_ms = 0;
        for (size_t i = 0; i < r->conf.n_nodes; i++) {
            const struct round_node *n = &r->nodes[i];
            if (!n->out && n->predicted_ms[wave] > slowest_ms)
                slowest_ms = n->predicted_ms[wave];
        }
        sum_ms += slowest_ms;
    }
    return sum_ms;
}

void waves_note_frozen(struct round *r, size_t node)
{
    for (size_t k = 0; k < r->n_frozen; k++)
        if (r->frozen[k] == node)
            return;
    assert(r->n_frozen < r->conf.n_nodes);
    r->frozen[r->n_frozen++] = node;
}
