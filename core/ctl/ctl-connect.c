/* SPDX-License-Identifier: Apache-2.0 */
/* ctl-connect.c - talking to the server. */
#include "build-config.h"

#include "core/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_SIZE 16384u
#define NEW_FILE_MODE 0600 /* backups and exports */

imp_status ctl_connect(struct ctl_connection *connection, const char *path, imp_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *connection = (struct ctl_connection){.fd = -1, .path = path};
    if (strlen(path) >= sizeof address.sun_path)
        return imp_error_set(error, IMP_INVALID, "the socket's path is too long: %s", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return imp_error_set(error, IMP_IO, "can't make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int reason = errno;
        close(fd);
        if (reason == EACCES)
            return imp_error_set(error, IMP_DENIED,
                                 "no permission to use %s: be root or in the control group", path);
        return imp_error_set(error, IMP_UNAVAILABLE, "no server answers at %s (%s)", path,
                             strerror(reason));
    }
    connection->fd = fd;
    return IMP_OK;
}

void ctl_disconnect(struct ctl_connection *connection)
{
    if (connection->fd >= 0)
        close(connection->fd);
    control_buffer_free(&connection->input);
    connection->fd = -1;
}

json_t *ctl_receive(struct ctl_connection *connection, imp_error *error)
{
    struct control_frame frame;
    imp_status status;
    while ((status = control_frame_next(&connection->input, CONTROL_ANSWER_MAX, &frame)) ==
           IMP_BUSY) {
        char *room = control_buffer_room(&connection->input, READ_SIZE);
        ssize_t length = room == NULL ? -1 : read(connection->fd, room, READ_SIZE);
        if (length < 0 && room != NULL && errno == EINTR)
            continue;
        if (length <= 0) {
            imp_error_set(error, IMP_UNAVAILABLE,
                          "the server at %s ended the conversation before it had answered",
                          connection->path);
            return NULL;
        }
        connection->input.used += (size_t)length;
    }
    if (status != IMP_OK || frame.kind != CONTROL_FRAME_JSON) {
        imp_error_set(error, IMP_CORRUPT, "what answers at %s is no server of ours",
                      connection->path);
        return NULL;
    }
    json_t *json = control_frame_parse(frame.payload, frame.length, error);
    control_buffer_consume(&connection->input, frame.whole);
    return json;
}

/* Sends all bytes, with descriptors beside the first. A server that has hung up may have said why:
 * what it said is read by the next receive, so that is no error here. */
static imp_status send_all(struct ctl_connection *connection, const struct control_buffer *frames,
                           const int *files, size_t file_count, imp_error *error)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(CONTROL_FILES_MAX * sizeof(int))];
    } control = {0};
    size_t sent = 0;
    while (sent < frames->used) {
        struct iovec part = {.iov_base = frames->data + sent, .iov_len = frames->used - sent};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (sent == 0 && file_count > 0) {
            message.msg_control = &control;
            message.msg_controllen = CMSG_SPACE(file_count * sizeof(int));
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(file_count * sizeof(int));
            memcpy(CMSG_DATA(header), files, file_count * sizeof(int));
        }
        ssize_t length = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && (errno == EPIPE || errno == ECONNRESET))
            return IMP_OK;
        if (length < 0)
            return imp_error_set(error, IMP_IO, "can't send to %s: %s", connection->path,
                                 strerror(errno));
        sent += (size_t)length;
    }
    return IMP_OK;
}

