#include "coordinator/ctl/command.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/wire/utf8.h"

enum { CTL_ERROR_BYTES = 8192 };

atomic_bool ctl_cancelled;

static const struct ctl_option global_options[] = {
    {"json", NULL, "machine-readable output, one JSON object a line", 0},
    {"quiet", NULL, "no messages but errors", 'q'},
    {"help", NULL, "this help", 'h'},
    {0},
};

/* First signal: stop in order. Second: stop now. */
static void on_signal(int sig)
{
    (void)sig;
    if (atomic_exchange(&ctl_cancelled, true))
        _exit(CTL_INTERRUPTED);
}

static void set_up_process(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    struct rlimit files;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    /* Writing to a closed pipe must end in an error, after which locks are given back. */
    signal(SIGPIPE, SIG_IGN);
    /* Directories nest deeper than the usual 1,024 descriptors allow. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Edits (insert, delete, replace, swap neighbours) from one word to another. */
static size_t distance(const char *a, const char *b)
{
    enum { MAX = 32 };
    size_t n = strlen(a), m = strlen(b);
    size_t d[MAX + 1][MAX + 1];
    if (n > MAX || m > MAX)
        return MAX;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = best < d[i - 1][j] + 1 ? best : d[i - 1][j] + 1;
            best = best < d[i][j - 1] + 1 ? best : d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

/* Collects the known word nearest to a wrong one. */
struct guess {
    const char *word;
    const char *best;
    size_t best_distance;
};

static void guess_try(struct guess *g, const char *known)
{
    size_t d = distance(g->word, known);
    /* Far-off guesses confuse more than they help. */
    if (d > 2 || d >= strlen(g->word) || (g->best && d >= g->best_distance))
        return;
    g->best = known;
    g->best_distance = d;
}

static int unknown(const char *what, const struct guess *g, const char *dashes)
{
    fprintf(stderr, "stillpoint: unknown %s '%s%s'", what, dashes, g->word);
    if (g->best)
        fprintf(stderr, "; did you mean '%s%s'?", dashes, g->best);
    fprintf(stderr, "\nTry 'stillpoint --help'.\n");
    return CTL_USAGE;
}

static void print_options(FILE *to, const struct ctl_option *o)
{
    for (; o && o->name; o++) {
        char left[64], letter[8] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        bool spaced = o->arg && o->arg[0] != '[';
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, spaced ? " " : "",
                 o->arg ? o->arg : "");
        fprintf(to, "  %-32s %s\n", left, o->help);
    }
}

static void command_help(FILE *to, const struct ctl_command *cmd)
{
    const char *blank = *cmd->verb ? " " : "";
    fprintf(to, "stillpoint %s%s%s: %s\n\nUsage:\n  stillpoint %s%s%s [options]%s%s\n",
            cmd->noun, blank, cmd->verb, cmd->summary, cmd->noun, blank, cmd->verb,
            *cmd->args ? " " : "", cmd->args);
    fprintf(to, "\nExamples:\n%s\nOptions:\n", cmd->examples);
    print_options(to, cmd->options);
    print_options(to, global_options);
}

static void noun_help(FILE *to, const struct ctl_command *const *tables, const char *noun)
{
    fprintf(to, "Usage:\n  stillpoint NOUN VERB [options]\n\nCommands:\n");
    for (; *tables; tables++)
        for (const struct ctl_command *cmd = *tables; cmd->noun; cmd++) {
            char left[64];
            if (noun && strcmp(noun, cmd->noun) != 0)
                continue;
            snprintf(left, sizeof left, "%s %s", cmd->noun, cmd->verb);
            fprintf(to, "  %-22s %s\n", left, cmd->summary);
        }
    fprintf(to, "\nExamples:\n  stillpoint group apply -f ledger.yaml\n"
                "  stillpoint set create ledger --watch\n"
                "  stillpoint repo snapshots --repo /srv/backup --password-file /etc/pw\n"
                "  stillpoint repo backup --help\n\n"
                "Exit status: 0 done, 1 failed, 2 wrong usage, 3 partly done,\n"
                "  10 no repository, 11 locked, 12 wrong password, 130 interrupted\n");
}

static const struct ctl_command *find_command(const struct ctl_command *const *tables,
                                              const char *noun, const char *verb,
                                              struct guess *nouns, struct guess *verbs,
                                              bool *noun_known)
{
    for (; *tables; tables++)
        for (const struct ctl_command *cmd = *tables; cmd->noun; cmd++) {
            guess_try(nouns, cmd->noun);
            if (strcmp(noun, cmd->noun) != 0)
                continue;
            *noun_known = true;
            if (!cmd->verb[0])
                return cmd; /* a noun that is a command by itself */
            if (verb && strcmp(verb, cmd->verb) == 0)
                return cmd;
            if (verb)
                guess_try(verbs, cmd->verb);
        }
    return NULL;
}

/* The option that "--name", "--name=value" or "-x" means. */
static const struct ctl_option *find_option(const struct ctl_option *o, const char *name,
                                            size_t n, char letter, struct guess *g)
{
    for (; o && o->name; o++) {
        if (letter ? o->letter == letter
                   : strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
        if (!letter)
            guess_try(g, o->name);
    }
    return NULL;
}

static void remember(struct ctl *c, const char *name, const char *value)
{
    mem_reserve((void **)&c->given, &c->given_cap, c->given_n, sizeof *c->given);
    c->given[c->given_n++] = (struct ctl_given){name, value};
    c->json |= strcmp(name, "json") == 0;
    c->quiet |= strcmp(name, "quiet") == 0;
}

/* Reads the option at argv[*at], and its value, which may be the next argument. */
static int parse_option(struct ctl *c, int argc, char **argv, int *at)
{
    const char *text = argv[*at];
    bool is_long = text[1] == '-';
    const char *name = text + (is_long ? 2 : 1);
    const char *equals = is_long ? strchr(name, '=') : NULL;
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    char letter = is_long ? 0 : name[0];
    AUTO(str) char *word = mem_strndup(name, n);
    struct guess g = {.word = word};
    const struct ctl_option *o = NULL;
    if (is_long || n == 1)
        o = find_option(c->command->options, name, n, letter, &g);
    if (!o && (is_long || n == 1))
        o = find_option(global_options, name, n, letter, &g);
    if (!o)
        return unknown("option", &g, is_long ? "--" : "-");
    if (!o->arg && equals) {
        fprintf(stderr, "stillpoint: option '--%s' takes no value\n", o->name);
        return CTL_USAGE;
    }
    const char *value = equals ? equals + 1 : "";
    if (o->arg && o->arg[0] != '[' && !equals) {
        if (*at + 1 >= argc) {
            fprintf(stderr, "stillpoint: option '--%s' needs %s\n", o->name, o->arg);
            return CTL_USAGE;
        }
        value = argv[++*at];
    }
    remember(c, o->name, value);
    return CTL_OK;
}

static int parse(struct ctl *c, int argc, char **argv)
{
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            int rc = parse_option(c, argc, argv, &i);
            if (rc)
                return rc;
        } else {
            c->args[c->args_n++] = argv[i];
        }
    }
    return CTL_OK;
}

