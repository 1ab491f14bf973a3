/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/events.h"

#include "core/text.h"
#include "daemon/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/*
 * The file: one line an event, its fields separated by tabs and escaped as in C, the version first.
 * A line is one write(2), so that a killed gpupd leaves whole ones. A line with the id of an
 * earlier one takes its place (its count has grown). It is written anew when it has twice as many
 * lines as are kept.
 */

#define VERSION   "1"
#define FIELDS    10
#define MAX_TEXT  2000u
#define MAX_ID    (G_GUINT64_CONSTANT(1) << 62) /* there is always a next one */
#define REPEAT_US (600 * G_USEC_PER_SEC)
#define LOG_FIELD(name, text)                                                                      \
    {                                                                                              \
        name, text, -1                                                                             \
    }

struct event {
    guint64 id, count;
    gint64 time, last;
    enum gpup_event_kind kind;
    char *user, *gpu, *vm, *text;
};

struct gpup_events {
    char *path;
    GPtrArray *list; /* struct event *, by id */
    guint64 next_id;
    guint lines; /* of the file */
    bool warned; /* that it cannot be written */
};

static const char *const kinds[GPUP_EVENT_KINDS] = {
    [GPUP_EVENT_PARTITION] = "partition", [GPUP_EVENT_ADAPTER] = "adapter",
    [GPUP_EVENT_START] = "start",         [GPUP_EVENT_STOP] = "stop",
    [GPUP_EVENT_REFUSED] = "refused",     [GPUP_EVENT_POWER] = "power",
    [GPUP_EVENT_RENDERER] = "renderer",   [GPUP_EVENT_HANG] = "hang",
    [GPUP_EVENT_LIMIT] = "limit",         [GPUP_EVENT_RESET] = "reset",
    [GPUP_EVENT_PROBLEM] = "problem",     [GPUP_EVENT_GPUPD] = "gpupd",
};

const char *gpup_event_kind_name(enum gpup_event_kind kind)
{
    return kinds[kind];
}

static void event_free(void *data)
{
    struct event *e = data;

    g_free(e->user);
    g_free(e->gpu);
    g_free(e->vm);
    g_free(e->text);
    g_free(e);
}

/* ---- the file ---- */

static void add_field(GString *line, const char *text)
{
    char stay[129] = "";
    g_autofree char *escaped = NULL;

    for (int i = 0; i < 128; i++)
        stay[i] = (char)(128 + i); /* names may be in any language */
    escaped = g_strescape(text, stay);
    g_string_append_printf(line, "\t%s", escaped);
}

static void add_number(GString *line, guint64 n)
{
    g_string_append_printf(line, "\t%" G_GUINT64_FORMAT, n);
}

static void add_line(GString *text, const struct event *e)
{
    g_string_append(text, VERSION);
    add_number(text, e->id);
    add_number(text, (guint64)e->time);
    add_number(text, (guint64)e->last);
    add_number(text, e->count);
    add_field(text, kinds[e->kind]);
    add_field(text, e->user);
    add_field(text, e->gpu);
    add_field(text, e->vm);
    add_field(text, e->text);
    g_string_append_c(text, '\n');
}

static bool read_kind(const char *name, enum gpup_event_kind *kind)
{
    for (int k = 0; k < GPUP_EVENT_KINDS; k++) {
        if (strcmp(kinds[k], name) != 0)
            continue;
        *kind = (enum gpup_event_kind)k;
        return true;
    }
    return false;
}

static bool read_numbers(char *const *fields, guint64 numbers[4])
{
    for (int i = 0; i < 4; i++) {
        if (!g_ascii_string_to_unsigned(fields[i], 10, 0, G_MAXINT64, &numbers[i], NULL))
            return false;
    }
    return numbers[0] < MAX_ID && numbers[3] < G_MAXINT64;
}

/* A sign behind the last backslash is missing. */
static bool is_cut(const char *field)
{
    size_t n = strlen(field), backslashes = 0;

    while (backslashes < n && field[n - backslashes - 1] == '\\')
        backslashes++;
    return backslashes % 2 == 1;
}

static bool are_texts(char *const *fields)
{
    for (; *fields; fields++) {
        if (is_cut(*fields))
            return false;
    }
    return true;
}

/* NULL: it is none. */
static struct event *read_line(const char *line)
{
    g_auto(GStrv) fields = g_strsplit(line, "\t", FIELDS + 1);
    enum gpup_event_kind kind;
    guint64 numbers[4];
    struct event *e;

