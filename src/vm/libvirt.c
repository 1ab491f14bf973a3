/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/manager.h"

#include "core/error.h"
#include "fault/fault.h"
#include "vm/adapter_xml.h"
#include "vm/domain.h"
#include "vm/libvirt_connection.h"
#include "vm/libvirt_error.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <string.h>

/* manager.h by libvirt. Everything here may block and is called from worker threads. */

/* Ending VMs are told by events; this is for an event that was missed. */
#define STOP_CHECK_US (2 * G_USEC_PER_SEC)

/* libvirt has no "define if unchanged": our own edits come one after the other. */
static GMutex editing;

#define OVERRIDE_VERSION 8002000 /* of libvirt: knows qemu:override */

void gpup_vm_free(struct gpup_vm *vm)
{
    if (!vm)
        return;
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->state);
    g_free(vm->system);
    g_free(vm->problem);
    g_strfreev(vm->others);
    gpup_adapter_free(vm->adapter);
    g_free(vm);
}

/* virsh's words. */
static const char *state_name(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
        return "running";
    case VIR_DOMAIN_BLOCKED:
        return "idle";
    case VIR_DOMAIN_PAUSED:
        return "paused";
    case VIR_DOMAIN_SHUTDOWN:
        return "in shutdown";
    case VIR_DOMAIN_SHUTOFF:
        return "shut off";
    case VIR_DOMAIN_CRASHED:
        return "crashed";
    case VIR_DOMAIN_PMSUSPENDED:
        return "pmsuspended";
    default:
        return "no state";
    }
}

/* The definition that the next start will use; of a transient VM the one it runs with. */
static char *definition(virDomain *domain, unsigned flags)
{
    char *text = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | flags);
    char *copy = g_strdup(text);

    free(text);
    return copy;
}

/* NULL: the domain went away meanwhile. */
static struct gpup_vm *describe(virDomain *domain)
{
    g_autoptr(gpup_vm) vm = g_new0(struct gpup_vm, 1);
    g_autofree char *xml = definition(domain, 0);
    char uuid[VIR_UUID_STRING_BUFLEN];
    struct gpup_domain_info info = {0};
    GPUP_AUTO_ERROR err = NULL;
    int state;

    if (!xml || virDomainGetState(domain, &state, NULL, 0) < 0 ||
        virDomainGetUUIDString(domain, uuid) < 0)
        return NULL;
    vm->name = g_strdup(virDomainGetName(domain));
    vm->uuid = g_strdup(uuid);
    vm->state = g_strdup(state_name(state));
    vm->id = (int)virDomainGetID(domain);
    vm->active = vm->id != -1;
    if (gpup_domain_info_read(xml, strlen(xml), &info, &err) < 0) {
        vm->problem = g_strdup(gpup_error_message(err));
    } else {
        vm->adapter = g_steal_pointer(&info.adapter);
        vm->others = g_steal_pointer(&info.others);
        vm->system = g_steal_pointer(&info.system);
        g_strlcpy(vm->address, info.address, sizeof(vm->address));
        if (vm->adapter && !gpup_domain_has_device(&info, vm->adapter))
            vm->problem = g_strdup_printf("its partition's device is not in the definition any "
                                          "more: gpup unassign %s, then gpup assign %s",
                                          vm->name, vm->name);
    }
    gpup_domain_info_clear(&info);
    return g_steal_pointer(&vm);
}

static int compare_vms(const void *a, const void *b)
{
    return strcmp((*(struct gpup_vm *const *)a)->name, (*(struct gpup_vm *const *)b)->name);
}

int gpup_manager_list(struct gpup_manager *manager, GPtrArray **out, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = gpup_connection_get(manager, err);
    virDomain **domains = NULL;
    int n;

    if (!connection)
        return -ENOTCONN;
    n = virConnectListAllDomains(connection, &domains, 0);
    if (n < 0)
        return gpup_libvirt_error(err, "listing the VMs");
    *out = g_ptr_array_new_with_free_func((GDestroyNotify)gpup_vm_free);
    for (int i = 0; i < n; i++) {
        struct gpup_vm *vm = describe(domains[i]);

        if (vm)
            g_ptr_array_add(*out, vm);
        virDomainFree(domains[i]);
    }
    free(domains);
    g_ptr_array_sort(*out, compare_vms);
    return 0;
}

int gpup_manager_get(struct gpup_manager *manager, const char *word, struct gpup_vm **out,
                     struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    int ret = gpup_connection_open_domain(manager, word, &connection, &domain, err);

    if (ret < 0)
        return ret;
    *out = describe(domain);
    return *out ? 0 : gpup_libvirt_error(err, word);
}

