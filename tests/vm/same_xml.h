/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_TEST_SAME_XML_H
#define GPUP_TEST_SAME_XML_H

#include <glib.h>
#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <string.h>

/* The document, whatever the order of its attributes and the kind of its quotes. */
static inline char *canonical(const char *xml)
{
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
    xmlChar *out = NULL;
    char *copy;

    g_assert_nonnull(doc);
    g_assert_cmpint(xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_0, NULL, 1, &out), >=, 0);
    copy = g_strdup((const char *)out);
    xmlFree(out);
    xmlFreeDoc(doc);
    return copy;
}

/* Exactly the same document. */
static inline void assert_same(const char *a, const char *b)
{
    g_autofree char *left = canonical(a);
    g_autofree char *right = canonical(b);

    g_assert_cmpstr(left, ==, right);
}

#endif
