/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/job.h"

#include "core/error.h"
#include "core/file.h"
#include "core/resolve.h"
#include "fault/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_MESSAGE (256 * 1024)
#define KILL_MS     500 /* for a killed process to go */

static const struct {
    const char *name;
    unsigned timeout_ms; /* the kernel itself takes up to a second, vendors' tools several */
} ops[] = {
    [GPUP_OP_DESCRIBE] = {"describe", 5000}, [GPUP_OP_CREATE] = {"create", 60000},
    [GPUP_OP_DESTROY] = {"destroy", 30000},  [GPUP_OP_PREPARE] = {"prepare", 15000},
    [GPUP_OP_RELEASE] = {"release", 15000},
};

struct gpup_job {
    char *helper;
    char *request; /* printed GVariant */
    char *gpu;     /* short id, for messages */
    enum gpup_op op;
    unsigned timeout_ms;
};

/* ---- the request ---- */

static GVariant *settings_of(const struct gpup_system *system, const struct gpup_gpu *gpu)
{
    GHashTable *settings = gpup_pci_configured(system->settings_by_gpu, gpu);
    GVariantBuilder builder;
    GHashTableIter iter;
    void *name, *value;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a{ss}"));
    if (settings)
        g_hash_table_iter_init(&iter, settings);
    while (settings && g_hash_table_iter_next(&iter, &name, &value))
        g_variant_builder_add(&builder, "{ss}", name, value);
    return g_variant_builder_end(&builder);
}

static void add(GVariantBuilder *builder, const char *name, GVariant *value)
{
    g_variant_builder_add(builder, "{sv}", name, value);
}

static void add_work(GVariantBuilder *builder, const struct gpup_work *work)
{
    add(builder, "slot", g_variant_new_uint32(work->slot));
    add(builder, "slots", g_variant_new_uint32(work->n_slots));
    add(builder, "adapter", g_variant_new_string(work->adapter ? work->adapter : ""));
    add(builder, "grant", gpup_grant_to_variant(&work->grant));
    add(builder, "function", gpup_function_to_variant(&work->function));
}

struct gpup_job *gpup_job_new(const struct gpup_system *system,
                              const struct gpup_provider *provider, const struct gpup_gpu *gpu,
                              enum gpup_op op, unsigned n, const struct gpup_work *work)
{
    struct gpup_job *job = g_new0(struct gpup_job, 1);
    g_autoptr(GVariant) request = NULL;
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    add(&builder, "provider", g_variant_new_string(provider->name));
    add(&builder, "op", g_variant_new_uint32(op));
    add(&builder, "sysfs", g_variant_new_string(system->sysfs));
    add(&builder, "dev", g_variant_new_string(system->dev));
    add(&builder, "proc", g_variant_new_string(system->proc));
    add(&builder, "gpu", g_variant_new_string(gpu->id));
    add(&builder, "n", g_variant_new_uint32(n));
    add(&builder, "memory", g_variant_new_uint64(gpup_pci_configured_memory(system, gpu)));
    add(&builder, "wanted",
        g_variant_new_uint32(system->wanted ? system->wanted(gpu->key, system->data) : 0));
    add(&builder, "settings", settings_of(system, gpu));
    if (work)
        add_work(&builder, work);
    request = g_variant_ref_sink(g_variant_builder_end(&builder));
    job->request = g_variant_print(request, TRUE);
    job->helper = g_strdup(system->helper ? system->helper : GPUP_LIBEXECDIR "/gpup-gpu-helper");
    job->gpu = g_strdup(gpup_gpu_short_id(gpu));
    job->op = op;
    job->timeout_ms = system->timeout_ms ? system->timeout_ms : ops[op].timeout_ms;
    return job;
}

void gpup_job_free(struct gpup_job *job)
{
    if (!job)
        return;
    g_free(job->helper);
    g_free(job->request);
    g_free(job->gpu);
    g_free(job);
}

/* ---- the helper ---- */

static void close_pipe(int *fds)
{
    gpup_fd_close(&fds[0]);
    gpup_fd_close(&fds[1]);
}

