/* SPDX-License-Identifier: Apache-2.0 */
/* packet.c - one packet with descriptors over a SOCK_SEQPACKET pair. */
#include "build-config.h"

#include "core/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for more descriptors than are ever wanted, so that a surplus is seen and closed. */
#define CONTROL_DESCRIPTORS 8

union packet_control {
    struct cmsghdr header; /* for alignment */
    char bytes[CMSG_SPACE(sizeof(int) * CONTROL_DESCRIPTORS)];
};

imp_status packet_pair(int ends[2], imp_error *error)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return imp_error_set(error, IMP_IO, "cannot make a socket pair: %s", strerror(errno));
    return IMP_OK;
}

imp_status packet_set_nonblocking(int fd, imp_error *error)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return imp_error_set(error, IMP_IO, "cannot set a socket: %s", strerror(errno));
    return IMP_OK;
}

imp_status packet_send(int fd, const void *bytes, size_t length, const int *passed,
                       size_t passed_count, imp_error *error)
{
    struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    union packet_control control;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (passed_count > PACKET_DESCRIPTORS_MAX)
        return imp_error_set(error, IMP_INVALID, "too many descriptors for one packet");
    if (passed_count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * passed_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * passed_count);
        memcpy(CMSG_DATA(header), passed, sizeof(int) * passed_count);
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)length)
        return IMP_OK;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS))
        return imp_error_set(error, IMP_BUSY, "the other process does not take messages");
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN))
        return imp_error_set(error, IMP_UNAVAILABLE, "the other process is gone");
    return imp_error_set(error, IMP_IO, "cannot send to the other process: %s",
                         sent < 0 ? strerror(errno) : "cut short");
}

/* Takes the descriptors out of a message; -1 when there are more than `max`. */
static int descriptors_take(struct msghdr *message, int *passed, size_t max, size_t *count)
{
    int outcome = (message->msg_flags & MSG_CTRUNC) != 0 ? -1 : 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (*count < max) {
                passed[(*count)++] = fd;
            } else {
                close(fd);
                outcome = -1;
            }
        }
    }
    return outcome;
}

imp_status packet_receive(int fd, void *bytes, size_t size, size_t *length, int *passed,
                          size_t passed_max, size_t *passed_count, imp_error *error)
{
    struct iovec vector = {.iov_base = bytes, .iov_len = size};
    union packet_control control;
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *length = 0;
    *passed_count = 0;
    ssize_t received;
    do
        received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return imp_error_set(error, IMP_BUSY, "no message waits");
    if (received < 0 && errno != ECONNRESET)
        return imp_error_set(error, IMP_IO, "cannot receive from the other process: %s",
                             strerror(errno));
    int taken = received < 0 ? 0 : descriptors_take(&message, passed, passed_max, passed_count);
    if (received <= 0) {
        packet_close(passed, *passed_count);
        *passed_count = 0;
        return imp_error_set(error, IMP_UNAVAILABLE, "the other process is gone");
    }
    if (taken != 0 || (message.msg_flags & MSG_TRUNC) != 0) {
        packet_close(passed, *passed_count);
        *passed_count = 0;
        return imp_error_set(error, IMP_CORRUPT, "a packet is too large");
    }
    *length = (size_t)received;
    return IMP_OK;
}

void packet_close(int *passed, size_t passed_count)
{
    for (size_t i = 0; i < passed_count; i++) {
        if (passed[i] >= 0)
            close(passed[i]);
        passed[i] = -1;
    }
}
