/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.c - the table of listeners and who serves them; all on the control thread.
 *
 * The loops see an entry through views: immutable, one pointer a loop, replaced by a post. A view is
 * freed when the last loop has dropped it, and until then it counts as held by its generation.
 */
#include "build-config.h"

#include "core/listener.h"

#include "core/config.h"
#include "core/listener-private.h"
#include "core/self.h"
#include "core/thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener_settings {
    uint32_t count;
    struct listener_setting {
        char *name, *value;
    } items[];
};

/* What imp_listen noted. */
struct serving {
    struct serving *next;
    imp_self *self;
    imp_accepted accepted;
    bool is_published;
    uint8_t refusal_length;
    uint8_t refusal[IMP_REFUSAL_MAX];
};

/* A view on its way to a loop. */
struct view_post {
    struct loop_post post;
    struct listener_part *part;
    struct listener_view *view;
};

struct listener_bounds listener_bounds;

static struct {
    pthread_mutex_t lock; /* the list and the settings, for imp_listener_setting */
    struct listener *first;
    struct serving *servings; /* newest first */
    bool is_started;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Views that hold a generation, by its slot. */
static _Atomic uint32_t views_held[SELF_MAX];

/* ---- references ---- */

void listener_hold(struct listener *listener)
{
    atomic_fetch_add_explicit(&listener->references, 1, memory_order_relaxed);
}

static void settings_free(void *arg)
{
    struct listener_settings *settings = arg;
    if (settings == NULL)
        return;
    for (uint32_t i = 0; i < settings->count; i++) {
        free(settings->items[i].name);
        free(settings->items[i].value);
    }
    free(settings);
}

void listener_drop(struct listener *listener)
{
    if (atomic_fetch_sub_explicit(&listener->references, 1, memory_order_acq_rel) != 1)
        return;
    if (listener->fd >= 0)
        close(listener->fd);
    settings_free(listener->settings);
    free(listener);
}

void listener_view_drop(struct listener_view *view)
{
    if (view == NULL || atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel) != 1)
        return;
    if (view->self != NULL)
        atomic_fetch_sub(&views_held[view->self->slot], 1);
    free(view);
}

/* ---- views ---- */

static void view_arrived(void *arg)
{
    struct view_post *post = arg;
    struct listener *listener = post->part->listener;
    bool is_removal = post->view == NULL;
    listener_part_set(post->part, post->view);
    /* Clients are refused from here, not when the last connection ends. */
    if (is_removal && atomic_fetch_sub(&listener->watchers, 1) == 1) {
        close(listener->fd);
        listener->fd = -1;
    }
    listener_drop(listener);
    free(post);
}

/* Sends `view` (NULL: the entry goes) to every loop; takes over the caller's reference. All posts are
 * made before one is sent: the loops see the change, or the caller sees the failure. */
