/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_BENCH_REPORT_H
#define GPUP_BENCH_REPORT_H

#include <math.h>
#include <stdbool.h>

/*
 * What a benchmark found: a line for each case as it is done, and a JSON document at the end:
 * {"version":1,"machine":{...},"cases":[{"name","value","unit","baseline","ratio","goal","met",
 * "note"}]}.
 */
struct report;

struct report_case {
    const char *name, *unit;
    double value;
    double baseline;  /* NAN: there is none */
    const char *goal; /* as people read it; NULL: there is none */
    bool met;         /* where there is a goal */
    const char *note; /* what else is to be said, a line; NULL: nothing */
};

struct report *report_new(const char *json_path);
void report_add(struct report *report, const struct report_case *result);
/* Writes the document. The exit status: 1 when a goal was missed or it could not be written. */
int report_end(struct report *report);

#endif
