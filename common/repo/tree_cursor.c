#include "common/repo/tree_cursor.h"

#include <string.h>

#include "common/base/mem.h"

enum {
    ID_TEXT = 66,     /* with its quotes */
    PART = 256 << 10, /* of a list that comes in parts: asked for at once … */
    LITTLE = 64 << 10, /* … when there is less than this, most nodes' length many times */
};

static bool begins(const char *at, const char *end, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(end - at) >= n && memcmp(at, with, n) == 0;
}

/* Gets more of a list that comes in parts, and forgets what is behind us. False: there is
 * no more. */
static bool refill(struct tree_cursor *c)
{
    struct buf *t = &c->text;
    if (!c->more)
        return false;
    size_t left = (size_t)(c->end - c->at);
    if (left)
        memmove(t->data, c->at, left);
    t->len = left;
    c->more(c->ctx, left > PART ? left : PART, t);
    if (t->len == left)
        c->more = NULL;
    c->at = buf_text(t);
    c->end = c->at + t->len;
    c->next = NULL;
    return t->len > left;
}

/* Looks for the node that `at` stands in front of, if it was not found yet. */
static void arrive(struct tree_cursor *c)
{
    if (c->arrived)
        return;
    while (c->end - c->at < LITTLE && refill(c))
        ;
    c->arrived = true;
    const char *at = c->at;
    if (!c->first && begins(at, c->end, ","))
        at++;
    else if (!c->first)
        at = c->end;
    c->at = begins(at, c->end, "{\"name\":\"") ? at : c->end;
    if (c->at == c->end)
        c->more = NULL;
}

/* `at` stands behind a bracket, or behind a node. */
static void leave(struct tree_cursor *c, const char *at, bool first)
{
    c->at = at;
    c->next = NULL;
    c->first = first;
    c->arrived = false;
}

static const char front[] = "{\"nodes\":[";

static void begin(struct tree_cursor *c)
{
    while (c->end - c->at < LITTLE && refill(c))
        ;
    if (c->at != c->end && begins(c->at, c->end, front)) {
        leave(c, c->at + sizeof front - 1, true);
        return;
    }
    c->at = c->end;
    c->more = NULL;
}

void tree_cursor_init(struct tree_cursor *c, const char *json, size_t n)
{
    *c = (struct tree_cursor){.at = json, .end = json + n, .arrived = true};
    begin(c);
}

void tree_cursor_init_on(struct tree_cursor *c, tree_more *more, void *ctx)
{
    *c = (struct tree_cursor){.more = more, .ctx = ctx, .arrived = true};
    c->at = c->end = buf_text(&c->text);
    begin(c);
}

void tree_cursor_fini(struct tree_cursor *c)
{
    buf_fini(&c->name);
    buf_fini(&c->text);
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

/* Finds the node's end, for which more of the list may be needed. */
static bool complete(struct tree_cursor *c)
{
    do {
        c->next = behind_map(c->at, c->end);
    } while (!c->next && refill(c));
    return c->next != NULL;
}

const char *tree_cursor_name(struct tree_cursor *c)
{
    arrive(c);
    if (c->at == c->end)
        return NULL;
    if (!c->next && (!complete(c) || !read_name(c))) {
        c->at = c->end;
        c->more = NULL;
        return NULL;
    }
    return buf_text(&c->name);
}

void tree_cursor_skip(struct tree_cursor *c)
{
    if (tree_cursor_name(c))
        leave(c, c->next, false);
}

/* Values of the hexadecimal digits that are written, and one more; 0: it is none. */
static const uint8_t digits[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
    ['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
    ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static bool id_of(const char *text, struct digest *out)
{
    const uint8_t *at = (const uint8_t *)text + 1;
    bool ok = text[0] == '"' && text[ID_TEXT - 1] == '"';
    for (size_t i = 0; i < sizeof out->b; i++, at += 2) {
        unsigned high = digits[at[0]], low = digits[at[1]];
        ok &= high && low;
        out->b[i] = (uint8_t)((high - 1) << 4 | (low - 1));
    }
    return ok;
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

/* Content and subtree and what closes the node, or NULL. */
static const char *read_rest(const char *at, const char *end, struct tree_rest *out)
{
    static const char list[] = ",\"content\":[", none[] = ",\"content\":null",
                      sub[] = ",\"subtree\":";
    *out = (struct tree_rest){0};
    if (begins(at, end, list)) {
        at = read_ids(at + sizeof list - 1, end, out);
    } else if (begins(at, end, none)) {
        at += sizeof none - 1;
        if (begins(at, end, sub)) {
            at += sizeof sub - 1;
            out->has_subtree = end - at > ID_TEXT && id_of(at, &out->subtree);
            at += out->has_subtree ? ID_TEXT : 0;
        }
    } else {
        return NULL;
    }
    return at && begins(at, end, "}") ? at + 1 : NULL;
}

bool tree_cursor_match(struct tree_cursor *c, const struct buf *head,
                       struct tree_rest *out)
{
    *out = (struct tree_rest){0};
    arrive(c);
    while ((size_t)(c->end - c->at) < head->len && refill(c))
        ;
    if ((size_t)(c->end - c->at) < head->len || memcmp(c->at, head->data, head->len) != 0)
        return false;
    const char *behind = read_rest(c->at + head->len, c->end, out);
    if (!behind && complete(c)) /* it was cut short, perhaps */
        behind = read_rest(c->at + head->len, c->end, out);
    if (!behind)
        return false;
    leave(c, behind, false);
    return true;
}
