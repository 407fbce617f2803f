#include "coordinator/shell/config.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/conf/schema.h"

#define AT(type, member) .offset = offsetof(struct type, member)
#define COUNT(type, member) .count = offsetof(struct type, member)
#define TLS_OF(type, member)                                                             \
    .offset = offsetof(struct type, tls.member) - offsetof(struct type, tls)

static const struct schema_field tls_fields[] = {
    {"ca", SCHEMA_PATH, TLS_OF(config_coordinator, ca), .required = true},
    {"cert", SCHEMA_PATH, TLS_OF(config_coordinator, cert), .required = true},
    {"key", SCHEMA_PATH, TLS_OF(config_coordinator, key), .required = true},
};
static const struct schema tls_schema = {sizeof(((struct config_coordinator *)0)->tls),
                                         tls_fields, ARRAY_LEN(tls_fields)};

static const struct schema_field etcd_tls_fields[] = {
    {"ca", SCHEMA_PATH, TLS_OF(config_etcd, ca), .required = true},
    {"cert", SCHEMA_PATH, TLS_OF(config_etcd, cert)},
    {"key", SCHEMA_PATH, TLS_OF(config_etcd, key)},
};
static const struct schema etcd_tls_schema = {
    sizeof(((struct config_etcd *)0)->tls), etcd_tls_fields, ARRAY_LEN(etcd_tls_fields)};

static const struct schema_field etcd_fields[] = {
    {"endpoints", SCHEMA_STRS, AT(config_etcd, endpoints),
     COUNT(config_etcd, n_endpoints), .max = 16},
    {"embedded", SCHEMA_BOOL, AT(config_etcd, embedded)},
    {"listen", SCHEMA_STR, AT(config_etcd, embedded_listen),
     .fallback = "127.0.0.1:2379"},
    {"tls", SCHEMA_OBJECT, AT(config_etcd, tls), .schema = &etcd_tls_schema},
};
static const struct schema etcd_schema = {sizeof(struct config_etcd), etcd_fields,
                                          ARRAY_LEN(etcd_fields)};

static const struct schema_field fields[] = {
    {"cluster", SCHEMA_NAME, AT(config_coordinator, cluster), .required = true},
    {"name", SCHEMA_NAME, AT(config_coordinator, name), .required = true},
    {"listen", SCHEMA_STR, AT(config_coordinator, listen), .fallback = "0.0.0.0:7420"},
    {"tls", SCHEMA_OBJECT, AT(config_coordinator, tls), .required = true,
     .schema = &tls_schema},
    {"etcd", SCHEMA_OBJECT, AT(config_coordinator, etcd), .required = true,
     .schema = &etcd_schema},
    {"lease", SCHEMA_DURATION, AT(config_coordinator, lease_ms), .fallback = "10s",
     .min = 3000, .max = 60000},
    {"drills", SCHEMA_BOOL, AT(config_coordinator, drills)},
    {"state_dir", SCHEMA_PATH, AT(config_coordinator, state_dir),
     .fallback = "/var/lib/stillpoint/coordinator"},
};
static const struct schema schema = {sizeof(struct config_coordinator), fields,
                                     ARRAY_LEN(fields)};

static struct err *check(const struct conf *doc, const struct config_coordinator *c)
{
    if (c->etcd.embedded == (c->etcd.n_endpoints > 0))
        return conf_refuse(
            doc, "etcd",
            "give either 'endpoints' of your etcd cluster, or 'embedded: true' "
            "to have this coordinator run one (one coordinator only)");
    if (c->etcd.embedded && c->etcd.tls.ca)
        return conf_refuse(doc, "etcd.tls",
                           "an embedded etcd listens on loopback only and takes none");
    if (!c->etcd.tls.cert != !c->etcd.tls.key)
        return conf_refuse(doc, "etcd.tls", "'cert' and 'key' belong together");
    return NULL;
}

void config_coordinator_free(struct config_coordinator *c)
{
    if (!c)
        return;
    schema_release(&schema, c);
    free(c);
}

struct err *config_coordinator_read(const char *path, struct config_coordinator **out)
{
    AUTO(conf) struct conf *doc = NULL;
    TRY(conf_read(path, &doc));
    AUTO(config_coordinator) struct config_coordinator *c = mem_zalloc(sizeof *c);
    TRY(schema_bind(doc, &schema, c));
    TRY(check(doc, c));
    *out = STEAL(c);
    return NULL;
}
