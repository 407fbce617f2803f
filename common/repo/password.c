#include "common/repo/password.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/repo/crypt.h"

/* Longer passwords are a wrong file. */
enum { PASSWORD_MAX = 4096 };

static struct err *read_file(int fd, const char *path, struct buf *out)
{
    char *room = buf_room(out, PASSWORD_MAX + 1);
    ssize_t n;
    while (out->len <= PASSWORD_MAX &&
           (n = read(fd, room + out->len, PASSWORD_MAX + 1 - out->len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_os(errno, "read password file '%s'", path);
        out->len += (size_t)n;
    }
    if (out->len > PASSWORD_MAX)
        return err_new(ERR_LIMIT, "password file '%s' has more than %d bytes", path,
                       PASSWORD_MAX);
    return NULL;
}

static void trim(struct buf *b)
{
    size_t start = 0;
    while (b->len && isspace((unsigned char)b->data[b->len - 1]))
        b->len--;
    while (start < b->len && isspace((unsigned char)b->data[start]))
        start++;
    memmove(b->data, b->data + start, b->len - start);
    b->len -= start;
}

struct err *password_read(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        /* Of kind INVALID: a missing password file is no missing repository. */
        return err_make(ERR_INVALID, errno, ERR_WHERE, "open password file '%s'", path);
    struct err *e = read_file(fd, path, out);
    close(fd);
    TRY(e);
    trim(out);
    if (!out->len)
        return err_new(ERR_INVALID, "password file '%s' is empty", path);
    return NULL;
}

void password_fini(struct buf *b)
{
    if (b->data)
        crypt_wipe(b->data, b->cap);
    buf_fini(b);
}
