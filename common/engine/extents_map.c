/* The map of one file, as btrfs and xfs tell it. */
#include "common/engine/extents_own.h"

#include <endian.h>
#include <errno.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

/* Extents whose bytes their address does not tell. */
static const uint32_t fiemap_opaque =
    FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |
    FIEMAP_EXTENT_DATA_ENCRYPTED | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE |
    FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_UNWRITTEN;

void extent_map_init(struct extent_map *m, enum extents_kind kind, int fd, uint64_t inode,
                     uint64_t size)
{
    *m = (struct extent_map){.kind = kind, .fd = fd, .inode = inode, .size = size};
}

static struct err *no_map(int os)
{
    if (os == EPERM || os == EACCES)
        return err_new(ERR_DENIED, "the map of extents needs CAP_SYS_ADMIN");
    return err_os(os, "read the map of extents");
}

/* ---- xfs ---- */

static struct err *fiemap_fill(struct extent_map *m)
{
    struct fiemap *f = (struct fiemap *)m->buf;
    *f = (struct fiemap){.fm_start = m->from,
                         .fm_length = FIEMAP_MAX_OFFSET - m->from,
                         .fm_flags = FIEMAP_FLAG_SYNC};
    f->fm_extent_count =
        (uint32_t)((sizeof m->buf - sizeof *f) / sizeof f->fm_extents[0]);
    if (ioctl(m->fd, FS_IOC_FIEMAP, f) != 0)
        return no_map(errno);
    m->n = f->fm_mapped_extents;
    m->i = 0;
    m->whole = m->n == 0;
    return NULL;
}

static struct extent_piece fiemap_piece(struct extent_map *m)
{
    const struct fiemap_extent *e = &((struct fiemap *)m->buf)->fm_extents[m->i++];
    struct extent_piece p = {.start = e->fe_logical,
                             .end = e->fe_logical + e->fe_length,
                             .kind =
                                 e->fe_flags & fiemap_opaque ? PIECE_OPAQUE : PIECE_DATA,
                             .shift = e->fe_physical - e->fe_logical};
    m->from = p.end;
    m->whole = e->fe_flags & FIEMAP_EXTENT_LAST;
    return p;
}

/* ---- btrfs ---- */

static struct err *btrfs_fill(struct extent_map *m)
{
    struct btrfs_ioctl_search_args_v2 *a = (void *)m->buf;
    *a = (struct btrfs_ioctl_search_args_v2){.key = {.tree_id = 0, /* that of fd */
                                                     .min_objectid = m->inode,
                                                     .max_objectid = m->inode,
                                                     .min_type = BTRFS_EXTENT_DATA_KEY,
                                                     .max_type = BTRFS_EXTENT_DATA_KEY,
                                                     .min_offset = m->from,
                                                     .max_offset = UINT64_MAX,
                                                     .max_transid = UINT64_MAX,
                                                     .nr_items = UINT32_MAX},
                                             .buf_size = sizeof m->buf - sizeof *a};
    if (ioctl(m->fd, BTRFS_IOC_TREE_SEARCH_V2, a) != 0)
        return no_map(errno);
    m->n = a->key.nr_items;
    m->i = m->offset = 0;
    m->whole = m->n == 0;
    return NULL;
}

/* The item's fields are little-endian and not aligned. */
static struct extent_piece btrfs_piece(struct extent_map *m)
{
    struct btrfs_ioctl_search_args_v2 *a = (void *)m->buf;
    const unsigned char *at = (const unsigned char *)a->buf + m->offset;
    struct btrfs_ioctl_search_header h;
    struct btrfs_file_extent_item item = {0};
    memcpy(&h, at, sizeof h);
    size_t n = h.len < sizeof item ? h.len : sizeof item;
    memcpy(&item, at + sizeof h, n);
    m->offset += sizeof h + h.len;
    m->i++;
    struct extent_piece p = {.start = h.offset, .kind = PIECE_OPAQUE};
    uint64_t bytes = le64toh(item.num_bytes), ram_bytes = le64toh(item.ram_bytes);
    if (item.type == BTRFS_FILE_EXTENT_INLINE) {
        p.end = p.start + (ram_bytes ? ram_bytes : 1);
    } else {
        p.end = p.start + bytes;
        p.place = le64toh(item.disk_bytenr);
        p.shift = le64toh(item.offset) - h.offset;
        if (item.compression)
            p.coding = (uint64_t)item.compression << 48 | ram_bytes;
        bool known = !item.encryption && !item.other_encoding;
        if (item.type == BTRFS_FILE_EXTENT_REG && known)
            p.kind = p.place ? PIECE_DATA : PIECE_HOLE;
    }
    m->from = p.end;
    return p;
}

/* ---- both ---- */

static struct err *fetch(struct extent_map *m)
{
    uint64_t least = m->from;
    if (m->i == m->n && !m->whole)
        TRY(m->kind == EXTENTS_BTRFS ? btrfs_fill(m) : fiemap_fill(m));
    if (m->i == m->n) {
        m->whole = true;
        return NULL;
    }
    m->next = m->kind == EXTENTS_BTRFS ? btrfs_piece(m) : fiemap_piece(m);
    /* Whoever answers this runs in the kernel; going on for ever is still no option. */
    if (m->next.start < least || m->next.end <= m->next.start)
        return err_new(ERR_CONFLICT, "the map of extents is out of order");
    m->have_next = true;
    return NULL;
}

/* Not a cryptographic sum: it tells a map that was changed by chance, not by design. */
static void note(struct extent_map *m, const struct extent_piece *p)
{
    const uint64_t all[] = {p->start, p->end,   (uint64_t)p->kind,
                            p->place, p->shift, p->coding};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        m->print[0] = (m->print[0] ^ all[i]) * UINT64_C(0x9e3779b97f4a7c15);
        m->print[0] ^= m->print[0] >> 29;
        m->print[1] = (m->print[1] + all[i]) * UINT64_C(0xd6e8feb86659fd93);
        m->print[1] ^= m->print[1] >> 32;
    }
}

struct err *extent_map_next(struct extent_map *m, struct extent_piece *out, bool *more)
{
    *more = m->at < m->size;
    if (!*more)
        return NULL;
    if (!m->have_next && !(m->whole && m->i == m->n))
        TRY(fetch(m));
    if (m->have_next && m->next.start <= m->at) {
        *out = m->next;
        m->have_next = false;
    } else {
        uint64_t end = m->have_next ? m->next.start : m->size;
        *out = (struct extent_piece){.start = m->at, .end = end, .kind = PIECE_HOLE};
    }
    if (out->end > m->size)
        out->end = m->size;
    note(m, out);
    m->at = out->end;
    return NULL;
}
