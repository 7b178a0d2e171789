/* SPDX-License-Identifier: Apache-2.0 */
/* config-listen.c - reads `listen`; all that the supervisor takes from a module's file. */
#include "build-config.h"

#include "core/config-listen.h"
#include "core/config-private.h"

#include <arpa/inet.h>
#include <imprimatur/network.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_EXPECTED                                                                           \
    "\"*:PORT\", \"192.0.2.7:PORT\" or \"[2001:db8::7]:PORT\" with a port from 1 to 65535"
#define NETWORK_EXPECTED "networks such as [ \"10.0.0.0/8\", \"2001:db8::/32\" ]"
#define LISTEN_EXPECTED "a list of groups such as ( { name = \"lpd\"; address = \"*:515\"; } )"

/* ---- addresses and networks ---- */

static bool parse_port(const char *text, uint16_t *port)
{
    uint32_t number = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        number = number * 10 + (uint32_t)(*text - '0');
        if (number > UINT16_MAX)
            return false;
    }
    *port = (uint16_t)number;
    return number > 0;
}

imp_status config_parse_address(const char *text, struct sockaddr_storage *address,
                                socklen_t *length, bool *is_any)
{
    char host[INET6_ADDRSTRLEN + 3];
    uint16_t port;
    const char *split = strrchr(text, ' ');
    if (split == NULL)
        split = strrchr(text, ':');
    if (split == NULL || (size_t)(split - text) >= sizeof host || !parse_port(split + 1, &port))
        return IMP_INVALID;
    memcpy(host, text, (size_t)(split - text));
    host[split - text] = '\0';

    struct sockaddr_storage made = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&made;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&made;
    size_t host_length = strlen(host);
    *is_any = strcmp(host, "*") == 0;
    if (*is_any) {
        v6->sin6_family = AF_INET6;
        v6->sin6_addr = in6addr_any;
        v6->sin6_port = htons(port);
    } else if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
    } else {
        /* Brackets keep the last colon of an IPv6 address apart from the port's; with a blank before
         * the port they can be left out. */
        char *plain = host;
        bool has_brackets = host_length > 2 && host[0] == '[' && host[host_length - 1] == ']';
        if (has_brackets) {
            host[host_length - 1] = '\0';
            plain = host + 1;
        }
        if ((!has_brackets && *split == ':') || inet_pton(AF_INET6, plain, &v6->sin6_addr) != 1)
            return IMP_INVALID;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
    }
    *address = made;
    *length = made.ss_family == AF_INET ? sizeof *v4 : sizeof *v6;
    return IMP_OK;
}

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

imp_status config_parse_network(const char *text, struct config_network *network)
{
    struct config_network made = {.prefix = 0};
    imp_network parsed;
    imp_status status = imp_network_parse(text, &parsed, NULL);
    if (status != IMP_OK)
        return status;
    if (parsed.family == 4) {
        memcpy(made.bytes, v4_mapped, sizeof v4_mapped);
        memcpy(made.bytes + sizeof v4_mapped, parsed.prefix, 4);
        made.prefix = (uint8_t)(8 * sizeof v4_mapped + parsed.length);
    } else {
        memcpy(made.bytes, parsed.prefix, sizeof made.bytes);
        made.prefix = parsed.length;
    }
    *network = made;
    return IMP_OK;
}

bool config_network_contains(const struct config_network *network, const struct sockaddr *address)
{
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        memcpy(bytes, v4_mapped, sizeof v4_mapped);
        memcpy(bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
    } else {
        return false;
    }
    size_t whole = network->prefix / 8u;
    if (memcmp(bytes, network->bytes, whole) != 0)
        return false;
    uint32_t rest = network->prefix % 8u;
    return rest == 0 || ((bytes[whole] ^ network->bytes[whole]) >> (8 - rest)) == 0;
}

