/* SPDX-License-Identifier: Apache-2.0 */
/* control-socket.c - the socket, who may use it, and the connections on it. */
#include "build-config.h"

#include "core/control-request.h"
#include "core/control.h"
#include "core/log.h"
#include "core/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS_MAX                                                                            \
    64u /* people and scripts at one time; each costs a descriptor and a buffer */
#define BACKLOG 16
#define COMMAND_TIMEOUT (10 * IMP_SECOND) /* from connecting to the whole command */
#define CLOSING_TIMEOUT (30 * IMP_SECOND) /* for the client to take the rest of the answer */
#define OUTPUT_MAX ((size_t)64 * 1024 * 1024)
#define GROUPS_MAX 65536u /* NGROUPS_MAX of Linux */
#define READ_SIZE 16384u

enum connection_state {
    WAIT_COMMAND, /* the first frame */
    WAIT_FILES,   /* descriptors of "<FILE" and ">FILE" */
    RUNNING,      /* the verb works; nothing is expected */
    WAIT_SECRETS,
    CLOSING /* what is left goes out, then it ends */
};

struct connection {
    struct control_client client; /* first: a client is its connection */
    struct connection *next, *previous;
    enum connection_state state;
    int fd;
    uint32_t uid;
    loop_watch *watch;
    struct loop_timer timer;
    struct control_buffer input, output;
    int files[CONTROL_FILES_MAX];
    uint32_t file_count;
    uint32_t secrets_wanted;
    struct control_command command;
    const struct control_verb *verb;
    struct control_values values;
};

static struct {
    int fd;
    loop_watch *watch;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    gid_t group;
    bool has_group;
    struct connection *connections;
    uint32_t count;
} control = {.fd = -1};

/* ---- the end of a connection ---- */

static void connection_free(struct connection *connection)
{
    if (connection->client.request != NULL)
        control_request_abandon(connection->client.request);
    loop_timer_disarm(imp_loop_control(), &connection->timer);
    loop_watch_stop(connection->watch);
    close(connection->fd);
    for (uint32_t i = 0; i < connection->file_count; i++)
        close(connection->files[i]);
    control_values_free(&connection->values);
    control_command_free(&connection->command);
    control_buffer_free(&connection->input);
    control_buffer_free(&connection->output);
    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        control.connections = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    control.count--;
    free(connection);
}

static void connection_timeout(struct loop_timer *timer)
{
    struct connection *connection =
        (struct connection *)((char *)timer - offsetof(struct connection, timer));
    connection_free(connection);
}

static void watch_for_output(struct connection *connection)
{
    uint32_t events = LOOP_READ | (connection->output.used > 0 ? LOOP_WRITE : 0);
    if (loop_watch_set(connection->watch, events) != IMP_OK)
        imp_log(NULL, IMP_LOG_ERROR, "control.watch-failed", "fd=%d", connection->fd);
}

static void begin_closing(struct connection *connection)
{
    connection->state = CLOSING;
    loop_timer_arm(imp_loop_control(), &connection->timer, imp_ticks() + CLOSING_TIMEOUT);
    /* Even with nothing to send: the loop then sees it writable and ends it. */
    if (loop_watch_set(connection->watch, LOOP_READ | LOOP_WRITE) != IMP_OK)
        imp_log(NULL, IMP_LOG_ERROR, "control.watch-failed", "fd=%d", connection->fd);
}

static void refuse(struct connection *connection, imp_status status, const char *message)
{
    if (!control_done_add(&connection->output, status, message))
        imp_log(NULL, IMP_LOG_ERROR, "control.no-memory", "fd=%d", connection->fd);
    begin_closing(connection);
}

/* ---- what requests want of it ---- */

static void client_send(struct control_client *client, struct control_buffer *frames)
{
    struct connection *connection = (struct connection *)client;
    if (connection->output.used + frames->used > OUTPUT_MAX ||
        !control_buffer_add(&connection->output, frames->data, frames->used)) {
        imp_log(NULL, IMP_LOG_WARNING, "control.answer-dropped", "bytes=%zu",
                connection->output.used + frames->used);
        /* It can't be told apart from a whole answer any more: cut. */
        connection->output.used = 0;
        shutdown(connection->fd, SHUT_RDWR);
        return;
    }
    watch_for_output(connection);
}

static void client_ask(struct control_client *client, uint32_t count)
{
    struct connection *connection = (struct connection *)client;
    connection->secrets_wanted = count;
    connection->state = WAIT_SECRETS;
}

static void client_done(struct control_client *client, int exit_status)
{
    (void)exit_status;
    begin_closing((struct connection *)client);
}

static const struct control_client_kind connection_kind = {client_send, client_ask, client_done};