/* errno of the first write of lines that failed. */
static int output_error;

static void flush_output(void)
{
    if (fflush(stdout) && !output_error)
        output_error = errno;
}

/* Lost output is a failure too; whoever closed the pipe has read what he wanted. */
static int end_output(int rc)
{
    flush_output();
    if (!output_error && ferror(stdout))
        output_error = EIO;
    if (!output_error || rc)
        return rc;
    if (output_error != EPIPE)
        fprintf(stderr, "stillpoint: write the output: %s\n", strerror(output_error));
    return CTL_FAILED;
}

static int run_command(struct ctl *c, int argc, char **argv)
{
    const struct ctl_command *cmd = c->command;
    int rc = parse(c, argc, argv);
    if (rc)
        return rc;
    if (ctl_has(c, "help")) {
        command_help(stdout, cmd);
        return CTL_OK;
    }
    if (c->args_n < cmd->min_args || c->args_n > cmd->max_args) {
        fprintf(stderr, "stillpoint: '%s %s' takes %s\nTry 'stillpoint %s %s --help'.\n",
                cmd->noun, cmd->verb, *cmd->args ? cmd->args : "no arguments", cmd->noun,
                cmd->verb);
        return CTL_USAGE;
    }
    return end_output(cmd->run(c));
}

int ctl_main(const struct ctl_command *const *tables, int argc, char **argv)
{
    set_up_process();
    const char *noun = argc > 1 ? argv[1] : NULL;
    const char *verb = argc > 2 && argv[2][0] != '-' ? argv[2] : NULL;
    if (!noun || strcmp(noun, "--help") == 0 || strcmp(noun, "-h") == 0 ||
        strcmp(noun, "help") == 0) {
        noun_help(noun ? stdout : stderr, tables, NULL);
        return noun ? CTL_OK : CTL_USAGE;
    }
    if (strcmp(noun, "--version") == 0)
        return puts("stillpoint " STILLPOINT_VERSION) < 0 ? CTL_FAILED : CTL_OK;
    struct guess nouns = {.word = noun}, verbs = {.word = verb ? verb : ""};
    bool noun_known = false;
    const struct ctl_command *cmd =
        find_command(tables, noun, verb, &nouns, &verbs, &noun_known);
    if (!noun_known)
        return unknown(noun[0] == '-' ? "option" : "command", &nouns, "");
    if (!cmd && verb)
        return unknown("command", &verbs, "");
    if (!cmd) {
        bool asked = argc > 2;
        noun_help(asked ? stdout : stderr, tables, noun);
        return asked ? CTL_OK : CTL_USAGE;
    }
    struct ctl c = {.command = cmd};
    c.args = mem_array((size_t)argc, sizeof *c.args);
    int words = cmd->verb[0] ? 3 : 2;
    int rc = run_command(&c, argc - words, argv + words);
    free(c.args);
    free(c.given);
    return rc;
}

