#include "common/repo/tree_cursor.h"

#include <string.h>

#include "common/base/mem.h"

enum { ID_TEXT = 66 }; /* with its quotes */

static bool begins(const char *at, const char *end, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(end - at) >= n && memcmp(at, with, n) == 0;
}

/* Moves to a node, or to the end. `at` stands behind a bracket, or behind a node. */
static void settle(struct tree_cursor *c, const char *at, bool first)
{
    c->next = NULL;
    c->at = c->end;
    if (!first) {
        if (!begins(at, c->end, ","))
            return;
        at++;
    }
    if (begins(at, c->end, "{\"name\":\""))
        c->at = at;
}

void tree_cursor_init(struct tree_cursor *c, const char *json, size_t n)
{
    static const char front[] = "{\"nodes\":[";
    *c = (struct tree_cursor){.end = json + n};
    c->at = c->end;
    if (n && begins(json, c->end, front))
        settle(c, json + sizeof front - 1, true);
}

void tree_cursor_fini(struct tree_cursor *c)
{
    buf_fini(&c->name);
}

/* Behind the string that begins at `at`, or NULL. */
static const char *behind_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at < end ? at + 1 : NULL;
}

/* Behind the map that begins at `at`, or NULL. */
static const char *behind_map(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            at = behind_string(at, end);
            if (!at)
                return NULL;
            continue;
        }
        if (*at == '{')
            depth++;
        if (*at == '}' && --depth == 0)
            return at + 1;
        at++;
    }
    return NULL;
}

struct err *tree_cursor_read(struct tree_cursor *c, struct tree *out)
{
    AUTO_BUF struct buf text = {0};
    buf_str(&text, "{\"nodes\":[");
    buf_add(&text, c->at, (size_t)(c->next - c->at));
    buf_str(&text, "]}");
    return tree_read(text.data, text.len, out);
}

static bool read_name(struct tree_cursor *c)
{
    const char *from = c->at + strlen("{\"name\":\"");
    const char *to = behind_string(from - 1, c->next);
    buf_clear(&c->name);
    if (!to)
        return false;
    if (!memchr(from, '\\', (size_t)(to - 1 - from))) {
        buf_add(&c->name, from, (size_t)(to - 1 - from));
        return true;
    }
    AUTO_TREE struct tree one = {0};
    struct err *e = tree_cursor_read(c, &one);
    bool ok = !e && one.n == 1;
    err_free(e);
    if (ok)
        buf_str(&c->name, one.nodes[0].name);
    return ok;
}

const char *tree_cursor_name(struct tree_cursor *c)
{
    if (c->at == c->end)
        return NULL;
    if (!c->next) {
        c->next = behind_map(c->at, c->end);
        if (!c->next || !read_name(c)) {
            c->at = c->end;
            return NULL;
        }
    }
    return buf_text(&c->name);
}

void tree_cursor_skip(struct tree_cursor *c)
{
    if (tree_cursor_name(c))
        settle(c, c->next, false);
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool id_of(const char *text, struct digest *out)
{
    int bad = text[0] != '"' || text[ID_TEXT - 1] != '"';
    for (size_t i = 0; i < sizeof out->b; i++) {
        int byte = nibble(text[1 + 2 * i]) * 16 | nibble(text[2 + 2 * i]);
        bad |= byte < 0;
        out->b[i] = (uint8_t)byte;
    }
    return !bad;
}

void tree_rest_id(const struct tree_rest *r, size_t i, struct digest *out)
{
    id_of(r->ids + i * (ID_TEXT + 1), out);
}

/* `"id","id"]`; returns what is behind the bracket, or NULL. */
static const char *read_ids(const char *at, const char *end, struct tree_rest *out)
{
    struct digest id;
    out->ids = at;
    if (begins(at, end, "]"))
        return at + 1;
    while (end - at > ID_TEXT && id_of(at, &id)) {
        out->ids_n++;
        at += ID_TEXT;
        if (*at == ']')
            return at + 1;
        if (*at != ',')
            return NULL;
        at++;
    }
    return NULL;
}

bool tree_cursor_match(struct tree_cursor *c, const struct buf *head,
                       struct tree_rest *out)
{
    static const char list[] = ",\"content\":[", none[] = ",\"content\":null",
                      sub[] = ",\"subtree\":";
    *out = (struct tree_rest){0};
    if ((size_t)(c->end - c->at) < head->len || memcmp(c->at, head->data, head->len) != 0)
        return false;
    const char *at = c->at + head->len;
    if (begins(at, c->end, list)) {
        at = read_ids(at + sizeof list - 1, c->end, out);
    } else if (begins(at, c->end, none)) {
        at += sizeof none - 1;
        if (begins(at, c->end, sub)) {
            at += sizeof sub - 1;
            out->has_subtree = c->end - at > ID_TEXT && id_of(at, &out->subtree);
            at += out->has_subtree ? ID_TEXT : 0;
        }
    } else {
        return false;
    }
    if (!at || !begins(at, c->end, "}"))
        return false;
    settle(c, at + 1, false);
    return true;
}
