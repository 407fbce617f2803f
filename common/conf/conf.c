#include "common/conf/conf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "common/base/buf.h"
#include "common/file/fd.h"
#include "common/base/mem.h"

struct conf {
    char *name;
    struct conf_node *root;
};

/* What a conversion from libyaml's document needs at hand. */
struct builder {
    const char *name;
    yaml_document_t *doc;
    size_t nodes; /* built so far, aliases counted each time */
};

/* ---- The tree ---- */

static void node_free(struct conf_node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n; i++) {
        if (n->keys)
            node_free(n->keys[i]);
        node_free(n->items[i]);
    }
    free(n->keys);
    free(n->items);
    free(n->text);
    free(n);
}
DEFINE_AUTO(node, struct conf_node *, node_free);

static struct err *refuse_at(const char *name, yaml_mark_t at, const char *what)
{
    return err_new(ERR_INVALID, "%s:%zu:%zu: %s", name, at.line + 1, at.column + 1, what);
}

static struct err *build(struct builder *b, int index, unsigned depth,
                         struct conf_node **out);

static struct err *build_scalar(struct builder *b, const yaml_node_t *y,
                                struct conf_node *n)
{
    const char *text = (const char *)y->data.scalar.value;
    size_t bytes = y->data.scalar.length;
    if (memchr(text, 0, bytes))
        return refuse_at(b->name, y->start_mark, "a value holds a NUL byte");
    n->kind = CONF_SCALAR;
    n->plain = y->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = mem_strndup(text, bytes);
    return NULL;
}

static struct err *build_list(struct builder *b, const yaml_node_t *y, unsigned depth,
                              struct conf_node *n)
{
    size_t count = (size_t)(y->data.sequence.items.top - y->data.sequence.items.start);
    n->kind = CONF_LIST;
    n->items = mem_array(count, sizeof(*n->items));
    for (size_t i = 0; i < count; i++) {
        TRY(build(b, y->data.sequence.items.start[i], depth + 1, &n->items[i]));
        n->n = i + 1;
    }
    return NULL;
}

static struct err *check_key(const struct builder *b, const struct conf_node *n,
                             const struct conf_node *key)
{
    const char *what = NULL;
    if (key->kind != CONF_SCALAR || key->text[0] == 0)
        what = "a key must be a word";
    else if (strcmp(key->text, "<<") == 0 && key->plain)
        what = "merge keys ('<<') are not understood; write the keys out";
    if (what)
        return err_new(ERR_INVALID, "%s:%u:%u: %s", b->name, key->line, key->column,
                       what);
    for (size_t i = 0; i < n->n; i++)
        if (strcmp(n->keys[i]->text, key->text) == 0)
            return err_new(ERR_INVALID,
                           "%s:%u:%u: key '%s': given twice, first in line %u", b->name,
                           key->line, key->column, key->text, n->keys[i]->line);
    return NULL;
}

static struct err *build_map(struct builder *b, const yaml_node_t *y, unsigned depth,
                             struct conf_node *n)
{
    size_t count = (size_t)(y->data.mapping.pairs.top - y->data.mapping.pairs.start);
    if (count > CONF_MAX_KEYS)
        return err_new(ERR_LIMIT, "%s:%zu:%zu: more than %d keys", b->name,
                       y->start_mark.line + 1, y->start_mark.column + 1, CONF_MAX_KEYS);
    n->kind = CONF_MAP;
    n->keys = mem_array(count, sizeof(*n->keys));
    n->items = mem_array(count, sizeof(*n->items));
    for (size_t i = 0; i < count; i++) {
        const yaml_node_pair_t *pair = &y->data.mapping.pairs.start[i];
        AUTO(node) struct conf_node *key = NULL;
        TRY(build(b, pair->key, depth + 1, &key));
        TRY(check_key(b, n, key));
        TRY(build(b, pair->value, depth + 1, &n->items[i]));
        n->keys[i] = STEAL(key);
        n->n = i + 1;
    }
    return NULL;
}

static bool tag_is_default(const yaml_node_t *y)
{
    static const char *const tags[] = {YAML_STR_TAG, YAML_SEQ_TAG, YAML_MAP_TAG};
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (y->tag && strcmp((const char *)y->tag, tags[i]) == 0)
            return true;
    return false;
}

