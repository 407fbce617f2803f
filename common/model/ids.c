#include "common/model/ids.h"

#include <stdio.h>
#include <string.h>

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool name_is_valid(const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n >= NAME_BYTES || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!name_char(text[i]))
            return false;
    return true;
}

struct err *name_copy(char *to, const char *text, const char *what)
{
    if (!name_is_valid(text))
        return err_new(
            ERR_INVALID,
            "%s '%.80s' is not a name: 1 to %d of a-z 0-9 . _ -, not beginning "
            "with . or -",
            what, text, NAME_BYTES - 1);
    memcpy(to, text, strlen(text) + 1);
    return NULL;
}

struct err *domain_copy(struct domain_id *to, const char *text)
{
    size_t n = strlen(text);
    if (n == 0 || n >= DOMAIN_BYTES)
        return err_new(ERR_INVALID, "domain '%.80s' has %zu bytes: 1 to %d are allowed",
                       text, n, DOMAIN_BYTES - 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 127)
            return err_new(ERR_INVALID, "domain '%.80s' has a blank or control character",
                           text);
    memcpy(to->text, text, n + 1);
    return NULL;
}

void capture_id_make(const struct set_id *set, const struct part_id *part,
                     struct capture_id *out)
{
    snprintf(out->text, sizeof out->text, "%s.%s", set->text, part->text);
}
