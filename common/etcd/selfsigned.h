/* One certificate that is its own authority, for a server on loopback and its only
 * clients. */
#ifndef COMMON_ETCD_SELFSIGNED_H
#define COMMON_ETCD_SELFSIGNED_H

#include "common/base/attr.h"
#include "common/base/err.h"

/* Makes both files (PEM, mode 0600) unless they exist; for IP 127.0.0.1, server and
 * client, without a common name. */
struct err *selfsigned_make(const char *cert_path, const char *key_path) MUST_USE;

#endif
