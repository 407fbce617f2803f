/* Errors of single files in a run that goes on, with their paths. Any thread. */
#ifndef COMMON_ENGINE_PROBLEMS_H
#define COMMON_ENGINE_PROBLEMS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* Kept in full up to this many; beyond, only counted. */
enum { PROBLEMS_KEPT = 1000 };

struct problem {
    char *path;
    enum err_kind kind;
    char *text;
};

struct problems {
    pthread_mutex_t mu; /* guards all below */
    struct problem *items;
    size_t n;
    size_t cap;
    uint64_t total;
};

void problems_init(struct problems *p);
void problems_fini(struct problems *p);
/* Notes an error (taken over; NULL does nothing). */
void problems_add(struct problems *p, const char *path, struct err *e);
uint64_t problems_total(struct problems *p);
/* NULL when there are none; otherwise an error "<what>: <n> problems, first: …". Its kind
 * is that of CORRUPT if any is, else `kind`. */
struct err *problems_err(struct problems *p, enum err_kind kind,
                         const char *what) MUST_USE;

#endif