bool config_networks_contain(const struct config_network *networks, uint32_t count,
                             const struct sockaddr *address)
{
    for (uint32_t i = 0; i < count; i++)
        if (config_network_contains(&networks[i], address))
            return true;
    return false;
}

bool config_listener_allows(const struct config_listener *listener, const struct sockaddr *address)
{
    return listener->allow_count == 0 ||
           config_networks_contain(listener->allow, listener->allow_count, address);
}

/* ---- reading ---- */

struct listen_reader {
    const char *module, *label;
    struct arena *arena;
    imp_error *error;
    uint32_t index; /* of the group in the list */
};

static imp_status fail(const struct listen_reader *reader, const config_setting_t *setting,
                       const char *name, const char *found, const char *expected)
{
    char where[CONFIG_PATH_SIZE], path[CONFIG_PATH_SIZE];
    if (name == NULL)
        snprintf(path, sizeof path, "%s.listen", reader->module);
    else
        snprintf(path, sizeof path, "%s.listen[%u].%s", reader->module, reader->index, name);
    return config_value_error(reader->error, config_file_where(setting, reader->label, where), path,
                              found, expected);
}

static imp_status fail_value(const struct listen_reader *reader, const config_setting_t *setting,
                             const char *name, const char *expected)
{
    char found[CONFIG_FOUND_SIZE];
    return fail(reader, setting, name, config_value_found(setting, found), expected);
}

static imp_status read_name(const struct listen_reader *reader, const config_setting_t *setting,
                            struct config_listener *listener)
{
    const char *text = config_setting_get_string(setting);
    if (config_setting_type(setting) != CONFIG_TYPE_STRING || text == NULL ||
        !config_name_is_valid(text, sizeof listener->name))
        return fail_value(
            reader, setting, "name",
            "a name such as \"lpd\": at most 31 of a-z, 0-9 and \"-\", a letter first");
    memcpy(listener->name, text, strlen(text) + 1);
    return IMP_OK;
}

static imp_status read_address(const struct listen_reader *reader, const config_setting_t *setting,
                               struct config_listener *listener)
{
    const char *text = config_setting_get_string(setting);
    if (config_setting_type(setting) != CONFIG_TYPE_STRING || text == NULL ||
        config_parse_address(text, &listener->address, &listener->address_length,
                             &listener->is_any) != IMP_OK)
        return fail_value(reader, setting, "address", ADDRESS_EXPECTED);
    listener->address_text = arena_strdup(reader->arena, text);
    listener->port = ntohs(listener->address.ss_family == AF_INET
                               ? ((struct sockaddr_in *)&listener->address)->sin_port
                               : ((struct sockaddr_in6 *)&listener->address)->sin6_port);
    return IMP_OK;
}

static imp_status read_tls(const struct listen_reader *reader, const config_setting_t *setting,
                           struct config_listener *listener)
{
    static const imp_option row = {.type = IMP_OPTION_ENUM, .choices = "none|implicit|starttls"};
    char expected[CONFIG_EXPECTED_SIZE];
    int64_t choice;
    if (!config_value_from_setting(&row, setting, &choice))
        return fail_value(reader, setting, "tls", config_value_expected(&row, expected));
    listener->tls = (enum config_tls)choice;
    return IMP_OK;
}

static imp_status read_proxy(const struct listen_reader *reader, const config_setting_t *setting,
                             struct config_listener *listener)
{
    if (config_setting_type(setting) != CONFIG_TYPE_BOOL)
        return fail_value(reader, setting, "proxy", "true or false");
    listener->proxy = config_setting_get_bool(setting) != 0;
    return IMP_OK;
}

