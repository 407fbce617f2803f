/* Patterns for paths, as the command line takes them: components with * ? [ ], and "**"
 * for any number of components. Pure. */
#ifndef COMMON_ENGINE_PATTERN_H
#define COMMON_ENGINE_PATTERN_H

enum pattern_match {
    PATTERN_NO,    /* neither the path nor anything below it */
    PATTERN_BELOW, /* something below it may match */
    PATTERN_YES,   /* it, or a directory above it, matches */
};

/* Holds an absolute path against a pattern: with a leading '/' from the root on, others
 * from any directory on. A component that equals the pattern's letter by letter always
 * matches, so that a name with brackets can be given as it is. */
enum pattern_match pattern_match(const char *pattern, const char *path);

#endif
