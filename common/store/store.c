#include "common/store/store.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"

void store_setup(struct store *s, const struct store_vt *vt, unsigned flags,
                 const char *url)
{
    s->vt = vt;
    s->flags = flags;
    s->url = mem_strdup(url);
}

/* A name can come from a hostile listing or file: nothing in it may leave the store. */
static struct err *check_name(const char *name)
{
    size_t n = strlen(name);
    bool ok = n > 0 && n < STORE_NAME_MAX && name[0] != '/' && name[n - 1] != '/';
    for (const char *p = name; ok && *p; p++)
        ok = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' ||
             (*p == '/' && p[1] != '/');
    if (!ok)
        return err_new(ERR_INVALID, "'%s' is not an object name", name);
    return NULL;
}

struct err *store_open(const char *url, unsigned flags, struct store **out)
{
    const char *colon = strchr(url, ':');
    const char *slash = strchr(url, '/');
    if (colon && (!slash || colon < slash)) {
        if (strncmp(url, "local:", 6) != 0)
            return err_new(ERR_INVALID,
                           "repository '%s': unknown scheme (known: local:PATH)", url);
        url += 6;
    }
    if (!*url)
        return err_new(ERR_INVALID, "the repository's path is empty");
    return store_local_open(url, flags, out);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    free(s->url);
    s->vt->close(s);
}

struct err *store_put(struct store *s, const char *name, const void *data, size_t n)
{
    TRY(check_name(name));
    return s->vt->put(s, name, data, n);
}

/* For backends that only take whole objects. */
struct collected {
    struct store_upload upload;
    struct buf bytes;
};

struct err *store_begin(struct store *s, const char *dir, struct store_upload **out)
{
    TRY(check_name(dir));
    if (s->vt->begin)
        return s->vt->begin(s, dir, out);
    struct collected *c = mem_zalloc(sizeof *c);
    c->upload.store = s;
    *out = &c->upload;
    return NULL;
}

struct err *store_append(struct store_upload *u, const void *data, size_t n)
{
    if (u->store->vt->begin)
        return u->store->vt->append(u, data, n);
    buf_add(&((struct collected *)u)->bytes, data, n);
    return NULL;
}

static struct err *end_collected(struct collected *c, const char *name)
{
    struct err *e = NULL;
    if (name)
        e = store_put(c->upload.store, name, buf_text(&c->bytes), c->bytes.len);
    buf_fini(&c->bytes);
    free(c);
    return e;
}

struct err *store_commit(struct store_upload *u, const char *name)
{
    struct err *e = check_name(name);
    if (e) {
        store_abort(u);
        return e;
    }
    return u->store->vt->begin ? u->store->vt->end(u, name)
                               : end_collected((struct collected *)u, name);
}

void store_abort(struct store_upload *u)
{
    if (!u)
        return;
    err_free(u->store->vt->begin ? u->store->vt->end(u, NULL)
                                 : end_collected((struct collected *)u, NULL));
}

struct err *store_get(struct store *s, const char *name, uint64_t offset, void *out,
                      size_t n)
{
    TRY(check_name(name));
    return s->vt->get(s, name, offset, out, n);
}

struct err *store_list(struct store *s, const char *dir, store_visit *visit, void *ctx)
{
    TRY(check_name(dir));
    return s->vt->list(s, dir, visit, ctx);
}

struct err *store_stat(struct store *s, const char *name, uint64_t *bytes)
{
    TRY(check_name(name));
    return s->vt->stat(s, name, bytes);
}

struct err *store_remove(struct store *s, const char *name)
{
    TRY(check_name(name));
    if (!(s->flags & STORE_RECLAIM) && strncmp(name, "locks/", 6) != 0)
        return err_new(ERR_DENIED, "'%s' may not be removed here", name);
    return s->vt->remove(s, name);
}