static int spawn(struct gpup_job *job, int in, int out, pid_t *pid, struct gpup_error **err)
{
    char *argv[] = {job->helper, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int ret;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    ret = posix_spawn(pid, job->helper, &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (ret != 0)
        return gpup_error_set(err, ret, "%s: %s", job->helper, g_strerror(ret));
    return 0;
}

/* Reads until the end or the time is up (-ETIMEDOUT). */
static int read_all(int fd, gint64 until, GString *text)
{
    char buffer[4096];

    while (text->len < MAX_MESSAGE) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        gint64 left = (until - g_get_monotonic_time()) / 1000;
        ssize_t n;

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&poll_fd, 1, (int)MIN(left, G_MAXINT)) <= 0)
            continue;
        n = read(fd, buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        g_string_append_len(text, buffer, n);
    }
    return -EMSGSIZE;
}

/* Waits KILL_MS at most for the process to go; also where there is no pidfd for want of
 * descriptors. */
static bool has_gone(pid_t pid, int pidfd)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    pid_t gone = 0;

    if (pidfd >= 0)
        return poll(&poll_fd, 1, KILL_MS) > 0 && waitpid(pid, NULL, WNOHANG) != 0;
    for (unsigned ms = 0; gone == 0 && ms < KILL_MS; ms += 10) {
        gone = waitpid(pid, NULL, WNOHANG);
        if (gone == 0)
            g_usleep(10000);
    }
    return gone != 0;
}

/* Ends the process, which may have answered already. The pidfd is returned where that does not
 * work: it hangs in the kernel. */
static int end(pid_t pid, int pidfd, bool has_answered)
{
    bool gone = has_answered && has_gone(pid, pidfd);

    if (!gone) {
        kill(pid, SIGKILL);
        gone = has_gone(pid, pidfd);
    }
    if (!gone)
        return pidfd;
    if (pidfd >= 0)
        close(pidfd);
    return -1;
}

static int explain_timeout(struct gpup_job *job, struct gpup_error **err)
{
    return gpup_error_set(
        err, ETIMEDOUT,
        "%s: its driver has not answered for %u s (%s); see dmesg, and after that "
        "gpup rescan",
        job->gpu, (job->timeout_ms + 999) / 1000, ops[job->op].name);
}

static int converse(struct gpup_job *job, int to, int from, GString *answer)
{
    gint64 until = g_get_monotonic_time() + (gint64)job->timeout_ms * 1000;
    size_t length = strlen(job->request);

    /* smaller than what a pipe holds, else refused: writing cannot block */
    bool sent = length <= 32 * 1024 && write(to, job->request, length) == (ssize_t)length;

    close(to);
    return sent ? read_all(from, until, answer) : -EMSGSIZE;
}

static int run_helper(struct gpup_job *job, GString *answer, int *stuck, struct gpup_error **err)
{
    int request[2] = {-1, -1}, reply[2] = {-1, -1};
    pid_t pid = -1;
    int pidfd, ret;

    if (pipe2(request, O_CLOEXEC) < 0 || pipe2(reply, O_CLOEXEC) < 0) {
        close_pipe(request);
        return gpup_error_set(err, errno, "%s: there is no pipe to its helper: %s", job->gpu,
                              g_strerror(errno));
    }
    ret = spawn(job, request[0], reply[1], &pid, err);
    if (ret < 0) {
        close_pipe(request);
        close_pipe(reply);
        return ret;
    }
    close(request[0]);
    close(reply[1]);
    pidfd = pidfd_open(pid, 0);
    ret = converse(job, request[1], reply[0], answer);
    close(reply[0]);
    *stuck = end(pid, pidfd, ret == 0);
    if (ret == -ETIMEDOUT)
        return explain_timeout(job, err);
    if (ret < 0)
        return gpup_error_set(err, -ret, "%s: %s", job->helper, g_strerror(-ret));
    return 0;
}

