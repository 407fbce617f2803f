/* The product's version, the same in every program. */
#ifndef COMMON_BASE_VERSION_H
#define COMMON_BASE_VERSION_H

#define STILLPOINT_VERSION "0.1.0"
/* What coordinators and agents say to each other. PROTOCOL.md, "Versions". */
#define STILLPOINT_PROTOCOL 3

#endif
