#include "coordinator/flow/round.h"

#include <stdlib.h>

void round_acts_init(struct round_acts *a)
{
    *a = (struct round_acts){0};
}

void round_acts_fini(struct round_acts *a)
{
    free(a->items);
    *a = (struct round_acts){0};
}
