/* `stillpoint set prove`: whether a set shows one instant, from the record at a
 * coordinator, from set.json, or from the repository alone. */
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/engine/dump.h"
#include "common/file/file.h"
#include "common/sign/witness.h"
#include "common/wire/convert.h"
#include "common/wire/pbjson.h"
#include "common/wire/wire.h"
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/print_set.h"
#include "coordinator/ctl/remote.h"
#include "coordinator/ctl/repo_access.h"

typedef Stillpoint__V1__SetRecord SetRecord;

enum { PROVE_FILE_BYTES = 64 << 20 };

/* A record and where it came from. */
struct evidence_of {
    ProtobufCMessage *record;  /* owned */
    struct buf json, seal;     /* set.json and set.json.sig; empty: from a coordinator */
    struct repo_access access; /* of a repository */
};

static void evidence_fini(struct evidence_of *v)
{
    if (v->record)
        wire_free(v->record);
    buf_fini(&v->json);
    buf_fini(&v->seal);
    repo_access_close(&v->access);
}

/* ---- where it comes from ---- */

static int from_coordinator(struct ctl *c, struct evidence_of *v)
{
    AUTO(remote) struct remote *r = NULL;
    Stillpoint__V1__SetRequest req = STILLPOINT__V1__SET_REQUEST__INIT;
    req.set = (char *)c->args[0];
    int status = remote_open(c, &r);
    return status == CTL_OK ? remote_call(r, "GetSet", &req.base, &v->record) : status;
}

static struct err *read_file(const char *path, struct buf *out)
{
    AUTO(str) char *text = NULL;
    size_t n = 0;
    TRY(file_read(path, PROVE_FILE_BYTES, &text, &n));
    buf_add(out, text, n);
    return NULL;
}

static struct err *from_file(struct ctl *c, struct evidence_of *v)
{
    const char *path = ctl_value(c, "offline");
    AUTO(str) char *beside = mem_printf("%s.sig", path);
    TRY(read_file(path, &v->json));
    TRY_CTX(read_file(beside, &v->seal),
            "the coordinator's signature is stored beside it");
    return NULL;
}

static struct err *append(void *ctx, const void *data, size_t n)
{
    struct buf *b = ctx;
    if (b->len + n > PROVE_FILE_BYTES)
        return err_new(ERR_LIMIT, "larger than %d bytes", PROVE_FILE_BYTES);
    buf_add(b, data, n);
    return NULL;
}

/* The snapshot tagged as this set's record. */
static struct err *find_record(struct repo_io *io, const char *set, struct digest *tree)
{
    AUTO(str) char *tag = mem_printf("set=%s", set);
    struct snapshot *list = NULL;
    size_t n = 0;
    bool found = false;
    TRY(repo_snapshots(io, &list, &n));
    for (size_t i = 0; i < n && !found; i++) {
        found = strings_has(&list[i].tags, "stillpoint-set") &&
                strings_has(&list[i].tags, tag);
        if (found)
            *tree = list[i].tree;
    }
    repo_free_snapshots(list, n);
    return found ? NULL
                 : err_new(ERR_NOT_FOUND,
                           "the repository has no record of set '%s'; `stillpoint repo "
                           "snapshots --tag stillpoint-set` lists those it has",
                           set);
}

static struct err *from_repository(struct ctl *c, struct evidence_of *v)
{
    struct digest tree;
    struct repo_io *io = v->access.io;
    TRY(find_record(io, c->args[0], &tree));
    TRY_CTX(dump_path(io, &tree, "/set.json", append, &v->json, &ctl_cancelled),
            "set.json");
    TRY_CTX(dump_path(io, &tree, "/set.json.sig", append, &v->seal, &ctl_cancelled),
            "set.json.sig");
    return NULL;
}

/* ---- whether it holds ---- */

/* Each part's snapshot is there and is the one that the record speaks of. */
static struct err *check_snapshot(struct repo_io *io, const SetRecord *r,
                                  const Stillpoint__V1__Part *p)
{
    struct digest id, tree;
    AUTO_SNAPSHOT struct snapshot s = {0};
    AUTO(str) char *tag = mem_printf("set=%s", r->set);
    if (!digest_parse(p->snapshot_id, &id) || !digest_parse(p->tree_id, &tree))
        return err_new(ERR_CORRUPT, "the record names no snapshot");
    TRY_CTX(repo_read_snapshot(io, &id, &s), "snapshot %.8s", p->snapshot_id);
    if (!digest_equal(&s.tree, &tree))
        return err_new(ERR_CORRUPT, "snapshot %.8s has another tree than the record says",
                       p->snapshot_id);
    if (!strings_has(&s.tags, tag))
        return err_new(ERR_CORRUPT, "snapshot %.8s has not the tag '%s'", p->snapshot_id,
                       tag);
    return NULL;
}

static struct err *check_snapshots(struct repo_io *io, const SetRecord *r)
{
    for (size_t i = 0; i < r->n_parts; i++)
        if (!part_is_missing(r, r->parts[i]))
            TRY_CTX(check_snapshot(io, r, r->parts[i]), "part '%s/%s'", r->parts[i]->node,
                    r->parts[i]->partition);
    return NULL;
}

/* --ca, or what the client's file says. The cluster is then the one that the record's
 * signers claim, which the authority must vouch for. */
