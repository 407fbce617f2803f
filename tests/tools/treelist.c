/* Prints everything a backup must keep of a directory tree, one line an entry, sorted:
 * type, mode, owner, size, mtime, link count, hard link group, device, link target,
 * extended attributes, digest of the content. Two trees are equal when their lists are.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/base/hex.h"
#include "common/base/mem.h"

/* First path of each inode with several links. */
struct seen {
    ino_t ino;
    char *path;
};
static struct seen *seen;
static size_t seen_n, seen_cap;

static void die(const char *path)
{
    fprintf(stderr, "treelist: %s: %s\n", path, strerror(errno));
    exit(1);
}

static void print_quoted(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c > ' ' && c < 0x7f && c != '\\')
            putchar(c);
        else
            printf("\\%03o", c);
    }
}

static const char *first_name(ino_t ino, const char *path)
{
    for (size_t i = 0; i < seen_n; i++)
        if (seen[i].ino == ino)
            return seen[i].path;
    mem_reserve((void **)&seen, &seen_cap, seen_n, sizeof *seen);
    seen[seen_n] = (struct seen){ino, mem_strdup(path)};
    return seen[seen_n++].path;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_xattrs(const char *path)
{
    char names[XATTR_LIST_MAX + 1], *list[1024];
    static char value[XATTR_SIZE_MAX], hex[2 * XATTR_SIZE_MAX + 1];
    size_t count = 0;
    ssize_t n = llistxattr(path, names, XATTR_LIST_MAX);
    if (n < 0)
        die(path);
    for (char *s = names; s < names + n && count < 1024; s += strlen(s) + 1)
        list[count++] = s;
    qsort(list, count, sizeof *list, by_bytes);
    for (size_t i = 0; i < count; i++) {
        ssize_t got = lgetxattr(path, list[i], value, sizeof value);
        if (got < 0)
            die(path);
        hex_encode((uint8_t *)value, (size_t)got, hex);
        printf(" %s=%s", list[i], hex);
    }
}

static void print_content(const char *path)
{
    static char room[1 << 20];
    struct digest d;
    char hex[65];
    ssize_t n;
    struct hash *h = hash_new();
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        die(path);
    while ((n = read(fd, room, sizeof room)) > 0)
        hash_add(h, room, (size_t)n);
    if (n < 0)
        die(path);
    close(fd);
    hash_end(h, &d);
    digest_hex(&d, hex);
    printf(" sha256=%s", hex);
}

static void print_entry(const char *path, const struct stat *st)
{
    char target[PATH_MAX + 1] = "";
    print_quoted(path);
    printf(" %06o %u:%u %" PRIi64 ".%09ld", st->st_mode, st->st_uid, st->st_gid,
           (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    if (S_ISREG(st->st_mode))
        printf(" size=%" PRIu64, (uint64_t)st->st_size);
    if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
        printf(" links=%u same-as=", (unsigned)st->st_nlink);
        print_quoted(first_name(st->st_ino, path));
    }
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        printf(" rdev=%" PRIu64, (uint64_t)st->st_rdev);
    if (S_ISLNK(st->st_mode)) {
        if (readlink(path, target, PATH_MAX) < 0)
            die(path);
        printf(" -> ");
        print_quoted(target);
    }
    print_xattrs(path);
    if (S_ISREG(st->st_mode))
        print_content(path);
    putchar('\n');
}

static void walk(const char *path)
{
    struct stat st;
    struct dirent **entries = NULL;
    if (lstat(path, &st))
        die(path);
    print_entry(path, &st);
    if (!S_ISDIR(st.st_mode))
        return;
    int n = scandir(path, &entries, NULL, NULL);
    if (n < 0)
        die(path);
    char **list = mem_array((size_t)n, sizeof *list);
    for (int i = 0; i < n; i++)
        list[i] = entries[i]->d_name;
    qsort(list, (size_t)n, sizeof *list, by_bytes);
    for (int i = 0; i < n; i++) {
        if (strcmp(list[i], ".") == 0 || strcmp(list[i], "..") == 0)
            continue;
        AUTO(str) char *child = mem_printf("%s/%s", path, list[i]);
        walk(child);
    }
    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    free(list);
}

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1])) {
        fprintf(stderr, "usage: treelist DIRECTORY\n");
        return 2;
    }
    walk(".");
    return 0;
}
