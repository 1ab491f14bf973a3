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

/* An interrupt only ends a hlt: the controller is told that it was taken (8259A, EOI). */
__attribute__((naked, used)) static void on_interrupt(void)
{
    __asm__("push %eax\n"
            "mov $0x20, %al\n"
            "out %al, $0x20\n"
            "pop %eax\n"
            "iret\n");
}

/* Has the first serial port's interrupt, and no other, come as vector 0x24 with each letter. */
static inline void enable_serial_interrupt(void)
{
    static const u32 gdt[] = {0, 0, 0x0000ffff, 0x00cf9a00, 0x0000ffff, 0x00cf9200}; /* flat */
    static const u8 controller[][2] = {
        {0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0x21, 0xef}};
    static u32 idt[2 * 0x25];
    struct __attribute__((packed)) {
        u16 limit;
        u32 base;
    } gdtr = {sizeof(gdt) - 1, (u32)gdt}, idtr = {sizeof(idt) - 1, (u32)idt};

    idt[2 * 0x24] = 8u << 16 | ((u32)on_interrupt & 0xffff);
    idt[2 * 0x24 + 1] = ((u32)on_interrupt & 0xffff0000) | 0x8e00;
    __asm__ volatile("lgdt %0\n"
                     "ljmp $8, $1f\n"
                     "1: mov %2, %%ds\n"
                     "mov %2, %%es\n"
                     "mov %2, %%ss\n"
                     "lidt %1\n"
                     :
                     : "m"(gdtr), "m"(idtr), "r"(16)
                     : "memory");
    for (u32 i = 0; i < sizeof(controller) / 2; i++)
        out8(controller[i][0], controller[i][1]);
    out8(COM1 + 1, 1);
    out8(COM1 + 4, 8);
}

/* The next letter from the serial port. Sleeps until there is one: its host is slow enough. */
static inline u8 hear(void)
{
    static u8 enabled;

    if (!enabled) {
        enabled = 1;
        enable_serial_interrupt();
    }
    while (!(in8(COM1 + 5) & 1)) /* what comes from here on is taken by the hlt: cli until then */
        __asm__ volatile("sti\n"
                         "hlt\n"
                         "cli\n");
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
