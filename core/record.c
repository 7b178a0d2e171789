/* SPDX-License-Identifier: Apache-2.0 */
/* record.c - bounded reading and writing of small records. */
#include "core/record.h"

#include <string.h>

struct record_reader record_reader_of(imp_bytes bytes)
{
    static const uint8_t nothing[1] = {0};
    const uint8_t *start = bytes.length > 0 ? bytes.data : nothing;
    return (struct record_reader){.at = start, .end = start + bytes.length};
}

imp_bytes record_read_bytes(struct record_reader *reader, size_t length)
{
    if (reader->is_failed || (size_t)(reader->end - reader->at) < length) {
        reader->is_failed = true;
        return (imp_bytes){NULL, 0};
    }
    imp_bytes bytes = {reader->at, length};
    reader->at += length;
    return bytes;
}

static uint64_t read_integer(struct record_reader *reader, size_t size)
{
    imp_bytes bytes = record_read_bytes(reader, size);
    const uint8_t *digits = bytes.data;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.length; i++) {
        value = value << 8 | digits[i];
    }
    return value;
}

uint8_t record_read_u8(struct record_reader *reader)
{
    return (uint8_t)read_integer(reader, 1);
}

uint16_t record_read_u16(struct record_reader *reader)
{
    return (uint16_t)read_integer(reader, 2);
}

uint32_t record_read_u32(struct record_reader *reader)
{
    return (uint32_t)read_integer(reader, 4);
}

uint64_t record_read_u64(struct record_reader *reader)
{
    return read_integer(reader, 8);
}

imp_bytes record_read_short(struct record_reader *reader, size_t max)
{
    size_t length = record_read_u16(reader);
    if (length > max) {
        reader->is_failed = true;
        return (imp_bytes){NULL, 0};
    }
    return record_read_bytes(reader, length);
}

void record_read_text(struct record_reader *reader, char *text, size_t size)
{
    imp_bytes bytes = record_read_short(reader, size - 1);
    text[0] = '\0';
    if (bytes.length == 0) {
        return;
    }
    if (memchr(bytes.data, '\0', bytes.length) != NULL) {
        reader->is_failed = true;
        return;
    }
    memcpy(text, bytes.data, bytes.length);
    text[bytes.length] = '\0';
}

imp_bytes record_read_rest(struct record_reader *reader)
{
    return record_read_bytes(reader, reader->is_failed ? 0 : (size_t)(reader->end - reader->at));
}

struct record_writer record_writer_of(void *buffer, size_t size)
{
    return (struct record_writer){.start = buffer, .at = buffer, .end = (uint8_t *)buffer + size};
}

void record_write_bytes(struct record_writer *writer, imp_bytes bytes)
{
    if (writer->is_failed || (size_t)(writer->end - writer->at) < bytes.length) {
        writer->is_failed = true;
        return;
    }
    if (bytes.length > 0) {
        memcpy(writer->at, bytes.data, bytes.length);
        writer->at += bytes.length;
    }
}

static void write_integer(struct record_writer *writer, uint64_t value, size_t size)
{
    uint8_t digits[8];
    for (size_t i = 0; i < size; i++) {
        digits[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    }
    record_write_bytes(writer, (imp_bytes){digits, size});
}

void record_write_u8(struct record_writer *writer, uint8_t value)
{
    write_integer(writer, value, 1);
}

void record_write_u16(struct record_writer *writer, uint16_t value)
{
    write_integer(writer, value, 2);
}

void record_write_u32(struct record_writer *writer, uint32_t value)
{
    write_integer(writer, value, 4);
}

void record_write_u64(struct record_writer *writer, uint64_t value)
{
    write_integer(writer, value, 8);
}

void record_write_short(struct record_writer *writer, imp_bytes bytes)
{
    if (bytes.length > UINT16_MAX) {
        writer->is_failed = true;
        return;
    }
    record_write_u16(writer, (uint16_t)bytes.length);
    record_write_bytes(writer, bytes);
}

imp_bytes record_written(const struct record_writer *writer)
{
    return (imp_bytes){writer->start, (size_t)(writer->at - writer->start)};
}
