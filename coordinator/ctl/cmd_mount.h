/* `stillpoint repo mount`, for the table in cmd_read.c. */
#ifndef COORDINATOR_CTL_CMD_MOUNT_H
#define COORDINATOR_CTL_CMD_MOUNT_H

#include "coordinator/ctl/command.h"

extern const struct ctl_option cmd_mount_options[];
int cmd_mount(struct ctl *c);

#endif
