#include "tests/fuzz/targets.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/engine/manifest.h"
#include "common/file/file.h"
#include "common/repo/indexfile.h"
#include "common/repo/keyfile.h"
#include "common/repo/pack.h"
#include "common/repo/repo_own.h"
#include "common/repo/snapshot.h"
#include "common/repo/tree.h"
#include "common/repo/zst.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "stillpoint/v1/journal.pb-c.h"
#include "stillpoint/v1/records.pb-c.h"

enum { UNPACKED_MAX = 1 << 20 };

static void same(const struct buf *a, const struct buf *b)
{
    if (a->len != b->len || (a->len && memcmp(a->data, b->data, a->len) != 0))
        abort();
}

static void must(struct err *e)
{
    if (e)
        abort();
}

/* What may be refused. True: it was not. */
static bool accepted(struct err *e)
{
    bool fine = !e;
    err_free(e);
    return fine;
}

/* A header that somebody with the key wrote. */
static void run_pack(const uint8_t *data, size_t n)
{
    static const struct crypt_key key;
    AUTO(crypt) struct crypt *c = crypt_new(&key);
    AUTO_BUF struct buf tail = {0};
    struct blob_entry *blobs = NULL;
    size_t count = 0;
    if (n < 8)
        return;
    uint64_t bytes;
    memcpy(&bytes, data, sizeof bytes);
    uint8_t *out = (uint8_t *)buf_room(&tail, n - 8 + CRYPT_OVERHEAD + PACK_TRAILER);
    crypt_seal(c, data + 8, n - 8, out);
    uint32_t length = (uint32_t)(n - 8 + CRYPT_OVERHEAD);
    memcpy(out + length, &length, sizeof length);
    if (accepted(pack_read_header(c, out, length + PACK_TRAILER, bytes, &blobs, &count)))
        for (size_t i = 0; i < count; i++)
            if ((uint64_t)blobs[i].offset + blobs[i].length > bytes)
                abort();
    free(blobs);
}

static struct err *copy_pack(void *ctx, const struct indexfile_pack *p)
{
    indexfile_add(ctx, p, (struct go_time){0, 0});
    return NULL;
}

/* The other reader of the same files, pack by pack. */
static void run_indexfile(const uint8_t *data, size_t n)
{
    struct indexfile f = {0};
    char session[INDEXFILE_SESSION_BYTES];
    AUTO_BUF struct buf one = {0};
    AUTO_BUF struct buf two = {0};
    indexfile_signer(data, n, session);
    if (accepted(indexfile_read(data, n, copy_pack, &f))) {
        indexfile_end(&f, &one);
        must(indexfile_read(one.data, one.len, copy_pack, &f));
        indexfile_end(&f, &two);
        same(&one, &two);
    }
    indexfile_fini(&f);
}

static void run_index(const uint8_t *data, size_t n)
{
    run_indexfile(data, n);
    struct index ix = {0}, again = {0};
    AUTO_BUF struct buf one = {0};
    AUTO_BUF struct buf two = {0};
    if (accepted(index_read(&ix, data, n))) {
        index_write(&ix, 0, index_packs(&ix), &one);
        must(index_read(&again, one.data, one.len));
        index_write(&again, 0, index_packs(&again), &two);
        same(&one, &two);
    }
    index_fini(&ix);
    index_fini(&again);
}

static void run_tree(const uint8_t *data, size_t n)
{
    AUTO_TREE struct tree t = {0};
    AUTO_TREE struct tree again = {0};
    AUTO_BUF struct buf one = {0};
    AUTO_BUF struct buf two = {0};
    if (!accepted(tree_read(data, n, &t)))
        return;
    for (size_t i = 0; i < t.n; i++)
        if (!t.nodes[i].name[0] || strchr(t.nodes[i].name, '/') ||
            strcmp(t.nodes[i].name, ".") == 0 || strcmp(t.nodes[i].name, "..") == 0)
            abort();
    /* What is not UTF-8 has become U+FFFD in the first text, and stays it from then on.
     */
    tree_write(&t, &one);
    must(tree_read(one.data, one.len, &again));
    tree_fini(&t);
    t = (struct tree){0};
    tree_write(&again, &two);
    must(tree_read(two.data, two.len, &t));
    buf_clear(&one);
    tree_write(&t, &one);
    same(&one, &two);
}

static void run_snapshot(const uint8_t *data, size_t n)
{
    AUTO_SNAPSHOT struct snapshot s = {0};
    AUTO_SNAPSHOT struct snapshot again = {0};
    AUTO_BUF struct buf one = {0};
    AUTO_BUF struct buf two = {0};
    if (!accepted(snapshot_read(data, n, &s)) || !accepted(snapshot_write(&s, &one)))
        return;
    must(snapshot_read(one.data, one.len, &again));
    must(snapshot_write(&again, &two));
    same(&one, &two);
}

static void run_config(const uint8_t *data, size_t n)
{
    unsigned version = 0;
    char id[65] = "";
    if (accepted(repo_parse_config(data, n, &version, id)) && strlen(id) != 64)
        abort();
}

static void run_key(const uint8_t *data, size_t n)
{
    struct crypt_key master;
    struct keyfile_info info = {0};
    if (accepted(keyfile_info(data, n, &info)) && !info.hostname)
        abort();
    keyfile_info_fini(&info);
    (void)accepted(keyfile_read(data, n, "password", 8, &master));
}

static void round_trip(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t n)
{
    ProtobufCMessage *m = NULL, *again = NULL;
    if (!accepted(pbjson_decode(d, (const char *)data, n, 0, &m)))
        return;
    AUTO(str) char *one = pbjson_encode(m, 0);
    must(pbjson_decode(d, one, strlen(one), 0, &again));
    AUTO(str) char *two = pbjson_encode(again, 0);
    if (strcmp(one, two) != 0)
        abort();
    wire_free(m);
    wire_free(again);
}

/* set.json, and what etcd holds of a set. */
static void run_set(const uint8_t *data, size_t n)
{
    round_trip(&stillpoint__v1__set_record__descriptor, data, n);
}

static void run_journal(const uint8_t *data, size_t n)
{
    round_trip(&stillpoint__v1__agent_journal__descriptor, data, n);
}

static void run_zstd(const uint8_t *data, size_t n)
{
    AUTO(zst) struct zst *z = zst_new();
    AUTO_BUF struct buf out = {0};
    if (accepted(zst_unpack_all(z, data, n, UNPACKED_MAX, &out)) &&
        out.len > UNPACKED_MAX)
        abort();
}

static void run_manifest(const uint8_t *data, size_t n)
{
    static char file[] = "/dev/shm/fuzz-manifest.XXXXXX";
    static bool named;
    AUTO(manifest) struct manifest *m = NULL;
    struct manifest_entry e;
    if (!named && !mkdtemp(file))
        abort();
    named = true;
    AUTO(str) char *path = mem_printf("%s/m", file);
    must(file_replace(path, data, n, 0600));
    if (accepted(manifest_open(path, &m)))
        (void)manifest_find(m, "a", &e);
}

const struct fuzz_target fuzz_targets[] = {
    {"pack", run_pack},     {"index", run_index},
    {"tree", run_tree},     {"snapshot", run_snapshot},
    {"config", run_config}, {"key", run_key},
    {"set", run_set},       {"journal", run_journal},
    {"zstd", run_zstd},     {"manifest", run_manifest},
    {NULL, NULL},
};