/* ---- what comes in ---- */

static void run_command(struct connection *connection)
{
    connection->state = RUNNING;
    loop_timer_disarm(imp_loop_control(), &connection->timer);
    if (!control_request_start(&connection->client, connection->uid, connection->verb,
                               &connection->values))
        refuse(connection, IMP_LIMIT, "out of memory");
}

/* Asks for the descriptors of file arguments; false when there are none. */
static bool ask_for_files(struct connection *connection)
{
    json_t *files = json_array();
    for (uint32_t i = 0; i < connection->values.count; i++) {
        const struct control_value *value = &connection->values.items[i];
        if (value->file != CONTROL_FILE_NONE)
            json_array_append_new(
                files, json_pack("{s:s, s:s, s:s}", "name", value->name, "path", value->text,
                                 "mode", value->file == CONTROL_FILE_READ ? "read" : "create"));
    }
    size_t count = json_array_size(files);
    if (count == 0) {
        json_decref(files);
        return false;
    }
    if (count > CONTROL_FILES_MAX) {
        json_decref(files);
        refuse(connection, IMP_INVALID, "more files than one command may name");
        return true;
    }
    if (!control_frame_add_json(&connection->output, json_pack("{s:o}", "files", files))) {
        refuse(connection, IMP_LIMIT, "out of memory");
        return true;
    }
    connection->state = WAIT_FILES;
    watch_for_output(connection);
    return true;
}

static void take_command(struct connection *connection, const struct control_frame *frame)
{
    imp_error error = {0};
    uint32_t used;
    if (control_command_parse(frame->payload, frame->length, &connection->command, &error) !=
        IMP_OK) {
        refuse(connection, IMP_INVALID, error.message);
        return;
    }
    const char *const *words = connection->command.words;
    uint32_t count = connection->command.count;
    connection->verb = control_verb_find(words, count, &used);
    if (connection->verb == NULL) {
        control_unknown_verb(words, count, &error);
        refuse(connection, IMP_INVALID, error.message);
        return;
    }
    if (control_values_parse(connection->verb, words + used, count - used, &connection->values,
                             &error) != IMP_OK) {
        refuse(connection, error.status, error.message);
        return;
    }
    if (!ask_for_files(connection))
        run_command(connection);
}

static void take_files(struct connection *connection, const struct control_frame *frame)
{
    uint32_t next = 0, used;
    if (frame->length != connection->file_count) {
        refuse(connection, IMP_INVALID, "the files that were asked for did not come");
        return;
    }
    /* The verb's module may have gone while the files were opened. */
    connection->verb =
        control_verb_find(connection->command.words, connection->command.count, &used);
    for (uint32_t i = 0; i < connection->values.count; i++) {
        struct control_value *value = &connection->values.items[i];
        if (value->file == CONTROL_FILE_NONE)
            continue;
        if (next == connection->file_count) {
            next = UINT32_MAX;
            break;
        }
        value->fd = connection->files[next];
        connection->files[next++] = -1;
    }
    bool fits = next == connection->file_count;
    for (uint32_t i = 0; i < connection->file_count; i++)
        if (connection->files[i] >= 0)
            close(connection->files[i]);
    connection->file_count = 0;
    if (!fits)
        refuse(connection, IMP_INVALID, "the files that were asked for did not come");
    else if (connection->verb == NULL)
        refuse(connection, IMP_UNAVAILABLE, "the module of this command was unloaded");
    else
        run_command(connection);
}

static void take_secrets(struct connection *connection, const struct control_frame *frame)
{
    const char *values[CONTROL_SECRETS_MAX];
    uint32_t count = 0;
    const char *p = frame->payload, *end = frame->payload + frame->length;
    while (p < end && count < connection->secrets_wanted) {
        const char *nul = memchr(p, '\0', (size_t)(end - p));
        if (nul == NULL || !imp_utf8_is_valid(p, (size_t)(nul - p)))
            break;
        values[count++] = p;
        p = nul + 1;
    }
    connection->state = RUNNING;
    if (count == connection->secrets_wanted && p == end) {
        control_request_answer(connection->client.request, values, count);
        return;
    }
    /* The verb hears that nobody answered; the client why. */
    imp_request *request = connection->client.request;
    connection->client.request = NULL;
    control_request_abandon(request);
    refuse(connection, IMP_INVALID,
           "the secrets that were asked for did not come, or are no UTF-8");
}