    if (g_strv_length(fields) != FIELDS || strcmp(fields[0], VERSION) != 0 ||
        !read_numbers(fields + 1, numbers) || !read_kind(fields[5], &kind) ||
        !are_texts(fields + 6) || !g_utf8_validate(line, -1, NULL))
        return NULL;
    e = g_new0(struct event, 1);
    *e = (struct event){.id = numbers[0],
                        .time = (gint64)numbers[1],
                        .last = (gint64)numbers[2],
                        .count = numbers[3],
                        .kind = kind,
                        .user = g_strcompress(fields[6]),
                        .gpu = g_strcompress(fields[7]),
                        .vm = g_strcompress(fields[8]),
                        .text = g_strcompress(fields[9])};
    return e;
}

static void drop_oldest(struct gpup_events *events)
{
    if (events->list->len > GPUP_EVENTS_KEPT)
        g_ptr_array_remove_range(events->list, 0, events->list->len - GPUP_EVENTS_KEPT);
}

/* The later line of an id counts. Ids grow, so that the earlier one is near the end. */
static void keep(struct gpup_events *events, struct event *e)
{
    for (guint i = events->list->len; i > 0; i--) {
        struct event *other = events->list->pdata[i - 1];

        if (other->id < e->id)
            break;
        if (other->id != e->id)
            continue;
        event_free(other);
        events->list->pdata[i - 1] = e;
        return;
    }
    g_ptr_array_add(events->list, e);
    events->next_id = MAX(events->next_id, e->id + 1);
}

static void cannot_write(struct gpup_events *events, const char *why)
{
    if (!events->warned)
        g_warning("%s cannot be written (%s): events are lost when gpupd ends", events->path, why);
    events->warned = true;
}

/* Anew, with what is kept. */
static void rewrite(struct gpup_events *events)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < events->list->len; i++)
        add_line(text, events->list->pdata[i]);
    if (!g_file_set_contents_full(events->path, text->str, (gssize)text->len,
                                  G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error)) {
        cannot_write(events, error->message);
        return;
    }
    events->lines = events->list->len;
}

static void append(struct gpup_events *events, const struct event *e)
{
    g_autoptr(GString) line = g_string_new(NULL);
    int fd = open(events->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    add_line(line, e);
    if (fd < 0 || write(fd, line->str, line->len) != (gssize)line->len)
        cannot_write(events, g_strerror(errno));
    if (fd >= 0)
        close(fd);
    if (++events->lines >= 2 * GPUP_EVENTS_KEPT)
        rewrite(events);
}

/* What cannot be read is kept beside; the rest is written anew. */
static void set_aside(struct gpup_events *events, const char *why)
{
    g_autofree char *aside = gpup_keyfile_name_aside(events->path, ".damaged");

    if (g_rename(events->path, aside) < 0)
        g_warning("%s: %s, and it cannot be set aside: %s", events->path, why, g_strerror(errno));
    else
        g_warning("%s: %s; it was set aside as %s, what can be read is kept", events->path, why,
                  aside);
    rewrite(events);
}

static void load(struct gpup_events *events)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) error = NULL;
    gsize length;
    guint bad = 0;

    if (!g_file_get_contents(events->path, &text, &length, &error)) {
        if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT) &&
            !g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOTDIR))
            set_aside(events, error->message);
        return;
    }
    bad += strlen(text) != length; /* what is behind a NUL is not seen */
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        struct event *e = **line ? read_line(*line) : NULL;

        if (e)
            keep(events, e);
        else
            bad += **line != '\0';
        events->lines += **line != '\0';
    }
    drop_oldest(events);
    /* without its end, the next line would be added to the last */
    if (bad > 0) {
        g_autofree char *why =
            g_strdup_printf("%u of its lines are damaged, or a newer gpup's", bad);

        set_aside(events, why);
    } else if (length > 0 && text[length - 1] != '\n') {
        rewrite(events);
    }
}

struct gpup_events *gpup_events_new(const char *state_dir)
{
    struct gpup_events *events = g_new0(struct gpup_events, 1);

    events->path = g_build_filename(state_dir, "events", NULL);
    events->list = g_ptr_array_new_with_free_func(event_free);
    events->next_id = 1;
    g_mkdir_with_parents(state_dir, 0700);
    load(events);
    return events;
}

void gpup_events_free(struct gpup_events *events)
{
    if (!events)
        return;
    g_ptr_array_unref(events->list);
    g_free(events->path);
    g_free(events);
}

/* ---- adding ---- */

static void log_event(const struct event *e)
{
    g_autofree char *times =
        e->count > 1 ? g_strdup_printf(" (%" G_GUINT64_FORMAT " times)", e->count) : NULL;
    g_autofree char *message = g_strconcat(e->text, times, NULL);
    const GLogField fields[] = {
        LOG_FIELD("MESSAGE", message),           LOG_FIELD("PRIORITY", "5"),
        LOG_FIELD("GPUP_EVENT", kinds[e->kind]), LOG_FIELD("GPUP_USER", e->user),
        LOG_FIELD("GPUP_GPU", e->gpu),           LOG_FIELD("GPUP_VM", e->vm),
    };

    g_log_structured_array(G_LOG_LEVEL_MESSAGE, fields, G_N_ELEMENTS(fields));
}

