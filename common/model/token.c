#include "common/model/token.h"

#include <string.h>

bool token_is_set(const struct token *t)
{
    return t->revision > 0;
}

enum token_order token_compare(const struct token *a, const struct token *b)
{
    bool both = token_is_set(a) && token_is_set(b);
    if (both && memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) != 0)
        return TOKEN_FOREIGN;
    if (a->revision == b->revision)
        return TOKEN_SAME;
    return a->revision < b->revision ? TOKEN_OLDER : TOKEN_NEWER;
}