const char *ctl_value(const struct ctl *c, const char *option)
{
    for (size_t i = c->given_n; i > 0; i--)
        if (strcmp(c->given[i - 1].name, option) == 0)
            return c->given[i - 1].value;
    return NULL;
}

bool ctl_has(const struct ctl *c, const char *option)
{
    return ctl_value(c, option) != NULL;
}

size_t ctl_values(const struct ctl *c, const char *option, const char ***out)
{
    size_t n = 0;
    *out = mem_array(c->given_n, sizeof **out);
    for (size_t i = 0; i < c->given_n; i++)
        if (strcmp(c->given[i].name, option) == 0)
            (*out)[n++] = c->given[i].value;
    return n;
}

int ctl_missing(const struct ctl *c, const char *option)
{
    fprintf(stderr, "stillpoint: '%s %s' needs --%s\nTry 'stillpoint %s %s --help'.\n",
            c->command->noun, c->command->verb, option, c->command->noun,
            c->command->verb);
    return CTL_USAGE;
}

int ctl_fail(const struct ctl *c, struct err *e, int code)
{
    AUTO(str) char *raw = err_text(e);
    /* It may hold words of a peer, which a terminal must not obey. */
    AUTO(str) char *text = utf8_printable(raw, CTL_ERROR_BYTES);
    if (e->kind == ERR_CANCELLED)
        code = CTL_INTERRUPTED;
    err_free(e);
    ctl_status_end(c);
    if (!c->json) {
        fprintf(stderr, "stillpoint: %s\n", text);
        return code;
    }
    json_t *o = json_pack("{s:s, s:i, s:s+}", "message_type", "exit_error", "code", code,
                          "message", text, "");
    if (o)
        json_dumpf(o, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(o);
    return code;
}

void ctl_say(const struct ctl *c, const char *fmt, ...)
{
    if (c->quiet || c->json)
        return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
}

void ctl_print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    flush_output();
    json_decref(o);
}

static bool has_status(const struct ctl *c)
{
    const char *term = getenv("TERM");
    return !c->quiet && !c->json && isatty(STDERR_FILENO) && term &&
           strcmp(term, "dumb") != 0;
}

void ctl_status(const struct ctl *c, const char *fmt, ...)
{
    if (!has_status(c))
        return;
    va_list ap;
    va_start(ap, fmt);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fflush(stderr);
}

void ctl_status_end(const struct ctl *c)
{
    if (has_status(c))
        fputs("\r\033[K", stderr);
}
