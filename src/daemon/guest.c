/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/verbs.h"
#include "vm/manager.h"

/* What a guest tells of itself. It may take seconds: the agent is asked by a worker. */

static void guest_free(void *data)
{
    struct gpup_guest *guest = data;

    gpup_guest_clear(guest);
    g_free(guest);
}

static int ask(struct gpup_call *call, struct gpup_error **err)
{
    const char *vm;
    guint32 vendor;

    g_variant_get(call->parameters, "(&su)", &vm, &vendor);
    return gpup_manager_guest(gpup_vms_manager(call->daemon->vms), vm, vendor, call->data, err);
}

static void add(GVariantBuilder *builder, const char *name, const char *text)
{
    g_variant_builder_add(builder, "{sv}", name, g_variant_new_string(text ? text : ""));
}

static void asked(struct gpup_call *call)
{
    const struct gpup_guest *guest = call->data;
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    add(&builder, "system", guest->system);
    add(&builder, "kernel", guest->kernel);
    if (guest->tells_drivers) {
        add(&builder, "driver", guest->driver);
        add(&builder, "driver-version", guest->driver_version);
    }
    gpup_call_answer(call, g_variant_new("(a{sv})", &builder));
}

void gpup_verb_get_guest(struct gpup_call *call)
{
    call->data = g_new0(struct gpup_guest, 1);
    call->data_free = guest_free;
    gpup_call_work(call, ask, asked);
}
