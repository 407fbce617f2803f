/* stillpoint: the command line. */
#include "coordinator/ctl/cmd_cluster.h"
#include "coordinator/ctl/cmd_repo.h"
#include "coordinator/ctl/command.h"

static const struct ctl_command *const ctl_tables[] = {
    ctl_cluster_commands,
    ctl_group_commands,
    ctl_check_commands,
    ctl_drill_commands,
    ctl_set_commands,
    ctl_prove_commands,
    ctl_report_commands,
    ctl_repo_commands,
    ctl_repo_look_commands,
    ctl_repo_read_commands,
    ctl_repo_retain_commands,
    ctl_repo_care_commands,
    NULL,
};

int main(int argc, char **argv)
{
    return ctl_main(ctl_tables, argc, argv);
}
