/* SPDX-License-Identifier: Apache-2.0 */
/* spawner-message.c - messages between server and spawner: filling, checking, sending, receiving. */
#include "build-config.h"

#include "core/packet.h"
#include "core/spawner.h"

#include <string.h>

struct spawner_kind {
    uint16_t kind;
    uint8_t descriptors;
    bool has_limits; /* then program and limits are checked */
};

static const struct spawner_kind spawner_kinds[] = {
    {SPAWNER_START, 2, true},    {SPAWNER_KILL, 0, false},    {SPAWNER_SERVER, 1, false},
    {SPAWNER_STARTED, 0, false}, {SPAWNER_REFUSED, 0, false}, {SPAWNER_ENDED, 0, false},
};

static const struct spawner_kind *spawner_kind_find(uint16_t kind)
{
    for (size_t i = 0; i < sizeof spawner_kinds / sizeof spawner_kinds[0]; i++)
        if (spawner_kinds[i].kind == kind)
            return &spawner_kinds[i];
    return NULL;
}

void spawner_message_set(struct spawner_message *message, uint16_t kind, uint32_t serial)
{
    memset(message, 0, sizeof *message);
    message->magic = SPAWNER_MAGIC;
    message->version = SPAWNER_VERSION;
    message->kind = kind;
    message->serial = serial;
}

static bool limits_are_sane(const struct spawner_limits *limits)
{
    return limits->memory_bytes > 0 && limits->memory_bytes <= SPAWNER_MEMORY_LIMIT &&
           limits->output_bytes <= SPAWNER_OUTPUT_LIMIT && limits->cpu_seconds > 0 &&
           limits->cpu_seconds <= SPAWNER_CPU_LIMIT && limits->wall_ms > 0 &&
           limits->wall_ms <= SPAWNER_WALL_LIMIT && limits->open_files >= SPAWNER_FILES_LEAST &&
           limits->open_files <= SPAWNER_FILES_LIMIT;
}

imp_status spawner_message_parse(const void *bytes, size_t length, struct spawner_message *message)
{
    if (length != sizeof *message)
        return IMP_CORRUPT;
    memcpy(message, bytes, sizeof *message);
    if (message->magic != SPAWNER_MAGIC || message->version != SPAWNER_VERSION)
        return IMP_CORRUPT;
    const struct spawner_kind *kind = spawner_kind_find(message->kind);
    if (kind == NULL || message->status < IMP_OK || message->status > IMP_UNAVAILABLE)
        return IMP_CORRUPT;
    if (kind->has_limits &&
        (message->program >= SPAWNER_PROGRAMS || !limits_are_sane(&message->limits)))
        return IMP_CORRUPT;
    size_t text_length = strnlen(message->text, sizeof message->text);
    if (text_length == sizeof message->text || !imp_utf8_is_valid(message->text, text_length))
        return IMP_CORRUPT;
    return IMP_OK;
}

imp_status spawner_send(int fd, const struct spawner_message *message, const int *passed,
                        size_t passed_count, imp_error *error)
{
    return packet_send(fd, message, sizeof *message, passed, passed_count, error);
}

imp_status spawner_receive(int fd, struct spawner_message *message, int passed[SPAWNER_PASSED_MAX],
                           size_t *passed_count, imp_error *error)
{
    char bytes[sizeof *message + 1];
    size_t length = 0;
    for (size_t i = 0; i < SPAWNER_PASSED_MAX; i++)
        passed[i] = -1;
    imp_status status = packet_receive(fd, bytes, sizeof bytes, &length, passed, SPAWNER_PASSED_MAX,
                                       passed_count, error);
    if (status != IMP_OK)
        return status;
    status = spawner_message_parse(bytes, length, message);
    if (status == IMP_OK && spawner_kind_find(message->kind)->descriptors != *passed_count)
        status = IMP_CORRUPT;
    if (status != IMP_OK) {
        packet_close(passed, *passed_count);
        *passed_count = 0;
        return imp_error_set(error, status, "a message of the spawner is not one of ours");
    }
    return IMP_OK;
}
