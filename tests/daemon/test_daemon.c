/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "core/error.h"
#include "daemon/host.h"
#include "daemon/keyfile.h"
#include "daemon/peer.h"
#include "daemon/store.h"
#include "tree.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* gpupd's parts that need no bus and no libvirt: configuration, what is stored, claims, peers. */

#define MIB     (UINT64_C(1) << 20)
#define UUID(n) "11111111-2222-4333-8444-00000000000" n
#define VM(name, vm, adapter, values)                                                              \
    "<domain id='7'><name>" name "</name><uuid>" vm "</uuid><metadata>"                            \
    "<g:adapter xmlns:g='urn:gpup:adapter:1' id='" adapter "' kind='virtio' " values "/>"          \
    "</metadata><devices><video><model type='vga'/></video><video><model type='virtio'>"           \
    "<acceleration rendernode='/run/gpup/vm/" adapter "'/></model></video></devices></domain>"

struct fixture {
    char *dir, *state, *run, *conf;
    struct gpup_folders folders;
    struct gpup_config config;
    struct gpup_host *host;
    int changes;
};

static void on_changed(void *data)
{
    ((struct fixture *)data)->changes++;
}

static void open_host(struct fixture *f)
{
    f->host = gpup_host_new(&f->config, &f->folders, on_changed, f, NULL);
    g_assert_nonnull(f->host);
}

static void reopen_host(struct fixture *f)
{
    gpup_host_free(f->host);
    open_host(f);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("gpup-daemon-XXXXXX", NULL);
    f->state = g_build_filename(f->dir, "state", NULL);
    f->run = g_build_filename(f->dir, "run", NULL);
    f->conf = g_build_filename(f->dir, "gpup.conf", NULL);
    f->folders = (struct gpup_folders){f->state, f->run, f->dir};
    g_assert_cmpint(gpup_config_read(f->conf, &f->config, NULL), ==, 0);
    f->config.software_memory = 1024 * MIB;
    open_host(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    gpup_host_free(f->host);
    gpup_config_clear(&f->config);
    remove_tree(f->dir);
    g_free(f->dir);
    g_free(f->state);
    g_free(f->run);
    g_free(f->conf);
}

static struct gpup_gpu *software(struct fixture *f)
{
    size_t n;
    struct gpup_gpu *const *gpus = gpup_host_gpus(f->host, &n);

    g_assert_cmpuint(n, >, 0);
    g_assert_cmpstr(gpus[n - 1]->id, ==, "software");
    return gpus[n - 1];
}

static int partition(struct fixture *f, unsigned count)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    return gpup_host_partition(f->host, software(f), count, false, lines, NULL);
}

struct outcome {
    bool done;
    int code;
    struct gpup_error *error;
};

static void on_prepared(const struct gpup_error *err, void *data)
{
    struct outcome *o = data;

    o->done = true;
    o->code = err ? -err->code : 0;
    if (err)
        gpup_error_set(&o->error, err->code, "%s", err->message);
}

static int prepare_if(struct fixture *f, const char *xml,
                      bool (*is_alive)(const char *adapter, void *data), struct gpup_error **err)
{
    struct outcome o = {0};

    gpup_host_prepare(f->host, xml, strlen(xml), is_alive, NULL, on_prepared, &o);
    while (!o.done)
        g_main_context_iteration(NULL, TRUE);
    if (o.error)
        gpup_error_move(err, o.error);
    return o.code;
}

static int prepare(struct fixture *f, const char *xml, struct gpup_error **err)
{
    return prepare_if(f, xml, NULL, err);
}

static void release(struct fixture *f, const char *xml)
{
    char adapter[37];

    gpup_host_release(f->host, xml, strlen(xml), adapter);
}

/* ---- configuration ---- */

static int read_config(struct fixture *f, const char *text, struct gpup_config *config,
                       struct gpup_error **err)
{
    g_assert_true(g_file_set_contents(f->conf, text, -1, NULL));
    return gpup_config_read(f->conf, config, err);
}

static void configuration(struct fixture *f, gconstpointer data)
{
    struct gpup_config config;

    g_assert_cmpint(read_config(f,
                                "# comment\n[gpup]\npolicy=pack\nhang-seconds=0\n"
                                "gpu-time=fixed-share\nslice-ms=8\n"
                                "[software]\nenabled=false\nmemory=2G\ncpus=3\n"
                                "[gpu 0000:03:00.0]\nmemory=16G\n",
                                &config, NULL),
                    ==, 0);
    g_assert_cmpint(config.policy, ==, GPUP_POLICY_PACK);
    g_assert_cmpuint(config.hang_seconds, ==, 0);
    g_assert_cmpint(config.gpu_time, ==, GPUP_TIME_FIXED_SHARE);
    g_assert_cmpuint(config.slice_ms, ==, 8);
    g_assert_false(config.software);
    g_assert_cmpuint(config.software_memory, ==, 2048 * MIB);
    g_assert_cmpuint(config.software_cpus, ==, 3);
    g_assert_cmpuint(*(guint64 *)g_hash_table_lookup(config.memory_by_gpu, "0000:03:00.0"), ==,
                     16384 * MIB);
    gpup_config_clear(&config);
}

