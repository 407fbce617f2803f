/* The inside of the `local` backend, shared by local*.c only. */
#ifndef COMMON_STORE_LOCAL_OWN_H
#define COMMON_STORE_LOCAL_OWN_H

#include "common/store/store.h"

struct local {
    struct store store;
    int root_fd;
};

static inline struct local *local_of(struct store *s)
{
    return (struct local *)s;
}

/* "BASE-tmp-PID-NUMBER": a name that no reader takes for an object. malloc. */
char *local_temp_name(const char *base) MUST_USE;
struct err *local_sync_dir(int fd, const char *what) MUST_USE;
/* Opens the directory that holds `name`, making missing levels on request, and points
 * *base at the last component. The caller closes *dir_fd. */
struct err *local_open_parent(struct local *l, const char *name, bool make,
                              const char **base, int *dir_fd) MUST_USE;
/* Gives a temporary file its name unless that exists (CONFLICT). */
struct err *local_publish(int temp_fd, const char *temp, int dir_fd,
                          const char *base) MUST_USE;

/* local_upload.c, for the table of functions. */
struct err *local_begin(struct store *s, const char *dir,
                        struct store_upload **out) MUST_USE;
struct err *local_append(struct store_upload *u, const void *data, size_t n) MUST_USE;
struct err *local_end(struct store_upload *u, const char *name) MUST_USE;

#endif
