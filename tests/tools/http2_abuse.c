/* A peer with a valid certificate that misuses HTTP/2, for tests of what a server bears:
 *
 *   http2_abuse CERTS LEAF PORT resets|continuations|headers|padding|garbage
 *
 * resets: 10,000 streams, each reset at once · continuations: a header block that never
 * ends · headers: one of 1 MiB · padding: integers of 1,000 zero bytes in the header
 * compression · garbage: random bytes behind the handshake. Ends when the server ends the
 * connection or all is sent; exit status 0 in both cases. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/base/buf.h"
#include "common/base/rng.h"

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, CONTINUATION = 9 };
enum { END_HEADERS = 4 };

static SSL *ssl;

static bool put(const struct buf *b)
{
    for (size_t at = 0; at < b->len;) {
        int n = SSL_write(ssl, b->data + at, (int)(b->len - at));
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static void frame(struct buf *out, int type, int flags, uint32_t stream, const void *body,
                  size_t n)
{
    unsigned char head[9] = {(unsigned char)(n >> 16),
                             (unsigned char)(n >> 8),
                             (unsigned char)n,
                             (unsigned char)type,
                             (unsigned char)flags,
                             (unsigned char)(stream >> 24),
                             (unsigned char)(stream >> 16),
                             (unsigned char)(stream >> 8),
                             (unsigned char)stream};
    buf_add(out, head, sizeof head);
    buf_add(out, body, n);
}

/* A literal without indexing and without Huffman's code; lengths below 127. */
static void header(struct buf *out, const char *name, const char *value)
{
    buf_char(out, 0);
    buf_char(out, (char)strlen(name));
    buf_str(out, name);
    buf_char(out, (char)strlen(value));
    buf_str(out, value);
}

static void request(struct buf *out)
{
    header(out, ":method", "POST");
    header(out, ":scheme", "https");
    header(out, ":path", "/grpc.health.v1.Health/Check");
    header(out, ":authority", "n1");
    header(out, "content-type", "application/grpc");
    header(out, "te", "trailers");
}

static bool resets(struct buf *out, struct buf *block)
{
    request(block);
    for (uint32_t i = 0; i < 10000; i++) {
        static const unsigned char cancel[4] = {0, 0, 0, 8};
        buf_clear(out);
        frame(out, HEADERS, END_HEADERS, 2 * i + 1, block->data, block->len);
        frame(out, RST_STREAM, 0, 2 * i + 1, cancel, sizeof cancel);
        if (!put(out))
            return false;
    }
    return true;
}

static bool continuations(struct buf *out, struct buf *block)
{
    request(block);
    frame(out, HEADERS, 0, 1, block->data, block->len);
    for (int i = 0; i < 100000; i++) {
        if (!put(out))
            return false;
        buf_clear(out);
        buf_clear(block);
        header(block, "x-more", "and more and more and more");
        frame(out, CONTINUATION, 0, 1, block->data, block->len);
    }
    return true;
}

static bool headers(struct buf *out, struct buf *block)
{
    request(block);
    frame(out, HEADERS, 0, 1, block->data, block->len);
    for (int i = 0; i < 64; i++) {
        buf_clear(block);
        while (block->len < 16000)
            header(block, "x-large", "0123456789012345678901234567890123456789");
        frame(out, CONTINUATION, i == 63 ? END_HEADERS : 0, 1, block->data, block->len);
    }
    return put(out);
}

static bool padding(struct buf *out, struct buf *block)
{
    buf_char(block, 0x0f); /* an index that goes on in the next bytes */
    for (int i = 0; i < 1000; i++)
        buf_char(block, (char)0x80);
    for (int i = 0; i < 1000; i++)
        frame(out, i ? CONTINUATION : HEADERS, 0, 1, block->data, block->len);
    return put(out);
}

static bool garbage(struct buf *out, struct buf *block)
{
    (void)block;
    struct rng rng;
    rng_init(&rng, 1);
    for (int i = 0; i < 1 << 17; i++) {
        uint64_t n = rng_next(&rng);
        buf_add(out, &n, sizeof n);
    }
    return put(out);
}

static bool attach(const char *certs, const char *leaf, int port)
{
    char path[3][512];
    snprintf(path[0], sizeof path[0], "%s/ca.pem", certs);
    snprintf(path[1], sizeof path[1], "%s/%s.pem", certs, leaf);
    snprintf(path[2], sizeof path[2], "%s/%s.key", certs, leaf);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    static const unsigned char protocols[] = "\x02h2";
    if (SSL_CTX_use_certificate_file(ctx, path[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, path[2], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_alpn_protos(ctx, protocols, 3) != 0)
        return false;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {10, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return false;
    ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    return SSL_connect(ssl) == 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(struct buf *out, struct buf *block);
    } attacks[] = {{"resets", resets},
                   {"continuations", continuations},
                   {"headers", headers},
                   {"padding", padding},
                   {"garbage", garbage}};
    signal(SIGPIPE, SIG_IGN);
    if (argc != 5)
        return 2;
    if (!attach(argv[1], argv[2], atoi(argv[3]))) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    AUTO_BUF struct buf out;
    AUTO_BUF struct buf block;
    buf_init(&out);
    buf_init(&block);
    buf_str(&out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(&out, SETTINGS, 0, 0, "", 0);
    for (size_t i = 0; i < ARRAY_LEN(attacks); i++)
        if (strcmp(argv[4], attacks[i].name) == 0) {
            bool all = put(&out);
            buf_clear(&out);
            all = all && attacks[i].run(&out, &block);
            printf("%s\n", all ? "all sent" : "ended by the server");
            return 0;
        }
    return 2;
}
