/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - messages between supervisor and server.
 *
 * A SOCK_SEQPACKET pair; every message has one size and at most one descriptor (SCM_RIGHTS). The
 * supervisor takes no address, path or command from the server: the server names a module, and the
 * supervisor reads the configuration files again and binds what they say.
 *
 * Listening sockets: the server sends LINK_LISTEN with a module's name ("" = all), and gets one
 * LINK_LISTENER with descriptor for each socket, then LINK_LISTEN_END with the same serial and the
 * outcome. Sockets that the files no longer name stay open in the supervisor until LINK_LISTEN_DONE
 * (the new generation has them all) or the next LINK_LISTEN of that module.
 */
#ifndef CORE_LINK_H
#define CORE_LINK_H

#include <imprimatur/base.h>

#define LINK_MAGIC 0x494d4c4bu /* "IMLK" */
#define LINK_VERSION 1u
#define LINK_NAME_SIZE 32u
#define LINK_TEXT_SIZE 248u

/* server -> supervisor */
#define LINK_READY 1u       /* all modules are started: READY=1 */
#define LINK_LISTEN 2u      /* module: read the files again, bind, send its sockets */
#define LINK_LISTEN_DONE 3u /* module: close what the files no longer name */
#define LINK_LISTEN_DROP                                                                           \
    4u /* module: close all its sockets (unloaded, failed): clients are refused */
#define LINK_CHECKPOINT 5u /* value: keep this audit checkpoint's number */
#define LINK_RELOADING 6u  /* a reload begins: RELOADING=1 */
#define LINK_RELOADED 7u   /* status, text: a reload ended: READY=1 */
#define LINK_STATUS 8u     /* text: one line for `systemctl status` */
#define LINK_REFUSED 9u    /* text: why the server can't start; it then exits */
/* supervisor -> server */
#define LINK_LISTENER                                                                              \
    32u /* module, listener, value = flags of core/config-listen.h, text = address; fd */
#define LINK_LISTEN_END 33u /* serial, status, text */
#define LINK_RELOAD 34u     /* SIGHUP came */
#define LINK_SPAWNER 36u    /* the spawner was started again: a new end for child_client; fd */
#define LINK_STOP 35u       /* stop in order; value = milliseconds until SIGKILL */

struct link_message {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint32_t serial; /* of a request, repeated in its answers */
    int32_t status;  /* imp_status */
    uint64_t value;
    char module[LINK_NAME_SIZE];
    char listener[LINK_NAME_SIZE];
    char text[LINK_TEXT_SIZE]; /* clean UTF-8 */
};

/* Fills header and module name (NULL = ""), zeroes the rest. */
void link_message_set(struct link_message *message, uint16_t kind, const char *module);
void link_text_set(struct link_message *message, const char *format, ...) IMP_PRINTF(2, 3);

/* Checks bytes as they came: size, magic, version, a known kind, NUL-terminated names of module
 * form, clean text. IMP_CORRUPT else. Pure. */
imp_status link_message_parse(const void *bytes, size_t length, struct link_message *message);

/* Sends one message, with `passed` unless -1 (still the caller's). IMP_BUSY when the queue is full
 * and the socket non-blocking, IMP_UNAVAILABLE when the other end is gone. */
imp_status link_send(int fd, const struct link_message *message, int passed, imp_error *error);
/* Receives one message; *passed is -1 or a new descriptor (close-on-exec) that the caller owns, only
 * ever with LINK_LISTENER and LINK_SPAWNER. IMP_BUSY when none waits (non-blocking), IMP_UNAVAILABLE at the end,
 * IMP_CORRUPT for what link_message_parse refuses. */
imp_status link_receive(int fd, struct link_message *message, int *passed, imp_error *error);

#endif
