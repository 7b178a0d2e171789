/* SPDX-License-Identifier: Apache-2.0 */
/* log-line.c - see log-line.h. */
#include "build-config.h"

#include "core/log-format.h"
#include "core/log-line.h"
#include "core/self.h"
#include "core/text.h"
#include "core/time.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define EVENT_SIZE 64 /* of an event's name, as far as names are told apart */

static const char *const level_names[] = {"emergency", "alert",  "critical", "error",
                                          "warning",   "notice", "info",     "debug"};

static const char *level_name(imp_log_level level)
{
    if (level < 0 || level > IMP_LOG_DEBUG)
        return "debug";
    return level_names[level];
}

static const char *module_name(const imp_self *self)
{
    return self == NULL ? "core" : self->name;
}

/* Ends a text that was cut, from `start` on, so that it can still be read: no half escape, and a quote
 * that was opened is closed. Returns the new length. */
static size_t cut_end(char *line, size_t start, size_t used, size_t room)
{
    static const char ellipsis[] = "...";
    bool is_quoted = false;
    size_t end = sizeof ellipsis + 1; /* with the quote */

    if (used > room - end)
        used = text_cut(line, room - end);
    for (size_t i = start; i < used;) {
        size_t step = line[i] != '\\' ? 1 : i + 1 < used && line[i + 1] == 'x' ? 4 : 2;
        if (i + step > used) {
            used = i;
            break;
        }
        is_quoted = is_quoted != (line[i] == '"');
        i += step;
    }
    memcpy(line + used, ellipsis, sizeof ellipsis - 1);
    used += sizeof ellipsis - 1;
    if (is_quoted)
        line[used++] = '"';
    return used;
}

size_t log_line_format_va(char line[LOG_LINE_MAX], imp_log_level level, const imp_self *self,
                          const char *event, uint64_t suppressed, const char *format,
                          va_list arguments)
{
    char text[LOG_LINE_MAX], time[TIME_TEXT_SIZE], tail[40] = "";
    /* The tail (suppressed=N) must survive a cut, so its room is kept free. */
    if (suppressed > 0)
        snprintf(tail, sizeof tail, " suppressed=%llu", (unsigned long long)suppressed);
    size_t room = LOG_LINE_MAX - strlen(tail) - 1; /* of the line without tail and newline */

    int head = snprintf(line, room, "%s %s %s %s ", time_format(imp_now(), time), level_name(level),
                        module_name(self), event);
    size_t used = head < 0 ? 0 : (size_t)head < room ? (size_t)head : room - 1;
    size_t start = used;
    bool is_cut = false;
    size_t length = log_format_va(text, sizeof text, &is_cut, format, arguments);
    if (is_cut)
        length = text_cut(text, length);
    size_t written = imp_text_clean(line + used, room - used, text, length);
    /* Cleaning never makes UTF-8 longer; when the whole did not fit, it was cut. */
    is_cut = is_cut || (written < length && used + written + 4 >= room);
    used += written;
    if (is_cut)
        used = cut_end(line, start, used, room);
    while (used > 0 && line[used - 1] == ' ')
        used--;
    memcpy(line + used, tail, strlen(tail));
    used += strlen(tail);
    line[used++] = '\n';
    return used;
}

size_t log_line_format(char line[LOG_LINE_MAX], imp_log_level level, const imp_self *self,
                       const char *event, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t length = log_line_format_va(line, level, self, event, 0, format, arguments);
    va_end(arguments);
    return length;
}

/* ---- limits ---- */

struct limited_event {
    bool is_used;
    char module[SELF_NAME_SIZE], event[EVENT_SIZE];
    int64_t last;
    uint64_t suppressed;
};

static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;
/* Open addressing; the last place is shared by all that find the table full. */
static struct limited_event limited[LOG_LIMITED_EVENTS_MAX + 1];

static struct limited_event *limited_find(const char *module, const char *event)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *p = module; *p != '\0'; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    for (const char *p = event; *p != '\0'; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    for (uint32_t step = 0; step < LOG_LIMITED_EVENTS_MAX; step++) {
        struct limited_event *entry = &limited[(hash + step) % LOG_LIMITED_EVENTS_MAX];
        if (!entry->is_used) {
            snprintf(entry->module, sizeof entry->module, "%s", module);
            snprintf(entry->event, sizeof entry->event, "%s", event);
            return entry;
        }
        if (strncmp(entry->module, module, sizeof entry->module - 1) == 0 &&
            strncmp(entry->event, event, sizeof entry->event - 1) == 0)
            return entry;
    }
    return &limited[LOG_LIMITED_EVENTS_MAX];
}

bool log_limit_passes(const imp_self *self, const char *event, uint32_t interval_ms,
                      uint64_t *suppressed)
{
    int64_t now = imp_ticks();
    bool passes;
    pthread_mutex_lock(&limit_lock);
    struct limited_event *entry = limited_find(module_name(self), event);
    passes = !entry->is_used || now - entry->last >= (int64_t)interval_ms * IMP_MILLISECOND;
    if (passes) {
        *suppressed = entry->suppressed;
        entry->is_used = true;
        entry->last = now;
        entry->suppressed = 0;
    } else {
        entry->suppressed++;
    }
    pthread_mutex_unlock(&limit_lock);
    return passes;
}
