/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox/jail.h"

#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_MOUNTS 48

enum source_kind {
    SOURCE_DIRECTORY, /* read-only, without devices */
    SOURCE_FILE,      /* likewise */
    SOURCE_DEVICE,
};

struct mounts {
    unsigned int n;
    struct {
        int fd; /* a detached copy of the mount */
        enum source_kind kind;
        char target[JAIL_PATH_SIZE]; /* relative to the new root */
    } list[MAX_MOUNTS];
};

bool jail_fail(struct jail_failure *failure, const char *step)
{
    failure->error = errno;
    snprintf(failure->step, sizeof(failure->step), "%s", step);
    return false;
}

/* Sources are copied before anything is mounted: the new root may cover where they lie. */
static bool add_mount(struct mounts *mounts, const char *source, const char *target,
                      enum source_kind kind)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    int n, fd;

    if (mounts->n >= MAX_MOUNTS)
        return false;
    fd = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (fd < 0)
        return false;
    if (kind == SOURCE_DEVICE)
        attr.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    else
        attr.attr_set |= MOUNT_ATTR_NODEV;
    n = snprintf(mounts->list[mounts->n].target, JAIL_PATH_SIZE, "%s", target);
    if (n < 0 || n >= JAIL_PATH_SIZE ||
        mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0) {
        close(fd);
        return false;
    }
    mounts->list[mounts->n].fd = fd;
    mounts->list[mounts->n].kind = kind;
    mounts->n++;
    return true;
}

static bool exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

static bool collect_mounts(struct mounts *mounts, const struct sandbox_spec *spec,
                           char exec_path[JAIL_PATH_SIZE])
{
    static const char *const directories[] = {"/usr", "/etc/glvnd", "/etc/egl", "/etc/drirc.d"};
    static const char *const roots[] = {"/lib", "/lib64", "/lib32"};
    static const char *const files[] = {"/etc/ld.so.cache", "/etc/drirc"};
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom"};
    const char *name = strrchr(spec->path, '/') + 1;
    int n;

    for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
        if (exists(directories[i]) &&
            !add_mount(mounts, directories[i], directories[i] + 1, SOURCE_DIRECTORY))
            return false;
    for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
        struct stat st;

        if (lstat(roots[i], &st) == 0 && S_ISDIR(st.st_mode) &&
            !add_mount(mounts, roots[i], roots[i] + 1, SOURCE_DIRECTORY))
            return false;
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        if (exists(files[i]) && !add_mount(mounts, files[i], files[i] + 1, SOURCE_FILE))
            return false;
    for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
        if (!add_mount(mounts, devices[i], devices[i] + 1, SOURCE_DEVICE))
            return false;
    for (const char *const *node = spec->device_nodes; node && *node; node++)
        if (strncmp(*node, "/dev/", 5) != 0 || strstr(*node, "/../") ||
            !add_mount(mounts, *node, *node + 1, SOURCE_DEVICE))
            return false;
    /* Drivers find out in /sys what a render node is. */
    if (spec->device_nodes && spec->device_nodes[0] &&
        !add_mount(mounts, "/sys", "sys", SOURCE_DIRECTORY))
        return false;

    if (strncmp(spec->path, "/usr/", 5) == 0)
        n = snprintf(exec_path, JAIL_PATH_SIZE, "%s", spec->path);
    else
        n = snprintf(exec_path, JAIL_PATH_SIZE, "/program/%s", name);
    if (n < 0 || n >= JAIL_PATH_SIZE)
        return false;
    return strncmp(spec->path, "/usr/", 5) == 0 ||
           add_mount(mounts, spec->path, exec_path + 1, SOURCE_FILE);
}

static bool make_parents(const char *target)
{
    char path[JAIL_PATH_SIZE];

    snprintf(path, sizeof(path), "%s", target);
    for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

static bool place_mounts(struct mounts *mounts)
{
    for (unsigned int i = 0; i < mounts->n; i++) {
        const char *target = mounts->list[i].target;

        if (!make_parents(target))
            return false;
        if (mounts->list[i].kind == SOURCE_DIRECTORY) {
            if (mkdir(target, 0755) < 0 && errno != EEXIST)
                return false;
        } else {
            int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

            if (fd < 0)
                return false;
            close(fd);
        }
        if (move_mount(mounts->list[i].fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
            return false;
    }
    return true;
}

/* /lib and its like are links into /usr on today's systems. */
static bool copy_links(void)
{
    static const char *const links[] = {"/lib", "/lib64", "/lib32"};

    for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
        char text[JAIL_PATH_SIZE];
        ssize_t n = readlink(links[i], text, sizeof(text) - 1);

        if (n <= 0)
            continue;
        text[n] = '\0';
        if (symlink(text, links[i] + 1) < 0)
            return false;
    }
    return true;
}

/* Mesa's settings for programs with certain names: software rendering, which has none for us, would
 * read them at every start. They may as well stay. */
static void hide_driver_settings(void)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                          MOUNT_ATTR_NOEXEC};
    int fd;

    if (mkdir("etc/none", 0555) < 0)
        return;
    fd = open_tree(AT_FDCWD, "etc/none", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        return;
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
        (void)!move_mount(fd, "", AT_FDCWD, "usr/share/drirc.d", MOVE_MOUNT_F_EMPTY_PATH);
    close(fd);
}

static bool enter_root(struct mounts *mounts, bool software)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

    if (chdir("/tmp") < 0 || !place_mounts(mounts) || !copy_links() || mkdir("tmp", 01777) < 0 ||
        mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=1777") < 0)
        return false;
    if (software)
        hide_driver_settings();
    /* pivot_root(2): with both paths the same, the old root ends on top of the new one. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return false;
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        _exit(127); /* no way back from here; the parent sees the pipe end without a word */
    if (mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof(attr)) < 0)
        _exit(127);
    return true;
}