static void take_frame(struct connection *connection, const struct control_frame *frame)
{
    static const struct {
        enum control_frame_kind kind;
        void (*take)(struct connection *connection, const struct control_frame *frame);
    } expected[] = {
        [WAIT_COMMAND] = {CONTROL_FRAME_JSON, take_command},
        [WAIT_FILES] = {CONTROL_FRAME_FILES, take_files},
        [WAIT_SECRETS] = {CONTROL_FRAME_SECRETS, take_secrets},
    };
    enum connection_state state = connection->state;
    if (state == CLOSING)
        return;
    if (state == RUNNING || expected[state].kind != frame->kind) {
        if (connection->client.request != NULL) {
            imp_request *request = connection->client.request;
            connection->client.request = NULL;
            control_request_abandon(request);
        }
        refuse(connection, IMP_INVALID, "a frame on the control socket that was not asked for");
        return;
    }
    expected[state].take(connection, frame);
}

/* Keeps descriptors that came with data; any beyond what a command may have are closed. */
static void keep_files(struct connection *connection, struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (connection->state == WAIT_FILES && connection->file_count < CONTROL_FILES_MAX)
                connection->files[connection->file_count++] = fd;
            else
                close(fd);
        }
    }
}

/* False when the peer has ended. */
static bool read_input(struct connection *connection)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(CONTROL_FILES_MAX * sizeof(int))];
    } control_part;
    char *room = control_buffer_room(&connection->input, READ_SIZE);
    if (room == NULL)
        return false;
    struct iovec part = {.iov_base = room, .iov_len = READ_SIZE};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control_part,
                             .msg_controllen = sizeof control_part};
    ssize_t length = recvmsg(connection->fd, &message, MSG_CMSG_CLOEXEC);
    if (length < 0)
        return errno == EAGAIN || errno == EINTR;
    keep_files(connection, &message);
    connection->input.used += (size_t)length;
    return length > 0;
}

/* False when the connection must end. */
static bool write_output(struct connection *connection)
{
    if (connection->output.used > 0) {
        ssize_t length =
            send(connection->fd, connection->output.data, connection->output.used, MSG_NOSIGNAL);
        if (length < 0)
            return errno == EAGAIN || errno == EINTR;
        control_buffer_consume(&connection->output, (size_t)length);
    }
    return connection->output.used > 0 || connection->state != CLOSING;
}

static void connection_ready(int fd, uint32_t events, void *arg)
{
    struct connection *connection = arg;
    struct control_frame frame;
    (void)fd;
    if ((events & LOOP_READ) != 0) {
        if (!read_input(connection)) {
            /* What is still to be sent has no reader. */
            connection_free(connection);
            return;
        }
        imp_status status;
        while ((status = control_frame_next(&connection->input, CONTROL_COMMAND_MAX, &frame)) ==
               IMP_OK) {
            take_frame(connection, &frame);
            control_buffer_consume(&connection->input, frame.whole);
        }
        if (status != IMP_BUSY && connection->state != CLOSING) {
            if (connection->client.request != NULL) {
                control_request_abandon(connection->client.request);
                connection->client.request = NULL;
            }
            refuse(connection, IMP_INVALID, "a frame on the control socket that can't be read");
        }
        if (connection->state == CLOSING)
            control_buffer_consume(&connection->input, connection->input.used);
    }
    if ((events & LOOP_WRITE) != 0) {
        if (!write_output(connection)) {
            connection_free(connection);
            return;
        }
        if (connection->state != CLOSING)
            watch_for_output(connection);
    }
}

/* ---- who may ---- */

static bool peer_has_group(int fd)
{
    gid_t few[64], *groups = few;
    socklen_t size = sizeof few;
    bool is_member = false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0) {
        if (errno != ERANGE || size > GROUPS_MAX * sizeof(gid_t))
            return false;
        groups = malloc(size);
        if (groups == NULL)
            return false;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
            size = 0;
    }
    for (size_t i = 0; i < size / sizeof(gid_t); i++)
        is_member = is_member || groups[i] == control.group;
    if (groups != few)
        free(groups);
    return is_member;
}

/* By the kernel's word; the socket's mode says the same, but lies in a folder that others set up. */
static bool peer_may(int fd, uint32_t *uid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    *uid = peer.uid;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    return control.has_group && (peer.gid == control.group || peer_has_group(fd));
}