static imp_status view_send(struct listener *listener, struct listener_view *view, imp_error *error)
{
    const uint32_t count = listener->part_count;
    struct view_post **posts = calloc(count, sizeof(struct view_post *));
    bool is_complete = posts != NULL;

    for (uint32_t i = 0; is_complete && i < count; i++) {
        posts[i] = calloc(1, sizeof *posts[i]);
        is_complete = posts[i] != NULL;
    }
    if (!is_complete) {
        for (uint32_t i = 0; posts != NULL && i < count; i++)
            free(posts[i]);
        free(posts);
        listener_view_drop(view);
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    if (view == NULL)
        atomic_store(&listener->watchers, count);
    for (uint32_t i = 0; i < count; i++) {
        struct view_post *post = posts[i];
        post->post.fn = view_arrived;
        post->post.arg = post;
        post->part = &listener->parts[i];
        post->view = view;
        listener_hold(listener);
        if (view != NULL)
            atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
        if (!loop_post_node(post->part->loop, &post->post))
            view_arrived(post); /* the loop has ended: nobody else touches its part */
    }
    free(posts);
    listener_view_drop(listener->view);
    listener->view = view;
    return IMP_OK;
}

/* What the settings say; who serves is added by view_new. */
struct view_rules {
    enum config_tls tls;
    bool proxy;
    const struct config_network *allow, *proxies;
    uint32_t allow_count, proxies_count;
};

static struct view_rules rules_of_config(const struct config_listener *config)
{
    return (struct view_rules){config->tls,     config->proxy,       config->allow,
                               config->proxies, config->allow_count, config->proxies_count};
}

static struct view_rules rules_of_view(const struct listener_view *view)
{
    return (struct view_rules){view->tls,         view->proxy,
                               view->networks,    view->networks + view->allow_count,
                               view->allow_count, view->proxies_count};
}

static struct listener_view *view_new(const struct view_rules *rules, const struct serving *serving)
{
    uint32_t count = rules->allow_count + rules->proxies_count;
    struct listener_view *view = calloc(1, sizeof *view + count * sizeof view->networks[0]);
    if (view == NULL)
        return NULL;
    atomic_init(&view->references, 1);
    view->tls = rules->tls;
    view->proxy = rules->proxy;
    view->allow_count = rules->allow_count;
    view->proxies_count = rules->proxies_count;
    if (rules->allow_count > 0)
        memcpy(view->networks, rules->allow, rules->allow_count * sizeof view->networks[0]);
    if (rules->proxies_count > 0)
        memcpy(view->networks + rules->allow_count, rules->proxies,
               rules->proxies_count * sizeof view->networks[0]);
    if (serving != NULL) {
        view->self = serving->self;
        view->accepted = serving->accepted;
        view->refusal_length = serving->refusal_length;
        memcpy(view->refusal, serving->refusal, sizeof view->refusal);
        atomic_fetch_add(&views_held[serving->self->slot], 1);
    }
    return view;
}

/* The newest published generation of a module. */
static const struct serving *serving_of(const char *module)
{
    for (const struct serving *serving = table.servings; serving != NULL; serving = serving->next)
        if (serving->is_published && strcmp(imp_self_name(serving->self), module) == 0)
            return serving;
    return NULL;
}

/* Gives an entry to whom it belongs now. */
static imp_status listener_assign(struct listener *listener, imp_error *error)
{
    const struct serving *serving = serving_of(listener->module);
    const struct listener_view *old = listener->view;

    if (old->self == (serving != NULL ? serving->self : NULL))
        return IMP_OK;
    const struct view_rules rules = rules_of_view(old);
    struct listener_view *view = view_new(&rules, serving);
    if (view == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    return view_send(listener, view, error);
}

/* ---- life ---- */

static void sweeper_end(imp_self *self, enum self_stage stage)
{
    (void)stage;
    listener_withdraw(self);
}

static uint32_t sweeper_count(imp_self *self)
{
    return atomic_load(&views_held[self->slot]);
}

imp_status listener_start(const struct listener_limits *limits, imp_error *error)
{
    static struct self_sweeper sweeper = {
        .name = "listener", .end = sweeper_end, .count = sweeper_count};
    static bool is_known; /* a sweeper stays for the process's life */

    if (!is_known)
        self_sweeper_add(&sweeper);
    is_known = true;
    listener_set_limits(limits);
    imp_status status = listener_accept_start(error);
    table.is_started = status == IMP_OK;
    return status;
}

void listener_set_limits(const struct listener_limits *limits)
{
    atomic_store(&listener_bounds.connections_max, limits->connections_max);
    atomic_store(&listener_bounds.connections_per_source_max, limits->connections_per_source_max);
    atomic_store(&listener_bounds.imbalance, limits->imbalance);
    atomic_store(&listener_bounds.proxy_timeout, limits->proxy_timeout);
    atomic_store(&listener_bounds.handshake_timeout, limits->handshake_timeout);
    atomic_store(&listener_bounds.min_rate, limits->min_rate);
    atomic_store(&listener_bounds.min_rate_window, limits->min_rate_window);
}

struct listener_limits listener_limits_of(const struct config_core *core)
{
    return (struct listener_limits){.connections_max = (uint32_t)core->connections_max,
                                    .connections_per_source_max =
                                        (uint32_t)core->connections_per_source_max,
                                    .imbalance = (uint32_t)core->accept_imbalance,
                                    .proxy_timeout = core->proxy_timeout,
                                    .handshake_timeout = core->tls_handshake_timeout,
                                    .min_rate = (uint32_t)core->min_rate,
                                    .min_rate_window = core->min_rate_window};
}

/* Out of the table, away from the loops; freed when the last connection ends. */
static void listener_remove(struct listener *listener)
{
    pthread_mutex_lock(&table.lock);
    struct listener **place = &table.first;
    while (*place != listener)
        place = &(*place)->next;
    *place = listener->next;
    pthread_mutex_unlock(&table.lock);
    /* Without memory for the posts the loops keep their views, and the entry stays for good. */
    if (view_send(listener, NULL, NULL) == IMP_OK)
        listener_drop(listener);
}

void listener_stop(void)
{
    while (table.first != NULL)
        listener_remove(table.first);
    while (table.servings != NULL) {
        struct serving *serving = table.servings;
        table.servings = serving->next;
        free(serving);
    }
    listener_accept_stop();
    table.is_started = false;
}

/* ---- the table ---- */

static struct listener *listener_find(const char *module, const char *name)
{
    for (struct listener *listener = table.first; listener != NULL; listener = listener->next)
        if (strcmp(listener->module, module) == 0 && strcmp(listener->name, name) == 0)
            return listener;
    return NULL;
}

static struct listener_settings *settings_new(const struct config_listener *config)
{
    static const char *const tls_names[] = {
        [CONFIG_TLS_NONE] = "none",
        [CONFIG_TLS_IMPLICIT] = "implicit",
        [CONFIG_TLS_STARTTLS] = "starttls",
    };
    const struct config_listener_setting known[] = {
        {.name = "tls", .value = tls_names[config->tls]},
        {.name = "address", .value = config->address_text != NULL ? config->address_text : ""},
    };
    const uint32_t known_count = sizeof known / sizeof known[0];
    uint32_t count = known_count + config->settings_count;
    struct listener_settings *settings =
        calloc(1, sizeof *settings + count * sizeof settings->items[0]);

    if (settings == NULL)
        return NULL;
    settings->count = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct config_listener_setting *from =
            i < known_count ? &known[i] : &config->settings[i - known_count];
        settings->items[i].name = strdup(from->name);
        settings->items[i].value = strdup(from->value);
        if (settings->items[i].name == NULL || settings->items[i].value == NULL) {
            settings_free(settings);
            return NULL;
        }
    }
    return settings;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&address)->sin6_port);
    return 0;
}