/* Copies node `index` with everything below. Aliases lead to the same index again, even
 * to one of the nodes above: the two limits bound what they can do. */
static struct err *build(struct builder *b, int index, unsigned depth,
                         struct conf_node **out)
{
    const yaml_node_t *y = yaml_document_get_node(b->doc, index);
    assert(y != NULL);
    if (depth > CONF_MAX_DEPTH)
        return err_new(ERR_LIMIT, "%s:%zu:%zu: nested deeper than %d levels", b->name,
                       y->start_mark.line + 1, y->start_mark.column + 1, CONF_MAX_DEPTH);
    if (++b->nodes > CONF_MAX_NODES)
        return err_new(ERR_LIMIT, "%s: more than %d values, aliases counted each time",
                       b->name, CONF_MAX_NODES);
    if (!tag_is_default(y))
        return refuse_at(b->name, y->start_mark, "tags ('!…') are not understood");
    AUTO(node) struct conf_node *n = mem_zalloc(sizeof(*n));
    n->line = (unsigned)y->start_mark.line + 1;
    n->column = (unsigned)y->start_mark.column + 1;
    if (y->type == YAML_SCALAR_NODE)
        TRY(build_scalar(b, y, n));
    else if (y->type == YAML_SEQUENCE_NODE)
        TRY(build_list(b, y, depth, n));
    else
        TRY(build_map(b, y, depth, n));
    *out = STEAL(n);
    return NULL;
}

/* ---- Parsing ---- */

static struct err *parser_error(const char *name, const yaml_parser_t *p)
{
    if (p->error == YAML_READER_ERROR)
        return err_new(ERR_INVALID, "%s: not UTF-8 text at byte %zu: %s", name,
                       p->problem_offset, p->problem ? p->problem : "bad input");
    return err_new(ERR_INVALID, "%s:%zu:%zu: %s%s%s", name, p->problem_mark.line + 1,
                   p->problem_mark.column + 1, p->problem ? p->problem : "not YAML",
                   p->context ? " " : "", p->context ? p->context : "");
}

static struct err *build_root(const char *name, yaml_document_t *doc,
                              struct conf_node **out)
{
    const yaml_node_t *root = yaml_document_get_root_node(doc);
    if (!root)
        return err_new(ERR_INVALID, "%s: the file is empty", name);
    if (root->type != YAML_MAPPING_NODE)
        return refuse_at(name, root->start_mark, "expected 'key: value' lines");
    struct builder b = {.name = name, .doc = doc};
    return build(&b, 1, 1, out);
}

/* Refuses a second document: what is in it would silently not count. */
static struct err *expect_end(const char *name, yaml_parser_t *parser)
{
    yaml_document_t more;
    if (!yaml_parser_load(parser, &more))
        return parser_error(name, parser);
    const yaml_node_t *root = yaml_document_get_root_node(&more);
    struct err *e =
        root ? refuse_at(name, root->start_mark, "a second document; only one is read")
             : NULL;
    yaml_document_delete(&more);
    return e;
}

static struct err *parse_all(const char *name, yaml_parser_t *parser,
                             struct conf_node **out)
{
    yaml_document_t doc;
    if (!yaml_parser_load(parser, &doc))
        return parser_error(name, parser);
    bool empty = yaml_document_get_root_node(&doc) == NULL;
    struct err *e = build_root(name, &doc, out);
    yaml_document_delete(&doc);
    if (!e && !empty)
        e = expect_end(name, parser);
    return e;
}

struct err *conf_parse(const char *name, const char *text, size_t bytes,
                       struct conf **out)
{
    if (bytes > CONF_MAX_BYTES)
        return err_new(ERR_LIMIT, "%s: larger than %zu bytes", name, CONF_MAX_BYTES);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort(); /* out of memory */
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    AUTO(node) struct conf_node *root = NULL;
    struct err *e = parse_all(name, &parser, &root);
    yaml_parser_delete(&parser);
    TRY(e);
    struct conf *c = mem_zalloc(sizeof(*c));
    c->name = mem_strdup(name);
    c->root = STEAL(root);
    *out = c;
    return NULL;
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    node_free(c->root);
    free(c->name);
    free(c);
}

/* ---- Reading ---- */