imp_status ctl_send_command(struct ctl_connection *connection, char *const *words, int count,
                            bool is_json, imp_error *error)
{
    struct control_buffer frames = {0};
    imp_status status;
    json_t *argv = json_array();
    for (int i = 0; i < count; i++) {
        json_t *word = json_string(words[i]); /* NULL for what is no UTF-8 */
        if (word == NULL) {
            json_decref(argv);
            return imp_error_set(error, IMP_INVALID, "argument %d is no UTF-8", i + 1);
        }
        json_array_append_new(argv, word);
    }
    if (!control_frame_add_json(&frames,
                                json_pack("{s:o, s:b}", "argv", argv, "json", is_json ? 1 : 0)))
        status = imp_error_set(error, IMP_LIMIT, "out of memory");
    else if (frames.used > CONTROL_COMMAND_MAX)
        status = imp_error_set(error, IMP_INVALID, "the command line is too long");
    else
        status = send_all(connection, &frames, NULL, 0, error);
    control_buffer_free(&frames);
    return status;
}

/* A server opens nothing with our rights but what our own words name. */
static bool stands_in_words(const char *path, char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(words[i], '=');
        if (strcmp(words[i], path) == 0 ||
            (strncmp(words[i], "--", 2) == 0 && equals != NULL && strcmp(equals + 1, path) == 0))
            return true;
    }
    return false;
}

static int open_file(const char *path, const char *mode)
{
    bool is_reading = strcmp(mode, "read") == 0;
    if (strcmp(path, "-") == 0)
        return fcntl(is_reading ? STDIN_FILENO : STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    /* An older file is never overwritten: it may be the only good backup. */
    return is_reading ? open(path, O_RDONLY | O_CLOEXEC)
                      : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, NEW_FILE_MODE);
}

imp_status ctl_send_files(struct ctl_connection *connection, const json_t *files,
                          char *const *words, int count, imp_error *error)
{
    int descriptors[CONTROL_FILES_MAX];
    size_t opened = 0;
    imp_status status = IMP_OK;
    struct control_buffer frames = {0};
    if (json_array_size(files) > CONTROL_FILES_MAX)
        return imp_error_set(error, IMP_CORRUPT, "the server asks for too many files");
    for (; opened < json_array_size(files) && status == IMP_OK; opened++) {
        const json_t *file = json_array_get(files, opened);
        const char *path = json_string_value(json_object_get(file, "path"));
        const char *mode = json_string_value(json_object_get(file, "mode"));
        if (path == NULL || mode == NULL || !stands_in_words(path, words, count)) {
            status = imp_error_set(error, IMP_DENIED,
                                   "the server asks for a file that the command does not name");
            break;
        }
        descriptors[opened] = open_file(path, mode);
        if (descriptors[opened] < 0) {
            status = imp_error_set(error, IMP_IO, "can't open %s: %s", path, strerror(errno));
            break;
        }
    }
    if (status == IMP_OK) {
        static const char marks[CONTROL_FILES_MAX];
        if (!control_frame_add(&frames, CONTROL_FRAME_FILES, marks, opened))
            status = imp_error_set(error, IMP_LIMIT, "out of memory");
        else
            status = send_all(connection, &frames, descriptors, opened, error);
    }
    for (size_t i = 0; i < opened; i++)
        close(descriptors[i]);
    control_buffer_free(&frames);
    return status;
}

imp_status ctl_send_secrets(struct ctl_connection *connection, const json_t *names,
                            imp_error *error)
{
    struct control_buffer secrets = {0}, frames = {0};
    char secret[CTL_SECRET_MAX];
    imp_status status = IMP_OK;
    for (size_t i = 0; i < json_array_size(names) && status == IMP_OK; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        size_t length = 0;
        status = ctl_secret_read(name == NULL ? "secret" : name, secret, &length, error);
        if (status == IMP_OK && !control_buffer_add(&secrets, secret, length + 1))
            status = imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    if (status == IMP_OK) {
        if (!control_frame_add(&frames, CONTROL_FRAME_SECRETS, secrets.data, secrets.used))
            status = imp_error_set(error, IMP_LIMIT, "out of memory");
        else
            status = send_all(connection, &frames, NULL, 0, error);
    }
    imp_wipe(secret, sizeof secret);
    control_buffer_free(&secrets);
    control_buffer_free(&frames);
    return status;
}
