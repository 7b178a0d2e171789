/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - messages between supervisor and server: filling, checking, sending, receiving. */
#include "build-config.h"

#include "core/link.h"

#include "core/packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct link_kind {
    uint16_t kind;
    bool has_descriptor;
    bool needs_module; /* else it may be "" */
    bool needs_listener;
};

static const struct link_kind link_kinds[] = {
    {LINK_READY, false, false, false},       {LINK_LISTEN, false, false, false},
    {LINK_LISTEN_DONE, false, false, false}, {LINK_LISTEN_DROP, false, true, false},
    {LINK_CHECKPOINT, false, false, false},  {LINK_RELOADING, false, false, false},
    {LINK_RELOADED, false, false, false},    {LINK_STATUS, false, false, false},
    {LINK_REFUSED, false, false, false},     {LINK_LISTENER, true, true, true},
    {LINK_LISTEN_END, false, false, false},  {LINK_RELOAD, false, false, false},
    {LINK_STOP, false, false, false},        {LINK_SPAWNER, true, false, false},
};

static const struct link_kind *link_kind_find(uint16_t kind)
{
    for (size_t i = 0; i < sizeof link_kinds / sizeof link_kinds[0]; i++)
        if (link_kinds[i].kind == kind)
            return &link_kinds[i];
    return NULL;
}

void link_message_set(struct link_message *message, uint16_t kind, const char *module)
{
    memset(message, 0, sizeof *message);
    message->magic = LINK_MAGIC;
    message->version = LINK_VERSION;
    message->kind = kind;
    if (module != NULL)
        memcpy(message->module, module, strnlen(module, sizeof message->module - 1));
}

void link_text_set(struct link_message *message, const char *format, ...)
{
    char raw[LINK_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    memset(message->text, 0, sizeof message->text);
    if (length > 0)
        imp_text_clean(message->text, sizeof message->text, raw, strlen(raw));
}

/* A name as module.h has them, or as the configuration has listeners' names: letters, digits, '-', '_'
 * and '.', NUL-terminated and nothing behind the NUL. */
static bool name_is_clean(const char name[LINK_NAME_SIZE], bool is_needed)
{
    size_t length = strnlen(name, LINK_NAME_SIZE);
    if (length == LINK_NAME_SIZE || (is_needed && length == 0))
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
    }
    for (size_t i = length; i < LINK_NAME_SIZE; i++)
        if (name[i] != '\0')
            return false;
    return true;
}

static bool text_is_clean(const char *text, size_t size)
{
    size_t length = strnlen(text, size);
    if (length == size || !imp_utf8_is_valid(text, length))
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

imp_status link_message_parse(const void *bytes, size_t length, struct link_message *message)
{
    if (length != sizeof *message)
        return IMP_CORRUPT;
    memcpy(message, bytes, sizeof *message);
    if (message->magic != LINK_MAGIC || message->version != LINK_VERSION)
        return IMP_CORRUPT;
    const struct link_kind *kind = link_kind_find(message->kind);
    if (kind == NULL || message->status < IMP_OK || message->status > IMP_UNAVAILABLE)
        return IMP_CORRUPT;
    if (!name_is_clean(message->module, kind->needs_module) ||
        !name_is_clean(message->listener, kind->needs_listener) ||
        !text_is_clean(message->text, sizeof message->text))
        return IMP_CORRUPT;
    return IMP_OK;
}

imp_status link_send(int fd, const struct link_message *message, int passed, imp_error *error)
{
    return packet_send(fd, message, sizeof *message, &passed, passed >= 0 ? 1 : 0, error);
}

imp_status link_receive(int fd, struct link_message *message, int *passed, imp_error *error)
{
    /* One byte more than a message, so that a longer one is seen as such. */
    char bytes[sizeof *message + 1];
    size_t length = 0, passed_count = 0;
    *passed = -1;
    imp_status status =
        packet_receive(fd, bytes, sizeof bytes, &length, passed, 1, &passed_count, error);
    if (status != IMP_OK)
        return status;
    status = link_message_parse(bytes, length, message);
    if (status == IMP_OK && link_kind_find(message->kind)->has_descriptor != (passed_count == 1))
        status = IMP_CORRUPT;
    if (status != IMP_OK) {
        packet_close(passed, passed_count);
        *passed = -1;
        return imp_error_set(error, status, "a message on the link is not one of ours");
    }
    return IMP_OK;
}
