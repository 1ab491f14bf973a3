/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The least guest that can tell which PCI devices it has: a 32-bit program that QEMU loads by the
 * multiboot protocol (version 1), lists what is on the first eight buses on the serial port, with a
 * register read through the first memory BAR of each, and halts.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define MULTIBOOT_MAGIC 0x1badb002u
#define COM1            0x3f8
#define CONFIG_ADDRESS  0xcf8
#define CONFIG_DATA     0xcfc

__attribute__((section(".multiboot"), used)) static const u32 header[] = {MULTIBOOT_MAGIC, 0,
                                                                          0u - MULTIBOOT_MAGIC};
static u8 stack[16384] __attribute__((used, aligned(16)));

static void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static u32 in32(u16 port)
{
    u32 value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void say(const char *text)
{
    while (*text)
        out8(COM1, (u8)*text++);
}

static void say_hex(u32 value, int digits)
{
    while (digits--)
        out8(COM1, (u8) "0123456789abcdef"[(value >> (4 * digits)) & 15]);
}

static u32 config(u32 function, u32 offset)
{
    out32(CONFIG_ADDRESS, 0x80000000u | function << 8 | offset);
    return in32(CONFIG_DATA);
}

static void set_config(u32 function, u32 offset, u32 value)
{
    out32(CONFIG_ADDRESS, 0x80000000u | function << 8 | offset);
    out32(CONFIG_DATA, value);
}

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

__attribute__((used)) static void run(void)
{
    say("guest: begin\n");
    list();
    say("guest: end\n");
    for (;;)
        __asm__ volatile("hlt");
}

__attribute__((naked, used)) void entry(void)
{
    __asm__("mov $stack + 16384, %esp\n"
            "call run\n");
}
