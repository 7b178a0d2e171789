/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - UTF-8 (RFC 3629) and the cleaning of names that come from outside. */
#include "build-config.h"

#include "core/text.h"

#include <string.h>

size_t text_utf8_sequence(const char *text, size_t length)
{
    const uint8_t *p = (const uint8_t *)text;
    if (length == 0 || p[0] == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    /* RFC 3629 section 4: the second byte's range shuts out overlong forms, surrogates and code
     * points above U+10FFFF. */
    size_t count;
    uint8_t low = 0x80, high = 0xBF;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        count = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        count = 3;
        if (p[0] == 0xE0)
            low = 0xA0;
        else if (p[0] == 0xED)
            high = 0x9F;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        count = 4;
        if (p[0] == 0xF0)
            low = 0x90;
        else if (p[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (length < count || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < count; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return count;
}

bool imp_utf8_is_valid(const char *text, size_t length)
{
    while (length > 0) {
        size_t count = text_utf8_sequence(text, length);
        if (count == 0)
            return false;
        text += count;
        length -= count;
    }
    return true;
}

/* Windows-1252's 0x80..0x9F; 0 where it defines nothing. The rest is as Latin-1. */
static const uint16_t windows_1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
    0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

/* Bytes of one Windows-1252 character in UTF-8. */
static size_t character_of_byte(uint8_t byte, char out[3])
{
    uint32_t code = byte;
    if (byte >= 0x80 && byte <= 0x9F)
        code = windows_1252[byte - 0x80];
    if (code < 0x80) {
        out[0] = code == 0 ? '?' : (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    out[0] = (char)(0xE0 | code >> 12);
    out[1] = (char)(0x80 | (code >> 6 & 0x3F));
    out[2] = (char)(0x80 | (code & 0x3F));
    return 3;
}

/* C0, DEL and C1 (U+0080..U+009F, in UTF-8 C2 80..C2 9F): terminals obey them. */
static bool is_control(const char *character, size_t count)
{
    const uint8_t *p = (const uint8_t *)character;
    if (count == 1)
        return p[0] < 0x20 || p[0] == 0x7F;
    return count == 2 && p[0] == 0xC2 && p[1] < 0xA0;
}

size_t imp_text_clean(char *target, size_t size, const void *source, size_t length)
{
    const char *text = source;
    size_t used = 0;
    if (size == 0)
        return 0;
    /* NUL is a control character here, not a fault of the encoding. */
    bool is_utf8 = true;
    for (size_t i = 0; i < length && is_utf8;) {
        size_t count = text[i] == '\0' ? 1 : text_utf8_sequence(text + i, length - i);
        is_utf8 = count > 0;
        i += count;
    }
    for (size_t i = 0; i < length;) {
        char buffer[3];
        const char *character = buffer;
        size_t count, step;
        if (is_utf8 && text[i] != '\0') {
            step = count = text_utf8_sequence(text + i, length - i);
            character = text + i;
        } else {
            step = 1;
            count = character_of_byte((uint8_t)text[i], buffer);
        }
        if (is_control(character, count)) {
            character = "?";
            count = 1;
        }
        if (count > size - 1 - used)
            break;
        memcpy(target + used, character, count);
        used += count;
        i += step;
    }
    target[used] = '\0';
    return used;
}

size_t text_cut(const char *text, size_t length)
{
    /* Goes back over at most three continuation bytes to the head of the last character. */
    for (size_t back = 1; back <= 4 && back <= length; back++) {
        uint8_t head = (uint8_t)text[length - back];
        if ((head & 0xC0) == 0x80)
            continue;
        size_t need = head < 0x80 ? 1 : head < 0xE0 ? 2 : head < 0xF0 ? 3 : 4;
        return need > back ? length - back : length;
    }
    return length;
}