static void wrong_configuration(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[gpup]\npolicy=best\n", "spread or pack"},
        {"[gpup]\npolicies=spread\n", "policies"},
        {"[gpup]\ngpu-time=all-mine\n", "equal-share"},
        {"[gpup]\nslice-ms=101\n", "slice-ms"},
        {"[gpus]\npolicy=spread\n", "[gpus]"},
        {"[gpup]\nhang-seconds=-1\n", "hang-seconds"},
        {"[software]\nmemory=lots\n", "lots"},
        {"[software]\nenabled=maybe\n", "true nor false"},
        {"[gpu ]\nmemory=1G\n", "gpu"},
        {"nonsense\n", "gpup.conf"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gpup_config config;
        GPUP_AUTO_ERROR err = NULL;

        g_assert_cmpint(read_config(f, cases[i].text, &config, &err), ==, -EINVAL);
        g_assert_nonnull(strstr(err->message, cases[i].says));
        g_assert_nonnull(strstr(err->message, f->conf));
        gpup_config_clear(&config);
    }
}

/* ---- what outlives gpupd and the machine ---- */

static void counts_outlive_a_reboot(struct fixture *f, gconstpointer data)
{
    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(f->changes, >, 0);
    reopen_host(f);
    g_assert_cmpuint(software(f)->n_slots, ==, 4);
    g_assert_cmpint(partition(f, 33), ==, -EINVAL);
    g_assert_cmpint(partition(f, 0), ==, 0);
    reopen_host(f);
    g_assert_cmpuint(software(f)->n_slots, ==, 0);
}

/* What cannot be used is set aside with its reason, and nothing else is lost. */
static void damaged_store(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[gpu]\nversi", "its end is missing"},
        {"[gpu]\nversion=1\nkey=software\nid=software\nname=x\ncount=1", "its end is missing"},
        {"[gpu]\nversion=1\nkey=software\nid=software\nname=x\n", "no number of partitions"},
        {"[gpu]\nversion=1\nkey=software\nid=software\nname=x\ncount=7777777\n", "no number"},
        {"[gpu]\ncount=4\n", "it has no version"},
        {"\x00\xff\xfe garbage\n", "cannot be used"},
        {"", "it is empty"},
    };
    g_autofree char *path = g_build_filename(f->state, "gpus", "software.conf", NULL);

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *aside = i == 0 ? g_strconcat(path, ".damaged", NULL)
                                        : g_strdup_printf("%s.damaged-%u", path, i + 1);
        g_autofree char *pattern = g_strdup_printf("*%s*set aside*", cases[i].says);
        g_autofree char *kept = NULL;

        g_assert_cmpint(partition(f, 4), ==, 0);
        g_assert_true(g_file_set_contents(path, cases[i].text, -1, NULL));
        g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, pattern);
        reopen_host(f);
        g_test_assert_expected_messages();
        g_assert_cmpuint(software(f)->n_slots, ==, 0);
        g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 1);
        g_assert_true(g_file_get_contents(aside, &kept, NULL, NULL));
        g_assert_cmpstr(kept, ==, cases[i].text);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    }
}

/* A newer gpup's file is neither used nor written over: it is there when that gpup is back. */
static void newer_store(struct fixture *f, gconstpointer data)
{
    static const char text[] = "[gpu]\nversion=2\nkey=software\nslots=4 big\n";
    g_autofree char *path = g_build_filename(f->state, "gpus", "software.conf", NULL);
    g_autofree char *aside = g_strconcat(path, ".format-2", NULL);
    g_autofree char *again = g_strconcat(path, ".format-2-2", NULL);
    g_autofree char *kept = NULL;

    g_assert_cmpint(partition(f, 4), ==, 0);
    for (int i = 0; i < 2; i++) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        g_test_expect_message(NULL, G_LOG_LEVEL_WARNING,
                              "*a newer gpup wrote it (format 2, this one reads 1)*.format-2*");
        reopen_host(f);
        g_test_assert_expected_messages();
        g_assert_cmpuint(software(f)->n_slots, ==, 0);
        g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 1);
        g_assert_cmpint(partition(f, 2), ==, 0);
        g_assert_true(g_file_get_contents(i == 0 ? aside : again, &kept, NULL, NULL));
        g_assert_cmpstr(kept, ==, text);
        g_clear_pointer(&kept, g_free);
    }
    reopen_host(f);
    g_assert_cmpuint(software(f)->n_slots, ==, 2);
}

