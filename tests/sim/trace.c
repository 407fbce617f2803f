/* What happened, as a digest for replays and as lines for whoever reads a failure. */
#include <stdio.h>

#include "tests/sim/world.h"

/* FNV-1a, eight bytes at a time. */
void trace_mix(struct world *w, uint64_t n)
{
    for (int i = 0; i < 8; i++)
        w->trace = (w->trace ^ (n >> 8 * i & 0xff)) * 0x100000001b3;
}

void trace_text(struct world *w, const char *text)
{
    for (; *text; text++)
        w->trace = (w->trace ^ (uint8_t)*text) * 0x100000001b3;
}

void note(struct world *w, const char *text, int a, int b, int c)
{
    w->notes[w->n_notes++ % SIM_NOTES] = (struct sim_note){w->now_ms, text, a, b, c};
    trace_text(w, text);
    trace_mix(w, (uint64_t)a << 32 | (uint32_t)b);
    trace_mix(w, (uint64_t)c);
}

void trace_print(const struct world *w)
{
    size_t first = w->n_notes > SIM_NOTES ? w->n_notes - SIM_NOTES : 0;
    for (size_t i = first; i < w->n_notes; i++) {
        const struct sim_note *n = &w->notes[i % SIM_NOTES];
        fprintf(stderr, "%10lld ms  ", (long long)n->at_ms);
        fprintf(stderr, n->text, n->a, n->b, n->c);
        fputc('\n', stderr);
    }
    fprintf(stderr, "seed %llu at %lld ms\n", (unsigned long long)w->seed,
            (long long)w->now_ms);
    if (w->fault_kinds) /* else the scenario's name says how */
        fprintf(stderr, "to see it again: make sim SEED=%llu\n",
                (unsigned long long)w->seed);
}
