/* Compiler attributes and the ownership macros of the whole project. */
#ifndef COMMON_BASE_ATTR_H
#define COMMON_BASE_ATTR_H

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Declares the cleanup function that AUTO(name) calls when a local leaves its scope. */
#define DEFINE_AUTO(name, T, fn)                                                         \
    static inline void name##_autop(T *p)                                                \
    {                                                                                    \
        if (*p)                                                                          \
            fn(*p);                                                                      \
    }                                                                                    \
    struct name##_auto_semicolon
#define AUTO(name) CLEANUP(name##_autop)

/* Hands over what an AUTO local owns, leaving NULL behind. */
#define STEAL(p)                                                                         \
    ({                                                                                   \
        __typeof__(p) p_ = (p);                                                          \
        (p) = NULL;                                                                      \
        p_;                                                                              \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
