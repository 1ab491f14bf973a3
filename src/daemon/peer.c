/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peer.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX "-vhost-user-gpu.pid"

int gpup_peer_of(int sock, struct gpup_peer *peer, struct gpup_error **err)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
        return gpup_error_set(err, errno, "who connects cannot be told: %s", strerror(errno));
    *peer = (struct gpup_peer){cred.pid, cred.uid, cred.gid};
    return 0;
}

/* The number in a pid file that libvirt has written, or -1. Where the folder belongs to the user
 * that VMs run as, one of them could make a file there. */
static pid_t read_pid(int dir, const char *name)
{
    struct stat st;
    char text[32];
    ssize_t n;
    guint64 pid;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return -1;
    n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid())
            ? read(fd, text, sizeof(text) - 1)
            : -1;
    close(fd);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return g_ascii_string_to_unsigned(g_strstrip(text), 10, 1, G_MAXINT32, &pid, NULL) ? (pid_t)pid
                                                                                       : -1;
}

int gpup_peer_check(const char *path, int domain, const struct gpup_peer *peer,
                    struct gpup_error **err)
{
    g_autofree char *prefix = g_strdup_printf("%d-", domain);
    g_autoptr(GDir) entries = g_dir_open(path, 0, NULL);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool found = false;
    const char *name;

    while (domain >= 0 && dir >= 0 && !found && entries && (name = g_dir_read_name(entries)))
        found = g_str_has_prefix(name, prefix) && g_str_has_suffix(name, SUFFIX) &&
                read_pid(dir, name) == peer->pid;
    if (dir >= 0)
        close(dir);
    if (found)
        return 0;
    return gpup_error_set(err, EACCES,
                          "process %d is not the device process of this VM: libvirt names another "
                          "one, or none, in %s",
                          (int)peer->pid, path);
}
