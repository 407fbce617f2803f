/* Tables of the repo commands, and one for the table in cmd_repo.c. */
#ifndef COORDINATOR_CTL_CMD_REPO_H
#define COORDINATOR_CTL_CMD_REPO_H

#include "coordinator/ctl/command.h"

extern const struct ctl_command ctl_repo_commands[];
extern const struct ctl_command ctl_repo_retain_commands[];
extern const struct ctl_command ctl_repo_read_commands[];
extern const struct ctl_command ctl_repo_look_commands[];
extern const struct ctl_command ctl_repo_care_commands[];

extern const struct ctl_option cmd_repo_backup_options[];
int cmd_repo_backup(struct ctl *c);

#endif