static bool same(const struct event *a, const struct event *b)
{
    return a->kind == b->kind && strcmp(a->user, b->user) == 0 && strcmp(a->gpu, b->gpu) == 0 &&
           strcmp(a->vm, b->vm) == 0 && strcmp(a->text, b->text) == 0;
}

static struct event *find_like(struct gpup_events *events, const struct event *e)
{
    for (guint i = events->list->len; i > 0; i--) {
        struct event *other = events->list->pdata[i - 1];

        if (same(other, e) && e->time - other->last < REPEAT_US && e->time >= other->last)
            return other;
    }
    return NULL;
}

/* Whether two things are the same is not asked of what was done on purpose. */
static bool may_repeat(enum gpup_event_kind kind)
{
    return kind == GPUP_EVENT_REFUSED || kind == GPUP_EVENT_RENDERER || kind == GPUP_EVENT_HANG ||
           kind == GPUP_EVENT_LIMIT || kind == GPUP_EVENT_RESET || kind == GPUP_EVENT_PROBLEM;
}

/* What others have named cannot look like an event of its own. */
static char *cut(char *text, bool multiline)
{
    char *valid = g_utf8_make_valid(text, -1);

    g_free(text);
    gpup_text_clean(valid, multiline);
    if (strlen(valid) > MAX_TEXT) {
        char *end = g_utf8_find_prev_char(valid, valid + MAX_TEXT);

        *(end ? end : valid) = '\0';
    }
    return valid;
}

/* A count is said and written when it has doubled: what repeats itself fills neither log. */
static void count_again(struct gpup_events *events, struct event *like, gint64 now)
{
    like->last = now;
    like->count++;
    if ((like->count & (like->count - 1)) != 0)
        return;
    append(events, like);
    log_event(like);
}

void gpup_events_add(struct gpup_events *events, enum gpup_event_kind kind, const char *user,
                     const char *gpu, const char *vm, const char *fmt, ...)
{
    struct event *e, *like;
    va_list args;

    if (!events)
        return;
    e = g_new0(struct event, 1);
    va_start(args, fmt);
    e->text = cut(g_strdup_vprintf(fmt, args), true);
    va_end(args);
    e->kind = kind;
    e->user = cut(g_strdup(user), false);
    e->gpu = cut(g_strdup(gpu ? gpu : ""), false);
    e->vm = cut(g_strdup(vm ? vm : ""), false);
    e->time = e->last = g_get_real_time();
    e->count = 1;
    like = may_repeat(kind) ? find_like(events, e) : NULL;
    if (like) {
        count_again(events, like, e->time);
        event_free(e);
        return;
    }
    e->id = events->next_id++;
    g_ptr_array_add(events->list, e);
    drop_oldest(events);
    append(events, e);
    log_event(e);
}

/* ---- reading ---- */

static void add_value(GVariantBuilder *builder, const struct event *e)
{
    g_variant_builder_open(builder, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(builder, "{sv}", "id", g_variant_new_uint64(e->id));
    g_variant_builder_add(builder, "{sv}", "time", g_variant_new_uint64((guint64)e->time));
    g_variant_builder_add(builder, "{sv}", "last", g_variant_new_uint64((guint64)e->last));
    g_variant_builder_add(builder, "{sv}", "count", g_variant_new_uint64(e->count));
    g_variant_builder_add(builder, "{sv}", "kind", g_variant_new_string(kinds[e->kind]));
    g_variant_builder_add(builder, "{sv}", "user", g_variant_new_string(e->user));
    g_variant_builder_add(builder, "{sv}", "gpu", g_variant_new_string(e->gpu));
    g_variant_builder_add(builder, "{sv}", "vm", g_variant_new_string(e->vm));
    g_variant_builder_add(builder, "{sv}", "text", g_variant_new_string(e->text));
    g_variant_builder_close(builder);
}

GVariant *gpup_events_list(struct gpup_events *events, guint limit, guint64 after, const char *gpu,
                           const char *vm)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();
    GVariantBuilder builder;

    for (guint i = events->list->len; i > 0 && chosen->len < limit; i--) {
        struct event *e = events->list->pdata[i - 1];

        if (e->id <= after)
            break;
        if ((!gpu || strcmp(gpu, e->gpu) == 0) && (!vm || strcmp(vm, e->vm) == 0))
            g_ptr_array_add(chosen, e);
    }
    g_variant_builder_init(&builder, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = chosen->len; i > 0; i--)
        add_value(&builder, chosen->pdata[i - 1]);
    return g_variant_builder_end(&builder);
}