static imp_status read_networks(const struct listen_reader *reader, const config_setting_t *setting,
                                const char *name, const char *expected_when_empty,
                                const struct config_network **result, uint32_t *result_count)
{
    char found[CONFIG_FOUND_SIZE];
    if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
        return fail_value(reader, setting, name, NETWORK_EXPECTED);
    uint32_t count = (uint32_t)config_setting_length(setting);
    if (count == 0)
        return fail(reader, setting, name, "no network", expected_when_empty);
    if (count > CONFIG_NETWORKS_MAX) {
        snprintf(found, sizeof found, "%u networks", count);
        return fail(reader, setting, name, found, "at most " IMP_STRING(1024));
    }
    struct config_network *networks = arena_alloc(reader->arena, count * sizeof *networks);
    if (networks == NULL)
        return imp_error_set(reader->error, IMP_LIMIT, "out of memory");
    for (uint32_t i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(setting, i);
        const char *text = config_setting_get_string(element);
        if (config_setting_type(element) != CONFIG_TYPE_STRING || text == NULL ||
            config_parse_network(text, &networks[i]) != IMP_OK)
            return fail_value(reader, element, name,
                              NETWORK_EXPECTED ", no bits set behind the prefix");
        networks[i].text = arena_strdup(reader->arena, text);
    }
    *result = networks;
    *result_count = count;
    return IMP_OK;
}

static imp_status read_allow(const struct listen_reader *reader, const config_setting_t *setting,
                             struct config_listener *listener)
{
    return read_networks(reader, setting, "allow",
                         NETWORK_EXPECTED "; leave it out to allow everybody", &listener->allow,
                         &listener->allow_count);
}

static imp_status read_proxies(const struct listen_reader *reader, const config_setting_t *setting,
                               struct config_listener *listener)
{
    return read_networks(reader, setting, "proxies", NETWORK_EXPECTED, &listener->proxies,
                         &listener->proxies_count);
}

/* A setting that belongs to the module: kept as text. */
static imp_status read_other(const struct listen_reader *reader, const config_setting_t *setting,
                             struct config_listener *listener)
{
    char found[CONFIG_FOUND_SIZE];
    const char *name = config_setting_name(setting), *text;
    const imp_option row = {.type = IMP_OPTION_STRING};
    if (config_setting_type(setting) == CONFIG_TYPE_STRING) {
        if (!config_value_from_setting(&row, setting, &text))
            return fail_value(reader, setting, name,
                              "a string in quotes, UTF-8 without control characters");
    } else if (config_setting_is_scalar(setting)) {
        text = config_value_found(setting, found);
    } else {
        return fail_value(reader, setting, name, "a string, a number, true or false");
    }
    /* Counted in advance by the caller. */
    struct config_listener_setting *settings = (struct config_listener_setting *)listener->settings;
    settings[listener->settings_count].name = arena_strdup(reader->arena, name);
    settings[listener->settings_count].value = arena_strdup(reader->arena, text);
    listener->settings_count++;
    return IMP_OK;
}

static const struct {
    const char *name;
    imp_status (*read)(const struct listen_reader *reader, const config_setting_t *setting,
                       struct config_listener *listener);
    bool is_required;
    const char *expected;
} listen_rows[] = {
    {"name", read_name, true, "name = \"lpd\";"},
    {"address", read_address, true, ADDRESS_EXPECTED},
    {"tls", read_tls, false, NULL},
    {"allow", read_allow, false, NULL},
    {"proxy", read_proxy, false, NULL},
    {"proxies", read_proxies, false, NULL},
};
#define LISTEN_ROWS (sizeof listen_rows / sizeof listen_rows[0])

