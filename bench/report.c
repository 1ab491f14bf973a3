/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct report {
    const char *path;
    GString *cases;
    bool missed;
};

struct report *report_new(const char *path)
{
    struct report *r = g_new0(struct report, 1);

    r->path = path;
    r->cases = g_string_new("");
    printf("%-52s %10s %10s %7s  %-10s %s\n", "CASE", "VALUE", "BASELINE", "RATIO", "GOAL", "MET");
    return r;
}

static void add_number(GString *text, const char *name, double value)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(text, "\"%s\": %s, ", name,
                           isfinite(value) ? g_ascii_formatd(number, sizeof(number), "%.6g", value)
                                           : "null");
}

void report_add(struct report *r, const struct report_case *c)
{
    double ratio = c->baseline != 0 ? c->value / c->baseline : NAN;
    char value[32], baseline[32] = "-", of[32] = "-";

    snprintf(value, sizeof(value), "-");
    if (isfinite(c->value))
        snprintf(value, sizeof(value), "%.4g %s", c->value, c->unit);
    if (isfinite(c->baseline))
        snprintf(baseline, sizeof(baseline), "%.4g", c->baseline);
    if (isfinite(ratio))
        snprintf(of, sizeof(of), "%.3f", ratio);
    printf("%-52s %10s %10s %7s  %-10s %s\n", c->name, value, baseline, of, c->goal ? c->goal : "-",
           !c->goal ? "-"
           : c->met ? "yes"
                    : "NO");
    if (c->note)
        printf("    (%s)\n", c->note);
    fflush(stdout);
    r->missed |= c->goal && !c->met;
    g_string_append_printf(r->cases, "%s\n    {\"name\": \"%s\", \"unit\": \"%s\", ",
                           r->cases->len > 0 ? "," : "", c->name, c->unit);
    add_number(r->cases, "value", c->value);
    add_number(r->cases, "baseline", c->baseline);
    add_number(r->cases, "ratio", ratio);
    if (c->goal)
        g_string_append_printf(r->cases, "\"goal\": \"%s\", \"met\": %s, ", c->goal,
                               c->met ? "true" : "false");
    else
        g_string_append(r->cases, "\"goal\": null, \"met\": null, ");
    if (c->note)
        g_string_append_printf(r->cases, "\"note\": \"%s\"}", c->note);
    else
        g_string_append(r->cases, "\"note\": null}");
}

int report_end(struct report *r)
{
    struct utsname u;
    bool good = !r->missed;

    uname(&u);
    if (r->path) {
        g_autofree char *text =
            g_strdup_printf("{\n  \"version\": 1,\n  \"machine\": {\"cpus\": %ld, \"kernel\": "
                            "\"%s\", \"architecture\": \"%s\"},\n  \"cases\": [%s\n  ]\n}\n",
                            sysconf(_SC_NPROCESSORS_ONLN), u.release, u.machine, r->cases->str);
        g_autoptr(GError) error = NULL;

        if (!g_file_set_contents(r->path, text, -1, &error)) {
            fprintf(stderr, "benchmark: %s\n", error->message);
            good = false;
        }
    }
    g_string_free(r->cases, TRUE);
    g_free(r);
    return good ? 0 : 1;
}
