/* Tables of the commands that speak to a coordinator. */
#ifndef COORDINATOR_CTL_CMD_CLUSTER_H
#define COORDINATOR_CTL_CMD_CLUSTER_H

#include "coordinator/ctl/command.h"

extern const struct ctl_command
    ctl_cluster_commands[]; /* status, node, partition, audit */
extern const struct ctl_command ctl_group_commands[];
extern const struct ctl_command ctl_check_commands[]; /* group check */
extern const struct ctl_command ctl_drill_commands[];
extern const struct ctl_command ctl_set_commands[];
extern const struct ctl_command ctl_report_commands[];
extern const struct ctl_command ctl_prove_commands[]; /* also without a coordinator */

#endif
