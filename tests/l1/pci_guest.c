/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The least guest that can tell which PCI devices it has: lists what is on the first eight buses on
 * the serial port, with a register read through the first memory BAR of each, and halts.
 */

#include "multiboot.h"

/* "register 0x10203" where the first BAR is memory that the firmware has placed below 4 GiB. */
static void read_register(u32 function)
{
    u32 bar = config(function, 0x10);

    if (!(bar & ~15u) || bar & 1)
        return;
    if ((bar & 6) == 4 && config(function, 0x14))
        return;
    set_config(function, 4, config(function, 4) | 2);
    say(" register 0x");
    say_hex(*(volatile u32 *)((bar & ~15u) + 8), 8);
}

static void list(void)
{
    for (u32 function = 0; function < 0x800; function++) {
        u32 id = config(function, 0);

        if (id == 0xffffffffu)
            continue;
        say("pci ");
        say_hex(function >> 8, 2);
        say(":");
        say_hex((function >> 3) & 31, 2);
        say(".");
        say_hex(function & 7, 1);
        say(" ");
        say_hex(id & 0xffff, 4);
        say(":");
        say_hex(id >> 16, 4);
        read_register(function);
        say("\n");
    }
}

__attribute__((used)) _Noreturn static void guest_main(void)
{
    say("guest: begin\n");
    list();
    say("guest: end\n");
    halt();
}
