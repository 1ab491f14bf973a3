/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a guest needs that is one program: QEMU loads it by the multiboot protocol (version 1), and
 * it begins in guest_main() with a stack, 32 bits and flat memory. Its first serial port, and the
 * PCI configuration space by mechanism 1 (PCI 3.0, 3.2.2.3.2). To be included once.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define MULTIBOOT_MAGIC 0x1badb002u
#define COM1            0x3f8
#define CONFIG_ADDRESS  0xcf8
#define CONFIG_DATA     0xcfc

__attribute__((section(".multiboot"), used)) static const u32 header[] = {MULTIBOOT_MAGIC, 0,
                                                                          0u - MULTIBOOT_MAGIC};
static u8 stack[16384] __attribute__((used, aligned(16)));

_Noreturn static void guest_main(void);

__attribute__((naked, used)) void entry(void)
{
    __asm__("mov $stack + 16384, %esp\n"
            "call guest_main\n");
}

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 in8(u16 port)
{
    u8 value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline u32 in32(u16 port)
{
    u32 value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* The next letter from the serial port; waits for it. */
static inline u8 hear(void)
{
    while (!(in8(COM1 + 5) & 1))
        __asm__ volatile("pause");
    return in8(COM1);
}

static inline void say(const char *text)
{
    while (*text)
        out8(COM1, (u8)*text++);
}

static inline void say_hex(u32 value, int digits)
{
    while (digits--)
        out8(COM1, (u8) "0123456789abcdef"[(value >> (4 * digits)) & 15]);
}

_Noreturn static inline void halt(void)
{
    for (;;)
        __asm__ volatile("hlt");
}

/* function: bus, device and function as in the configuration address (8, 5 and 3 bits). */
static inline u32 config(u32 function, u32 offset)
{
    out32(CONFIG_ADDRESS, 0x80000000u | function << 8 | (offset & 0xfc));
    return in32(CONFIG_DATA);
}

static inline void set_config(u32 function, u32 offset, u32 value)
{
    out32(CONFIG_ADDRESS, 0x80000000u | function << 8 | (offset & 0xfc));
    out32(CONFIG_DATA, value);
}
