/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor-account.c - who spawner and server run as. */
#include "build-config.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "core/sandbox.h"
#include "core/supervisor-private.h"

static bool is_given(const char *text)
{
    return text != NULL && *text != '\0';
}

/* As root: the account of the setting `user`, or the project's own. */
static imp_status account_find_other(const struct config_core *core, struct account *account,
                                     imp_error *error)
{
    const char *name = is_given(core->user) ? core->user : ACCOUNT_USER;
    const struct passwd *user = getpwnam(name);
    if (user == NULL)
        return imp_error_set(
            error, IMP_NOT_FOUND,
            "there is no user \"%s\" to run the server as; make one, or set `user`", name);
    if (user->pw_uid == 0)
        return imp_error_set(error, IMP_DENIED, "the server may not run as root: set `user`");
    account->is_changed = true;
    account->uid = user->pw_uid;
    account->gid = user->pw_gid;
    if (is_given(core->group)) {
        const struct group *group = getgrnam(core->group);
        if (group == NULL)
            return imp_error_set(error, IMP_NOT_FOUND, "there is no group \"%s\"", core->group);
        account->gid = group->gr_gid;
    }
    account->group_count = ACCOUNT_GROUPS_MAX;
    if (getgrouplist(name, account->gid, account->groups, &account->group_count) < 0)
        return imp_error_set(error, IMP_LIMIT, "user \"%s\" is in more than %d groups", name,
                             ACCOUNT_GROUPS_MAX);
    for (int i = 0; i < account->group_count; i++)
        if (account->groups[i] == 0)
            return imp_error_set(error, IMP_DENIED, "user \"%s\" is in root's group", name);
    if (account->gid == 0)
        return imp_error_set(error, IMP_DENIED, "the server may not run in root's group");
    return IMP_OK;
}

imp_status account_find(const struct config_core *core, struct account *account, imp_error *error)
{
    memset(account, 0, sizeof *account);
    account->uid = getuid();
    account->gid = getgid();
    /* Without root's rights nobody else can be had: `user` and `group` are for root's start. */
    if (geteuid() == 0) {
        imp_status status = account_find_other(core, account, error);
        if (status != IMP_OK)
            return status;
    }
    account->control_gid = account->gid;
    if (account->is_changed && is_given(core->control_group)) {
        const struct group *group = getgrnam(core->control_group);
        if (group != NULL)
            account->control_gid = group->gr_gid;
    }
    return IMP_OK;
}

imp_status account_enter(const struct account *account, imp_error *error)
{
    const uint64_t to_change = (UINT64_C(1) << CAP_SETUID) | (UINT64_C(1) << CAP_SETGID);
    if (account->is_changed) {
        /* While the bounding set can still be emptied. */
        imp_status status = sandbox_keep_capabilities(to_change, error);
        if (status != IMP_OK)
            return status;
    }
    if (account->is_changed && (setgroups((size_t)account->group_count, account->groups) != 0 ||
                                setresgid(account->gid, account->gid, account->gid) != 0 ||
                                setresuid(account->uid, account->uid, account->uid) != 0))
        return imp_error_set(error, IMP_DENIED, "cannot become user %u: %s", (unsigned)account->uid,
                             strerror(errno));
    if (getuid() != account->uid || geteuid() != account->uid || account->uid == 0)
        return imp_error_set(error, IMP_DENIED, "the server may not run as root");
    return sandbox_drop_capabilities(error);
}
