/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host_internal.h"
#include "fault/fault.h"
#include "vm/adapter_xml.h"

#include <errno.h>
#include <string.h>

/* What libvirt tells of a VM: it is to start, it runs, it has ended. */

static void count_refusal(struct gpup_host *h, const struct gpup_adapter *adapter)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);

    for (size_t i = 0; h->health && i < n; i++) {
        if (gpus[i]->kind == adapter->kind &&
            (!adapter->gpu || strcmp(adapter->gpu, gpus[i]->key) == 0))
            gpup_health_add(h->health, gpus[i]->key, GPUP_TROUBLE_START);
    }
}

static int resolve_and_take(struct gpup_host *h, const struct gpup_domain_info *info,
                            struct gpup_error **err)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(h, &n);
    struct gpup_placement placement;
    struct gpup_claim *claim;
    int ret = gpup_host_place(h, info, &placement, err);

    if (ret < 0) {
        count_refusal(h, info->adapter);
        h->settled = g_get_monotonic_time();
        return ret;
    }
    GPUP_FAULT("gpupd.prepare.resolved");
    claim = gpup_claim_new(info->adapter->id, info->name, info->uuid, info->id);
    claim->gpu = g_strdup(gpus[placement.gpu]->key);
    claim->slot = placement.slot;
    claim->grant = placement.grant;
    claim->display = info->adapter->display;
    ret = gpup_host_take(h, claim, gpus[placement.gpu], err);
    if (ret == 0)
        gpup_host_tell_claim(h, claim, GPUP_EVENT_START, GPUP_BY_LIBVIRT);
    return ret;
}

static int check_definition(const struct gpup_domain_info *info, struct gpup_error **err)
{
    if (!gpup_domain_has_device(info, info->adapter))
        return gpup_error_set(err, EINVAL,
                              "%s has an adapter, but its partition's device is not in the "
                              "definition any more: gpup unassign %s, then gpup assign %s",
                              info->name, info->name, info->name);
    return 0;
}

/* A start that was cut off leaves its claim behind; another VM's claim is not ours to take. */
static int settle_old_claim(struct gpup_host *h, const struct gpup_domain_info *info,
                            bool (*is_alive)(const char *adapter, void *data), void *data,
                            struct gpup_error **err)
{
    struct gpup_claim *old = gpup_host_claim(h, info->adapter->id);

    if (!old)
        return 0;
    if (strcmp(old->uuid, info->uuid ? info->uuid : "") != 0)
        return gpup_error_set(err, EBUSY,
                              "%s carries the adapter of %s, which is running: its definition was "
                              "copied. Give it its own: gpup unassign %s, then gpup assign %s",
                              info->name, old->vm, info->name, info->name);
    if (is_alive && is_alive(old->adapter, data))
        return gpup_error_set(err, EBUSY,
                              "%s is still running with its partition: wait until it has stopped, "
                              "or virsh destroy %s",
                              info->name, info->name);
    if (gpup_host_use_reservation(h, old, info))
        return 0;
    gpup_host_free_adapter(h, old->adapter);
    if (gpup_host_claim(h, info->adapter->id))
        return gpup_error_set(err, EBUSY,
                              "the last start of %s is still being undone: try again in a few "
                              "seconds",
                              info->name);
    return 0;
}

/* A running VM whose reservation was lost is found by asking libvirt: until then its partition may
 * look free. */
static int check_sure(struct gpup_host *h, const struct gpup_domain_info *info,
                      struct gpup_error **err)
{
    if (!h->unsure)
        return 0;
    return gpup_error_set(err, EBUSY,
                          "%s: a reservation was damaged, and libvirt is still being asked which "
                          "VMs run: start it again in a few seconds",
                          info->name);
}

static int claim_for(struct gpup_host *h, const struct gpup_domain_info *info,
                     bool (*is_alive)(const char *adapter, void *data), void *data,
                     struct gpup_error **err)
{
    int ret = check_definition(info, err);

    if (ret == 0)
        ret = check_sure(h, info, err);
    if (ret == 0)
        ret = settle_old_claim(h, info, is_alive, data, err);
    if (ret == 0 && !gpup_host_claim(h, info->adapter->id))
        ret = resolve_and_take(h, info, err);
    return ret;
}

