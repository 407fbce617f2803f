#include "common/loop/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/loop/pool.h"
#include "tests/unit/suite.h"

enum { THREADS = 4, POSTS = 500, JOBS = 200 };

/* What calls write: letters in the order they were made. */
static char trace[64];
static size_t traced;
static struct loop *loop;

static void *letter(char c)
{
    static char letters[] = "abcdefghijklmnopqrstuvwxyz";
    return &letters[c - 'a'];
}

static void note(void *arg)
{
    trace[traced++] = *(const char *)arg;
}

static void stop(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void begin(void)
{
    memset(trace, 0, sizeof trace);
    traced = 0;
    ck_ok(loop_new(&loop));
}

START_TEST(timers_fire_by_time_then_in_the_order_of_arming)
{
    struct loop_timer t[5] = {0};
    begin();
    loop_timer_set(loop, &t[0], 30, note, letter('d'));
    loop_timer_set(loop, &t[1], 10, note, letter('b'));
    loop_timer_set(loop, &t[2], 10, note, letter('c'));
    loop_timer_set(loop, &t[3], 0, note, letter('a'));
    loop_timer_set(loop, &t[4], 40, stop, NULL);
    loop_run(loop);
    ck_assert_str_eq(trace, "abcd");
    loop_free(loop);
}
END_TEST

START_TEST(a_timer_never_fires_early)
{
    struct loop_timer t = {0};
    begin();
    int64_t before = loop_now_ms();
    loop_timer_set(loop, &t, 25, stop, NULL);
    loop_run(loop);
    ck_assert_int_ge(loop_now_ms() - before, 25);
    loop_free(loop);
}
END_TEST

START_TEST(a_timer_armed_again_fires_once_and_a_cancelled_one_never)
{
    struct loop_timer moved = {0}, cancelled = {0}, end = {0};
    begin();
    loop_timer_set(loop, &moved, 5, note, letter('x'));
    loop_timer_set(loop, &cancelled, 5, note, letter('y'));
    loop_timer_set(loop, &moved, 15, note, letter('m'));
    loop_timer_cancel(loop, &cancelled);
    loop_timer_cancel(loop, &cancelled);
    loop_timer_set(loop, &end, 25, stop, NULL);
    loop_run(loop);
    ck_assert_str_eq(trace, "m");
    loop_free(loop);
}
END_TEST

static struct loop_timer chain;
static void rearm(void *arg)
{
    note(arg);
    if (traced == 3)
        loop_stop(loop);
    else
        loop_timer_set(loop, &chain, 1, rearm, arg);
}

START_TEST(a_timer_may_arm_itself)
{
    begin();
    memset(&chain, 0, sizeof chain);
    loop_timer_set(loop, &chain, 1, rearm, letter('r'));
    loop_run(loop);
    ck_assert_str_eq(trace, "rrr");
    loop_free(loop);
}
END_TEST

/* ---- posts ---- */

struct poster {
    pthread_t thread;
    int next; /* the post that must come next; loop thread only */
    struct post {
        struct poster *from;
        int number;
    } posts[POSTS];
};
static struct poster posters[THREADS];
static int received;
static pthread_t loop_thread;

static void receive(void *arg)
{
    struct post *p = arg;
    ck_assert(pthread_equal(pthread_self(), loop_thread));
    ck_assert_int_eq(p->number, p->from->next++);
    if (++received == THREADS * POSTS)
        loop_stop(loop);
}

static void *post_all(void *arg)
{
    struct poster *me = arg;
    for (int i = 0; i < POSTS; i++) {
        me->posts[i] = (struct post){me, i};
        loop_post(loop, receive, &me->posts[i]);
    }
    return NULL;
}

START_TEST(posts_of_every_thread_arrive_on_the_loop_once_and_in_order)
{
    begin();
    loop_thread = pthread_self();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]),
                         0);
    loop_run(loop);
    for (int i = 0; i < THREADS; i++)
        pthread_join(posters[i].thread, NULL);
    ck_assert_int_eq(received, THREADS * POSTS);
    loop_free(loop);
}
END_TEST

static void *stop_it(void *arg)
{
    stop(arg);
    return NULL;
}

START_TEST(another_thread_may_stop_it)
{
    pthread_t t;
    begin();
    ck_assert_int_eq(pthread_create(&t, NULL, stop_it, NULL), 0);
    loop_run(loop);
    pthread_join(t, NULL);
    loop_free(loop);
}
END_TEST

START_TEST(posts_that_were_not_made_are_dropped_with_the_loop)
{
    begin();
    loop_post(loop, note, letter('x'));
    loop_free(loop);
    ck_assert_str_eq(trace, "");
}
END_TEST

/* ---- descriptors and signals ---- */

static int pipe_fds[2];
static void readable(void *arg, uint32_t events)
{
    char c;
    (void)arg;
    ck_assert_uint_ne(events & EPOLLIN, 0);
    ck_assert_int_eq(read(pipe_fds[0], &c, 1), 1);
    note(&c);
    if (c == 'b')
        loop_unwatch(loop, pipe_fds[0]);
}

