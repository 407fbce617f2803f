#include "common/repo/repo.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/repo/keyfile.h"
#include "common/repo/poly.h"
#include "common/repo/repo_own.h"

enum {
    FORMAT_NEWEST = 2,
    MARK_ZSTD = 2, /* first byte of a compressed unpacked file */
};

/* What restic settles on where this takes a tenth of a second. */
const struct crypt_cost repo_default_cost = {32768, 8, 2};

static const char *const kind_dirs[] = {
    [REPO_KEY] = "keys",           [REPO_DATA] = "data",  [REPO_INDEX] = "index",
    [REPO_SNAPSHOT] = "snapshots", [REPO_LOCK] = "locks",
};

void repo_name(enum repo_kind kind, const struct digest *id, char out[STORE_NAME_MAX])
{
    char hex[65];
    digest_hex(id, hex);
    if (kind == REPO_DATA)
        snprintf(out, STORE_NAME_MAX, "data/%.2s/%s", hex, hex);
    else
        snprintf(out, STORE_NAME_MAX, "%s/%s", kind_dirs[kind], hex);
}

static struct err *get_whole(struct store *s, const char *name, struct buf *out)
{
    uint64_t bytes;
    TRY(store_stat(s, name, &bytes));
    if (bytes > REPO_FILE_MAX)
        return err_new(ERR_LIMIT, "'%s' is larger than %d bytes", name, REPO_FILE_MAX);
    TRY(store_get(s, name, 0, buf_room(out, bytes), bytes));
    out->len += bytes;
    out->data[out->len] = '\0';
    return NULL;
}

/* Config: encrypted, but never compressed. */
static void make_config(const struct crypt_key *key, struct buf *sealed)
{
    uint8_t random[32];
    struct digest id;
    char hex[65];
    uint64_t poly;
    AUTO_BUF struct buf json = {0};
    crypt_random(random, sizeof random);
    memcpy(id.b, random, sizeof id.b);
    digest_hex(&id, hex);
    do {
        crypt_random(&poly, sizeof poly);
        poly = (poly & ((UINT64_C(1) << POLY_DEGREE) - 1)) | UINT64_C(1) << POLY_DEGREE;
        poly |= 1;
    } while (!poly_is_irreducible(poly));
    buf_printf(&json,
               "{\"version\":%d,\"id\":\"%s\",\"chunker_polynomial\":\"%" PRIx64 "\"}",
               FORMAT_NEWEST, hex, poly);
    AUTO(crypt) struct crypt *c = crypt_new(key);
    crypt_seal(c, json.data, json.len, buf_room(sealed, json.len + CRYPT_OVERHEAD));
    sealed->len += json.len + CRYPT_OVERHEAD;
}

struct err *repo_init(struct store *store, const void *password, size_t password_n,
                      const struct crypt_cost *cost)
{
    struct crypt_key master;
    struct digest id;
    char name[STORE_NAME_MAX];
    uint64_t bytes;
    AUTO_BUF struct buf key = {0};
    AUTO_BUF struct buf config = {0};
    AUTO(err) struct err *absent = store_stat(store, "config", &bytes);
    if (!absent)
        return err_new(ERR_CONFLICT, "'%s' is a repository already", store->url);
    if (absent->kind != ERR_NOT_FOUND)
        return STEAL(absent);
    crypt_random(&master, sizeof master);
    TRY(keyfile_write(password, password_n, cost, &master, &key));
    make_config(&master, &config);
    crypt_wipe(&master, sizeof master);
    hash_bytes(key.data, key.len, &id);
    repo_name(REPO_KEY, &id, name);
    TRY(store_put(store, name, key.data, key.len));
    struct err *e = store_put(store, "config", config.data, config.len);
    if (e && e->kind == ERR_CONFLICT) {
        /* Another init was faster: our key would open nothing. */
        err_free(store_remove(store, name));
        return err_wrap(e, "'%s' is a repository already", store->url);
    }
    return e;
}

struct err *repo_parse_config(const void *json, size_t n, unsigned *version, char id[65])
{
    struct digest parsed;
    json_t *o = json_loadb(json, n, 0, NULL);
    json_int_t number = json_integer_value(json_object_get(o, "version"));
    const char *text = json_string_value(json_object_get(o, "id"));
    bool ok = text && digest_parse(text, &parsed);
    if (ok)
        memcpy(id, text, 65);
    json_decref(o);
    if (!ok)
        return err_new(ERR_CORRUPT, "config: it is malformed");
    if (number < 1 || number > FORMAT_NEWEST)
        return err_new(ERR_INVALID, "repository format %lld is not supported",
                       (long long)number);
    *version = (unsigned)number;
    return NULL;
}

