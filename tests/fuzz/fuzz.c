/* The fuzzer: FUZZ_TARGET names the target, libFuzzer does the rest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/targets.h"

static const struct fuzz_target *target;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ_TARGET");
    (void)argc;
    (void)argv;
    for (target = fuzz_targets; name && target->name; target++)
        if (strcmp(target->name, name) == 0)
            return 0;
    fprintf(stderr, "FUZZ_TARGET must be one of:");
    for (target = fuzz_targets; target->name; target++)
        fprintf(stderr, " %s", target->name);
    fprintf(stderr, "\n");
    exit(2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    target->run(data, n);
    return 0;
}
