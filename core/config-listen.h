/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config-listen.h - `listen`, the one syntax of listeners in every module's block.
 *
 *     listen = ( { name = "lpd"; address = "*:515"; tls = "none"; allow = [ "10.0.0.0/8" ];
 *                  proxy = true; proxies = [ "192.0.2.4" ]; } );
 *
 * The core owns this setting in every module. The supervisor reads only this (and the core's own
 * settings), from the same files, by config_listen_read: it binds what the files say, never what
 * the server says. Names that the core does not know are kept as text for imp_listener_setting.
 */
#ifndef CORE_CONFIG_LISTEN_H
#define CORE_CONFIG_LISTEN_H

#include <imprimatur/base.h>

#include <sys/socket.h>

#define CONFIG_LISTENER_NAME_SIZE 32
#define CONFIG_MODULE_NAME_SIZE 32
#define CONFIG_LISTENERS_MAX 256u /* of the whole instance: the supervisor passes them in one go */
#define CONFIG_NETWORKS_MAX 1024u /* in one `allow` or `proxies` */

enum config_tls { CONFIG_TLS_NONE = 0, CONFIG_TLS_IMPLICIT = 1, CONFIG_TLS_STARTTLS = 2 };

/* A network of `allow` or `proxies`. IPv4 is kept as v4-mapped IPv6, with 96 added to its prefix. */
struct config_network {
    uint8_t bytes[16];
    uint8_t prefix;   /* 0..128 */
    const char *text; /* as it was typed; not set by config_parse_network */
};

struct config_listener_setting {
    const char *name, *value;
};

struct config_listener {
    char module[CONFIG_MODULE_NAME_SIZE];
    char name[CONFIG_LISTENER_NAME_SIZE]; /* (module, name) is the key; unique */
    const char *address_text;             /* "*:515" */
    bool is_any;                          /* "*": one IPv6 socket that takes IPv4 as well */
    struct sockaddr_storage address;      /* AF_INET or AF_INET6; for "*": [::] */
    socklen_t address_length;
    uint16_t port;
    enum config_tls tls;
    bool proxy;                           /* a PROXY protocol header is expected */
    const struct config_network *proxies; /* with proxy: whose header is believed; never none */
    uint32_t proxies_count;
    const struct config_network *allow; /* clients; allow_count 0: everybody */
    uint32_t allow_count;
    const struct config_listener_setting *settings;
    uint32_t settings_count;
    const char *origin; /* "modules-enabled/lpr.conf:3" */
};

struct config_listeners {
    const struct config_listener *items;
    uint32_t count;
};

/* Reads the main file's modules folder and the `listen` of one module, or of all enabled ones when
 * `module` is NULL. IMP_NOT_FOUND when that module is not enabled. The caller frees. */
imp_status config_listen_read(const char *main_file, const char *module,
                              struct config_listeners **listeners, imp_error *error) IMP_MUST_CHECK;
void config_listen_free(struct config_listeners *listeners); /* NULL is ignored */

const struct config_listener *config_listener_find(const struct config_listeners *listeners,
                                                   const char *module, const char *name);
/* A setting that the core does not know itself; NULL when it is not there. */
const char *config_listener_setting_value(const struct config_listener *listener, const char *name);
/* True when two readings say the same in everything (a new generation needs no new listener). */
bool config_listener_equal(const struct config_listener *a, const struct config_listener *b);

/* True when `address` (AF_INET or AF_INET6) is in one of the networks. */
bool config_networks_contain(const struct config_network *networks, uint32_t count,
                             const struct sockaddr *address);
/* The same for the networks of `allow`, or it is empty. */
bool config_listener_allows(const struct config_listener *listener, const struct sockaddr *address);

/* "127.0.0.1:515", "[::1]:515", "*:515", or with a blank in place of the last colon; numbers only. */
imp_status config_parse_address(const char *text, struct sockaddr_storage *address,
                                socklen_t *length, bool *is_any);
/* "10.0.0.0/8", "2001:db8::/32", "192.0.2.7": bits behind the prefix must be zero. */
imp_status config_parse_network(const char *text, struct config_network *network);
bool config_network_contains(const struct config_network *network, const struct sockaddr *address);

#endif
