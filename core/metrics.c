/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - the registry: families in name order, their metrics, and who holds them. */
#include "build-config.h"

#include "core/metrics-process.h"
#include "core/metrics.h"
#include "core/self.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_PREFIX "imprimatur_"

struct owner {
    struct owner *next;
    const imp_self *self; /* NULL: the core, for ever */
};

struct imp_metric {
    /* On a cache line of its own: loops add to different metrics at the same time. */
    _Alignas(64) _Atomic int64_t value;
    struct imp_metric *next; /* in the family, in order of labels */
    struct owner *owners;
    char *labels; /* "" for none */
    int64_t (*read)(void *arg);
    void *arg;
    int64_t scale;
};

struct family {
    struct family *next; /* in order of names */
    char *name, *help;
    imp_metric_kind kind;
    struct imp_metric *metrics;
};

/* Guards the structure; values are atomics. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families;
static char info_version[32] = PACKAGE_VERSION, info_instance[32];

/* ---- registering ---- */

static bool name_is_valid(const char *name)
{
    return name != NULL && *name != '\0' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

/* NAME="VALUE" pairs, separated by commas; in values only \\, \" and \n are escapes. */
static bool labels_are_valid(const char *labels)
{
    const char *p = labels;
    while (*p != '\0') {
        size_t length = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789_");
        if (length == 0 || (*p >= '0' && *p <= '9') || p[length] != '=' || p[length + 1] != '"')
            return false;
        for (p += length + 2; *p != '"'; p++) {
            if ((unsigned char)*p < 0x20)
                return false;
            if (*p == '\\' && strchr("\\\"n", *++p) == NULL)
                return false;
            if (*p == '\0')
                return false;
        }
        p++;
        if (*p == ',' && p[1] != '\0')
            p++;
        else if (*p != '\0')
            return false;
    }
    return imp_utf8_is_valid(labels, strlen(labels));
}

/* "imprimatur_transport_socket_NAME"; the caller frees. */
static char *full_name(const imp_self *self, const char *name)
{
    const char *module = self == NULL ? "" : self->name;
    size_t size = sizeof NAME_PREFIX + strlen(module) + 1 + strlen(name);
    char *full = malloc(size);
    if (full == NULL)
        return NULL;
    snprintf(full, size, NAME_PREFIX "%s%s%s", module, *module == '\0' ? "" : "_", name);
    for (char *p = full; *p != '\0'; p++)
        if (*p == '-')
            *p = '_';
    return full;
}

static void metric_free(struct imp_metric *metric)
{
    if (metric == NULL)
        return;
    while (metric->owners != NULL) {
        struct owner *owner = metric->owners;
        metric->owners = owner->next;
        free(owner);
    }
    free(metric->labels);
    free(metric);
}

static void family_free(struct family *family)
{
    if (family == NULL)
        return;
    free(family->name);
    free(family->help);
    free(family);
}

/* The family of that name, new when there is none; takes `name` over. */
static struct family *family_get(char *name, const char *help, imp_metric_kind kind)
{
    struct family **place = &families;
    while (*place != NULL && strcmp((*place)->name, name) < 0)
        place = &(*place)->next;
    if (*place != NULL && strcmp((*place)->name, name) == 0) {
        free(name);
        /* One family has one kind: anything else would be refused by whoever reads the text. */
        return (*place)->kind == kind ? *place : NULL;
    }
    struct family *family = calloc(1, sizeof *family);
    char *copy = strdup(help == NULL ? "" : help);
    if (family == NULL || copy == NULL) {
        free(copy);
        free(family);
        free(name);
        return NULL;
    }
    *family = (struct family){.next = *place, .name = name, .help = copy, .kind = kind};
    *place = family;
    return family;
}

static struct imp_metric *metric_get(struct family *family, const char *labels)
{
    struct imp_metric **place = &family->metrics;
    while (*place != NULL && strcmp((*place)->labels, labels) < 0)
        place = &(*place)->next;
    if (*place != NULL && strcmp((*place)->labels, labels) == 0)
        return *place;
    struct imp_metric *metric = aligned_alloc(64, sizeof *metric);
    if (metric == NULL)
        return NULL;
    memset(metric, 0, sizeof *metric);
    metric->labels = strdup(labels);
    if (metric->labels == NULL) {
        free(metric);
        return NULL;
    }
    metric->next = *place;
    *place = metric;
    return metric;
}

static bool metric_own(struct imp_metric *metric, const imp_self *self)
{
    for (struct owner *owner = metric->owners; owner != NULL; owner = owner->next)
        if (owner->self == self)
            return true;
    struct owner *owner = calloc(1, sizeof *owner);
    if (owner == NULL)
        return false;
    owner->self = self;
    owner->next = metric->owners;
    metric->owners = owner;
    return true;
}

/* Frees metrics without owner and families without metrics. */
static void drop_unowned(void)
{
    for (struct family **place = &families; *place != NULL;) {
        struct family *family = *place;
        for (struct imp_metric **inner = &family->metrics; *inner != NULL;) {
            struct imp_metric *metric = *inner;
            if (metric->owners != NULL) {
                inner = &metric->next;
                continue;
            }
            *inner = metric->next;
            metric_free(metric);
        }
        if (family->metrics != NULL) {
            place = &family->next;
            continue;
        }
        *place = family->next;
        family_free(family);
    }
}

/* With the lock held. */
static struct imp_metric *metric_register(imp_self *self, imp_metric_kind kind, const char *name,
                                          const char *labels, const char *help)
{
    struct imp_metric *metric = NULL;
    if (labels == NULL)
        labels = "";
    if (!name_is_valid(name) || !labels_are_valid(labels) ||
        (kind != IMP_METRIC_COUNTER && kind != IMP_METRIC_GAUGE))
        return NULL;
    char *full = full_name(self, name);
    struct family *family = full == NULL ? NULL : family_get(full, help, kind);
    if (family != NULL)
        metric = metric_get(family, labels);
    if (metric != NULL && !metric_own(metric, self))
        metric = NULL;
    drop_unowned(); /* what memory was short for in the middle */
    return metric;
}

imp_metric *imp_metric_register(imp_self *self, imp_metric_kind kind, const char *name,
                                const char *labels, const char *help)
{
    pthread_mutex_lock(&registry_lock);
    struct imp_metric *metric = metric_register(self, kind, name, labels, help);
    pthread_mutex_unlock(&registry_lock);
    return metric;
}

bool metrics_register_reader(imp_self *self, imp_metric_kind kind, const char *name,
                             const char *labels, const char *help, int64_t scale,
                             int64_t (*read)(void *arg), void *arg)
{
    pthread_mutex_lock(&registry_lock);
    struct imp_metric *metric = metric_register(self, kind, name, labels, help);
    if (metric != NULL) {
        metric->read = read;
        metric->arg = arg;
        metric->scale = scale;
    }
    pthread_mutex_unlock(&registry_lock);
    return metric != NULL;
}

void metrics_sweep(const imp_self *self)
{
    if (self == NULL)
        return;
    pthread_mutex_lock(&registry_lock);
    for (struct family *family = families; family != NULL; family = family->next)
        for (struct imp_metric *metric = family->metrics; metric != NULL; metric = metric->next)
            for (struct owner **place = &metric->owners; *place != NULL;) {
                struct owner *owner = *place;
                if (owner->self != self) {
                    place = &owner->next;
                    continue;
                }
                *place = owner->next;
                free(owner);
            }
    drop_unowned();
    pthread_mutex_unlock(&registry_lock);
}

void metrics_clear(void)
{
    pthread_mutex_lock(&registry_lock);
    for (struct family *family = families; family != NULL; family = family->next)
        for (struct imp_metric *metric = family->metrics; metric != NULL; metric = metric->next)
            while (metric->owners != NULL) {
                struct owner *owner = metric->owners;
                metric->owners = owner->next;
                free(owner);
            }
    drop_unowned();
    pthread_mutex_unlock(&registry_lock);
}

/* ---- values ---- */

void imp_metric_add(imp_metric *metric, int64_t amount)
{
    if (metric != NULL)
        atomic_fetch_add_explicit(&metric->value, amount, memory_order_relaxed);
}

void imp_metric_set(imp_metric *metric, int64_t value)
{
    if (metric != NULL)
        atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

int64_t imp_metric_value(const imp_metric *metric)
{
    if (metric == NULL)
        return 0;
    if (metric->read != NULL)
        return metric->read(metric->arg);
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* ---- text (Prometheus exposition format 0.0.4) ---- */

void metrics_set_info(const char *version, const char *instance)
{
    pthread_mutex_lock(&registry_lock);
    snprintf(info_version, sizeof info_version, "%s", version);
    snprintf(info_instance, sizeof info_instance, "%s", instance);
    pthread_mutex_unlock(&registry_lock);
}

/* In HELP a backslash and a line break are escaped. */
static void write_help(FILE *out, const char *name, const char *help)
{
    fprintf(out, "# HELP %s ", name);
    for (const char *p = help; *p != '\0'; p++) {
        if (*p == '\\')
            fputs("\\\\", out);
        else if (*p == '\n')
            fputs("\\n", out);
        else
            fputc(*p, out);
    }
    fputc('\n', out);
}

static void write_metric(FILE *out, const struct family *family, const struct imp_metric *metric)
{
    int64_t value = imp_metric_value(metric);
    fputs(family->name, out);
    if (*metric->labels != '\0')
        fprintf(out, "{%s}", metric->labels);
    if (metric->scale > 1) {
        /* In integers, so that no digit is made up. */
        uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        uint64_t scale = (uint64_t)metric->scale, rest = size % scale;
        fprintf(out, " %s%llu.", value < 0 ? "-" : "", (unsigned long long)(size / scale));
        for (uint64_t place = scale / 10; place > 0; place /= 10) {
            fputc((int)('0' + rest / place % 10), out);
            rest %= place;
        }
        fputc('\n', out);
    } else {
        fprintf(out, " %lld\n", (long long)value);
    }
}

char *metrics_text(size_t *length)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    pthread_mutex_lock(&registry_lock);
    write_help(out, NAME_PREFIX "info", "version and instance");
    fprintf(out,
            "# TYPE " NAME_PREFIX "info gauge\n" NAME_PREFIX
            "info{version=\"%s\",instance_name=\"%s\"} 1\n",
            info_version, info_instance);
    for (const struct family *family = families; family != NULL; family = family->next) {
        write_help(out, family->name, family->help);
        fprintf(out, "# TYPE %s %s\n", family->name,
                family->kind == IMP_METRIC_COUNTER ? "counter" : "gauge");
        for (const struct imp_metric *metric = family->metrics; metric != NULL;
             metric = metric->next)
            write_metric(out, family, metric);
    }
    pthread_mutex_unlock(&registry_lock);
    metrics_process_write(out);
    bool has_failed = ferror(out) != 0;
    if (fclose(out) != 0 || has_failed) {
        free(text);
        return NULL;
    }
    *length = size;
    return text;
}