int gpup_job_run(struct gpup_job *job, struct gpup_facts **facts_out,
                 struct gpup_function *function_out, int *stuck, struct gpup_error **err)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GVariant) answer = NULL;
    g_autoptr(GVariant) facts = NULL;
    g_autoptr(GVariant) function = NULL;
    const char *message = "";
    gint32 code = 0;
    int ret;

    *stuck = -1;
    ret = run_helper(job, text, stuck, err);
    if (ret < 0)
        return ret;
    answer = g_variant_parse(G_VARIANT_TYPE_VARDICT, text->str, NULL, NULL, NULL);
    if (!answer)
        return gpup_error_set(err, EIO, "%s: the helper died (%s, %s)", job->gpu, ops[job->op].name,
                              text->len ? "half an answer" : "no answer");
    g_variant_lookup(answer, "code", "i", &code);
    g_variant_lookup(answer, "message", "&s", &message);
    facts = g_variant_lookup_value(answer, "facts", G_VARIANT_TYPE_VARDICT);
    function = g_variant_lookup_value(answer, "function", G_VARIANT_TYPE("(ssst)"));
    if (facts && facts_out)
        *facts_out = gpup_facts_from_variant(facts);
    if (function && function_out)
        gpup_function_from_variant(function, function_out);
    return code ? gpup_error_set(err, code, "%s", message) : 0;
}

/* ---- the helper's side ---- */

struct served {
    struct gpup_system system;
    struct gpup_target target;
    struct gpup_work work;
    guint32 op, n;
    const struct gpup_provider *provider;
};

static void read_work(GVariant *request, struct gpup_work *work)
{
    g_autoptr(GVariant) grant = g_variant_lookup_value(request, "grant", G_VARIANT_TYPE("a(ttt)"));
    g_autoptr(GVariant) function =
        g_variant_lookup_value(request, "function", G_VARIANT_TYPE("(ssst)"));

    work->adapter = "";
    g_variant_lookup(request, "slot", "u", &work->slot);
    g_variant_lookup(request, "slots", "u", &work->n_slots);
    g_variant_lookup(request, "adapter", "&s", &work->adapter);
    if (grant)
        gpup_grant_from_variant(grant, &work->grant);
    if (function)
        gpup_function_from_variant(function, &work->function);
}

static unsigned partitions_now(struct served *s)
{
    g_autoptr(gpup_facts) now = gpup_facts_new();

    if (!s->provider->describe || s->provider->describe(&s->target, now, NULL) < 0)
        return 0;
    return now->functions->len;
}

/* What was there is made again when the new count cannot be had. */
static int restore(struct served *s, unsigned before, struct gpup_error **err)
{
    g_autoptr(gpup_facts) facts = gpup_facts_new();
    GPUP_AUTO_ERROR why = NULL;
    int code = err && *err ? (*err)->code : EIO;
    g_autofree char *message = g_strdup(err && *err ? (*err)->message : "");

    if (s->provider->create(&s->target, before, facts, &why) == 0)
        return gpup_error_set(err, code, "%s; the %u partitions there were are back", message,
                              before);
    return gpup_error_set(err, code, "%s; the %u partitions there were could not be made again: %s",
                          message, before, gpup_error_message(why));
}

static int recreate(struct served *s, struct gpup_facts *facts, struct gpup_error **err)
{
    unsigned before = s->provider == &gpup_provider_whole ? 0 : partitions_now(s);
    int ret = s->provider->destroy && before > 0 ? s->provider->destroy(&s->target, err) : 0;

    if (ret < 0)
        return ret;
    GPUP_FAULT("helper.create.removed");
    ret = s->provider->create(&s->target, s->n, facts, err);
    return ret < 0 && before > 0 ? restore(s, before, err) : ret;
}

/* ---- one at a time ---- */

static int lock(const struct gpup_system *system, const char *address, int how)
{
    g_autofree char *dir = g_build_filename(system->sysfs, "bus", "pci", "devices", address, NULL);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0)
        flock(fd, how); /* gpupd has set a time */
    return fd;
}

/*
 * A helper goes on when gpupd is killed, and the next gpupd's waits here until it is done. What
 * changes a GPU's partitions is alone with it, what changes one function with that. Until the end
 * of the process.
 */
static void wait_for_others(const struct served *s)
{
    const char *gpu = s->target.pci->address;
    const char *function = s->work.function.address;
    bool one = s->op == GPUP_OP_PREPARE || s->op == GPUP_OP_RELEASE;
    bool whole = strcmp(function, gpu) == 0;

    lock(s->target.system, gpu, s->op == GPUP_OP_DESCRIBE || (one && !whole) ? LOCK_SH : LOCK_EX);
    if (one && !whole && gpup_pci_is_address(function))
        lock(s->target.system, function, LOCK_EX);
}

