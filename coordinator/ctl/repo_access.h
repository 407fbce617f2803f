/* What the repo commands share: the repository that --repo and --password-file name. */
#ifndef COORDINATOR_CTL_REPO_ACCESS_H
#define COORDINATOR_CTL_REPO_ACCESS_H

#include "common/repo/lock.h"
#include "common/repo/repo.h"
#include "coordinator/ctl/command.h"

#define REPO_OPTIONS                                                                     \
    {"repo", "URL", "the repository: a path, or local:PATH", 'r'},                       \
    {                                                                                    \
        "password-file", "FILE", "file that holds the repository's password", 'p'        \
    }

/* For commands that only read: works on a repository that cannot be written. */
#define NO_LOCK_OPTION                                                                   \
    {                                                                                    \
        "no-lock", NULL, "take no lock, for a repository that is read-only", 0           \
    }

#define CACHE_OPTION                                                                     \
    {                                                                                    \
        "cache-dir", "DIR", "where the index is kept between runs (default: ~/.cache)",  \
            0                                                                            \
    }

/* An opened repository; repo_access_close frees what is there. */
struct repo_access {
    struct repo *repo;
    struct repo_io *io;
    struct repo_lock *lock;
};

/* What a command wants of its repository. */
enum repo_want {
    REPO_WANT_INDEX = 1,     /* loaded */
    REPO_WANT_LOCK = 2,      /* shared, unless --no-lock is given */
    REPO_WANT_RECLAIM = 4,   /* the lock of who reclaims */
    REPO_WANT_EXCLUSIVE = 8, /* the exclusive lock */
    REPO_WANT_CACHE = 32,    /* the index from --cache-dir, where it is still right */
    REPO_WANT_REMOVE = 16,   /* permission to remove what is no lock */
    REPO_WANT_EARLY = 64,    /* before it is known whether the lock holds: for who stores
                                in the end, which waits for that, or settles himself */
};

/* Opens the repository. Returns CTL_OK, or the exit status after saying why. */
int repo_access_want(const struct ctl *c, unsigned want, struct repo_access *out);
/* The same for another repository: the options that name URL and password file. */
int repo_access_other(const struct ctl *c, const char *url_option,
                      const char *password_option, unsigned want,
                      struct repo_access *out);
/* repo_access_want() with the index (from the cache) and a shared lock, if asked. */
int repo_access_open(const struct ctl *c, bool index, bool lock, struct repo_access *out);
/* For who began early and only reads: did the lock hold? Returns as repo_access_want. */
int repo_access_settle(const struct ctl *c, struct repo_access *a);
void repo_access_close(struct repo_access *a);
#define AUTO_ACCESS CLEANUP(repo_access_close)

#endif
