/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault/fault.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RENDER   "render."
#define VARIABLE "GPUP_FAULT="
#define STEP_MS  2
#define MOST_MS  20000

void gpup_fault_wait(const char *name)
{
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    char armed[256], hit[256];

    snprintf(armed, sizeof(armed), GPUP_FAULT_DIR "/%s", name);
    snprintf(hit, sizeof(hit), GPUP_FAULT_DIR "/%s.hit", name);
    if (rename(armed, hit) < 0)
        return; /* not armed, or another process was first */
    for (int ms = 0; ms < MOST_MS && access(hit, F_OK) == 0; ms += STEP_MS)
        nanosleep(&step, NULL);
}

void gpup_fault_end(const char *name)
{
    const char *wanted = getenv("GPUP_FAULT");

    if (wanted && strcmp(wanted, name) == 0)
        _exit(137);
}

char *gpup_fault_environment(void)
{
    static char entry[256 + sizeof(VARIABLE)];
    DIR *dir = opendir(GPUP_FAULT_DIR);
    const struct dirent *file;
    char *found = NULL;

    while (dir && !found && (file = readdir(dir))) {
        char armed[sizeof(GPUP_FAULT_DIR) + 256];

        if (strncmp(file->d_name, RENDER, strlen(RENDER)) != 0)
            continue;
        snprintf(entry, sizeof(entry), VARIABLE "%s", file->d_name);
        snprintf(armed, sizeof(armed), GPUP_FAULT_DIR "/%s", file->d_name);
        if (unlink(armed) == 0)
            found = entry;
    }
    if (dir)
        closedir(dir);
    return found;
}
