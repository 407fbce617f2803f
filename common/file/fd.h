/* File descriptors with an owner: AUTO(fd) int f = open(…) closes with its scope, if it
 * opened at all. */
#ifndef COMMON_FILE_FD_H
#define COMMON_FILE_FD_H

#include <unistd.h>

#include "common/base/attr.h"

/* Closes it unless it is negative, and leaves -1 behind. Keeps errno. */
void fd_close(int *fd);

static inline void fd_autop(int *fd)
{
    fd_close(fd);
}

/* Hands over what an AUTO(fd) local owns. */
static inline int fd_steal(int *fd)
{
    int own = *fd;
    *fd = -1;
    return own;
}

#endif