static imp_status read_listener(const struct listen_reader *reader, const config_setting_t *group,
                                struct config_listener *listener)
{
    char where[CONFIG_PATH_SIZE];
    int count = config_setting_length(group);
    snprintf(listener->module, sizeof listener->module, "%s", reader->module);
    listener->origin = arena_strdup(reader->arena, config_file_where(group, reader->label, where));
    listener->settings = arena_alloc(reader->arena, (size_t)count * sizeof *listener->settings + 1);
    if (listener->settings == NULL)
        return imp_error_set(reader->error, IMP_LIMIT, "out of memory");
    for (int i = 0; i < count; i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        size_t row = 0;
        while (row < LISTEN_ROWS &&
               strcmp(listen_rows[row].name, config_setting_name(setting)) != 0)
            row++;
        imp_status status = row < LISTEN_ROWS ? listen_rows[row].read(reader, setting, listener)
                                              : read_other(reader, setting, listener);
        if (status != IMP_OK)
            return status;
    }
    for (size_t row = 0; row < LISTEN_ROWS; row++)
        if (listen_rows[row].is_required &&
            config_setting_get_member(group, listen_rows[row].name) == NULL)
            return fail(reader, group, listen_rows[row].name, "nothing", listen_rows[row].expected);
    /* Else whoever reaches the port could say that it is somebody else. */
    if (listener->proxy && listener->proxies_count == 0)
        return fail(reader, group, "proxies", "nothing",
                    "the addresses of the proxies whose header is believed, such as [ "
                    "\"192.0.2.4\" ]: proxy is true");
    if (!listener->proxy && listener->proxies_count > 0)
        return fail(reader, group, "proxy", "false", "true: proxies are given");
    return IMP_OK;
}

static imp_status refuse_twice(const struct listen_reader *reader, const config_setting_t *group,
                               const struct config_listener *items, uint32_t count,
                               const struct config_listener *listener)
{
    char found[CONFIG_PATH_SIZE];
    for (uint32_t i = 0; i < count; i++) {
        const struct config_listener *other = &items[i];
        if (strcmp(other->module, listener->module) == 0 &&
            strcmp(other->name, listener->name) == 0) {
            snprintf(found, sizeof found, "\"%s\" a second time (also at %s)", listener->name,
                     other->origin);
            return fail(reader, group, "name", found, "a name of its own for each listener");
        }
        if (other->address_length == listener->address_length &&
            memcmp(&other->address, &listener->address, other->address_length) == 0) {
            snprintf(found, sizeof found, "\"%s\", which %s listens on (%s)",
                     listener->address_text, other->module, other->origin);
            return fail(reader, group, "address", found, "an address that is free");
        }
    }
    return IMP_OK;
}

imp_status config_listen_parse(const config_setting_t *group, const char *module, const char *label,
                               struct arena *arena, struct config_listener *items, uint32_t *count,
                               imp_error *error)
{
    struct listen_reader reader = {
        .module = module, .label = label, .arena = arena, .error = error};
    const config_setting_t *listen = config_setting_get_member(group, "listen");
    if (listen == NULL)
        return IMP_OK;
    bool is_empty_array = config_setting_is_array(listen) && config_setting_length(listen) == 0;
    if (!config_setting_is_list(listen) && !is_empty_array)
        return fail_value(&reader, listen, NULL, LISTEN_EXPECTED);
    for (int i = 0; i < config_setting_length(listen); i++) {
        const config_setting_t *element = config_setting_get_elem(listen, (unsigned)i);
        reader.index = (uint32_t)i;
        if (!config_setting_is_group(element))
            return fail_value(&reader, element, NULL, LISTEN_EXPECTED);
        if (*count == CONFIG_LISTENERS_MAX)
            return fail(&reader, element, NULL, "more listeners than fit", "at most 256 in all");
        struct config_listener listener = {0};
        imp_status status = read_listener(&reader, element, &listener);
        if (status == IMP_OK)
            status = refuse_twice(&reader, element, items, *count, &listener);
        if (status != IMP_OK)
            return status;
        items[(*count)++] = listener;
    }
    if (arena->has_failed)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    return IMP_OK;
}

/* ---- the supervisor's way in ---- */

struct owned_listeners {
    struct config_listeners shown; /* first: what callers hold */
    struct arena arena;
};

