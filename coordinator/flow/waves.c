#include "coordinator/flow/waves.h"

#include <stdbool.h>
#include <string.h>

static bool is_of(const char *name, const char *node)
{
    size_t n = strlen(node);
    return strncmp(name, node, n) == 0 && name[n] == '/';
}

static bool has(char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static size_t node_bytes(const char *name)
{
    return (size_t)(strchr(name, '/') - name);
}

/* Entry `at` of wave `w`, against all before it. */
static struct err *check_entry(const struct wave *waves, size_t w, size_t at)
{
    const char *name = waves[w].partitions[at];
    size_t n = node_bytes(name) + 1;
    if (has(waves[w].partitions, at, name))
        return err_new(ERR_INVALID, "field 'waves[%zu]': '%s' is listed twice", w, name);
    for (size_t i = 0; i < w; i++) {
        for (size_t k = 0; k < waves[i].n; k++) {
            const char *other = waves[i].partitions[k];
            if (strcmp(other, name) == 0)
                return err_new(ERR_INVALID,
                               "field 'waves[%zu]': '%s' is in wave %zu already", w, name,
                               i + 1);
            if (strncmp(other, name, n) == 0)
                return err_new(ERR_INVALID,
                               "field 'waves[%zu]': node '%.*s' has '%s' in wave %zu and "
                               "'%s' in wave %zu; the partitions of one node freeze "
                               "together: put them into one wave",
                               w, (int)n - 1, name, other, i + 1, name, w + 1);
        }
    }
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

size_t waves_find(const struct wave *waves, size_t n_waves, const char *node)
{
    for (size_t w = 0; w < n_waves; w++)
        for (size_t i = 0; i < waves[w].n; i++)
            if (is_of(waves[w].partitions[i], node))
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
            if (n->wave == wave && !n->out && n->predicted_ms > slowest_ms)
                slowest_ms = n->predicted_ms;
        }
        sum_ms += slowest_ms;
    }
    return sum_ms;
}