bool jail_private_root(const struct sandbox_spec *spec, char exec_path[JAIL_PATH_SIZE])
{
    struct mounts mounts = {.n = 0};
    bool mounted = false, done = false;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return false;
    if (collect_mounts(&mounts, spec, exec_path)) {
        mounted = mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755") == 0;
        done = mounted && enter_root(&mounts, !spec->device_nodes || !spec->device_nodes[0]);
    }
    for (unsigned int i = 0; i < mounts.n; i++)
        close(mounts.list[i].fd);
    if (!done) {
        (void)!chdir("/");
        if (mounted)
            umount2("/tmp", MNT_DETACH);
    }
    return done;
}

static bool write_text(const char *path, const char *text)
{
    return gpup_file_write(AT_FDCWD, path, text) == 0;
}

bool jail_map_ids(uid_t uid, gid_t gid)
{
    char text[64];

    /* user_namespaces(7): without privilege in the parent, gid_map needs setgroups denied. */
    if (!write_text("/proc/self/setgroups", "deny"))
        return false;
    snprintf(text, sizeof(text), "%u %u 1\n", (unsigned int)gid, (unsigned int)gid);
    if (!write_text("/proc/self/gid_map", text))
        return false;
    snprintf(text, sizeof(text), "%u %u 1\n", (unsigned int)uid, (unsigned int)uid);
    return write_text("/proc/self/uid_map", text);
}

bool jail_drop_privileges(const struct sandbox_spec *spec, bool may_keep_user, bool *same_user,
                          struct jail_failure *failure)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    *same_user = false;
    /* The bounding set first: it needs a capability. A process without any fails here; then exec
     * gains nothing either, for no_new_privs is set below. */
    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0);
    for (int cap = 0; cap <= 63; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (spec->set_ids) {
        /* not the C library's, which look for the other threads that our parent had, under locks
         * that one of those may have held when we were made: they would wait for ever */
        if (syscall(SYS_setgroups, spec->n_groups, spec->groups) < 0 ||
            syscall(SYS_setresgid, spec->gid, spec->gid, spec->gid) < 0 ||
            syscall(SYS_setresuid, spec->uid, spec->uid, spec->uid) < 0) {
            if (!may_keep_user)
                return jail_fail(failure, "changing to the renderer's user");
            *same_user = true;
        }
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) < 0)
        return jail_fail(failure, "dropping the capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return jail_fail(failure, "setting no_new_privs");
    return true;
}

static bool to_targets(const struct sandbox_spec *spec, int *keep, int first_free,
                       struct jail_failure *failure)
{
    int copies[16];

    if (spec->n_fds > sizeof(copies) / sizeof(*copies)) {
        errno = E2BIG;
        return jail_fail(failure, "passing descriptors");
    }
    /* Out of the way of all targets first: one's source may be another's target. */
    for (size_t i = 0; i < spec->n_fds; i++) {
        copies[i] = fcntl(spec->fds[i].fd, F_DUPFD_CLOEXEC, first_free);
        if (copies[i] < 0)
            return jail_fail(failure, "passing descriptors");
    }
    *keep = fcntl(*keep, F_DUPFD_CLOEXEC, first_free);
    if (*keep < 0)
        return jail_fail(failure, "passing descriptors");
    for (size_t i = 0; i < spec->n_fds; i++)
        if (dup2(copies[i], spec->fds[i].target) < 0)
            return jail_fail(failure, "passing descriptors");
    return true;
}

bool jail_arrange_descriptors(const struct sandbox_spec *spec, int *keep,
                              struct jail_failure *failure)
{
    int first_free = 3;
    bool input = false;

    for (size_t i = 0; i < spec->n_fds; i++) {
        if (spec->fds[i].target >= first_free)
            first_free = spec->fds[i].target + 1;
        if (spec->fds[i].target == STDIN_FILENO)
            input = true;
    }
    if (!to_targets(spec, keep, first_free, failure))
        return false;
    if (!input) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0 || dup2(null, STDIN_FILENO) < 0)
            return jail_fail(failure, "opening /dev/null");
    }
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return jail_fail(failure, "closing other descriptors");
    for (size_t i = 0; i < spec->n_fds; i++)
        if (fcntl(spec->fds[i].target, F_SETFD, 0) < 0)
            return jail_fail(failure, "passing descriptors");
    return true;
}
