#include "common/rpc/status.h"

#include <stdbool.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/rpc/rpc.h"
#include "common/wire/utf8.h"
#include "common/wire/wire.h"
#include "grpc/status.pb-c.h"

static const char domain[] = "stillpoint";
static const char info_url[] = "type.googleapis.com/google.rpc.ErrorInfo";

/* Each kind's code. Several kinds share one: the trailer tells them apart. */
static const struct {
    enum err_kind kind;
    grpc_status_code code;
} codes[] = {
    {ERR_INVALID, GRPC_STATUS_INVALID_ARGUMENT},
    {ERR_NOT_FOUND, GRPC_STATUS_NOT_FOUND},
    {ERR_CONFLICT, GRPC_STATUS_FAILED_PRECONDITION},
    {ERR_STALE_TOKEN, GRPC_STATUS_ABORTED},
    {ERR_DENIED, GRPC_STATUS_PERMISSION_DENIED},
    {ERR_TIMEOUT, GRPC_STATUS_DEADLINE_EXCEEDED},
    {ERR_UNAVAILABLE, GRPC_STATUS_UNAVAILABLE},
    {ERR_CORRUPT, GRPC_STATUS_DATA_LOSS},
    {ERR_NO_SPACE, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {ERR_LIMIT, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {ERR_CANCELLED, GRPC_STATUS_CANCELLED},
    {ERR_IO, GRPC_STATUS_INTERNAL},
};

static grpc_status_code code_of(enum err_kind kind)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].kind == kind)
            return codes[i].code;
    return GRPC_STATUS_UNKNOWN;
}

/* Without a trailer, from another program or the library itself. */
static enum err_kind kind_of(grpc_status_code code, bool was_sent)
{
    switch (code) {
    case GRPC_STATUS_CANCELLED:
        return ERR_CANCELLED;
    case GRPC_STATUS_INVALID_ARGUMENT:
    case GRPC_STATUS_OUT_OF_RANGE:
    case GRPC_STATUS_UNIMPLEMENTED:
        return ERR_INVALID;
    case GRPC_STATUS_DEADLINE_EXCEEDED:
        return ERR_TIMEOUT;
    case GRPC_STATUS_NOT_FOUND:
        return ERR_NOT_FOUND;
    case GRPC_STATUS_ALREADY_EXISTS:
    case GRPC_STATUS_FAILED_PRECONDITION:
    case GRPC_STATUS_ABORTED:
        return ERR_CONFLICT;
    case GRPC_STATUS_PERMISSION_DENIED:
    case GRPC_STATUS_UNAUTHENTICATED:
        return ERR_DENIED;
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return ERR_LIMIT;
    case GRPC_STATUS_UNAVAILABLE:
        return was_sent ? ERR_TIMEOUT : ERR_UNAVAILABLE;
    case GRPC_STATUS_DATA_LOSS:
        return ERR_CORRUPT;
    default:
        return ERR_IO;
    }
}

static bool kind_named(const char *name, enum err_kind *out)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (strcmp(err_kind_name(codes[i].kind), name) == 0) {
            *out = codes[i].kind;
            return true;
        }
    return false;
}

/* Cuts at a character's border. */
static void cut(char *text, size_t max)
{
    size_t n = 0;
    while (text[n] && n + utf8_char(text + n) <= max)
        n += utf8_char(text + n);
    text[n] = '\0';
}

static void *pack_details(const struct rpc_status *s, const char *reason, size_t *len)
{
    Stillpoint__Rpc__ErrorInfo info = STILLPOINT__RPC__ERROR_INFO__INIT;
    info.reason = (char *)(uintptr_t)reason;
    info.domain = (char *)(uintptr_t)domain;
    Stillpoint__Rpc__Detail detail = STILLPOINT__RPC__DETAIL__INIT;
    detail.type_url = (char *)(uintptr_t)info_url;
    detail.value.data = wire_pack(&info.base, &detail.value.len);
    Stillpoint__Rpc__Detail *list[] = {&detail};
    Stillpoint__Rpc__Status status = STILLPOINT__RPC__STATUS__INIT;
    status.code = (int32_t)s->code;
    status.message = s->text;
    status.n_details = 1;
    status.details = list;
    void *packed = wire_pack(&status.base, len);
    free(detail.value.data);
    return packed;
}

void rpc_status_from_err(const struct err *e, struct rpc_status *out)
{
    *out = (struct rpc_status){.code = GRPC_STATUS_OK};
    if (!e)
        return;
    AUTO(str) char *text = err_text(e);
    out->code = code_of(e->kind);
    out->text = utf8_repair(text);
    cut(out->text, RPC_STATUS_TEXT_BYTES);
    out->details = pack_details(out, err_kind_name(e->kind), &out->details_len);
}

void rpc_status_fini(struct rpc_status *s)
{
    free(s->text);
    free(s->details);
    *s = (struct rpc_status){.code = GRPC_STATUS_OK};
}

static bool kind_in_detail(const Stillpoint__Rpc__Detail *d, enum err_kind *out)
{
    if (strcmp(d->type_url, info_url) != 0)
        return false;
    AUTO(wire) ProtobufCMessage *m = NULL;
    AUTO(err)
    struct err *e = wire_unpack(&stillpoint__rpc__error_info__descriptor, d->value.data,
                                d->value.len, &m);
    if (e)
        return false;
    const Stillpoint__Rpc__ErrorInfo *info = (const Stillpoint__Rpc__ErrorInfo *)m;
    return strcmp(info->domain, domain) == 0 && kind_named(info->reason, out);
}

static bool kind_in_details(const void *details, size_t len, enum err_kind *out)
{
    AUTO(wire) ProtobufCMessage *m = NULL;
    AUTO(err)
    struct err *e = wire_unpack(&stillpoint__rpc__status__descriptor, details, len, &m);
    if (e)
        return false;
    const Stillpoint__Rpc__Status *s = (const Stillpoint__Rpc__Status *)m;
    for (size_t i = 0; i < s->n_details; i++)
        if (kind_in_detail(s->details[i], out))
            return true;
    return false;
}

struct err *rpc_status_to_err(grpc_status_code code, const char *text, size_t text_len,
                              const void *details, size_t details_len, int was_sent)
{
    if (code == GRPC_STATUS_OK)
        return NULL;
    enum err_kind kind = kind_of(code, was_sent);
    if (details)
        (void)kind_in_details(details, details_len, &kind);
    if (text_len == 0)
        return err_new(kind, "status %d without a text", (int)code);
    return err_new(kind, "%.*s", (int)(text_len < 4096 ? text_len : 4096), text);
}