static void accept_ready(int fd, uint32_t events, void *arg)
{
    (void)events;
    (void)arg;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            imp_log_limited(NULL, 10000, IMP_LOG_ERROR, "control.accept-failed", "reason=\"%s\"",
                            strerror(errno));
        return;
    }
    struct connection *connection =
        control.count >= CONNECTIONS_MAX ? NULL : calloc(1, sizeof *connection);
    if (connection == NULL) {
        imp_log_limited(NULL, 10000, IMP_LOG_WARNING, "control.full", "connections=%u",
                        control.count);
        close(peer);
        return;
    }
    connection->client.kind = &connection_kind;
    connection->fd = peer;
    connection->timer.fn = connection_timeout;
    connection->watch =
        loop_watch_start(imp_loop_control(), peer, LOOP_READ, connection_ready, connection);
    if (connection->watch == NULL) {
        close(peer);
        free(connection);
        return;
    }
    connection->next = control.connections;
    if (connection->next != NULL)
        connection->next->previous = connection;
    control.connections = connection;
    control.count++;
    loop_timer_arm(imp_loop_control(), &connection->timer, imp_ticks() + COMMAND_TIMEOUT);
    if (!peer_may(peer, &connection->uid)) {
        imp_log_limited(NULL, 10000, IMP_LOG_WARNING, "control.denied", "uid=%u", connection->uid);
        refuse(connection, IMP_DENIED,
               "only root and members of the control group may use this socket");
    }
}

/* ---- the socket ---- */

static void find_group(const char *name)
{
    struct group group, *found = NULL;
    char buffer[16384];
    control.has_group = false;
    if (*name == '\0')
        return;
    if (getgrnam_r(name, &group, buffer, sizeof buffer, &found) == 0 && found != NULL) {
        control.group = group.gr_gid;
        control.has_group = true;
    } else {
        imp_log(
            NULL, IMP_LOG_NOTICE, "control.no-group",
            "group=\"%s\" reason=\"no such group: only root and our own user may use imprimctl\"",
            name);
    }
}

static bool someone_answers(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    /* EAGAIN: a full backlog, so somebody holds it. */
    bool answers =
        connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;
    close(fd);
    return answers;
}

imp_status control_start(const char *run_dir, const char *group, imp_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX}, fresh = {.sun_family = AF_UNIX};
    imp_status status = IMP_OK;
    bool is_bound = false;
    int length =
        snprintf(address.sun_path, sizeof address.sun_path, "%s/" CONTROL_SOCKET_NAME, run_dir);
    int fresh_length =
        snprintf(fresh.sun_path, sizeof fresh.sun_path, "%s/." CONTROL_SOCKET_NAME ".new", run_dir);
    if (length < 0 || fresh_length < 0 || (size_t)length >= sizeof address.sun_path ||
        (size_t)fresh_length >= sizeof fresh.sun_path)
        return imp_error_set(error, IMP_INVALID,
                             "run_dir: found \"%s\", expected a path of at most %zu bytes (the "
                             "control socket's path is bounded by the system)",
                             run_dir,
                             sizeof fresh.sun_path - sizeof "/." CONTROL_SOCKET_NAME ".new");
    if (someone_answers(&address))
        return imp_error_set(error, IMP_EXISTS, "another server answers at %s", address.sun_path);
    find_group(group);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return imp_error_set(error, IMP_IO, "can't make the control socket: %s", strerror(errno));
    /* Under another name until mode and group are right: nobody finds it half done. */
    unlink(fresh.sun_path);
    if (bind(fd, (const struct sockaddr *)&fresh, sizeof fresh) != 0 || !(is_bound = true) ||
        chmod(fresh.sun_path, 0660) != 0 || listen(fd, BACKLOG) != 0) {
        status = imp_error_set(error, IMP_IO, "can't make the control socket %s: %s",
                               address.sun_path, strerror(errno));
        goto done;
    }
    if (control.has_group && chown(fresh.sun_path, (uid_t)-1, control.group) != 0)
        imp_log(NULL, IMP_LOG_WARNING, "control.group-not-set",
                "group=\"%s\" reason=\"%s\" hint=\"the server's user must be a member\"", group,
                strerror(errno));
    if (rename(fresh.sun_path, address.sun_path) != 0) {
        status = imp_error_set(error, IMP_IO, "can't make the control socket %s: %s",
                               address.sun_path, strerror(errno));
        goto done;
    }
    is_bound = false;
    control.watch = loop_watch_start(imp_loop_control(), fd, LOOP_READ, accept_ready, NULL);
    if (control.watch == NULL) {
        unlink(address.sun_path);
        status = imp_error_set(error, IMP_IO, "the control loop refuses the control socket");
        goto done;
    }
    control.fd = fd;
    memcpy(control.path, address.sun_path, sizeof control.path);
    fd = -1;
done:
    if (is_bound)
        unlink(fresh.sun_path);
    if (fd >= 0)
        close(fd);
    return status;
}

void control_stop(void)
{
    if (control.fd < 0)
        return;
    loop_watch_stop(control.watch);
    unlink(control.path);
    close(control.fd);
    control.watch = NULL;
    control.fd = -1;
    while (control.connections != NULL) {
        (void)write_output(control.connections); /* what the system takes at once */
        connection_free(control.connections);
    }
}
