/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define FUSE_USE_VERSION 31

#include "machine.h"

#include <errno.h>
#include <fuse.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

/*
 * fakesys MOUNTPOINT: /sys, /proc and /dev of a made-up machine as a FUSE file system, with the
 * kernel's reactions. Orders are written to MOUNTPOINT/control, one a line. Ends when unmounted.
 */

static int fake_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    struct node *n;
    int ret = 0;

    *st = (struct stat){.st_nlink = 1};
    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (!n)
        ret = -ENOENT;
    else
        st->st_mode = n->mode | (n->kind == 'd' ? S_IFDIR : n->kind == 'l' ? S_IFLNK : S_IFREG);
    if (n && n->kind == 'l')
        st->st_size = (off_t)strlen(n->value);
    else if (n && n->kind == 'f')
        st->st_size = n->number > 64 ? n->number : 4096; /* sysfs says a page */
    g_mutex_unlock(&tree_lock);
    return ret;
}

struct listing {
    void *buffer;
    fuse_fill_dir_t fill;
};

static gboolean list_one(gpointer key, gpointer value, gpointer data)
{
    struct listing *l = data;

    l->fill(l->buffer, key, NULL, 0, 0);
    return FALSE;
}

static int fake_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                        struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
    struct listing listing = {buffer, fill};
    struct node *n;

    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (n && n->children)
        g_tree_foreach(n->children, list_one, &listing);
    g_mutex_unlock(&tree_lock);
    return n ? 0 : -ENOENT;
}

static int fake_readlink(const char *path, char *buffer, size_t size)
{
    struct node *n;

    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (n && n->kind == 'l')
        g_strlcpy(buffer, n->value, size);
    g_mutex_unlock(&tree_lock);
    return n ? 0 : -ENOENT;
}

static int fake_open(const char *path, struct fuse_file_info *fi)
{
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
    struct node *n;
    int ret = 0;

    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (!n)
        ret = -ENOENT;
    else if (writes && !(n->mode & 0222))
        ret = -EACCES;
    else if ((fi->flags & O_ACCMODE) != O_WRONLY && !(n->mode & 0444))
        ret = -EACCES;
    g_mutex_unlock(&tree_lock);
    fi->direct_io = 1;
    return ret;
}

static int fake_read(const char *path, char *buffer, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    g_autofree char *text = NULL;
    size_t length = 0;
    struct node *n;

    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (n && n->number > 64) { /* binary */
        length = (size_t)n->number;
        text = g_memdup2(n->value, length);
    } else if (n) {
        text = n->show ? n->show(n) : g_strdup(n->value);
        length = text ? strlen(text) : 0;
    }
    g_mutex_unlock(&tree_lock);
    if (!n)
        return -ENODEV;
    if (!text)
        return -EIO;
    if ((size_t)offset >= length)
        return 0;
    size = MIN(size, length - (size_t)offset);
    memcpy(buffer, text + offset, size);
    return (int)size;
}

static int write_control(char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    int ret = 0;

    for (char **line = lines; ret == 0 && *line; line++) {
        if (**line)
            ret = machine_control(*line);
    }
    return ret;
}

static int fake_write(const char *path, const char *data, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
    g_autofree char *text = g_strndup(data, size);
    struct node *n;
    int ret = 0;

    g_mutex_lock(&tree_lock);
    n = tree_find(path);
    if (strcmp(path, "/control") == 0)
        ret = write_control(text);
    else if (!n)
        ret = -ENODEV;
    else if (n->store)
        ret = n->store(n, text);
    else
        tree_set(n, text);
    g_mutex_unlock(&tree_lock);
    return ret < 0 ? ret : (int)size;
}

static int fake_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    return 0;
}

static void *fake_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .getattr = fake_getattr,
    .readdir = fake_readdir,
    .readlink = fake_readlink,
    .open = fake_open,
    .read = fake_read,
    .write = fake_write,
    .truncate = fake_truncate,
    .init = fake_init,
};

int main(int argc, char **argv)
{
    char foreground[] = "-f";
    char *fuse_argv[] = {argv[0], foreground, argc > 1 ? argv[1] : foreground, NULL};

    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that fails leaves nothing mounted */
    tree_init();
    tree_file(0200, "", "/control");
    machine_init(argc > 1 ? argv[1] : "");
    return fuse_main(3, fuse_argv, &operations, NULL);
}
