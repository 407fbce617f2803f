#include "common/engine/base.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/file/fd.h"
#include "common/base/hex.h"
#include "common/base/mem.h"
#include "common/engine/scan.h"
#include "common/file/file.h"

enum { FILE_BYTES_MAX = 16 << 10 };
static const char heading[] = "stillpoint base 1";

/* The id of a filesystem tells two apart only while they are mounted, which is all that
 * is asked of it. */
static void look_at_files(int fd, struct base_look *out)
{
    struct statfs fs;
    struct stat st;
    struct timespec now;
    if (fstatfs(fd, &fs) != 0 || fstat(fd, &st) != 0)
        return;
    const uint64_t inode = st.st_ino;
    memcpy(out->uuid, &fs.f_fsid, sizeof fs.f_fsid);
    memcpy(out->uuid + 8, &inode, sizeof inode);
    clock_gettime(CLOCK_REALTIME, &now);
    out->generation = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    out->seal = BASE_FILES;
}

/* The item of a subvolume in the tree of roots. (BTRFS_IOC_GET_SUBVOL_INFO tells the
 * same, but answers 1 and nothing for the last subvolume of a filesystem.) */
static struct err *look_at_snapshot(int fd, struct base_look *out)
{
    _Alignas(8) unsigned char room[4096];
    struct btrfs_ioctl_search_args_v2 *search = (void *)room;
    *search =
        (struct btrfs_ioctl_search_args_v2){.key = {.tree_id = BTRFS_ROOT_TREE_OBJECTID,
                                                    .min_type = BTRFS_ROOT_ITEM_KEY,
                                                    .max_type = BTRFS_ROOT_ITEM_KEY,
                                                    .max_offset = UINT64_MAX,
                                                    .max_transid = UINT64_MAX,
                                                    .nr_items = 1},
                                            .buf_size = sizeof room - sizeof *search};
    struct btrfs_ioctl_ino_lookup_args where = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    struct btrfs_ioctl_search_header head;
    struct btrfs_root_item item = {0};
    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &where) != 0)
        return err_os(errno, "ask for a snapshot's number");
    search->key.min_objectid = search->key.max_objectid = where.treeid;
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, search) != 0)
        return err_os(errno, "look at snapshot %" PRIu64, (uint64_t)where.treeid);
    const unsigned char *found = (const unsigned char *)search->buf;
    memcpy(&head, found, sizeof head);
    if (search->key.nr_items != 1 || head.len > search->buf_size - sizeof head)
        return err_new(ERR_NOT_FOUND, "snapshot %" PRIu64 " has no item",
                       (uint64_t)where.treeid);
    memcpy(&item, found + sizeof head, head.len < sizeof item ? head.len : sizeof item);
    memcpy(out->uuid, item.uuid, sizeof out->uuid);
    out->generation = le64toh(item.generation);
    out->made = (struct timespec){(time_t)le64toh(item.otime.sec),
                                  (long)le32toh(item.otime.nsec)};
    out->seal = BASE_SNAPSHOT;
    return NULL;
}

struct err *base_look(int dir_fd, struct base_look *out)
{
    uint64_t flags = 0;
    *out = (struct base_look){.kind = extents_kind_of(dir_fd)};
    if (out->kind == EXTENTS_NONE)
        return NULL;
    if (out->kind == EXTENTS_BTRFS &&
        ioctl(dir_fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) == 0 &&
        flags & BTRFS_SUBVOL_RDONLY)
        return look_at_snapshot(dir_fd, out);
    look_at_files(dir_fd, out);
    return NULL;
}

bool base_is_sealed(const struct base_look *look, int fd, const struct stat *st)
{
    int flags = 0;
    if (look->seal != BASE_FILES)
        return look->seal == BASE_SNAPSHOT;
    uint64_t changed_ns =
        (uint64_t)st->st_ctim.tv_sec * 1000000000 + (uint64_t)st->st_ctim.tv_nsec;
    return ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && flags & FS_IMMUTABLE_FL &&
           changed_ns <= look->generation;
}

void base_close(struct base *b)
{
    if (b->dir_fd >= 0)
        close(b->dir_fd);
    b->dir_fd = -1;
}

