/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packet.h - one packet with descriptors over a SOCK_SEQPACKET pair: what link.h and spawner.h stand
 * on.
 */
#ifndef CORE_PACKET_H
#define CORE_PACKET_H

#include <imprimatur/base.h>

#define PACKET_DESCRIPTORS_MAX 2

/* A pair of close-on-exec ends. */
imp_status packet_pair(int ends[2], imp_error *error) IMP_MUST_CHECK;
imp_status packet_set_nonblocking(int fd, imp_error *error) IMP_MUST_CHECK;

/* IMP_BUSY: the queue is full and the socket non-blocking. IMP_UNAVAILABLE: the other end is gone. */
imp_status packet_send(int fd, const void *bytes, size_t length, const int *passed,
                       size_t passed_count, imp_error *error);
/* Receives one packet and at most `passed_max` descriptors (close-on-exec, the caller's); a packet
 * that brought more is refused as IMP_CORRUPT and its descriptors closed. IMP_BUSY when none waits,
 * IMP_UNAVAILABLE at the end. */
imp_status packet_receive(int fd, void *bytes, size_t size, size_t *length, int *passed,
                          size_t passed_max, size_t *passed_count, imp_error *error);
/* Closes received descriptors and sets them to -1. */
void packet_close(int *passed, size_t passed_count);

#endif
