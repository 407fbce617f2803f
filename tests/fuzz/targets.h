/* What reads bytes that somebody else wrote, each as a function that fuzzers and the
 * replay of their corpus can call. A target aborts when what it read does not come out
 * the same after writing and reading again. */
#ifndef TESTS_FUZZ_TARGETS_H
#define TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name; /* also that of the folder in corpus/ */
    void (*run)(const uint8_t *data, size_t n);
};

/* Ends with a name of NULL. */
extern const struct fuzz_target fuzz_targets[];

#endif
