// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gives PCI devices with SR-IOV that QEMU emulates (nvme) the identity of display functions, and is
 * their driver: enables as many virtual functions as it is asked for, and fails on demand. Loaded
 * only in the tests' virtual machine.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/pci.h>

#define MAX_DEVICES 8

static char *pf[MAX_DEVICES];
static int n_pf;
module_param_array(pf, charp, &n_pf, 0444);
MODULE_PARM_DESC(pf, "addresses of the physical functions to take (0000:01:00.0,...)");

static ushort vendor = 0x1234;
static ushort device = 0x0b50;
static ushort vf_device = 0x0b51;
module_param(vendor, ushort, 0444);
module_param(device, ushort, 0444);
module_param(vf_device, ushort, 0444);

static int fail_errno;
module_param(fail_errno, int, 0644);
MODULE_PARM_DESC(fail_errno, "enabling fails with this error");
static int short_by;
module_param(short_by, int, 0644);
MODULE_PARM_DESC(short_by, "this many fewer are made than asked for, without an error");
static int hang[MAX_DEVICES];
module_param_array(hang, int, NULL, 0644);
MODULE_PARM_DESC(hang, "for each of pf: changing the number does not end while this is not 0");

#define DISPLAY_CLASS (PCI_CLASS_DISPLAY_OTHER << 8)

/* Which of pf it is, or a VF of; -1: none. */
static int index_of(struct pci_dev *dev)
{
    int i;

    for (i = 0; i < n_pf; i++)
        if (!strcmp(pci_name(pci_physfn(dev)), pf[i]))
            return i;
    return -1;
}

static bool is_ours(struct pci_dev *dev)
{
    return index_of(dev) >= 0;
}

/* The core keeps these fields for the life of the device: sysfs, matching and VFIO use them. */
static void dress(struct pci_dev *dev)
{
    dev->vendor = vendor;
    dev->device = dev->is_virtfn ? vf_device : device;
    dev->class = DISPLAY_CLASS;
}

static int on_bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
    struct pci_dev *dev = to_pci_dev(data);

    if (event == BUS_NOTIFY_ADD_DEVICE && is_ours(dev))
        dress(dev);
    return NOTIFY_OK;
}

static struct notifier_block notifier = {.notifier_call = on_bus_event};

static int test_gpu_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    return dev->is_virtfn ? 0 : pci_enable_device(dev);
}

static void test_gpu_remove(struct pci_dev *dev)
{
    if (dev->is_virtfn)
        return;
    pci_disable_sriov(dev);
    pci_disable_device(dev);
}

static int test_gpu_sriov_configure(struct pci_dev *dev, int n)
{
    int ret;

    while (READ_ONCE(hang[index_of(dev)])) /* no signal ends it, as in a driver that hangs */
        msleep(100);
    if (n == 0) {
        pci_disable_sriov(dev);
        return 0;
    }
    if (fail_errno > 0)
        return -fail_errno;
    n = max(n - short_by, 1);
    ret = pci_enable_sriov(dev, n);
    return ret ? ret : n;
}

static struct pci_device_id ids[3]; /* filled from the parameters, ended by zeroes */

static struct pci_driver driver = {
    .name = "gpup_test_gpu",
    .id_table = ids,
    .probe = test_gpu_probe,
    .remove = test_gpu_remove,
    .sriov_configure = test_gpu_sriov_configure,
};

static int __init test_gpu_init(void)
{
    struct pci_dev *dev = NULL;
    int ret;

    ids[0] = (struct pci_device_id){PCI_DEVICE(vendor, device)};
    ids[1] = (struct pci_device_id){PCI_DEVICE(vendor, vf_device)};
    for_each_pci_dev(dev) if (is_ours(dev))
    {
        if (dev->dev.driver)
            device_release_driver(&dev->dev);
        dress(dev);
    }
    bus_register_notifier(&pci_bus_type, &notifier);
    ret = pci_register_driver(&driver);
    if (ret)
        bus_unregister_notifier(&pci_bus_type, &notifier);
    return ret;
}

static void __exit test_gpu_exit(void)
{
    pci_unregister_driver(&driver);
    bus_unregister_notifier(&pci_bus_type, &notifier);
}

module_init(test_gpu_init);
module_exit(test_gpu_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("An emulated SR-IOV device dressed as a GPU, for tests");