static struct err *slurp(const char *path, int fd, struct buf *text)
{
    while (text->len <= CONF_MAX_BYTES) {
        ssize_t n = read(fd, buf_room(text, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_os(errno, "read '%s'", path);
        if (n == 0)
            return NULL;
        text->len += (size_t)n;
    }
    return err_new(ERR_LIMIT, "%s: larger than %zu bytes", path, CONF_MAX_BYTES);
}

static struct err *check_owner(const char *path, const struct stat *st)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return err_new(ERR_DENIED,
                       "'%s' belongs to user %u, but what it says is run as root; "
                       "chown it to root",
                       path, (unsigned)st->st_uid);
    /* In a sticky folder (/tmp) others cannot replace what is ours. */
    bool sticky_dir = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX);
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) && !sticky_dir)
        return err_new(ERR_DENIED,
                       "'%s' can be written by others (mode %04o), but what it says is "
                       "run as root; chmod go-w it",
                       path, (unsigned)(st->st_mode & 07777));
    return NULL;
}

static struct err *check_trust(const char *path, const struct stat *file)
{
    TRY(check_owner(path, file));
    AUTO(str) char *real = realpath(path, NULL);
    if (!real)
        return err_os(errno, "resolve '%s'", path);
    for (char *slash = strrchr(real, '/'); slash; slash = strrchr(real, '/')) {
        *slash = 0;
        const char *dir = real[0] ? real : "/";
        struct stat st;
        if (stat(dir, &st) != 0)
            return err_os(errno, "look at '%s'", dir);
        TRY(check_owner(dir, &st));
    }
    return NULL;
}

static struct err *read_file(const char *path, bool trusted, struct conf **out)
{
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return err_os(errno, "open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_new(ERR_INVALID, "'%s' is not a regular file", path);
    if (trusted)
        TRY(check_trust(path, &st));
    AUTO_BUF struct buf text;
    buf_init(&text);
    TRY(slurp(path, fd, &text));
    return conf_parse(path, buf_text(&text), text.len, out);
}

struct err *conf_read(const char *path, struct conf **out)
{
    return read_file(path, false, out);
}

struct err *conf_read_trusted(const char *path, struct conf **out)
{
    return read_file(path, true, out);
}

/* ---- Finding and refusing ---- */

const struct conf_node *conf_root(const struct conf *c)
{
    return c->root;
}

static const struct conf_node *child_by_key(const struct conf_node *n, const char *key,
                                            size_t bytes)
{
    if (n->kind != CONF_MAP)
        return NULL;
    for (size_t i = 0; i < n->n; i++)
        if (strlen(n->keys[i]->text) == bytes &&
            memcmp(n->keys[i]->text, key, bytes) == 0)
            return n->items[i];
    return NULL;
}

/* Follows one step of a path, "key" or "[3]"; moves *path behind it. */
static const struct conf_node *follow(const struct conf_node *n, const char **path)
{
    const char *p = *path;
    if (*p == '[') {
        char *end = NULL;
        size_t i = strtoul(p + 1, &end, 10);
        *path = end + (*end == ']') + (*end == ']' && end[1] == '.');
        return n->kind == CONF_LIST && i < n->n ? n->items[i] : NULL;
    }
    size_t bytes = strcspn(p, ".[");
    *path = p + bytes + (p[bytes] == '.');
    return child_by_key(n, p, bytes);
}

/* The value at `path`; *nearest is it or the deepest one above it that exists. */
static const struct conf_node *lookup(const struct conf *c, const char *path,
                                      const struct conf_node **nearest)
{
    const struct conf_node *n = c->root;
    *nearest = n;
    while (n && *path) {
        n = follow(n, &path);
        if (n)
            *nearest = n;
    }
    return n;
}

const struct conf_node *conf_find(const struct conf *c, const char *path)
{
    const struct conf_node *nearest;
    return lookup(c, path, &nearest);
}

struct err *conf_refuse(const struct conf *c, const char *path, const char *fmt, ...)
{
    const struct conf_node *at;
    lookup(c, path, &at);
    va_list ap;
    va_start(ap, fmt);
    AUTO(str) char *msg = mem_vprintf(fmt, ap);
    va_end(ap);
    if (*path == 0)
        return err_new(ERR_INVALID, "%s:%u:%u: %s", c->name, at->line, at->column, msg);
    return err_new(ERR_INVALID, "%s:%u:%u: key '%s': %s", c->name, at->line, at->column,
                   path, msg);
}