imp_status config_listen_read(const char *main_file, const char *module,
                              struct config_listeners **listeners, imp_error *error)
{
    struct arena scratch = {0};
    struct config_file_list files;
    struct config_block *core = NULL;
    config_t parsed;
    bool was_found = module == NULL;
    *listeners = NULL;
    struct owned_listeners *made = calloc(1, sizeof *made);
    struct config_listener *items =
        made == NULL ? NULL : arena_alloc(&made->arena, CONFIG_LISTENERS_MAX * sizeof *items);
    imp_status status = items == NULL ? imp_error_set(error, IMP_LIMIT, "out of memory") : IMP_OK;
    if (status == IMP_OK)
        status = config_core_read(main_file, NULL, &core, error);
    if (status == IMP_OK) {
        const struct config_core *settings = config_block_data(core);
        status = config_file_list(settings->modules_dir, &scratch, &files, error);
    }
    /* All are read even for one: a name or an address that two claim is found then. */
    for (uint32_t i = 0; status == IMP_OK && i < files.count; i++) {
        config_setting_t *group;
        status = config_file_read(files.paths[i], files.labels[i], &parsed, error);
        if (status != IMP_OK)
            break;
        status = config_file_group(&parsed, files.names[i], files.labels[i], &group, error);
        if (status == IMP_OK)
            status = config_listen_parse(group, files.names[i], files.labels[i], &made->arena,
                                         items, &made->shown.count, error);
        config_destroy(&parsed);
        was_found = was_found || strcmp(files.names[i], module) == 0;
    }
    if (status == IMP_OK && !was_found)
        status = imp_error_set(error, IMP_NOT_FOUND, "module %s is not enabled", module);
    if (status == IMP_OK && module != NULL) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < made->shown.count; i++)
            if (strcmp(items[i].module, module) == 0)
                items[kept++] = items[i];
        made->shown.count = kept;
    }
    config_block_free(core);
    arena_free(&scratch);
    if (status != IMP_OK) {
        if (made != NULL)
            arena_free(&made->arena);
        free(made);
        return status;
    }
    made->shown.items = items;
    *listeners = &made->shown;
    return IMP_OK;
}

void config_listen_free(struct config_listeners *listeners)
{
    if (listeners == NULL)
        return;
    struct owned_listeners *owned = (struct owned_listeners *)listeners;
    arena_free(&owned->arena);
    free(owned);
}

/* ---- use ---- */

const struct config_listener *config_listener_find(const struct config_listeners *listeners,
                                                   const char *module, const char *name)
{
    for (uint32_t i = 0; i < listeners->count; i++)
        if (strcmp(listeners->items[i].module, module) == 0 &&
            strcmp(listeners->items[i].name, name) == 0)
            return &listeners->items[i];
    return NULL;
}

const char *config_listener_setting_value(const struct config_listener *listener, const char *name)
{
    for (uint32_t i = 0; i < listener->settings_count; i++)
        if (strcmp(listener->settings[i].name, name) == 0)
            return listener->settings[i].value;
    return NULL;
}

static bool are_equal(const struct config_network *a, const struct config_network *b,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (a[i].prefix != b[i].prefix || memcmp(a[i].bytes, b[i].bytes, sizeof a[i].bytes) != 0)
            return false;
    return true;
}

bool config_listener_equal(const struct config_listener *a, const struct config_listener *b)
{
    if (strcmp(a->module, b->module) != 0 || strcmp(a->name, b->name) != 0 ||
        a->address_length != b->address_length ||
        memcmp(&a->address, &b->address, a->address_length) != 0 || a->tls != b->tls ||
        a->proxy != b->proxy || a->allow_count != b->allow_count ||
        a->proxies_count != b->proxies_count || a->settings_count != b->settings_count)
        return false;
    if (!are_equal(a->allow, b->allow, a->allow_count) ||
        !are_equal(a->proxies, b->proxies, a->proxies_count))
        return false;
    for (uint32_t i = 0; i < a->settings_count; i++)
        if (strcmp(a->settings[i].name, b->settings[i].name) != 0 ||
            strcmp(a->settings[i].value, b->settings[i].value) != 0)
            return false;
    return true;
}
