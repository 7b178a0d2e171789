/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-link.c - what the supervisor and the spawner read of a server that nobody can trust any more:
 * messages of both links, the crash record, and the state file. The first byte chooses.
 */
#include "build-config.h"

#include <stdlib.h>
#include <string.h>

#include "core/link.h"
#include "core/spawner.h"
#include "core/supervisor-private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void fuzz_link(const uint8_t *data, size_t size)
{
    struct link_message message;
    if (link_message_parse(data, size, &message) != IMP_OK)
        return;
    require(memchr(message.module, 0, sizeof message.module) != NULL);
    require(memchr(message.listener, 0, sizeof message.listener) != NULL);
    require(strchr(message.module, '/') == NULL);
    require(strchr(message.text, '\n') == NULL);
}

/* Mutation rarely finds the header: it is put in front of what was given. */
static void fuzz_link_body(const uint8_t *data, size_t size)
{
    struct link_message message;
    link_message_set(&message, LINK_LISTEN, NULL);
    size_t body = sizeof message - offsetof(struct link_message, kind);
    memcpy((char *)&message + offsetof(struct link_message, kind), data, size < body ? size : body);
    fuzz_link((const uint8_t *)&message, sizeof message);
}

static void fuzz_spawner_body(const uint8_t *data, size_t size)
{
    struct spawner_message message, parsed;
    spawner_message_set(&message, SPAWNER_START, 1);
    size_t body = sizeof message - offsetof(struct spawner_message, kind);
    memcpy((char *)&message + offsetof(struct spawner_message, kind), data,
           size < body ? size : body);
    if (spawner_message_parse(&message, sizeof message, &parsed) != IMP_OK)
        return;
    if (parsed.kind == SPAWNER_START)
        require(parsed.program < SPAWNER_PROGRAMS &&
                parsed.limits.memory_bytes <= SPAWNER_MEMORY_LIMIT);
}

/* The input is laid over the fault and the first threads, and again over the rest. */
static void fuzz_record(const uint8_t *data, size_t size)
{
    static struct crash_record record;
    struct crash_report report;
    memset(&record, 0, sizeof record);
    size_t start = offsetof(struct crash_record, fault);
    size_t room = offsetof(struct crash_record, images) - start;
    memcpy((char *)&record + start, data, size < room ? size : room);
    crash_record_read(&record, size > 0 ? data[0] : CRASH_NO_THREAD, &report);
    require(report.thread.depth <= CRASH_DEPTH_MAX);
    require(memchr(report.thread.top.module, 0, CRASH_MODULE_SIZE) != NULL);
    require(memchr(report.image, 0, CRASH_MODULE_SIZE) != NULL);
    require(crash_kind_name(report.thread.object.kind) != NULL);
    crash_record_stalled(&record, INT64_C(1) << 40, 0, IMP_SECOND, IMP_SECOND);
}

static void fuzz_state(const uint8_t *data, size_t size)
{
    struct state state = {.folder_fd = -1};
    if (state_parse(&state, (const char *)data, size, NULL) == IMP_OK)
        require(state.crash_count <= STATE_CRASHES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const uint8_t *, size_t) = {
        fuzz_link, fuzz_link_body, fuzz_spawner_body, fuzz_record, fuzz_state,
    };
    if (size > 0)
        readers[data[0] % (sizeof readers / sizeof readers[0])](data + 1, size - 1);
    return 0;
}
