/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gpu/job.h"

#include <stdio.h>
#include <unistd.h>

/*
 * gpup-gpu-helper: does one operation on one GPU, because it may hang: gpupd writes the request to
 * stdin and reads the answer from stdout. Not for users.
 */

#define MAX_REQUEST (64 * 1024)

static GString *read_request(void)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    ssize_t n;

    while (text->len < MAX_REQUEST && (n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0)
        g_string_append_len(text, buffer, n);
    return text;
}

int main(int argc, char **argv)
{
    g_autoptr(GString) text = NULL;
    g_autoptr(GVariant) request = NULL;
    g_autoptr(GVariant) answer = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *printed = NULL;

    if (argc > 1 || isatty(STDIN_FILENO)) {
        fprintf(stderr, "gpup-gpu-helper: gpupd runs this; it takes no arguments\n");
        return 2;
    }
    text = read_request();
    request = g_variant_parse(G_VARIANT_TYPE_VARDICT, text->str, NULL, NULL, &error);
    if (!request) {
        fprintf(stderr, "gpup-gpu-helper: %s\n", error->message);
        return 2;
    }
    answer = g_variant_ref_sink(gpup_job_serve(request));
    printed = g_variant_print(answer, TRUE);
    fputs(printed, stdout);
    return fflush(stdout) == 0 ? 0 : 1;
}
