/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.c - names that people type: what is a valid one, and the form in which two are compared.
 *
 * Folding covers the simple one-to-one pairs of Unicode's CaseFolding.txt in Latin, Greek and Cyrillic
 * (blocks up to U+052F); other scripts have no case, or are compared as they stand.
 */
#include <imprimatur/base.h>

#include <string.h>

/* Reads one character of valid UTF-8; returns its length. */
static size_t character_read(const char *text, uint32_t *character)
{
    const uint8_t *byte = (const uint8_t *)text;
    if (byte[0] < 0x80) {
        *character = byte[0];
        return 1;
    }
    size_t length = byte[0] < 0xe0 ? 2 : byte[0] < 0xf0 ? 3 : 4;
    *character = byte[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++)
        *character = *character << 6 | (byte[i] & 0x3fu);
    return length;
}

static size_t character_write(char *text, uint32_t character)
{
    if (character < 0x80) {
        text[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        text[0] = (char)(0xc0 | character >> 6);
        text[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        text[0] = (char)(0xe0 | character >> 12);
        text[1] = (char)(0x80 | (character >> 6 & 0x3f));
        text[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    text[0] = (char)(0xf0 | character >> 18);
    text[1] = (char)(0x80 | (character >> 12 & 0x3f));
    text[2] = (char)(0x80 | (character >> 6 & 0x3f));
    text[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

/* Ranges of upper-case letters: step 1 adds `distance`; step 2 alternates upper and lower, where an
 * upper-case letter has the parity of `first` and its lower case follows it. */
static const struct {
    uint16_t first, last;
    int16_t distance;
    uint8_t step;
} upper_case[] = {
    {0x0041, 0x005a, 32, 1}, {0x00c0, 0x00d6, 32, 1},   {0x00d8, 0x00de, 32, 1},
    {0x0100, 0x012e, 1, 2},  {0x0132, 0x0136, 1, 2},    {0x0139, 0x0147, 1, 2},
    {0x014a, 0x0176, 1, 2},  {0x0178, 0x0178, -121, 1}, {0x0179, 0x017d, 1, 2},
    {0x0386, 0x0386, 38, 1}, {0x0388, 0x038a, 37, 1},   {0x038c, 0x038c, 64, 1},
    {0x038e, 0x038f, 63, 1}, {0x0391, 0x03a1, 32, 1},   {0x03a3, 0x03ab, 32, 1},
    {0x0400, 0x040f, 80, 1}, {0x0410, 0x042f, 32, 1},   {0x0460, 0x0480, 1, 2},
    {0x048a, 0x04be, 1, 2},  {0x04c1, 0x04cd, 1, 2},    {0x04d0, 0x052e, 1, 2},
};

static uint32_t character_fold(uint32_t character)
{
    if (character == 0x03c2) /* final sigma is a sigma */
        return 0x03c3;
    for (size_t i = 0; i < sizeof upper_case / sizeof *upper_case; i++) {
        if (character < upper_case[i].first)
            break;
        if (character <= upper_case[i].last &&
            (character - upper_case[i].first) % upper_case[i].step == 0)
            return (uint32_t)((int32_t)character + upper_case[i].distance);
    }
    return character;
}

bool imp_name_is_valid(const char *name)
{
    size_t length = name == NULL ? 0 : strlen(name);
    if (length == 0 || length >= IMP_NAME_MAX || !imp_utf8_is_valid(name, length))
        return false;
    if (name[0] == ' ' || name[length - 1] == ' ')
        return false;
    for (size_t i = 0; i < length;) {
        uint32_t character;
        i += character_read(name + i, &character);
        /* C0, DEL, C1, and marks that turn the direction of what is displayed */
        if (character < 0x20 || (character >= 0x7f && character < 0xa0) ||
            (character >= 0x202a && character <= 0x202e) ||
            (character >= 0x2066 && character <= 0x2069))
            return false;
    }
    return true;
}

size_t imp_name_fold(char *target, size_t size, const char *source)
{
    size_t length = strlen(source), written = 0;
    bool is_text = imp_utf8_is_valid(source, length);
    for (size_t i = 0; i < length;) {
        char folded[4];
        uint32_t character = (uint8_t)source[i];
        size_t folded_length = 1;
        if (is_text) {
            i += character_read(source + i, &character);
            folded_length = character_write(folded, character_fold(character));
        } else { /* never equal to a valid name, and never split */
            folded[0] = source[i++];
        }
        if (written + folded_length + 1 > size)
            break;
        memcpy(target + written, folded, folded_length);
        written += folded_length;
    }
    if (size > 0)
        target[written] = '\0';
    return written;
}