char *gpup_manager_live_xml(struct gpup_manager *manager, const char *word, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    char *text, *copy;

    if (gpup_connection_open_domain(manager, word, &connection, &domain, err) < 0)
        return NULL;
    text = virDomainIsActive(domain) == 1 ? virDomainGetXMLDesc(domain, 0) : NULL;
    if (!text)
        gpup_error_set(err, ENOENT, "%s is not running", word);
    copy = g_strdup(text);
    free(text);
    return copy;
}

/* ---- the adapter ---- */

/* Only the daemon of the whole system runs hooks. */
static bool runs_no_hooks(virConnect *connection)
{
    char *uri = virConnectGetURI(connection);
    g_auto(GStrv) parts = g_strsplit(uri ? uri : "", "?", 2);
    bool without = parts[0] &&
                   (g_str_has_suffix(parts[0], "/session") || g_str_has_suffix(parts[0], "/embed"));

    free(uri);
    return without;
}

static int check_assignable(virConnect *connection, virDomain *domain, struct gpup_error **err)
{
    if (runs_no_hooks(connection))
        return gpup_error_set(err, EOPNOTSUPP,
                              "a session libvirt runs no hooks and cannot share a GPU: use "
                              "qemu:///system");
    if (virDomainIsPersistent(domain) != 1)
        return gpup_error_set(err, EOPNOTSUPP,
                              "%s is transient, it has no definition to keep an adapter in: define "
                              "it (virsh define)",
                              virDomainGetName(domain));
    return 0;
}

static unsigned domain_flags(virConnect *connection, unsigned flags)
{
    unsigned long version;
    unsigned result = flags & GPUP_ASSIGN_FORCE ? GPUP_DOMAIN_FORCE : 0;

    if (virConnectGetLibVersion(connection, &version) == 0 && version < OVERRIDE_VERSION)
        result |= GPUP_DOMAIN_NO_OVERRIDE;
    return result;
}

/* The definition with its secrets (passwords), which must not be lost on the way. */
static char *editable(virDomain *domain)
{
    return definition(domain, VIR_DOMAIN_XML_SECURE);
}

static int define(virConnect *connection, const char *xml, struct gpup_error **err)
{
    virDomain *domain = virDomainDefineXML(connection, xml);

    if (!domain)
        return gpup_libvirt_error(err, "libvirt does not take the new definition");
    virDomainFree(domain);
    return 0;
}

/* Ports that libvirt added for our device are ours to remove. */
static int note_ports(virConnect *connection, virDomain *domain, struct gpup_error **err)
{
    g_autofree char *after = editable(domain);
    g_autofree char *noted = NULL;
    int ret = after ? gpup_domain_note_ports(after, &noted, err) : 0;

    return ret == 0 && noted ? define(connection, noted, err) : ret;
}

static GStrv add_when(GStrv lines, virDomain *domain)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    const char *when = "This takes effect at its next start";

    if (virDomainIsActive(domain) == 1)
        when = "It is running: this takes effect at its next start, a reboot of the guest is none";
    else if (virDomainHasManagedSaveImage(domain, 0) == 1)
        when = "It has a saved state, with which its next start goes on: this takes effect at the "
               "one after (virsh managedsave-remove drops the saved state)";
    g_strv_builder_addv(builder, (const char **)lines);
    g_strv_builder_add(builder, when);
    g_strfreev(lines);
    return g_strv_builder_end(builder);
}

/* What is to be changed. */
struct edits {
    const struct gpup_adapter *adapter; /* NULL takes it out */
    const struct gpup_device *device;
    unsigned flags; /* GPUP_ASSIGN_... */
};

/* One edit of a VM's definition. */
static int edit(virConnect *connection, virDomain *domain, const struct edits *edits, GStrv *lines,
                struct gpup_error **err)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&editing);
    g_autofree char *before = editable(domain);
    g_autofree char *after = NULL;
    int ret;

    if (!before)
        return gpup_libvirt_error(err, "reading the VM's definition");
    ret = edits->adapter
              ? gpup_domain_add_adapter(before, edits->adapter, edits->device,
                                        domain_flags(connection, edits->flags), &after, lines, err)
              : gpup_domain_remove_adapter(before, &after, lines, err);
    if (ret < 0 || edits->flags & GPUP_ASSIGN_DRY_RUN)
        return ret;
    GPUP_FAULT("gpupd.assign.edited");
    ret = define(connection, after, err);
    GPUP_FAULT("gpupd.assign.defined");
    if (ret == 0 && edits->adapter)
        ret = note_ports(connection, domain, err);
    GPUP_FAULT("gpupd.assign.noted");
    return ret;
}

static int change(struct gpup_manager *manager, const char *vm, const struct edits *edits,
                  GStrv *lines, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    g_auto(GStrv) done = NULL;
    int ret = gpup_connection_open_domain(manager, vm, &connection, &domain, err);

    if (ret == 0)
        ret = check_assignable(connection, domain, err);
    if (ret == 0)
        ret = edit(connection, domain, edits, &done, err);
    if (ret == 0)
        *lines = edits->flags & GPUP_ASSIGN_LIVE ? g_steal_pointer(&done)
                                                 : add_when(g_steal_pointer(&done), domain);
    return ret;
}

