/* Pieces of the gateway's JSON: bytes are base64, 64-bit numbers are text, what is zero
 * is left out. Pure. */
#ifndef COMMON_ETCD_JSON_H
#define COMMON_ETCD_JSON_H

#include <jansson.h>

#include "common/etcd/etcd.h"

void etcd_set_bytes(json_t *o, const char *name, const void *bytes, size_t len);
void etcd_set_number(json_t *o, const char *name, int64_t n);
/* Members key and range_end for all keys that begin with prefix. */
void etcd_set_prefix(json_t *o, const char *prefix);

/* 0 when absent. */
struct err *etcd_get_number(const json_t *o, const char *name, int64_t *out) MUST_USE;
/* A kv object; *out is the caller's also after an error: etcd_kv_fini. */
struct err *etcd_read_kv(const json_t *o, struct etcd_kv *out) MUST_USE;
/* Appends a range reply's kvs and sets revision (from the header) and more. */
struct err *etcd_read_range(const json_t *o, struct etcd_range *out,
                            size_t *cap) MUST_USE;

#endif