static void unreadable_store(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->state, "gpus", "software.conf", NULL);
    g_autofree char *aside = g_strconcat(path, ".damaged", NULL);

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(g_remove(path), ==, 0);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*set aside*");
    reopen_host(f);
    g_test_assert_expected_messages();
    g_assert_true(g_file_test(aside, G_FILE_TEST_IS_DIR));
    g_assert_cmpint(partition(f, 2), ==, 0);
    reopen_host(f);
    g_assert_cmpuint(software(f)->n_slots, ==, 2);
}

/* A GPU that went away is reported until it is forgotten; the others are not touched. */
static void missing_gpu(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = g_build_filename(f->state, "gpus", "GPU-1.conf", NULL);
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_true(g_file_set_contents(
        path, "[gpu]\nversion=1\nkey=GPU-1\nid=0000:99:00.0\nname=A16\ncount=2\n", -1, NULL));
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*not here any more: A16*--forget GPU-1*");
    reopen_host(f);
    g_test_assert_expected_messages();
    g_assert_cmpuint(software(f)->n_slots, ==, 4);
    g_assert_cmpint(gpup_host_forget(f->host, "GPU-2", false, NULL), ==, -ENOENT);
    g_assert_cmpint(gpup_host_forget(f->host, "software", false, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(err->message, "gpup gpu partition software 0"));
    g_assert_cmpint(gpup_host_forget(f->host, "GPU-1", true, NULL), ==, 0);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    g_assert_cmpint(gpup_host_forget(f->host, "GPU-1", false, NULL), ==, 0);
    reopen_host(f);
    g_assert_cmpuint(gpup_host_problems(f->host)->len, ==, 0);
}

static void file_names(struct fixture *f, gconstpointer data)
{
    g_autofree char *plain = gpup_keyfile_name("pci-10de-2684-0000:01:00.0");
    g_autofree char *evil = gpup_keyfile_name("../../etc/passwd");

    g_assert_cmpstr(plain, ==, "pci-10de-2684-0000:01:00.0");
    g_assert_null(strchr(evil, '/'));
    g_assert_true(evil[0] != '.');
}

/* ---- claims ---- */

static void claims_outlive_gpupd(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "vram-max='104857600'");
    g_autofree char *vm = g_build_filename(f->run, "vm", UUID("a"), NULL);
    struct gpup_claim *claim;

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    g_assert_true(g_file_test(vm, G_FILE_TEST_IS_REGULAR));
    gpup_host_started(f->host, one, strlen(one));
    reopen_host(f);
    claim = gpup_host_claim(f->host, UUID("a"));
    g_assert_nonnull(claim);
    g_assert_cmpstr(claim->vm, ==, "desk1");
    g_assert_true(claim->started);
    g_assert_cmpint(claim->domain, ==, 7);
    g_assert_cmpuint(claim->grant.share[GPUP_VRAM].min, ==, 100 * MIB);
    g_assert_cmpstr(software(f)->slots[claim->slot].vm, ==, "desk1");
    g_assert_cmpint(partition(f, 2), ==, -EBUSY);
    release(f, one);
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 4);
    g_assert_false(g_file_test(vm, G_FILE_TEST_EXISTS));
    release(f, one); /* idempotent */
    reopen_host(f);
    g_assert_cmpuint(g_hash_table_size(gpup_host_claims(f->host)), ==, 0);
}

static void claims_of_another_boot(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "");
    g_autofree char *path = g_build_filename(f->run, "reservations", UUID("a"), NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    g_assert_true(g_key_file_load_from_file(file, path, 0, NULL));
    g_key_file_set_string(file, "reservation", "boot", UUID("0"));
    g_assert_true(g_key_file_save_to_file(file, path, NULL));
    reopen_host(f);
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 4);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

/* A reservation that cannot be read: its VM may run, so nothing is given away until that is known.
 */