static struct err *read_config(struct repo *r)
{
    AUTO_BUF struct buf sealed = {0};
    AUTO_BUF struct buf plain = {0};
    TRY(get_whole(r->store, "config", &sealed));
    AUTO(crypt) struct crypt *c = crypt_new(&r->key);
    char *room = buf_room(&plain, sealed.len);
    TRY_CTX(crypt_open(c, (uint8_t *)sealed.data, sealed.len, room), "config");
    return repo_parse_config(room, sealed.len - CRYPT_OVERHEAD, &r->version, r->id);
}

/* What a key seals is authenticated by itself: a file that is damaged elsewhere, in its
 * host's name say, still opens, as it does for restic; a check reports it. */
static struct err *try_key(struct repo *r, const struct digest *id, const void *password,
                           size_t password_n)
{
    struct digest real;
    char name[STORE_NAME_MAX];
    AUTO_BUF struct buf json = {0};
    repo_name(REPO_KEY, id, name);
    TRY(get_whole(r->store, name, &json));
    hash_bytes(buf_text(&json), json.len, &real);
    struct err *e = keyfile_read(json.data, json.len, password, password_n, &r->key);
    if (e && !digest_equal(&real, id)) {
        err_free(e);
        return err_new(ERR_CORRUPT, "'%s' is damaged: its bytes do not match its name",
                       name);
    }
    return e;
}

/* Tries each key. A damaged or foreign key file only matters when none opens. */
static struct err *find_key(struct repo *r, const void *password, size_t password_n)
{
    struct repo_file *keys = NULL;
    size_t n = 0;
    struct err *worst = NULL;
    bool opened = false;
    TRY(repo_list(r, REPO_KEY, &keys, &n));
    for (size_t i = 0; i < n && i < REPO_KEYS_MAX && !opened; i++) {
        struct err *e = try_key(r, &keys[i].id, password, password_n);
        opened = e == NULL;
        if (opened)
            r->key_id = keys[i].id;
        if (e && e->kind != ERR_DENIED && !worst)
            worst = STEAL(e);
        err_free(e);
    }
    free(keys);
    if (opened) {
        err_free(worst);
        return NULL;
    }
    if (worst)
        return worst;
    if (!n)
        return err_new(ERR_CORRUPT, "'%s' has no key files", r->store->url);
    return err_new(ERR_DENIED, "wrong password, or no key found");
}

struct err *repo_open(struct store *store, const void *password, size_t password_n,
                      struct repo **out)
{
    AUTO(repo) struct repo *r = mem_zalloc(sizeof *r);
    uint64_t bytes;
    r->store = store;
    pthread_rwlockattr_t attr;
    pthread_mutex_init(&r->mu, NULL);
    /* Else many readers would keep a writer, who holds mu, waiting for ever. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&r->index_mu, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_cond_init(&r->put_back, NULL);
    TRY_CTX(store_stat(store, "config", &bytes), "'%s' is not a repository", store->url);
    TRY_CTX(find_key(r, password, password_n), "open repository '%s'", store->url);
    TRY_CTX(read_config(r), "open repository '%s'", store->url);
    *out = STEAL(r);
    return NULL;
}

void repo_close(struct repo *r)
{
    if (!r)
        return;
    for (int t = 0; t < BLOB_TYPES; t++) {
        idset_fini(&r->claimed[t]);
        for (int i = 0; i < OPEN_PACKS; i++)
            pack_free(r->open[t][i]);
    }
    store_close(r->store);
    crypt_wipe(&r->key, sizeof r->key);
    pthread_mutex_destroy(&r->mu);
    pthread_rwlock_destroy(&r->index_mu);
    pthread_cond_destroy(&r->put_back);
    index_fini(&r->index);
    index_cache_fini(&r->covered);
    free(r->listed);
    free(r->cache_dir);
    free(r->failure);
    free(r);
}

void repo_set_cache(struct repo *r, const char *dir)
{
    free(r->cache_dir);
    r->cache_dir = mem_strdup(dir);
}

void repo_set_effort(struct repo *r, enum zst_effort effort)
{
    r->effort = effort;
}

const char *repo_id(const struct repo *r)
{
    return r->id;
}

bool repo_is_coherent(const struct repo *r)
{
    return r->store->coherent;
}

const char *repo_url(const struct repo *r)
{
    return r->store->url;
}

void repo_secret(const struct repo *r, const char *purpose, struct digest *out)
{
    hash_hmac(&r->key, sizeof r->key, purpose, strlen(purpose), out);
}

struct repo_io *repo_io_new(struct repo *r)
{
    struct repo_io *io = mem_zalloc(sizeof *io);
    io->repo = r;
    io->crypt = crypt_new(&r->key);
    io->zst = zst_new();
    zst_set_effort(io->zst, r->effort);
    pthread_mutex_lock(&r->mu);
    io->next = r->ios;
    r->ios = io;
    pthread_mutex_unlock(&r->mu);
    return io;
}

static void remove_io(struct repo_io *io)
{
    struct repo *r = io->repo;
    pthread_mutex_lock(&r->mu);
    struct repo_io **at = &r->ios;
    while (*at != io)
        at = &(*at)->next;
    *at = io->next;
    pthread_mutex_unlock(&r->mu);
}

void repo_io_free(struct repo_io *io)
{
    if (!io)
        return;
    /* What waits is not lost; a failure is noted, and told to whoever goes on. */
    err_free(repo_settle(io));
    remove_io(io);
    crypt_free(io->crypt);
    zst_free(io->zst);
    buf_fini(&io->packed);
    buf_fini(&io->text);
    buf_fini(&io->stored);
    buf_fini(&io->plain);
    free(io);
}

