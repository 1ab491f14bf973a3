/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/claim.h"

#include "core/error.h"
#include "core/units.h"
#include "daemon/keyfile.h"
#include "fault/fault.h"

#include <errno.h>
#include <string.h>

#define GROUP "reservation"

struct gpup_claim *gpup_claim_new(const char *adapter, const char *vm, const char *uuid, int domain)
{
    struct gpup_claim *claim = g_new0(struct gpup_claim, 1);
    g_autofree char *nonce = g_uuid_string_random();

    g_strlcpy(claim->adapter, adapter, sizeof(claim->adapter));
    g_strlcpy(claim->nonce, nonce, sizeof(claim->nonce));
    claim->vm = g_strdup(vm);
    claim->uuid = g_strdup(uuid ? uuid : "");
    claim->domain = domain;
    claim->since = g_get_monotonic_time();
    return claim;
}

void gpup_claim_free(struct gpup_claim *claim)
{
    if (!claim)
        return;
    g_free(claim->vm);
    g_free(claim->uuid);
    g_free(claim->gpu);
    g_free(claim);
}

static char *reservation_path(const char *run_dir, const char *adapter)
{
    return g_build_filename(run_dir, "reservations", adapter, NULL);
}

static char *vm_path(const char *run_dir, const char *adapter)
{
    return g_build_filename(run_dir, "vm", adapter, NULL);
}

static char *boot_id(void)
{
    char *text = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
        return g_strdup("unknown");
    return g_strstrip(text);
}

static void save_grant(GKeyFile *file, const struct gpup_grant *grant)
{
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        const struct gpup_share *s = &grant->share[r];
        g_autofree char *text =
            g_strdup_printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
                            s->min, s->weight, s->cap);

        g_key_file_set_string(file, GROUP, gpup_resource_name((enum gpup_resource)r), text);
    }
}

static bool load_share(const char *text, struct gpup_share *share)
{
    g_auto(GStrv) parts = g_strsplit(text ? text : "", " ", 0);
    guint64 values[3];

    if (g_strv_length(parts) != 3)
        return false;
    for (int i = 0; i < 3; i++) {
        if (!g_ascii_string_to_unsigned(parts[i], 10, 0, G_MAXUINT64, &values[i], NULL))
            return false;
    }
    *share = (struct gpup_share){values[0], values[1], values[2]};
    return true;
}

int gpup_claim_save(const char *run_dir, const struct gpup_claim *c, struct gpup_error **err)
{
    g_autofree char *path = reservation_path(run_dir, c->adapter);
    g_autofree char *vm = vm_path(run_dir, c->adapter);
    g_autofree char *boot = boot_id();
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    int ret;

    g_key_file_set_integer(file, GROUP, "version", GPUP_KEYFILE_VERSION);
    g_key_file_set_string(file, GROUP, "boot", boot);
    g_key_file_set_string(file, GROUP, "nonce", c->nonce);
    g_key_file_set_string(file, GROUP, "vm", c->vm);
    g_key_file_set_string(file, GROUP, "uuid", c->uuid);
    g_key_file_set_string(file, GROUP, "gpu", c->gpu);
    g_key_file_set_uint64(file, GROUP, "slot", c->slot);
    g_key_file_set_uint64(file, GROUP, "count", c->count);
    g_key_file_set_integer(file, GROUP, "domain", c->domain);
    g_key_file_set_boolean(file, GROUP, "started", c->started);
    g_key_file_set_boolean(file, GROUP, "by-hand", c->by_hand);
    g_key_file_set_string(file, GROUP, "display", gpup_display_name(c->display));
    g_key_file_set_integer(file, GROUP, "renderer", c->renderer);
    g_key_file_set_uint64(file, GROUP, "renderer-start", c->renderer_start);
    save_grant(file, &c->grant);
    ret = gpup_keyfile_write(path, file, err);
    GPUP_FAULT("gpupd.claim.written");
    if (ret == 0 && !g_file_test(vm, G_FILE_TEST_EXISTS) &&
        !g_file_set_contents_full(vm, "", 0, G_FILE_SET_CONTENTS_NONE, 0644, &error))
        ret = gpup_error_set(err, EIO, "%s", error->message);
    return ret;
}

void gpup_claim_forget(const char *run_dir, const char *adapter)
{
    g_autofree char *path = reservation_path(run_dir, adapter);
    g_autofree char *vm = vm_path(run_dir, adapter);
    GPUP_AUTO_ERROR err = NULL;

    if (gpup_keyfile_remove(vm, &err) == 0) {
        GPUP_FAULT("gpupd.release.half");
        gpup_keyfile_remove(path, &err);
    }
    if (err)
        g_warning("%s", gpup_error_message(err));
}

