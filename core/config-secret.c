/* SPDX-License-Identifier: Apache-2.0 */
/* config-secret.c - the values behind settings of type secret. */
#include "build-config.h"

#include "core/config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;
static config_secret_store store_fetch;
static void *store_arg;

void config_secret_set_store(config_secret_store fetch, void *arg)
{
    pthread_mutex_lock(&store_lock);
    store_fetch = fetch;
    store_arg = arg;
    pthread_mutex_unlock(&store_lock);
}

static imp_status read_file(const char *path, bool is_credential, char *buffer, size_t *length,
                            imp_error *error)
{
    struct stat status;
    imp_status result = IMP_OK;
    size_t used = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return imp_error_set(error, errno == ENOENT ? IMP_NOT_FOUND : IMP_DENIED,
                             "can't read the secret in %s: %s", path, strerror(errno));
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        result = imp_error_set(error, IMP_INVALID, "secret %s: found no regular file, expected one",
                               path);
        goto done;
    }
    if (status.st_uid != 0 && status.st_uid != geteuid()) {
        result = imp_error_set(error, IMP_DENIED,
                               "secret %s: found owner uid %u, expected root or our own user", path,
                               (unsigned)status.st_uid);
        goto done;
    }
    /* systemd makes credentials 0400, or 0440 under an ACL, in a folder that only the unit sees. */
    mode_t refused = is_credential ? S_IRWXO | S_IWGRP : S_IRWXG | S_IRWXO;
    if ((status.st_mode & refused) != 0) {
        result =
            imp_error_set(error, IMP_DENIED, "secret %s: found mode %04o, expected 0400 or 0600",
                          path, (unsigned)status.st_mode & 07777u);
        goto done;
    }
    while (used <= CONFIG_SECRET_MAX) {
        ssize_t got = read(fd, buffer + used, CONFIG_SECRET_MAX + 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            result = imp_error_set(error, IMP_IO, "can't read the secret in %s: %s", path,
                                   strerror(errno));
            goto done;
        }
        if (got == 0)
            break;
        used += (size_t)got;
    }
    if (used > CONFIG_SECRET_MAX)
        result =
            imp_error_set(error, IMP_LIMIT, "secret %s: found more than %u bytes, expected less",
                          path, CONFIG_SECRET_MAX);
    *length = used;
done:
    close(fd);
    return result;
}

static imp_status read_credential(const char *name, char *buffer, size_t *length, imp_error *error)
{
    char path[4096];
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (strchr(name, '/') != NULL || name[0] == '.')
        return imp_error_set(error, IMP_INVALID,
                             "credential:%s: found a path, expected the name of a credential",
                             name);
    if (folder == NULL || *folder == '\0')
        return imp_error_set(
            error, IMP_NOT_FOUND,
            "credential:%s: there are no credentials (LoadCredential= in the unit)", name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return imp_error_set(error, IMP_INVALID, "credential:%s: the path is too long", name);
    return read_file(path, true, buffer, length, error);
}

static imp_status read_store(const char *name, char *buffer, size_t *length, imp_error *error)
{
    imp_status status;
    pthread_mutex_lock(&store_lock);
    if (store_fetch == NULL)
        status = imp_error_set(error, IMP_UNAVAILABLE, "store:%s: the store is not open", name);
    else
        status = store_fetch(store_arg, name, buffer, CONFIG_SECRET_MAX, length, error);
    pthread_mutex_unlock(&store_lock);
    return status;
}

/* What stands behind `prefix` in `text`, or NULL. */
static const char *behind(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

imp_status config_secret_fetch(const imp_secret *secret, char **value, size_t *length,
                               imp_error *error)
{
    /* One byte to see that a file is too long, one for the NUL. */
    const size_t size = CONFIG_SECRET_MAX + 2;
    const char *rest;
    imp_status status;
    size_t used = 0;
    *value = NULL;
    *length = 0;
    if (secret->source == NULL || *secret->source == '\0')
        return imp_error_set(error, IMP_NOT_FOUND, "the secret is not set");
    char *buffer = calloc(1, size);
    if (buffer == NULL)
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    if ((rest = behind(secret->source, "file:")) != NULL)
        status = read_file(rest, false, buffer, &used, error);
    else if ((rest = behind(secret->source, "credential:")) != NULL)
        status = read_credential(rest, buffer, &used, error);
    else if ((rest = behind(secret->source, "store:")) != NULL)
        status = read_store(rest, buffer, &used, error);
    else /* The source may be a secret that somebody typed in place of its name: not shown. */
        status = imp_error_set(error, IMP_INVALID,
                               "found a secret's value, expected \"file:/PATH\", "
                               "\"credential:NAME\" or \"store:NAME\"");
    if (status != IMP_OK) {
        config_secret_free(buffer, size);
        return status;
    }
    if (used > 0 && buffer[used - 1] == '\n')
        buffer[--used] = '\0';
    buffer[used] = '\0';
    /* Only as much as config_secret_free will wipe may stay. */
    char *fitting = malloc(used + 1);
    if (fitting == NULL) {
        config_secret_free(buffer, size);
        return imp_error_set(error, IMP_LIMIT, "out of memory");
    }
    memcpy(fitting, buffer, used + 1);
    config_secret_free(buffer, size);
    *value = fitting;
    *length = used;
    return IMP_OK;
}

void config_secret_free(char *value, size_t length)
{
    if (value == NULL)
        return;
    imp_wipe(value, length);
    free(value);
}