static bool looks_alike(const struct base_look *then, const struct base_look *now)
{
    return then->seal == now->seal && then->kind == now->kind &&
           memcmp(then->uuid, now->uuid, sizeof then->uuid) == 0 &&
           (then->seal != BASE_SNAPSHOT || then->generation == now->generation);
}

/* Opens the capture and makes sure that it looks as it did. */
static struct err *open_alike(const char *dir, const struct base_look *then, int *out)
{
    struct base_look now;
    AUTO(fd) int fd = -1;
    struct err *e = scan_open_dir(AT_FDCWD, dir, &fd);
    if (!e)
        e = base_look(fd, &now);
    if (e) {
        AUTO(str) char *text = err_text(e);
        err_free(e);
        return err_new(ERR_CONFLICT, "the earlier capture is gone: %s", text);
    }
    if (then->seal == BASE_UNSEALED)
        return err_new(ERR_CONFLICT,
                       "'%s' is not sealed: it is no read-only snapshot, and "
                       "its filesystem has no maps to trust",
                       dir);
    if (!looks_alike(then, &now))
        return err_new(ERR_CONFLICT, "'%s' was changed since it was stored", dir);
    *out = fd_steal(&fd);
    return NULL;
}

struct err *base_remember(const char *file, const char *repo, const char *dir,
                          const struct base_look *look, const struct digest *snapshot)
{
    AUTO_BUF struct buf text = {0};
    AUTO(fd) int fd = -1;
    char hex[65], uuid[2 * sizeof look->uuid + 1];
    TRY(open_alike(dir, look, &fd));
    digest_hex(snapshot, hex);
    hex_encode(look->uuid, sizeof look->uuid, uuid);
    buf_printf(&text, "%s\n%s %s %d %d %s %" PRIu64 "\n%s", heading, repo, hex,
               (int)look->seal, (int)look->kind, uuid, look->generation, dir);
    return file_replace(file, text.data, text.len, 0600);
}

static bool parse(const char *text, char repo[65], struct base *out, const char **dir)
{
    char hex[65], uuid[2 * sizeof out->look.uuid + 1];
    int seal = 0, kind = 0, end = 0;
    size_t n = strlen(heading);
    if (strncmp(text, heading, n) != 0 || text[n] != '\n')
        return false;
    text += n + 1;
    if (sscanf(text, "%64[0-9a-f] %64[0-9a-f] %d %d %32[0-9a-f] %" SCNu64 "%n", repo, hex,
               &seal, &kind, uuid, &out->look.generation, &end) != 6 ||
        text[end] != '\n' || text[end + 1] != '/')
        return false;
    out->look.seal = (enum base_seal)seal;
    out->look.kind = (enum extents_kind)kind;
    *dir = text + end + 1;
    return digest_parse(hex, &out->snapshot) && strlen(uuid) == sizeof uuid - 1 &&
           hex_decode(uuid, out->look.uuid, sizeof out->look.uuid);
}

char *base_capture(const char *file)
{
    AUTO(str) char *text = NULL;
    struct base b;
    size_t n = 0;
    char repo[65];
    const char *dir = NULL;
    AUTO(err) struct err *e = file_read(file, FILE_BYTES_MAX, &text, &n);
    if (e || strlen(text) != n || !parse(text, repo, &b, &dir))
        return NULL;
    return mem_strdup(dir);
}

bool base_tells_of(const char *file, const char *dir)
{
    AUTO(str) char *its_dir = base_capture(file);
    return its_dir && strcmp(its_dir, dir) == 0;
}

struct err *base_open(const char *file, const char *repo, struct base *out)
{
    AUTO(str) char *text = NULL;
    size_t n = 0;
    char its_repo[65];
    const char *dir = NULL;
    *out = (struct base){.dir_fd = -1};
    TRY(file_read(file, FILE_BYTES_MAX, &text, &n));
    if (strlen(text) != n || !parse(text, its_repo, out, &dir))
        return err_new(ERR_CORRUPT, "'%s' is no record of a base", file);
    if (strcmp(its_repo, repo) != 0)
        return err_new(ERR_CONFLICT, "the earlier capture went to another repository");
    return open_alike(dir, &out->look, &out->dir_fd);
}