static struct err *open_trust(const struct ctl *c, const SetRecord *r, struct trust **out)
{
    AUTO(str) char *ca = NULL;
    AUTO(str) char *cluster = NULL;
    struct rpc_identity id;
    if (!ctl_value(c, "ca")) {
        TRY_CTX(remote_authority(c, &ca, &cluster), "--ca FILE is not given");
        return trust_open(ca, cluster, out);
    }
    if (r->n_signers == 0)
        return err_new(ERR_CORRUPT, "the record has no signers");
    TRY(rpc_identity_parse(r->signers[0]->id, &id));
    return trust_open(ctl_value(c, "ca"), id.cluster, out);
}

static struct err *check(const struct ctl *c, const struct evidence_of *v, char **sealer)
{
    const SetRecord *r = (const void *)v->record;
    AUTO(trust) struct trust *t = NULL;
    if (strcmp(r->set, c->args[0]) != 0)
        return err_new(ERR_CORRUPT, "this is the record of set '%s'", r->set);
    if (r->state < STILLPOINT__V1__SET_STATE__SET_CAPTURED ||
        r->state == STILLPOINT__V1__SET_STATE__SET_ABORTED)
        return err_new(ERR_CONFLICT, "it is %s: there is no cut",
                       set_state_text(r->state));
    TRY(record_prove(r));
    TRY(open_trust(c, r, &t));
    TRY(witness_check_record(t, r));
    if (v->json.len > 0)
        TRY_CTX(witness_check_seal(t, v->json.data, v->json.len, v->seal.data,
                                   v->seal.len, r->cut_unix_ms, sealer),
                "set.json");
    return v->access.repo ? check_snapshots(v->access.io, r) : NULL;
}

/* ---- the command ---- */

static struct err *decode(struct evidence_of *v)
{
    return pbjson_decode(&stillpoint__v1__set_record__descriptor, v->json.data,
                         v->json.len, 0, &v->record);
}

static int gather(struct ctl *c, struct evidence_of *v)
{
    struct err *e = NULL;
    if (ctl_has(c, "offline") && ctl_has(c, "repo"))
        return ctl_fail(c,
                        err_new(ERR_INVALID,
                                "--offline and --repo are two places to take "
                                "the set from: name one"),
                        CTL_USAGE);
    if (ctl_has(c, "offline")) {
        e = from_file(c, v);
    } else if (ctl_has(c, "repo")) {
        int status = repo_access_open(c, true, false, &v->access);
        if (status != CTL_OK)
            return status;
        e = from_repository(c, v);
    } else {
        return from_coordinator(c, v);
    }
    if (!e)
        e = decode(v);
    return e ? ctl_fail(c, e, CTL_FAILED) : CTL_OK;
}

static void print_seal(const struct evidence_of *v, const char *sealer)
{
    const SetRecord *r = (const void *)v->record;
    printf("set.json is what %s signed", sealer);
    if (v->access.repo)
        printf(", and the snapshots of all %zu parts are those it names",
               r->n_parts - record_missing(r));
    puts(".");
}

static json_t *missing_names(const SetRecord *r)
{
    json_t *names = json_array();
    for (size_t i = 0; i < r->n_parts; i++)
        if (part_is_missing(r, r->parts[i]))
            json_array_append_new(
                names, json_sprintf("%s/%s", r->parts[i]->node, r->parts[i]->partition));
    return names;
}

static int prove(struct ctl *c, struct evidence_of *v)
{
    AUTO(str) char *sealer = NULL;
    struct err *e = check(c, v, &sealer);
    if (e)
        return ctl_fail(c, err_wrap(e, "set '%s' is not proved", c->args[0]), CTL_FAILED);
    const SetRecord *r = (const void *)v->record;
    if (c->json) {
        ctl_print_json(json_pack("{s:s, s:b, s:i, s:i, s:o, s:s*}", "set", r->set,
                                 "proved", 1, "domains", (int)r->n_epochs, "parts",
                                 (int)(r->n_parts - record_missing(r)), "missing",
                                 missing_names(r), "sealed_by", sealer));
        return CTL_OK;
    }
    print_proof(r);
    if (sealer)
        print_seal(v, sealer);
    return CTL_OK;
}

static int run_prove(struct ctl *c)
{
    struct evidence_of v = {0};
    int status = gather(c, &v);
    if (status == CTL_OK)
        status = prove(c, &v);
    evidence_fini(&v);
    return status;
}

static const struct ctl_option options[] = {
    REMOTE_OPTIONS,
    REPO_OPTIONS,
    {"offline", "FILE", "a set.json, with set.json.sig beside it: asks nobody", 'o'},
    {"ca", "FILE",
     "the cluster's certificate authority (default: tls.ca of the client's "
     "file)",
     0},
    {0}};

const struct ctl_command ctl_prove_commands[] = {
    {"set", "prove", "SET",
     "check that all parts show one instant, from signed proofs alone", options,
     "  stillpoint set prove ledger-20260101t000000z-1a2b\n"
     "  stillpoint set prove ledger-20260101t000000z-1a2b --repo /backup/ledger "
     "--password-file pw --ca ca.pem\n"
     "  stillpoint repo dump SEAL-SNAPSHOT /set.json >set.json   # and /set.json.sig\n"
     "  stillpoint set prove ledger-20260101t000000z-1a2b --offline set.json --ca "
     "ca.pem\n",
     1, 1, run_prove},
    {0},
};
