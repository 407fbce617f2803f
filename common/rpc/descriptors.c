#include "common/rpc/descriptors.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/wire.h"
#include "grpc/descriptor.pb-c.h"

/* Made by the build. */
extern const unsigned char stillpoint_descriptors[];
extern const size_t stillpoint_descriptors_bytes;

typedef Stillpoint__Descriptor__File file_proto;
typedef Stillpoint__Descriptor__Message message_proto;

struct rpc_descriptors {
    Stillpoint__Descriptor__FileSet *set; /* the raw files */
    file_proto **files;                   /* the same, read; set->n_file of them */
};

/* What the build embedded is right or the build is broken. */
static ProtobufCMessage *must_unpack(const ProtobufCMessageDescriptor *md,
                                     const void *bytes, size_t len)
{
    ProtobufCMessage *m = NULL;
    AUTO(err) struct err *e = wire_unpack(md, bytes, len, &m);
    assert(!e);
    return m;
}

struct rpc_descriptors *rpc_descriptors_new(void)
{
    struct rpc_descriptors *d = mem_zalloc(sizeof *d);
    d->set = (Stillpoint__Descriptor__FileSet *)must_unpack(
        &stillpoint__descriptor__file_set__descriptor, stillpoint_descriptors,
        stillpoint_descriptors_bytes);
    d->files = mem_array(d->set->n_file, sizeof(file_proto *));
    for (size_t i = 0; i < d->set->n_file; i++)
        d->files[i] =
            (file_proto *)must_unpack(&stillpoint__descriptor__file__descriptor,
                                      d->set->file[i].data, d->set->file[i].len);
    return d;
}

void rpc_descriptors_free(struct rpc_descriptors *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->set->n_file; i++)
        wire_free(&d->files[i]->base);
    free(d->files);
    wire_free(&d->set->base);
    free(d);
}

/* What follows "prefix." in s, or NULL. An empty prefix is followed by all of s. */
static const char *after(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (n == 0)
        return s;
    return strncmp(s, prefix, n) == 0 && s[n] == '.' ? s + n + 1 : NULL;
}

static const Stillpoint__Descriptor__Method *
find_method(const struct rpc_descriptors *d, const char *service, const char *method)
{
    for (size_t i = 0; i < d->set->n_file; i++) {
        const char *name = after(service, d->files[i]->package);
        for (size_t k = 0; name && k < d->files[i]->n_service; k++) {
            const Stillpoint__Descriptor__Service *s = d->files[i]->service[k];
            for (size_t m = 0; strcmp(s->name, name) == 0 && m < s->n_method; m++)
                if (strcmp(s->method[m]->name, method) == 0)
                    return s->method[m];
        }
    }
    return NULL;
}

bool rpc_descriptors_reads_stream(const struct rpc_descriptors *d, const char *service,
                                  const char *method)
{
    const Stillpoint__Descriptor__Method *m = find_method(d, service, method);
    return m && m->client_streaming;
}

int rpc_descriptors_by_name(const struct rpc_descriptors *d, const char *name)
{
    for (size_t i = 0; i < d->set->n_file; i++)
        if (strcmp(d->files[i]->name, name) == 0)
            return (int)i;
    return -1;
}

static bool enums_declare(Stillpoint__Descriptor__Enum *const *enums, size_t n,
                          const char *symbol)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(enums[i]->name, symbol) == 0)
            return true;
    return false;
}

static bool messages_declare(message_proto *const *messages, size_t n, const char *symbol)
{
    for (size_t i = 0; i < n; i++) {
        const message_proto *m = messages[i];
        if (strcmp(m->name, symbol) == 0)
            return true;
        const char *inner = after(symbol, m->name);
        if (inner && (messages_declare(m->nested_type, m->n_nested_type, inner) ||
                      enums_declare(m->enum_type, m->n_enum_type, inner)))
            return true;
    }
    return false;
}

static bool services_declare(const file_proto *f, const char *symbol)
{
    for (size_t i = 0; i < f->n_service; i++) {
        const Stillpoint__Descriptor__Service *s = f->service[i];
        if (strcmp(s->name, symbol) == 0)
            return true;
        const char *method = after(symbol, s->name);
        for (size_t k = 0; method && k < s->n_method; k++)
            if (strcmp(s->method[k]->name, method) == 0)
                return true;
    }
    return false;
}

int rpc_descriptors_by_symbol(const struct rpc_descriptors *d, const char *symbol)
{
    for (size_t i = 0; i < d->set->n_file; i++) {
        const file_proto *f = d->files[i];
        const char *name = after(symbol, f->package);
        if (name && (messages_declare(f->message_type, f->n_message_type, name) ||
                     enums_declare(f->enum_type, f->n_enum_type, name) ||
                     services_declare(f, name)))
            return (int)i;
    }
    return -1;
}

static void add_file(const struct rpc_descriptors *d, int file, bool *seen,
                     ProtobufCBinaryData *out, size_t *n)
{
    if (file < 0 || seen[file])
        return;
    seen[file] = true;
    out[(*n)++] = d->set->file[file];
    const file_proto *f = d->files[file];
    for (size_t i = 0; i < f->n_dependency; i++)
        add_file(d, rpc_descriptors_by_name(d, f->dependency[i]), seen, out, n);
}

size_t rpc_descriptors_closure(const struct rpc_descriptors *d, int file,
                               ProtobufCBinaryData *out)
{
    bool *seen = mem_array(d->set->n_file, sizeof *seen);
    size_t n = 0;
    add_file(d, file, seen, out, &n);
    free(seen);
    return n;
}

size_t rpc_descriptors_count(const struct rpc_descriptors *d)
{
    return d->set->n_file;
}
