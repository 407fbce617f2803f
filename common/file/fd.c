#include "common/file/fd.h"

#include <errno.h>

void fd_close(int *fd)
{
    int os = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = os;
}
