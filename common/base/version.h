/* The product's version, the same in every program. */
#ifndef COMMON_BASE_VERSION_H
#define COMMON_BASE_VERSION_H

#define STILLPOINT_VERSION "0.1.0"

#endif