static void damaged_claims(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "");
    const char *two = VM("desk2", UUID("2"), UUID("b"), "");
    g_autofree char *path = g_build_filename(f->run, "reservations", UUID("a"), NULL);
    g_autofree char *aside = g_strconcat(path, ".damaged", NULL);
    g_autofree char *text = NULL;
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(partition(f, 1), ==, 0);
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    *strstr(text, "vram=") = '\0'; /* ends with a whole line */
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*something is missing*set aside*");
    reopen_host(f);
    g_test_assert_expected_messages();
    g_assert_true(g_file_test(aside, G_FILE_TEST_EXISTS));
    g_assert_cmpint(prepare(f, two, &err), ==, -EBUSY);
    g_assert_nonnull(strstr(err->message, "a reservation was damaged"));
    g_assert_cmpint(gpup_host_reconnect(f->host, one, strlen(one), NULL), ==, 0);
    gpup_host_is_sure(f->host);
    g_assert_cmpint(prepare(f, two, NULL), <, 0); /* it is taken */
    g_assert_nonnull(gpup_host_claim(f->host, UUID("a")));
}

/* Partitions that are in use outlive the loss of the file that says how many there are to be. */
static void count_from_claims(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "");
    g_autofree char *path = g_build_filename(f->state, "gpus", "software.conf", NULL);

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    g_assert_cmpint(g_remove(path), ==, 0);
    g_test_expect_message(NULL, G_LOG_LEVEL_WARNING, "*desk1 runs on one of 4*");
    reopen_host(f);
    g_test_assert_expected_messages();
    g_assert_cmpuint(software(f)->n_slots, ==, 4);
    g_assert_cmpstr(software(f)->slots[0].vm, ==, "desk1");
    release(f, one);
    reopen_host(f);
    g_assert_cmpuint(software(f)->n_slots, ==, 4);
}

static bool alive(const char *adapter, void *data)
{
    return true;
}

static void second_starts(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "");
    const char *copy = VM("desk2", UUID("2"), UUID("a"), "");
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    /* cut off before its release: the next start takes over */
    g_assert_cmpint(prepare(f, one, NULL), ==, 0);
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 3);
    /* but not while its device process lives */
    g_assert_cmpint(prepare_if(f, one, alive, NULL), ==, -EBUSY);
    g_assert_cmpint(prepare(f, copy, &err), ==, -EBUSY);
    g_assert_nonnull(strstr(err->message, "copied"));
    release(f, copy); /* of the start that was refused */
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 3);
}

static void refused_starts_leave_nothing(struct fixture *f, gconstpointer data)
{
    const char *huge = VM("desk1", UUID("1"), UUID("a"), "vram-min='99999999999'");
    g_autofree char *vm = g_build_filename(f->run, "vm", UUID("a"), NULL);
    GPUP_AUTO_ERROR err = NULL;

    g_assert_cmpint(partition(f, 4), ==, 0);
    for (int i = 0; i < 20; i++)
        g_assert_cmpint(prepare(f, huge, &err), <, 0);
    g_assert_nonnull(strstr(err->message, "desk1"));
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 4);
    g_assert_false(g_file_test(vm, G_FILE_TEST_EXISTS));
    g_assert_cmpint(prepare(f, "<domain>", NULL), ==, -EINVAL);
}

static void lost_claims_are_taken_up(struct fixture *f, gconstpointer data)
{
    const char *one = VM("desk1", UUID("1"), UUID("a"), "");

    g_assert_cmpint(partition(f, 4), ==, 0);
    g_assert_cmpint(gpup_host_reconnect(f->host, one, strlen(one), NULL), ==, 0);
    g_assert_true(gpup_host_claim(f->host, UUID("a"))->started);
    g_assert_cmpint(gpup_host_reconnect(f->host, one, strlen(one), NULL), ==, 0);
    g_assert_cmpuint(gpup_gpu_free_slots(software(f)), ==, 3);
}

/* ---- live ---- */

static struct gpup_claim *running(struct fixture *f, const char *xml, const char *adapter)
{
    g_assert_cmpint(prepare(f, xml, NULL), ==, 0);
    gpup_host_started(f->host, xml, strlen(xml));
    return gpup_host_claim(f->host, adapter);
}

