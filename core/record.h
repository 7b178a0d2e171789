/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h - bounded reading and writing of the core's own small records: big-endian integers and
 * length-prefixed bytes. A reader that runs out of bytes stays failed and yields zeros, so that a
 * decoder is a straight line with one check at its end. Unknown bytes at the end are allowed: records
 * only grow.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include <imprimatur/base.h>

struct record_reader {
    const uint8_t *at, *end;
    bool is_failed;
};

struct record_reader record_reader_of(imp_bytes bytes);
uint8_t record_read_u8(struct record_reader *reader);
uint16_t record_read_u16(struct record_reader *reader);
uint32_t record_read_u32(struct record_reader *reader);
uint64_t record_read_u64(struct record_reader *reader);
/* `length` bytes that stay in the source; empty when they are not there. */
imp_bytes record_read_bytes(struct record_reader *reader, size_t length);
/* A 16-bit length, then so many bytes, at most `max`. */
imp_bytes record_read_short(struct record_reader *reader, size_t max);
/* The same as NUL-terminated text without a NUL inside; fails when it does not fit `size`. */
void record_read_text(struct record_reader *reader, char *text, size_t size);
/* What has not been read yet. */
imp_bytes record_read_rest(struct record_reader *reader);

/* Writes into a buffer of fixed size; too much makes it failed. */
struct record_writer {
    uint8_t *start, *at, *end;
    bool is_failed;
};

struct record_writer record_writer_of(void *buffer, size_t size);
void record_write_u8(struct record_writer *writer, uint8_t value);
void record_write_u16(struct record_writer *writer, uint16_t value);
void record_write_u32(struct record_writer *writer, uint32_t value);
void record_write_u64(struct record_writer *writer, uint64_t value);
void record_write_bytes(struct record_writer *writer, imp_bytes bytes);
void record_write_short(struct record_writer *writer, imp_bytes bytes);
/* What was written. */
imp_bytes record_written(const struct record_writer *writer);

#endif
