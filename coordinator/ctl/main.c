/* stillpoint: the command line. */
#include "coordinator/ctl/cmd_repo.h"
#include "coordinator/ctl/command.h"

static const struct ctl_command *const ctl_tables[] = {
    ctl_repo_commands,
    NULL,
};

int main(int argc, char **argv)
{
    return ctl_main(ctl_tables, argc, argv);
}
