/* The two repo commands that move data, for the table in cmd_repo.c. */
#ifndef COORDINATOR_CTL_CMD_REPO_H
#define COORDINATOR_CTL_CMD_REPO_H

#include "coordinator/ctl/command.h"

extern const struct ctl_command ctl_repo_commands[];
extern const struct ctl_command ctl_repo_retain_commands[];

extern const struct ctl_option cmd_repo_backup_options[];
int cmd_repo_backup(struct ctl *c);
extern const struct ctl_option cmd_repo_restore_options[];
int cmd_repo_restore(struct ctl *c);

#endif