struct repo *repo_io_repo(const struct repo_io *io)
{
    return io->repo;
}

struct crypt *repo_crypt(struct repo_io *io)
{
    return io->crypt;
}

struct err *repo_stat_file(struct repo *r, enum repo_kind kind, const struct digest *id,
                           uint64_t *bytes)
{
    char name[STORE_NAME_MAX];
    repo_name(kind, id, name);
    return store_stat(r->store, name, bytes);
}

struct err *repo_get_raw(struct repo *r, enum repo_kind kind, const struct digest *id,
                         struct buf *out)
{
    char name[STORE_NAME_MAX];
    repo_name(kind, id, name);
    return get_whole(r->store, name, out);
}

struct err *repo_get_part(struct repo *r, enum repo_kind kind, const struct digest *id,
                          uint64_t offset, size_t n, struct buf *out)
{
    char name[STORE_NAME_MAX];
    repo_name(kind, id, name);
    TRY(store_get(r->store, name, offset, buf_room(out, n), n));
    out->len += n;
    return NULL;
}

void repo_set_session(struct repo *r, const char *session)
{
    pthread_mutex_lock(&r->mu);
    snprintf(r->session, sizeof r->session, "%s", session);
    pthread_mutex_unlock(&r->mu);
}

void repo_set_gate(struct repo *r, repo_gate *gate, void *ctx)
{
    pthread_mutex_lock(&r->mu);
    r->gate = gate;
    r->gate_ctx = ctx;
    pthread_mutex_unlock(&r->mu);
}

void repo_drop_gate(struct repo *r, const void *ctx)
{
    pthread_mutex_lock(&r->mu);
    if (r->gate_ctx == ctx)
        r->gate = NULL;
    pthread_mutex_unlock(&r->mu);
}

struct err *repo_ask_gate(struct repo *r)
{
    pthread_mutex_lock(&r->mu);
    repo_gate *gate = r->gate;
    void *ctx = r->gate_ctx;
    pthread_mutex_unlock(&r->mu);
    return gate ? gate(ctx) : NULL;
}

struct err *repo_clean(struct repo *r, struct store_leftovers *out)
{
    return store_clean(r->store, STORE_LEFTOVER_AGE_S, out);
}

struct err *repo_remove_file(struct repo *r, enum repo_kind kind, const struct digest *id)
{
    char name[STORE_NAME_MAX];
    if (kind != REPO_LOCK)
        TRY(repo_ask_gate(r));
    repo_name(kind, id, name);
    return store_remove(r->store, name);
}

