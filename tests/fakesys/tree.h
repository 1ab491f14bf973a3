/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FAKESYS_TREE_H
#define FAKESYS_TREE_H

#include <glib.h>
#include <stdbool.h>

/*
 * The files of the made-up machine, with what happens when one is read or written. One lock for
 * all: who calls holds it; a store or show that has to wait uses tree_wait(), which gives it up.
 */

struct node;
/* 0 or a negative errno. */
typedef int (*node_store)(struct node *node, const char *value);
/* What is read: the caller's. NULL: EIO. */
typedef char *(*node_show)(struct node *node);

struct node {
    char *name;
    char kind; /* d, f or l */
    unsigned mode;
    char *value; /* a file's text, or a link's target */
    GTree *children;
    struct node *parent;
    node_store store; /* NULL: the value is replaced */
    node_show show;   /* NULL: the value */
    void *owner;      /* a struct device *, or what `store` needs */
    int number;
};

extern GMutex tree_lock;
extern GCond tree_changed;

void tree_init(void);
struct node *tree_find(const char *path);
struct node *tree_dir(const char *path);
/* A file; `text` gets a newline, as sysfs files have it. */
struct node *tree_file(unsigned mode, const char *text, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
struct node *tree_link(const char *target, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void tree_remove(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
bool tree_exists(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void tree_set(struct node *node, const char *text);

#endif