/* The descriptor is a listening stream socket; what is accepted inherits TCP_NODELAY. */
static imp_status fd_prepare(int fd, imp_error *error)
{
    int is_listening = 0;
    const int on = 1;
    socklen_t size = sizeof is_listening;
    int flags = fcntl(fd, F_GETFL);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) != 0 || is_listening == 0)
        return imp_error_set(error, IMP_INVALID, "a listener's descriptor is no listening socket");
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return imp_error_set(error, IMP_IO, "can't prepare a listening socket: %s",
                             strerrordesc_np(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not for local sockets */
    return IMP_OK;
}

static struct listener *listener_new(const struct config_listener *config, int fd)
{
    uint32_t loops = imp_loop_count();
    struct listener *listener = calloc(1, sizeof *listener + loops * sizeof(struct listener_part));
    uint32_t start = 0;

    if (listener == NULL)
        return NULL;
    atomic_init(&listener->references, 1);
    memcpy(listener->module, config->module, sizeof listener->module);
    memcpy(listener->name, config->name, sizeof listener->name);
    listener->fd = fd;
    listener->port = bound_port(fd);
    listener->part_count = loops;
    for (const struct listener *other = table.first; other != NULL; other = other->next)
        start++;
    for (uint32_t i = 0; i < loops; i++) {
        listener->parts[i].listener = listener;
        listener->parts[i].loop = imp_loop_at(i);
        /* Different entries begin at different loops. */
        listener->parts[i].is_acceptor = (i + loops - start % loops) % loops < LISTENER_LOOPS_MAX;
    }
    return listener;
}

imp_status listener_table_add(const struct config_listener *config, int fd, imp_error *error)
{
    struct listener *old = listener_find(config->module, config->name);
    struct listener_settings *settings = NULL;
    struct listener_view *view = NULL;
    imp_status status = IMP_OK;

    if (!table.is_started)
        return imp_error_set(error, IMP_UNAVAILABLE, "the listener table was not started");
    if (old == NULL && fd < 0)
        return imp_error_set(error, IMP_INVALID, "listener %s of module %s has no socket",
                             config->name, config->module);
    if (fd >= 0) {
        status = fd_prepare(fd, error);
        if (status != IMP_OK)
            return status;
    }
    settings = settings_new(config);
    const struct view_rules rules = rules_of_config(config);
    view = view_new(&rules, serving_of(config->module));
    if (settings == NULL || view == NULL) {
        settings_free(settings);
        listener_view_drop(view);
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    if (old != NULL && fd < 0) {
        pthread_mutex_lock(&table.lock);
        struct listener_settings *previous = old->settings;
        old->settings = settings;
        pthread_mutex_unlock(&table.lock);
        thread_defer(settings_free, previous); /* a thread may be reading one of its values */
        return view_send(old, view, error);
    }
    struct listener *listener = listener_new(config, fd);
    if (listener == NULL) {
        settings_free(settings);
        listener_view_drop(view);
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    listener->settings = settings;
    status = view_send(listener, view, error);
    if (status != IMP_OK) {
        listener->fd = -1; /* still the caller's */
        listener_drop(listener);
        return status;
    }
    if (old != NULL)
        listener_remove(old);
    pthread_mutex_lock(&table.lock);
    listener->next = table.first;
    table.first = listener;
    pthread_mutex_unlock(&table.lock);
    return IMP_OK;
}

void listener_table_remove(const char *module, const char *name)
{
    struct listener *listener = table.first;
    while (listener != NULL) {
        struct listener *next = listener->next;
        if (strcmp(listener->module, module) == 0 &&
            (name == NULL || strcmp(listener->name, name) == 0))
            listener_remove(listener);
        listener = next;
    }
}

imp_status listener_bind(const struct config_listener *config, int backlog, int *fd,
                         imp_error *error)
{
    const int on = 1, off = 0;
    int family = config->address.ss_family;

    *fd = -1;
    int made = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0)
        return imp_error_set(error, IMP_IO, "can't make a socket for %s: %s", config->address_text,
                             strerrordesc_np(errno));
    /* Else a restart within a minute of the last connection would be refused its own port. */
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, config->is_any ? &off : &on, sizeof on);
    if (bind(made, (const struct sockaddr *)&config->address, config->address_length) != 0 ||
        listen(made, backlog) != 0) {
        int error_number = errno;
        close(made);
        return imp_error_set(error, error_number == EACCES ? IMP_DENIED : IMP_IO,
                             "can't listen on %s for %s of module %s: %s", config->address_text,
                             config->name, config->module, strerrordesc_np(error_number));
    }
    *fd = made;
    return IMP_OK;
}

void listener_each(void (*each)(const struct listener_info *info, void *arg), void *arg)
{
    for (const struct listener *listener = table.first; listener != NULL;
         listener = listener->next) {
        struct listener_info info = {
            .module = listener->module,
            .name = listener->name,
            .fd = listener->fd,
            .port = listener->port,
            .connections = atomic_load_explicit(&listener->connections, memory_order_relaxed),
            .is_served = listener->view != NULL && listener->view->self != NULL,
        };
        each(&info, arg);
    }
}

/* ---- generations ---- */

static struct serving *serving_find(const imp_self *self)
{
    struct serving *serving = table.servings;
    while (serving != NULL && serving->self != self)
        serving = serving->next;
    return serving;
}

imp_status listener_serve(imp_self *self, imp_accepted accepted, imp_error *error)
{
    if (serving_find(self) != NULL)
        return imp_error_set(error, IMP_EXISTS, "module %s listens already", imp_self_name(self));
    struct serving *serving = calloc(1, sizeof *serving);
    if (serving == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    serving->self = self;
    serving->accepted = accepted;
    serving->next = table.servings;
    table.servings = serving;
    return IMP_OK;
}

imp_status imp_listen(imp_self *self, imp_accepted accepted, imp_error *error)
{
    return listener_serve(self, accepted, error);
}

imp_status imp_listen_refusal(imp_self *self, const void *bytes, size_t length, imp_error *error)
{
    struct serving *serving = serving_find(self);
    if (serving == NULL || serving->is_published || length > sizeof serving->refusal)
        return imp_error_set(error, IMP_INVALID,
                             "a refusal of at most %u bytes is set in start, after imp_listen",
                             IMP_REFUSAL_MAX);
    if (length > 0)
        memcpy(serving->refusal, bytes, length);
    serving->refusal_length = (uint8_t)length;
    return IMP_OK;
}

static imp_status assign_all(const char *module, imp_error *error)
{
    for (struct listener *listener = table.first; listener != NULL; listener = listener->next) {
        if (strcmp(listener->module, module) != 0)
            continue;
        imp_status status = listener_assign(listener, error);
        if (status != IMP_OK)
            return status;
    }
    return IMP_OK;
}

imp_status listener_publish(imp_self *self, imp_error *error)
{
    struct serving *serving = serving_find(self);
    if (serving == NULL)
        return IMP_OK; /* it did not ask */
    serving->is_published = true;
    return assign_all(imp_self_name(self), error);
}

void listener_withdraw(imp_self *self)
{
    struct serving **place = &table.servings;
    while (*place != NULL && (*place)->self != self)
        place = &(*place)->next;
    if (*place == NULL)
        return;
    struct serving *serving = *place;
    *place = serving->next;
    free(serving);
    /* What could not be told to the loops keeps the generation counted, so it stays mapped. */
    (void)assign_all(imp_self_name(self), NULL);
}

const char *imp_listener_setting(imp_self *self, const char *listener_name, const char *name)
{
    const char *value = NULL;

    pthread_mutex_lock(&table.lock);
    const struct listener *listener = listener_find(imp_self_name(self), listener_name);
    const struct listener_settings *settings = listener != NULL ? listener->settings : NULL;
    for (uint32_t i = 0; settings != NULL && i < settings->count && value == NULL; i++)
        if (strcmp(settings->items[i].name, name) == 0)
            value = settings->items[i].value;
    pthread_mutex_unlock(&table.lock);
    return value;
}