static void grants_change_while_running(struct fixture *f, gconstpointer data)
{
    struct gpup_adapter wanted = {.id = UUID("a"), .kind = GPUP_KIND_VIRTIO};
    struct gpup_claim *claim, *other;
    GPUP_AUTO_ERROR err = NULL;
    struct gpup_grant grant;

    g_assert_cmpint(partition(f, 4), ==, 0);
    claim = running(f, VM("desk1", UUID("1"), UUID("a"), ""), UUID("a"));
    other = running(f, VM("desk2", UUID("2"), UUID("b"), ""), UUID("b"));
    wanted.request[GPUP_VRAM] = (struct gpup_request){.has_optimal = true, .optimal = 512 * MIB};
    wanted.request[GPUP_COMPUTE] = (struct gpup_request){
        .has_min = true, .has_optimal = true, .has_max = true, 100000, 200000, 300000};
    g_assert_cmpint(gpup_host_regrant(f->host, claim, &wanted, 0, true, NULL, NULL), ==, 0);
    g_assert_cmpuint(claim->grant.share[GPUP_VRAM].cap, ==, 256 * MIB);
    g_assert_cmpint(gpup_host_regrant(f->host, claim, &wanted, 0, false, &grant, NULL), ==, 0);
    g_assert_cmpuint(grant.share[GPUP_COMPUTE].cap, ==, 300000);
    reopen_host(f); /* it outlives gpupd */
    claim = gpup_host_claim(f->host, UUID("a"));
    other = gpup_host_claim(f->host, UUID("b"));
    g_assert_cmpuint(claim->grant.share[GPUP_VRAM].cap, ==, 512 * MIB);
    g_assert_cmpuint(claim->grant.share[GPUP_COMPUTE].min, ==, 100000);
    g_assert_cmpuint(software(f)->slots[claim->slot].grant.share[GPUP_VRAM].cap, ==, 512 * MIB);
    /* less than is in use, more than is left, another GPU: all stays as it is */
    wanted.request[GPUP_VRAM].optimal = 100 * MIB;
    g_assert_cmpint(gpup_host_regrant(f->host, claim, &wanted, 200 * MIB, false, NULL, &err), ==,
                    -EBUSY);
    g_assert_nonnull(strstr(err->message, "200 MiB"));
    wanted.request[GPUP_VRAM] = (struct gpup_request){.has_min = true, .min = 900 * MIB};
    g_assert_cmpint(gpup_host_regrant(f->host, claim, &wanted, 0, false, NULL, &err), ==, -ENOSPC);
    wanted.request[GPUP_VRAM] = (struct gpup_request){0};
    wanted.gpu = (char *)(uintptr_t) "another";
    g_assert_cmpint(gpup_host_regrant(f->host, claim, &wanted, 0, false, NULL, &err), ==, -EINVAL);
    g_assert_cmpuint(claim->grant.share[GPUP_VRAM].cap, ==, 512 * MIB);
    g_assert_cmpuint(other->grant.share[GPUP_VRAM].cap, ==, 256 * MIB);
}

/* ---- who connects ---- */

static void peers(struct fixture *f, gconstpointer data)
{
    struct gpup_peer peer;
    g_autofree char *path = g_build_filename(f->dir, "7-desk1-video1-vhost-user-gpu.pid", NULL);
    g_autofree char *own = g_strdup_printf("%d\n", getpid());
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), ==, 0);
    g_assert_cmpint(gpup_peer_of(pair[0], &peer, NULL), ==, 0);
    g_assert_cmpint(peer.pid, ==, getpid());
    g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, -EACCES);
    g_assert_true(g_file_set_contents(path, own, -1, NULL));
    g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, 0);
    g_assert_cmpint(gpup_peer_check(f->dir, 70, &peer, NULL), ==, -EACCES);
    g_assert_cmpint(gpup_peer_check(f->dir, -1, &peer, NULL), ==, -EACCES);
    peer.pid++;
    g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, -EACCES);
    peer.pid--;
    /* a link, and a file of somebody else, its own too, say nothing */
    if (geteuid() == 0) {
        peer.uid = 65534;
        g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, 0);
        g_assert_cmpint(chown(path, 65534, 65534), ==, 0);
        g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, -EACCES);
    }
    g_remove(path);
    g_assert_cmpint(symlink("/proc/self/stat", path), ==, 0);
    g_assert_cmpint(gpup_peer_check(f->dir, 7, &peer, NULL), ==, -EACCES);
    close(pair[0]);
    close(pair[1]);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*func)(struct fixture *, gconstpointer);
    } tests[] = {
        {"/config/all", configuration},
        {"/config/wrong", wrong_configuration},
        {"/store/counts", counts_outlive_a_reboot},
        {"/store/damaged", damaged_store},
        {"/store/newer", newer_store},
        {"/store/unreadable", unreadable_store},
        {"/store/missing-gpu", missing_gpu},
        {"/store/names", file_names},
        {"/claims/outlive-gpupd", claims_outlive_gpupd},
        {"/claims/another-boot", claims_of_another_boot},
        {"/claims/damaged", damaged_claims},
        {"/claims/count", count_from_claims},
        {"/claims/second-starts", second_starts},
        {"/claims/refused", refused_starts_leave_nothing},
        {"/claims/lost", lost_claims_are_taken_up},
        {"/live", grants_change_while_running},
        {"/peer", peers},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, set_up, tests[i].func, tear_down);
    return g_test_run();
}