START_TEST(a_descriptor_is_called_for_until_it_is_unwatched)
{
    struct loop_timer end = {0};
    begin();
    ck_assert_int_eq(pipe(pipe_fds), 0);
    ck_ok(loop_watch(loop, pipe_fds[0], EPOLLIN, readable, NULL));
    ck_assert_int_eq(write(pipe_fds[1], "abc", 3), 3);
    loop_timer_set(loop, &end, 20, stop, NULL);
    loop_run(loop);
    ck_assert_str_eq(trace, "ab");
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    loop_free(loop);
}
END_TEST

static int signals_seen;
static void on_signal(void *arg, int signo)
{
    (void)arg;
    ck_assert(pthread_equal(pthread_self(), loop_thread));
    signals_seen |= 1 << signo;
    if (signo == SIGTERM)
        loop_stop(loop);
}

START_TEST(signals_become_calls_and_a_broken_pipe_is_no_death)
{
    begin();
    loop_thread = pthread_self();
    ck_ok(loop_signals(loop, on_signal, NULL));
    kill(getpid(), SIGPIPE);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);
    loop_run(loop);
    ck_assert_int_ne(signals_seen & (1 << SIGTERM), 0);
    loop_free(loop);
}
END_TEST

/* ---- pools ---- */

struct job {
    int number;
    bool worked;
};
static struct job jobs[JOBS];
static int worked_n, done_n;

static void work_in_order(void *arg)
{
    struct job *j = arg;
    ck_assert(!pthread_equal(pthread_self(), loop_thread));
    ck_assert_int_eq(j->number, worked_n++); /* one thread: no lock */
    j->worked = true;
}

static void done_in_order(void *arg)
{
    struct job *j = arg;
    ck_assert(pthread_equal(pthread_self(), loop_thread));
    ck_assert(j->worked);
    ck_assert_int_eq(j->number, done_n++);
    if (done_n == JOBS)
        loop_stop(loop);
}

START_TEST(a_pool_of_one_thread_works_in_order)
{
    begin();
    loop_thread = pthread_self();
    struct pool *p = pool_new(loop, "one", 1);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){.number = i};
        pool_submit(p, work_in_order, done_in_order, &jobs[i]);
    }
    loop_run(loop);
    ck_assert_int_eq(done_n, JOBS);
    pool_free(p);
    loop_free(loop);
}
END_TEST

/* Two jobs that wait for each other can only end if they run at once. */
static pthread_barrier_t both;
static void meet(void *arg)
{
    struct job *j = arg;
    pthread_barrier_wait(&both);
    j->worked = true;
}

static void met(void *arg)
{
    struct job *j = arg;
    ck_assert(j->worked);
    if (++done_n == 2)
        loop_stop(loop);
}

START_TEST(a_pool_of_two_threads_works_at_once)
{
    begin();
    pthread_barrier_init(&both, NULL, 2);
    struct pool *p = pool_new(loop, "two", 2);
    pool_submit(p, meet, met, &jobs[0]);
    pool_submit(p, meet, met, &jobs[1]);
    loop_run(loop);
    ck_assert_int_eq(done_n, 2);
    pool_free(p);
    loop_free(loop);
}
END_TEST

static void *see_priority(void *arg)
{
    *(int *)arg = getpriority(PRIO_PROCESS, 0);
    return NULL;
}

static void see_priorities(void *arg)
{
    int *seen = arg;
    pthread_t helper;
    seen[0] = getpriority(PRIO_PROCESS, 0);
    ck_assert_int_eq(pthread_create(&helper, NULL, see_priority, &seen[1]), 0);
    pthread_join(helper, NULL);
}

static void seen_priorities(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

START_TEST(a_pool_that_stands_back_does_so_alone)
{
    int before = getpriority(PRIO_PROCESS, 0), seen[2] = {-99, -99};
    begin();
    struct pool *p = pool_new_nice(loop, "back", 1, before + 3);
    pool_submit(p, see_priorities, seen_priorities, seen);
    loop_run(loop);
    ck_assert_int_eq(seen[0], before + 3);
    ck_assert_int_eq(seen[1], before + 3);
    ck_assert_int_eq(getpriority(PRIO_PROCESS, 0), before);
    pool_free(p);
    loop_free(loop);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("loop");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, timers_fire_by_time_then_in_the_order_of_arming);
    tcase_add_test(tc, a_timer_never_fires_early);
    tcase_add_test(tc, a_timer_armed_again_fires_once_and_a_cancelled_one_never);
    tcase_add_test(tc, a_timer_may_arm_itself);
    tcase_add_test(tc, posts_of_every_thread_arrive_on_the_loop_once_and_in_order);
    tcase_add_test(tc, another_thread_may_stop_it);
    tcase_add_test(tc, posts_that_were_not_made_are_dropped_with_the_loop);
    tcase_add_test(tc, a_descriptor_is_called_for_until_it_is_unwatched);
    tcase_add_test(tc, signals_become_calls_and_a_broken_pipe_is_no_death);
    tcase_add_test(tc, a_pool_of_one_thread_works_in_order);
    tcase_add_test(tc, a_pool_of_two_threads_works_at_once);
    tcase_add_test(tc, a_pool_that_stands_back_does_so_alone);
    return suite_main("loop", tc);
}
