/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tree.h"

#include <string.h>

GMutex tree_lock;
GCond tree_changed;
static struct node root = {.kind = 'd', .mode = 0755};

static int compare(gconstpointer a, gconstpointer b, gpointer data)
{
    return strcmp(a, b);
}

static void node_free(void *data)
{
    struct node *n = data;

    if (n->children)
        g_tree_unref(n->children);
    g_free(n->name);
    g_free(n->value);
    g_free(n);
}

static GTree *new_children(void)
{
    return g_tree_new_full(compare, NULL, NULL, node_free);
}

void tree_init(void)
{
    root.children = new_children();
}

static struct node *add(struct node *parent, const char *name, char kind)
{
    struct node *n = g_new0(struct node, 1);

    n->name = g_strdup(name);
    n->kind = kind;
    n->mode = kind == 'd' ? 0755 : 0644;
    n->parent = parent;
    if (kind == 'd')
        n->children = new_children();
    g_tree_replace(parent->children, n->name, n);
    return n;
}

static struct node *walk(const char *path, char make)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", 0);
    struct node *at = &root;

    for (char **part = parts; *part; part++) {
        struct node *next;
        bool last = !part[1];

        if (!**part)
            continue;
        next = at->children ? g_tree_lookup(at->children, *part) : NULL;
        if (!next && (!make || !at->children))
            return NULL;
        at = next && !(last && make && next->kind != make) ? next
                                                           : add(at, *part, last ? make : 'd');
    }
    return at;
}

struct node *tree_find(const char *path)
{
    return walk(path, 0);
}

struct node *tree_dir(const char *path)
{
    return walk(path, 'd');
}

void tree_set(struct node *n, const char *text)
{
    g_free(n->value);
    n->value = n->kind == 'l' || !*text || g_str_has_suffix(text, "\n")
                   ? g_strdup(text)
                   : g_strconcat(text, "\n", NULL);
}

struct node *tree_file(unsigned mode, const char *text, const char *fmt, ...)
{
    g_autofree char *path = NULL;
    struct node *n;
    va_list args;

    va_start(args, fmt);
    path = g_strdup_vprintf(fmt, args);
    va_end(args);
    n = walk(path, 'f');
    n->mode = mode;
    tree_set(n, text);
    return n;
}

struct node *tree_link(const char *target, const char *fmt, ...)
{
    g_autofree char *path = NULL;
    struct node *n;
    va_list args;

    va_start(args, fmt);
    path = g_strdup_vprintf(fmt, args);
    va_end(args);
    n = walk(path, 'l');
    n->mode = 0777;
    tree_set(n, target);
    return n;
}

void tree_remove(const char *fmt, ...)
{
    g_autofree char *path = NULL;
    struct node *n;
    va_list args;

    va_start(args, fmt);
    path = g_strdup_vprintf(fmt, args);
    va_end(args);
    n = walk(path, 0);
    if (n && n->parent)
        g_tree_remove(n->parent->children, n->name);
}

bool tree_exists(const char *fmt, ...)
{
    g_autofree char *path = NULL;
    va_list args;

    va_start(args, fmt);
    path = g_strdup_vprintf(fmt, args);
    va_end(args);
    return walk(path, 0) != NULL;
}
