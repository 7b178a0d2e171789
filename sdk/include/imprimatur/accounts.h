/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accounts.h - service `accounts`: principals, how they prove who they are, and sessions.
 *
 * Passwords and PINs are kept as argon2id; card numbers, PINs and user names are looked up by keyed
 * hashes only. Authentication runs on workers, is delayed and counted when it fails, locks out by
 * policy, and is audited.
 */
#ifndef IMPRIMATUR_ACCOUNTS_H
#define IMPRIMATUR_ACCOUNTS_H

#include <imprimatur/base.h>
#include <imprimatur/service.h>
#include <imprimatur/store.h>

#define IMP_ACCOUNTS_V1                                                                            \
    {                                                                                              \
        "accounts", 1                                                                              \
    }

typedef int32_t imp_principal_kind;
#define IMP_PRINCIPAL_USER ((imp_principal_kind)1)
#define IMP_PRINCIPAL_GROUP ((imp_principal_kind)2)
#define IMP_PRINCIPAL_DEVICE ((imp_principal_kind)3)
#define IMP_PRINCIPAL_SERVICE ((imp_principal_kind)4)

typedef struct imp_principal {
    uint32_t size;
    imp_id id;
    imp_principal_kind kind;
    bool is_enabled;
    char name[IMP_NAME_MAX]; /* log-in name; personal: never log it */
} imp_principal;

/* What a person presents; unused fields are NULL. Borrowed for the call. */
typedef struct imp_credentials {
    uint32_t size;
    const char *user_name; /* with password; with PIN where the policy wants user + PIN */
    const char *card;      /* as the reader gives it */
    const char *pin;
    const char *password;
    imp_id device;       /* where; zero when not at a device */
    const char *address; /* numeric address the attempt comes from, "" when local */
} imp_credentials;

#define IMP_METHOD_CARD 0x1u
#define IMP_METHOD_PIN 0x2u
#define IMP_METHOD_PASSWORD 0x4u

typedef struct imp_session {
    uint32_t size;
    imp_id id;
    imp_id principal;
    uint32_t methods; /* IMP_METHOD_* that were proved */
    imp_id device;
    int64_t started, idle_end, absolute_end; /* imp_now() */
} imp_session;

typedef void (*imp_authenticated)(imp_status status, const imp_session *session,
                                  const imp_error *error, void *arg);

typedef struct imp_accounts_v1 {
    uint32_t size;
    imp_status (*find_user)(imp_self *provider, const char *name, imp_principal *principal);
    imp_status (*get)(imp_self *provider, const imp_id *id, imp_principal *principal);
    void (*authenticate)(imp_self *provider, imp_self *caller, const imp_credentials *credentials,
                         imp_authenticated done, void *arg);
    imp_status (*session_get)(imp_self *provider, const imp_id *id, imp_session *session);
    imp_status (*session_end)(imp_self *provider, const imp_id *id);
    bool (*may)(imp_self *provider, const imp_id *principal, const char *right, const imp_id *unit);
} imp_accounts_v1;

#define IMP_ACCOUNTS_CALL_(self, result, unavailable, expression)                                  \
    do {                                                                                           \
        imp_service_call call_;                                                                    \
        const imp_accounts_v1 *accounts = imp_service_enter(self, "accounts", 1, &call_);          \
        if (accounts == NULL) {                                                                    \
            (result) = (unavailable);                                                              \
        } else {                                                                                   \
            (result) = accounts->expression;                                                       \
            imp_service_leave(&call_);                                                             \
        }                                                                                          \
    } while (0)

/* Finds a user by log-in name. Names are compared after mapping: case-insensitive, and DOMAIN\user or
 * user@realm by the setting `identity` of module accounts. IMP_NOT_FOUND when nobody is meant. Any
 * thread but the writer. */
static inline imp_status imp_user_find(imp_self *self, const char *name, imp_principal *principal)
{
    imp_status status;
    IMP_ACCOUNTS_CALL_(self, status, IMP_UNAVAILABLE, find_user(call_.provider, name, principal));
    return status;
}

/* A principal by id, for those who may see names. Any thread but the writer. */
static inline imp_status imp_principal_get(imp_self *self, const imp_id *id,
                                           imp_principal *principal)
{
    imp_status status;
    IMP_ACCOUNTS_CALL_(self, status, IMP_UNAVAILABLE, get(call_.provider, id, principal));
    return status;
}

/* Authenticates: card + PIN, card alone, user + password, ... as the policy allows. `done` is called
 * exactly once, on the calling loop; with IMP_OK a session has been made (and audited). A refusal
 * (IMP_DENIED) never says which part was wrong; IMP_LIMIT means locked out. Loop threads. */
static inline void imp_authenticate(imp_self *self, const imp_credentials *credentials,
                                    imp_authenticated done, void *arg)
{
    imp_service_call call;
    const imp_accounts_v1 *accounts = imp_service_enter(self, "accounts", 1, &call);
    if (accounts == NULL) {
        imp_error error;
        imp_error_set(&error, IMP_UNAVAILABLE, "service accounts is not there");
        done(IMP_UNAVAILABLE, NULL, &error, arg);
        return;
    }
    accounts->authenticate(call.provider, self, credentials, done, arg);
    imp_service_leave(&call);
}

/* A session that is still valid (its idle time is counted anew). Any thread but the writer. */
static inline imp_status imp_session_get(imp_self *self, const imp_id *id, imp_session *session)
{
    imp_status status;
    IMP_ACCOUNTS_CALL_(self, status, IMP_UNAVAILABLE, session_get(call_.provider, id, session));
    return status;
}

/* Ends a session; IMP_NOT_FOUND when it has ended already. Loop threads. */
static inline imp_status imp_session_end(imp_self *self, const imp_id *id)
{
    imp_status status;
    IMP_ACCOUNTS_CALL_(self, status, IMP_UNAVAILABLE, session_end(call_.provider, id));
    return status;
}

/* Whether a principal holds a right ("jobs.release") at a unit (zero: the root unit). Any thread but
 * the writer. */
static inline bool imp_principal_may(imp_self *self, const imp_id *principal, const char *right,
                                     const imp_id *unit)
{
    bool may;
    IMP_ACCOUNTS_CALL_(self, may, false, may(call_.provider, principal, right, unit));
    return may;
}

#endif