int gpup_manager_assign(struct gpup_manager *manager, const char *vm,
                        const struct gpup_adapter *adapter, const struct gpup_device *device,
                        unsigned flags, GStrv *lines, struct gpup_error **err)
{
    const struct edits edits = {adapter, device, flags};

    return change(manager, vm, &edits, lines, err);
}

int gpup_manager_unassign(struct gpup_manager *manager, const char *vm, unsigned flags,
                          GStrv *lines, struct gpup_error **err)
{
    const struct edits edits = {.flags = flags};

    return change(manager, vm, &edits, lines, err);
}

int gpup_manager_move(struct gpup_manager *manager, const char *vm,
                      const struct gpup_device *device, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = NULL;
    g_autofree char *before = NULL, *after = NULL;
    int ret = gpup_connection_open_domain(manager, vm, &connection, &domain, err);

    if (ret < 0)
        return ret;
    locker = g_mutex_locker_new(&editing);
    before = editable(domain);
    if (!before)
        return gpup_libvirt_error(err, vm);
    ret = gpup_domain_set_device(before, device, &after, err);
    if (ret < 0 || !after)
        return ret;
    ret = define(connection, after, err);
    return ret == 0 ? note_ports(connection, domain, err) : ret;
}

/* ---- start and stop ---- */

/* Its definition stays as it is: only this start has another device. */
static int start_with(virConnect *connection, virDomain *domain, const struct gpup_device *device,
                      struct gpup_error **err)
{
    const char *name = virDomainGetName(domain); /* later this would clear libvirt's error */
    g_autofree char *xml = editable(domain);
    g_autofree char *with = NULL;
    g_autoptr(domain_t) started = NULL;
    int ret;

    /* it would start afresh, and the saved state would not fit its disks any more */
    if (virDomainHasManagedSaveImage(domain, 0) == 1)
        return gpup_error_set(
            err, EBUSY,
            "%s has a saved state from before: go on with it (virsh start %s), or "
            "drop it (virsh managedsave-remove %s)",
            name, name, name);
    ret = xml ? gpup_domain_set_device(xml, device, &with, err) : gpup_libvirt_error(err, name);
    if (ret < 0)
        return ret;
    started = virDomainCreateXML(connection, with ? with : xml, 0);
    return started ? 0 : gpup_libvirt_error(err, name);
}

int gpup_manager_start(struct gpup_manager *manager, const char *vm,
                       const struct gpup_device *device, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    int ret = gpup_connection_open_domain(manager, vm, &connection, &domain, err);

    if (ret < 0)
        return ret;
    if (virDomainIsActive(domain) == 1)
        return gpup_error_set(err, EBUSY, "%s is running already", vm);
    if (device)
        return start_with(connection, domain, device, err);
    return virDomainCreate(domain) < 0 ? gpup_libvirt_error(err, vm) : 0;
}

static int wait_for_end(struct gpup_manager *manager, virDomain *domain, const char *vm,
                        unsigned timeout_s, struct gpup_error **err)
{
    gint64 until = g_get_monotonic_time() + (gint64)timeout_s * G_USEC_PER_SEC;

    for (;;) {
        guint seen = gpup_connection_events(manager);
        int active = virDomainIsActive(domain);
        gint64 now = g_get_monotonic_time();

        /* a transient one is gone with its end */
        if (active == 0 || (active < 0 && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN))
            return 0;
        if (active < 0)
            return gpup_libvirt_error(err, vm);
        if (now >= until)
            return gpup_error_set(err, ETIMEDOUT,
                                  "%s was asked to shut down and is still running after %u s: wait "
                                  "longer (--timeout), or pull the plug (--power-off)",
                                  vm, timeout_s);
        if (gpup_connection_is_ending(manager))
            return gpup_error_set(err, ECANCELED,
                                  "gpupd is ending and waits no longer for %s, which was asked to "
                                  "shut down: see virsh list",
                                  vm);
        gpup_connection_wait(manager, seen, MIN(until, now + STOP_CHECK_US));
    }
}

int gpup_manager_stop(struct gpup_manager *manager, const char *vm, bool power_off,
                      unsigned timeout_s, struct gpup_error **err)
{
    g_autoptr(connect_t) connection = NULL;
    g_autoptr(domain_t) domain = NULL;
    int ret = gpup_connection_open_domain(manager, vm, &connection, &domain, err);

    if (ret < 0)
        return ret;
    if (virDomainIsActive(domain) != 1)
        return gpup_error_set(err, EBUSY, "%s is not running", vm);
    if ((power_off ? virDomainDestroy(domain) : virDomainShutdown(domain)) < 0)
        return gpup_libvirt_error(err, vm);
    return power_off ? 0 : wait_for_end(manager, domain, vm, timeout_s, err);
}
