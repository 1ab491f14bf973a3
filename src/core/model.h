/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GPUP_CORE_MODEL_H
#define GPUP_CORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What gpup is about, as plain values: GPUs, their slots (partitions), adapters (what a VM asks
 * for) and grants (what it got). No I/O. Strings are owned by the structure that holds them.
 */

enum gpup_resource {
    GPUP_VRAM,    /* bytes */
    GPUP_COMPUTE, /* parts per million of the GPU, like the two below */
    GPUP_ENCODE,
    GPUP_DECODE,
    GPUP_RESOURCES,
};

enum gpup_enforcement {
    GPUP_ENFORCE_NONE,  /* shared without limit */
    GPUP_ENFORCE_SHARE, /* time slices, weights */
    GPUP_ENFORCE_HARD,  /* a quota that holds */
};

enum gpup_kind {
    GPUP_KIND_VIRTIO,
    GPUP_KIND_SRIOV,
    GPUP_KIND_PASSTHROUGH, /* the whole GPU; a GPU is of this kind while its mode is passthrough */
};

enum gpup_mode {
    GPUP_MODE_UNUSED,
    GPUP_MODE_PARTITIONED,
    GPUP_MODE_PASSTHROUGH,
    GPUP_MODE_UNUSABLE,
    GPUP_MODE_WEDGED, /* its driver does not answer */
};

/* How a VM gets a partition. */
enum gpup_form {
    GPUP_FORM_VIRTIO, /* a virtio-gpu device of ours */
    GPUP_FORM_VFIO,   /* a PCI function bound to VFIO: <hostdev type='pci'> */
    GPUP_FORM_VENDOR, /* a PCI function that stays with the vendor's driver: managed='no' */
    GPUP_FORM_MDEV,   /* a mediated device: <hostdev type='mdev'> */
};

enum gpup_policy {
    GPUP_POLICY_SPREAD, /* the GPU with most left */
    GPUP_POLICY_PACK,   /* the fullest that fits */
};

/* What an adapter asks of one resource; each bound is optional. */
struct gpup_request {
    bool has_min, has_optimal, has_max;
    uint64_t min, optimal, max;
};

/* What QEMU shows of a virtio partition's head. */
enum gpup_display {
    GPUP_DISPLAY_OFF,    /* the head is disconnected */
    GPUP_DISPLAY_PIXELS, /* copied */
    GPUP_DISPLAY_DMABUF, /* shared where the GPU can: QEMU's display must have OpenGL */
};

/* A VM's request for a partition. */
struct gpup_adapter {
    char id[37]; /* a UUID in its text form, fixed when the adapter is added */
    enum gpup_kind kind;
    char *gpu; /* stable key of the GPU it is pinned to, or NULL */
    struct gpup_request request[GPUP_RESOURCES];
    enum gpup_display display; /* virtio */
};

/* One resource as granted. vram: min = weight = cap = bytes. Shares: parts per million. */
struct gpup_share {
    uint64_t min, weight, cap;
};

struct gpup_grant {
    struct gpup_share share[GPUP_RESOURCES];
};

#define GPUP_ADDRESS_SIZE 24

/* What of the hardware stands behind a slot; all empty for virtio. */
struct gpup_function {
    char address[GPUP_ADDRESS_SIZE]; /* "0000:03:00.1": the VF, or the GPU given whole */
    char mdev[37];                   /* UUID of the mediated device, once it is prepared */
    char driver[32];                 /* what it is bound to, or "" */
    uint64_t vram;                   /* bytes, as the driver made it; 0: not told */
};

/* One partition of a GPU. A slot is free when adapter[0] == '\0'. */
struct gpup_slot {
    char adapter[37]; /* id of the adapter that holds it; GPUP_CLEARING while it is made ready for
                         the next one */
    char *vm;         /* its VM's name, for messages */
    struct gpup_grant grant;
    struct gpup_function function;
};

#define GPUP_CLEARING "(clearing)"

struct gpup_resource_info {
    uint64_t total; /* as the driver gives it; 0: the GPU has none of it */
    enum gpup_enforcement enforcement;
};

#define GPUP_MAX_SLOTS 256

struct gpup_gpu {
    char *id;   /* BDF such as 0000:03:00.0, or "software" */
    char *key;  /* stable: serial or UUID where there is one; survives a move to another slot */
    char *name; /* for people: "llvmpipe", "B50" */
    char *vendor;
    char *driver;
    char *node;   /* /dev/dri/renderD128, or NULL */
    char *pci_id; /* "vendor:device subvendor:subdevice" in hex, or NULL */
    enum gpup_kind kind;
    enum gpup_mode mode;
    enum gpup_form form;
    char *reason;  /* why it is unusable or wedged, or NULL */
    char **notes;  /* what an administrator should know about it, ended by NULL, or NULL */
    bool foreign;  /* its partitions were made by somebody else: not given to VMs */
    bool changing; /* it is being partitioned or given whole at this moment */
    bool elastic;  /* a slot's values are set when it is resolved */
    struct gpup_resource_info resource[GPUP_RESOURCES];
    unsigned *valid_counts; /* ascending */
    size_t n_valid_counts;
    uint64_t *count_vram;    /* bytes of each partition, per valid count; NULL: an equal part */
    struct gpup_slot *slots; /* n_slots of them: the partition count */
    size_t n_slots;
    uint64_t fixed_vram; /* bytes of each slot where !elastic, as the driver made it */
};

const char *gpup_resource_name(enum gpup_resource r); /* "vram", "compute", "encode", "decode" */
const char *gpup_enforcement_name(enum gpup_enforcement e); /* "none", "share", "hard" */
const char *gpup_kind_name(enum gpup_kind k);               /* "virtio", "sriov", ... */
const char *gpup_mode_name(enum gpup_mode m);               /* "unused", "partitioned", ... */
const char *gpup_policy_name(enum gpup_policy p);
const char *gpup_display_name(enum gpup_display d); /* "off", "pixels", "dmabuf" */
/* The reverse: 0, or -EINVAL for an unknown name. */
int gpup_resource_from_name(const char *name, enum gpup_resource *r);
int gpup_kind_from_name(const char *name, enum gpup_kind *k);
int gpup_display_from_name(const char *name, enum gpup_display *d);
int gpup_policy_from_name(const char *name, enum gpup_policy *p);

/* 03:00.0 for the address 0000:03:00.0; anything else as it is. Borrowed. */
const char *gpup_short_id(const char *id);

bool gpup_slot_is_free(const struct gpup_slot *slot);
size_t gpup_gpu_free_slots(const struct gpup_gpu *gpu);
bool gpup_gpu_count_is_valid(const struct gpup_gpu *gpu, unsigned count);
/* What each partition gets of a resource at `count`, rounded down; 0 for count 0. */
uint64_t gpup_gpu_equal_part(const struct gpup_gpu *gpu, enum gpup_resource r, unsigned count);
/* Total less the grants (vram) or less the guaranteed minima (shares). Never wraps. */
uint64_t gpup_gpu_available(const struct gpup_gpu *gpu, enum gpup_resource r);

/* Drops all slots. */
void gpup_gpu_clear_slots(struct gpup_gpu *gpu);
void gpup_gpu_free(struct gpup_gpu *gpu); /* frees the structure too; NULL is allowed */
void gpup_adapter_free(struct gpup_adapter *adapter);
struct gpup_adapter *gpup_adapter_copy(const struct gpup_adapter *adapter);

#endif
