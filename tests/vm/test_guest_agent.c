/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm/guest.h"

#include <string.h>

#define NVIDIA 0x10de

/* As the agent for Windows answers: GuestDeviceInfo of the QEMU Guest Agent Protocol Reference. */
#define DEVICE(name, vendor)                                                                       \
    "{\"driver-name\":\"" name "\",\"driver-date\":1700000000000000000,"                           \
    "\"driver-version\":\"32.0.15.7270\",\"id\":{\"type\":\"pci\",\"vendor-id\":" vendor           \
    ",\"device-id\":9654}}"

static void one(void)
{
    struct gpup_guest guest = {0};

    g_assert_true(gpup_guest_read_devices(
        "{\"return\":[" DEVICE("Red Hat VirtIO SCSI controller", "6900") "," DEVICE(
            "NVIDIA High Definition Audio", "4318") "," DEVICE("NVIDIA A16-4Q", "4318") "]}",
        NVIDIA, &guest));
    g_assert_true(guest.tells_drivers);
    g_assert_cmpstr(guest.driver, ==, "NVIDIA A16-4Q");
    g_assert_cmpstr(guest.driver_version, ==, "32.0.15.7270");
    gpup_guest_clear(&guest);
}

/* What Windows brings itself is none. */
static void none(void)
{
    struct gpup_guest guest = {0};

    g_assert_true(gpup_guest_read_devices(
        "{\"return\":[" DEVICE("Microsoft Basic Display Adapter", "4318") "]}", NVIDIA, &guest));
    g_assert_true(guest.tells_drivers);
    g_assert_null(guest.driver);
    gpup_guest_clear(&guest);
}

/* A guest may answer anything. */
static void hostile(void)
{
    static const char *const answers[] = {
        "",
        "[]",
        "null",
        "{}",
        "{\"return\":1}",
        "{\"return\":[1,[],null,{}]}",
        "{\"return\":[{\"driver-name\":7,\"id\":{\"vendor-id\":4318}}]}",
        "{\"return\":[{\"driver-name\":\"x\",\"id\":[]}]}",
        "{\"return\":[{\"driver-name\":\"x\",\"id\":{\"vendor-id\":\"4318\"}}]}",
        "{\"return\":[{\"driver-name\":\"x\",\"id\":{\"vendor-id\":null}}]}"};
    struct gpup_guest guest = {0};
    g_autofree char *name = g_strnfill(100000, 'x');
    g_autofree char *text = g_strdup_printf(
        "{\"return\":[{\"driver-name\":\"\\u001b[2J%s\",\"id\":{\"vendor-id\":4318}}]}", name);

    for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
        gpup_guest_read_devices(answers[i], NVIDIA, &guest);
        g_assert_null(guest.driver);
        gpup_guest_clear(&guest);
    }
    g_assert_true(gpup_guest_read_devices(text, NVIDIA, &guest));
    g_assert_nonnull(guest.driver);
    g_assert_cmpuint(strlen(guest.driver), <=, 80);
    g_assert_null(strchr(guest.driver, '\033'));
    gpup_guest_clear(&guest);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest/driver", one);
    g_test_add_func("/guest/none", none);
    g_test_add_func("/guest/hostile", hostile);
    return g_test_run();
}