/* No GPU has as much: sums of such numbers do not overflow. */
#define MOST_MEMORY (UINT64_C(1) << 50)

static bool makes_sense(const struct gpup_claim *c)
{
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        const struct gpup_share *s = &c->grant.share[r];
        uint64_t most = r == GPUP_VRAM ? MOST_MEMORY : GPUP_PPM_FULL;

        if (s->min > most || s->weight > most || s->cap > most)
            return false;
    }
    return c->vm && c->uuid && c->gpu && c->domain >= -1 && c->renderer >= 0;
}

/* False: it is no number of a slot, or of slots. */
static bool load_slot(GKeyFile *file, const char *name, unsigned *n)
{
    guint64 value = g_key_file_get_uint64(file, GROUP, name, NULL);

    *n = (unsigned)MIN(value, GPUP_MAX_SLOTS);
    return value <= GPUP_MAX_SLOTS;
}

static struct gpup_claim *load(GKeyFile *file, const char *adapter)
{
    g_autoptr(gpup_claim) c = g_new0(struct gpup_claim, 1);
    g_autofree char *nonce = g_key_file_get_string(file, GROUP, "nonce", NULL);
    g_autofree char *display = g_key_file_get_string(file, GROUP, "display", NULL);

    g_strlcpy(c->adapter, adapter, sizeof(c->adapter));
    g_strlcpy(c->nonce, nonce ? nonce : "", sizeof(c->nonce));
    c->vm = g_key_file_get_string(file, GROUP, "vm", NULL);
    c->uuid = g_key_file_get_string(file, GROUP, "uuid", NULL);
    c->gpu = g_key_file_get_string(file, GROUP, "gpu", NULL);
    if (!load_slot(file, "slot", &c->slot) || !load_slot(file, "count", &c->count))
        return NULL;
    c->domain = g_key_file_get_integer(file, GROUP, "domain", NULL);
    c->started = g_key_file_get_boolean(file, GROUP, "started", NULL);
    c->by_hand = g_key_file_get_boolean(file, GROUP, "by-hand", NULL);
    if (display && gpup_display_from_name(display, &c->display) < 0)
        c->display = GPUP_DISPLAY_OFF;
    c->renderer = g_key_file_get_integer(file, GROUP, "renderer", NULL);
    c->renderer_start = g_key_file_get_uint64(file, GROUP, "renderer-start", NULL);
    c->since = g_get_monotonic_time();
    for (int r = 0; r < GPUP_RESOURCES; r++) {
        g_autofree char *text =
            g_key_file_get_string(file, GROUP, gpup_resource_name((enum gpup_resource)r), NULL);

        if (!load_share(text, &c->grant.share[r]))
            return NULL;
    }
    return makes_sense(c) ? g_steal_pointer(&c) : NULL;
}

enum boot {
    THIS_BOOT,
    ANOTHER_BOOT,
    NO_BOOT /* that one cannot be */
};

static enum boot boot_of(GKeyFile *file)
{
    g_autofree char *boot = g_key_file_get_string(file, GROUP, "boot", NULL);
    g_autofree char *now = boot_id();

    if (boot && strcmp(boot, now) == 0)
        return THIS_BOOT;
    return boot && g_uuid_string_is_valid(boot) ? ANOTHER_BOOT : NO_BOOT;
}

/* NULL without an error: it is not of this boot. */
static struct gpup_claim *load_one(const char *run_dir, const char *adapter,
                                   struct gpup_error **err)
{
    g_autofree char *path = reservation_path(run_dir, adapter);
    g_autoptr(GKeyFile) file = NULL;
    struct gpup_claim *claim;
    enum boot boot;

    if (gpup_keyfile_read(path, GROUP, &file, err) < 0)
        return NULL;
    boot = boot_of(file);
    if (boot == ANOTHER_BOOT) {
        gpup_claim_forget(run_dir, adapter);
        return NULL;
    }
    claim = boot == THIS_BOOT ? load(file, adapter) : NULL;
    if (!claim)
        gpup_keyfile_set_aside(path, "something is missing in it, or makes no sense", err);
    return claim;
}

GPtrArray *gpup_claim_load_all(const char *run_dir, GPtrArray *problems)
{
    GPtrArray *claims = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_claim_free);
    g_autofree char *dir = g_build_filename(run_dir, "reservations", NULL);
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    const char *name;

    while (entries && (name = g_dir_read_name(entries))) {
        struct gpup_claim *claim;
        GPUP_AUTO_ERROR err = NULL;

        if (!g_uuid_string_is_valid(name))
            continue;
        claim = load_one(run_dir, name, &err);
        if (claim)
            g_ptr_array_add(claims, claim);
        else if (err)
            g_ptr_array_add(problems, g_strdup(gpup_error_message(err)));
    }
    return claims;
}
