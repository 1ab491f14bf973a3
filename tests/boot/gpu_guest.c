/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The least guest that uses a GPU partition: a driver for virtio-gpu (virtio 1.2, 4.1 and 5.7). It
 * takes letters on the serial port and answers each with a line:
 *   d  a context is made, a stream is executed in it, the context goes again: "done", or the answer
 *   k  a context is made and kept: "done", or the answer
 *   u  a stream is executed in that context: "done", or the answer
 *   a  streams that make no resource but have the driver allocate, a GL context for each command,
 *      until one is refused: "refused after N"
 */

#include "multiboot.h"

#define VIRTIO_GPU       0x10501af4u
#define CAP_VENDOR       9
#define CFG_COMMON       1
#define CFG_NOTIFY       2
#define DRIVER_FOUND     3 /* ACKNOWLEDGE and DRIVER */
#define FEATURES_OK      8
#define DRIVER_OK        4
#define FEATURE_VIRGL    1u
#define FEATURE_1_HIGH   1u /* VIRTIO_F_VERSION_1 is bit 32 */
#define DESC_NEXT        1
#define DESC_WRITE       2
#define QUEUE            16
#define CMD_CTX_CREATE   0x200u
#define CMD_CTX_DESTROY  0x201u
#define CMD_SUBMIT_3D    0x207u
#define FLAG_FENCE       1u
#define RESP_OK          0x1100u
#define CREATE_SUB_CTX   29u
#define SUB_CTX_A_STREAM 16
#define MOST_SUB_CTX     8192

struct common {
    u32 device_feature_select, device_feature, driver_feature_select, driver_feature;
    u16 config_msix_vector, num_queues;
    u8 device_status, config_generation;
    u16 queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    u32 queue_desc[2], queue_driver[2], queue_device[2];
};

struct desc {
    u64 address;
    u32 length;
    u16 flags, next;
};

static struct queue {
    struct desc desc[QUEUE] __attribute__((aligned(16)));
    struct {
        u16 flags, idx, ring[QUEUE];
    } avail __attribute__((aligned(4)));
    struct {
        u16 flags, idx;
        struct {
            u32 id, length;
        } ring[QUEUE];
    } used __attribute__((aligned(4)));
} queues[2] __attribute__((aligned(4096)));

static struct {
    u32 type, flags;
    u64 fence;
    u32 context, ring;
    u32 body[64]; /* of the command */
} request __attribute__((aligned(16)));
static volatile u32 response[8];

static volatile struct common *common;
static volatile u16 *doorbell;
static u32 notify, notify_multiplier;

_Noreturn static void give_up(const char *why)
{
    say(why);
    say("\n");
    halt();
}

static u32 find_gpu(void)
{
    for (u32 function = 0; function < 0x2000; function++) {
        if (config(function, 0) == VIRTIO_GPU)
            return function;
    }
    give_up("there is no virtio GPU");
}

/* Where the firmware has placed a BAR. */
static u32 bar(u32 function, u32 n)
{
    u32 low = config(function, 0x10 + 4 * n);

    if ((low & 6) == 4 && config(function, 0x14 + 4 * n))
        give_up("its registers are above 4 GiB");
    return low & ~15u;
}

static void find_registers(u32 function)
{
    for (u32 at = config(function, 0x34) & 0xfc; at; at = config(function, at) >> 8 & 0xfc) {
        u32 head = config(function, at), offset, where;

        if ((head & 0xff) != CAP_VENDOR)
            continue;
        offset = config(function, at + 8);
        where = config(function, at + 4) & 0xff;
        if (head >> 24 == CFG_COMMON)
            common = (volatile struct common *)(bar(function, where) + offset);
        if (head >> 24 == CFG_NOTIFY) {
            notify = bar(function, where) + offset;
            notify_multiplier = config(function, at + 16);
        }
    }
    if (!common || !notify)
        give_up("its registers are not found");
}

static void set_address(volatile u32 *where, const void *what)
{
    where[0] = (u32)what;
    where[1] = 0;
}