struct err *repo_put_file(struct repo *r, enum repo_kind kind, const struct digest *id,
                          const void *sealed, size_t n)
{
    char name[STORE_NAME_MAX];
    uint64_t bytes = 0;
    if (kind != REPO_LOCK)
        TRY(repo_ask_gate(r));
    repo_name(kind, id, name);
    AUTO(err) struct err *e = store_put(r->store, name, sealed, n);
    if (!e || e->kind != ERR_CONFLICT)
        return STEAL(e);
    TRY(store_stat(r->store, name, &bytes));
    if (bytes != n)
        return err_new(ERR_CORRUPT, "'%s' exists with %" PRIu64 " bytes instead of %zu",
                       name, bytes, n);
    return NULL;
}

void repo_seal_file(struct repo_io *io, const void *plain, size_t n, struct buf *sealed,
                    struct digest *id)
{
    AUTO_BUF struct buf text = {0};
    if (io->repo->version >= 2) {
        buf_char(&text, MARK_ZSTD);
        size_t cap = zst_bound(n);
        text.len += zst_pack(io->zst, plain, n, buf_room(&text, cap), cap);
    } else {
        buf_add(&text, plain, n);
    }
    buf_clear(sealed);
    size_t bytes = text.len + CRYPT_OVERHEAD;
    crypt_seal(io->crypt, text.data, text.len, buf_room(sealed, bytes));
    sealed->len = bytes;
    hash_bytes(sealed->data, sealed->len, id);
}

static struct err *collect(void *ctx, const void *data, size_t n)
{
    buf_add(ctx, data, n);
    return NULL;
}

/* `room` gets the text, still compressed. */
static struct err *unseal_to(struct repo_io *io, const void *sealed, size_t n, char *room,
                             zst_sink *sink, void *ctx)
{
    TRY(crypt_open(io->crypt, sealed, n, room));
    size_t len = n - CRYPT_OVERHEAD;
    if (len && (room[0] == '{' || room[0] == '['))
        return sink(ctx, room, len);
    size_t limit =
        n > REPO_EASY_BYTES / REPO_EASY_RATIO ? n * REPO_EASY_RATIO : REPO_EASY_BYTES;
    limit = limit < REPO_FILE_MAX ? limit : REPO_FILE_MAX;
    if (len && room[0] == MARK_ZSTD)
        return zst_unpack_to(io->zst, room + 1, len - 1, limit, sink, ctx);
    return err_new(ERR_CORRUPT, "unknown file encoding");
}

struct err *repo_unseal_file(struct repo_io *io, const void *sealed, size_t n,
                             struct buf *out)
{
    AUTO_BUF struct buf text = {0};
    return unseal_to(io, sealed, n, buf_room(&text, n), collect, out);
}

struct err *repo_stream_file(struct repo_io *io, enum repo_kind kind,
                             const struct digest *id, zst_sink *sink, void *ctx)
{
    struct digest real;
    char name[STORE_NAME_MAX];
    repo_name(kind, id, name);
    buf_clear(&io->stored);
    TRY(get_whole(io->repo->store, name, &io->stored));
    hash_bytes(buf_text(&io->stored), io->stored.len, &real);
    if (!digest_equal(&real, id))
        return err_new(ERR_CORRUPT, "'%s' is damaged: its bytes do not match its name",
                       name);
    /* Opened in place: what is sealed is not needed any more. */
    TRY_CTX(unseal_to(io, io->stored.data, io->stored.len, io->stored.data + CRYPT_IV,
                      sink, ctx),
            "'%s'", name);
    return NULL;
}

struct err *repo_read_file(struct repo_io *io, enum repo_kind kind,
                           const struct digest *id, struct buf *out)
{
    return repo_stream_file(io, kind, id, collect, out);
}

struct listing {
    struct repo_file *files;
    size_t n;
    size_t cap;
};

static struct err *list_one(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *l = ctx;
    const char *base = strrchr(name, '/');
    struct digest id;
    if (!base || !digest_parse(base + 1, &id))
        return NULL;
    mem_reserve((void **)&l->files, &l->cap, l->n, sizeof *l->files);
    l->files[l->n++] = (struct repo_file){id, bytes};
    return NULL;
}

struct err *repo_list(struct repo *r, enum repo_kind kind, struct repo_file **out,
                      size_t *n)
{
    struct listing l = {0};
    struct err *e = store_list(r->store, kind_dirs[kind], list_one, &l);
    if (e) {
        free(l.files);
        return e;
    }
    *out = l.files;
    *n = l.n;
    return NULL;
}