static int carry_out(struct served *s, struct gpup_facts *facts, struct gpup_error **err)
{
    const struct gpup_provider *p = s->provider;
    int ret;

    wait_for_others(s);
    switch (s->op) {
    case GPUP_OP_DESCRIBE:
        return p->describe ? p->describe(&s->target, facts, err) : 0;
    case GPUP_OP_CREATE:
        GPUP_FAULT("helper.create.begun");
        ret = recreate(s, facts, err);
        GPUP_FAULT("helper.create.done");
        return ret;
    case GPUP_OP_DESTROY:
        GPUP_FAULT("helper.destroy.begun");
        ret = p->destroy(&s->target, err);
        GPUP_FAULT("helper.destroy.done");
        return ret == 0 && p->describe ? p->describe(&s->target, facts, err) : ret;
    case GPUP_OP_PREPARE:
        GPUP_FAULT("helper.prepare.begun");
        ret = p->prepare ? p->prepare(&s->target, &s->work, err) : 0;
        GPUP_FAULT("helper.prepare.done");
        return ret;
    case GPUP_OP_RELEASE:
        GPUP_FAULT("helper.release.begun");
        ret = p->release ? p->release(&s->target, &s->work, err) : 0;
        GPUP_FAULT("helper.release.done");
        return ret;
    default:
        return gpup_error_set(err, EINVAL, "unknown operation %u", s->op);
    }
}

/* After a failure: what there is now. */
static void add_facts(const struct served *s, const struct gpup_facts *facts, int ret,
                      GVariantBuilder *builder)
{
    g_autoptr(gpup_facts) now = NULL;

    if (ret < 0 && s->op != GPUP_OP_DESCRIBE && s->target.pci && s->provider &&
        s->provider->describe) {
        now = gpup_facts_new();
        if (s->provider->describe(&s->target, now, NULL) == 0)
            add(builder, "facts", gpup_facts_to_variant(now));
    } else if (ret == 0) {
        add(builder, "facts", gpup_facts_to_variant(facts));
    }
}

static GVariant *answer_of(const struct served *s, const struct gpup_facts *facts, int ret,
                           const struct gpup_error *err)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    add(&builder, "code", g_variant_new_int32(-ret));
    add(&builder, "message", g_variant_new_string(ret < 0 ? gpup_error_message(err) : ""));
    if (s->op <= GPUP_OP_DESTROY)
        add_facts(s, facts, ret, &builder);
    if (ret == 0 && s->op > GPUP_OP_DESTROY)
        add(&builder, "function", gpup_function_to_variant(&s->work.function));
    return g_variant_builder_end(&builder);
}

GVariant *gpup_job_serve(GVariant *request)
{
    struct served s = {0};
    g_autoptr(gpup_facts) facts = gpup_facts_new();
    g_autoptr(gpup_pci) pci = NULL;
    g_autoptr(GVariant) settings = NULL;
    GPUP_AUTO_ERROR err = NULL;
    const char *provider = "", *gpu = "";
    int ret;

    s.system = (struct gpup_system){.sysfs = "/sys", .dev = "/dev", .proc = "/proc"};
    g_variant_lookup(request, "provider", "&s", &provider);
    g_variant_lookup(request, "op", "u", &s.op);
    g_variant_lookup(request, "sysfs", "&s", &s.system.sysfs);
    g_variant_lookup(request, "dev", "&s", &s.system.dev);
    g_variant_lookup(request, "proc", "&s", &s.system.proc);
    g_variant_lookup(request, "gpu", "&s", &gpu);
    g_variant_lookup(request, "n", "u", &s.n);
    g_variant_lookup(request, "memory", "t", &s.target.memory);
    g_variant_lookup(request, "wanted", "u", &s.target.wanted);
    settings = g_variant_lookup_value(request, "settings", G_VARIANT_TYPE("a{ss}"));
    read_work(request, &s.work);
    pci = gpup_pci_read(&s.system, gpu);
    s.provider = gpup_provider_by_name(provider);
    s.target.system = &s.system;
    s.target.pci = pci;
    s.target.name = gpup_short_id(gpu);
    s.target.settings = settings;
    if (!s.provider)
        ret = gpup_error_set(&err, EINVAL, "there is no provider '%s'", provider);
    else if (!pci)
        ret = gpup_error_set(&err, ENODEV, "%s is not in this host any more", gpu);
    else
        ret = carry_out(&s, facts, &err);
    return answer_of(&s, facts, ret, err);
}