static void start_device(u32 function)
{
    set_config(function, 4, config(function, 4) | 6); /* its memory, and ours for it */
    find_registers(function);
    common->device_status = 0;
    while (common->device_status)
        ;
    common->device_status = DRIVER_FOUND;
    common->device_feature_select = 0;
    if (!(common->device_feature & FEATURE_VIRGL))
        give_up("it offers no 3D");
    common->driver_feature_select = 0;
    common->driver_feature = FEATURE_VIRGL;
    common->driver_feature_select = 1;
    common->driver_feature = FEATURE_1_HIGH;
    common->device_status = DRIVER_FOUND | FEATURES_OK;
    if (!(common->device_status & FEATURES_OK))
        give_up("it refuses the features");
    for (u16 i = 0; i < 2; i++) {
        common->queue_select = i;
        common->queue_size = QUEUE;
        set_address(common->queue_desc, queues[i].desc);
        set_address(common->queue_driver, &queues[i].avail);
        set_address(common->queue_device, &queues[i].used);
        if (i == 0)
            doorbell = (volatile u16 *)(notify + common->queue_notify_off * notify_multiplier);
        common->queue_enable = 1;
    }
    common->device_status = DRIVER_FOUND | FEATURES_OK | DRIVER_OK;
}

/* Sends the request, whose body has so many bytes, and waits; the answer's type. */
static u32 send(u32 type, u32 context, u32 length)
{
    struct queue *q = &queues[0];
    static u64 fence;
    u16 seen = q->used.idx;

    request.type = type;
    request.flags = FLAG_FENCE;
    request.fence = ++fence;
    request.context = context;
    response[0] = 0;
    q->desc[0] = (struct desc){(u32)&request, 24 + length, DESC_NEXT, 1};
    q->desc[1] = (struct desc){(u32)response, 24, DESC_WRITE, 0};
    q->avail.ring[q->avail.idx % QUEUE] = 0;
    __sync_synchronize();
    q->avail.idx++;
    __sync_synchronize();
    *doorbell = 0;
    while (*(volatile u16 *)&q->used.idx == seen)
        __asm__ volatile("pause");
    __sync_synchronize();
    return response[0];
}

static u32 make_context(u32 context)
{
    for (u32 i = 0; i < 18; i++)
        request.body[i] = 0;
    return send(CMD_CTX_CREATE, context, 72);
}

static u32 submit(u32 context, u32 first, u32 n)
{
    request.body[0] = n * 8;
    request.body[1] = 0;
    for (u32 i = 0; i < n; i++) {
        request.body[2 + 2 * i] = CREATE_SUB_CTX | 1u << 16;
        request.body[3 + 2 * i] = first + i;
    }
    return send(CMD_SUBMIT_3D, context, 8 + n * 8);
}

static void tell(u32 result)
{
    if (result == RESP_OK) {
        say("done\n");
        return;
    }
    say("answer ");
    say_hex(result, 8);
    say("\n");
}

static void draw(u32 context)
{
    u32 result = make_context(context);

    if (result == RESP_OK)
        result = submit(context, 1, 1);
    send(CMD_CTX_DESTROY, context, 0);
    tell(result);
}

static void allocate(u32 context)
{
    u32 made = 0;

    if (make_context(context) != RESP_OK) {
        say("refused at once\n");
        return;
    }
    while (made < MOST_SUB_CTX && submit(context, made + 1, SUB_CTX_A_STREAM) == RESP_OK)
        made += SUB_CTX_A_STREAM;
    send(CMD_CTX_DESTROY, context, 0);
    say(made < MOST_SUB_CTX ? "refused after " : "never refused ");
    say_hex(made, 8);
    say("\n");
}

__attribute__((used)) _Noreturn static void guest_main(void)
{
    u32 context = 0, kept = 0, used = 0;

    start_device(find_gpu());
    say("guest: ready\n");
    for (;;) {
        u8 letter = hear();

        context = context % 60000 + 1;
        if (letter == 'd')
            draw(context);
        else if (letter == 'a')
            allocate(context);
        else if (letter == 'k')
            tell(make_context(kept = context));
        else if (letter == 'u')
            tell(submit(kept, ++used, 1));
    }
}