static int claim_all(struct gpup_host *h, const struct gpup_domain_info *info,
                     const struct gpup_start *start, struct gpup_error **err)
{
    int ret = gpup_host_claim_others(h, info, err);

    if (ret == 0 && info->adapter)
        ret = claim_for(h, info, start->is_alive, start->alive_data, err);
    if (ret < 0)
        gpup_host_release_others(h, info);
    return ret;
}

/* Frees the start, unless it waits. */
static void try_start(struct gpup_host *h, struct gpup_start *start, bool may_wait)
{
    struct gpup_domain_info info;
    GPUP_AUTO_ERROR err = NULL;
    int ret = gpup_domain_info_read(start->xml, start->length, &info, &err);

    if (ret == 0)
        ret = claim_all(h, &info, start, &err);
    if (ret == -EBUSY && may_wait && gpup_host_is_clearing(h)) {
        gpup_host_when_cleared(h, start);
    } else {
        if (ret == 0 && info.adapter)
            gpup_host_ready(h, gpup_host_claim(h, info.adapter->id), start->done, start->data);
        else
            start->done(err, start->data);
        gpup_start_free(start);
    }
    gpup_domain_info_clear(&info);
}

void gpup_host_retry(struct gpup_host *h, struct gpup_start *start)
{
    try_start(h, start, false);
}

void gpup_host_prepare(struct gpup_host *h, const char *xml, size_t length,
                       bool (*is_alive)(const char *adapter, void *data), void *alive_data,
                       gpup_host_done done, void *data)
{
    struct gpup_start *start = g_new0(struct gpup_start, 1);

    *start = (struct gpup_start){.host = h,
                                 .xml = g_memdup2(xml, length + 1),
                                 .length = length,
                                 .is_alive = is_alive,
                                 .alive_data = alive_data,
                                 .done = done,
                                 .data = data};
    try_start(h, start, true);
}

void gpup_host_started(struct gpup_host *h, const char *xml, size_t length)
{
    struct gpup_domain_info info;
    struct gpup_claim *claim = NULL;

    if (gpup_domain_info_read(xml, length, &info, NULL) < 0)
        return;
    if (info.adapter)
        claim = gpup_host_claim(h, info.adapter->id);
    if (claim && !claim->started) {
        claim->started = true;
        claim->domain = info.id;
        gpup_claim_save(h->folders->run, claim, NULL);
        gpup_host_tell(h);
    }
    gpup_domain_info_clear(&info);
}

int gpup_host_reconnect(struct gpup_host *h, const char *xml, size_t length,
                        struct gpup_error **err)
{
    struct gpup_domain_info info;
    int ret = gpup_domain_info_read(xml, length, &info, err);

    if (ret < 0)
        return ret;
    /* what is lost is resolved anew: the VM runs, so it is better counted than not */
    ret = gpup_host_claim_others(h, &info, err);
    if (ret == 0 && info.adapter && !gpup_host_claim(h, info.adapter->id))
        ret = resolve_and_take(h, &info, err);
    gpup_domain_info_clear(&info);
    if (ret == 0)
        gpup_host_started(h, xml, length);
    return ret;
}

void gpup_host_release(struct gpup_host *h, const char *xml, size_t length, char *adapter_out)
{
    struct gpup_domain_info info;
    struct gpup_claim *claim = NULL;

    *adapter_out = '\0';
    if (gpup_domain_info_read(xml, length, &info, NULL) < 0)
        return;
    gpup_host_release_others(h, &info);
    if (info.adapter)
        claim = gpup_host_claim(h, info.adapter->id);
    /* the release of a copy whose start was refused does not free the original's */
    if (claim && strcmp(claim->uuid, info.uuid ? info.uuid : "") == 0) {
        g_strlcpy(adapter_out, claim->adapter, sizeof(claim->adapter));
        gpup_host_drop_claim(h, adapter_out, GPUP_BY_LIBVIRT);
    }
    gpup_domain_info_clear(&info);
}
