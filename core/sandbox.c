/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.c - capabilities, and the system call filters of server and spawner. */
#include "build-config.h"

#include "core/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/sandbox-filter.h"

/* ---- capabilities ----------------------------------------------------------------------------- */

static imp_status capabilities_set(uint64_t mask, imp_error *error)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(mask >> (32 * i));
    if (syscall(SYS_capset, &header, data) != 0)
        return imp_error_set(error, IMP_DENIED, "cannot drop capabilities: %s", strerror(errno));
    return IMP_OK;
}

/* What no later execve can bring back. Without CAP_SETPCAP the bounding set stays as it is; with
 * no_new_privs and nothing inheritable that gives nothing to anyone. */
static imp_status capabilities_bound(imp_error *error)
{
    for (unsigned long capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno == EINVAL)
            break; /* past the last that this kernel knows */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        return imp_error_set(error, IMP_DENIED, "cannot clear ambient capabilities: %s",
                             strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return imp_error_set(error, IMP_DENIED, "cannot set no_new_privs: %s", strerror(errno));
    return IMP_OK;
}

imp_status sandbox_keep_capabilities(uint64_t mask, imp_error *error)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    if (syscall(SYS_capget, &header, data) != 0)
        return imp_error_set(error, IMP_IO, "cannot read capabilities: %s", strerror(errno));
    uint64_t held = ((uint64_t)data[1].permitted << 32) | data[0].permitted;
    imp_status status = capabilities_bound(error);
    return status == IMP_OK ? capabilities_set(mask & held, error) : status;
}

imp_status sandbox_drop_capabilities(imp_error *error)
{
    imp_status status = capabilities_bound(error);
    return status == IMP_OK ? capabilities_set(0, error) : status;
}

/* ---- filters ---------------------------------------------------------------------------------- */

/* What neither server, spawner nor child ever does. They answer EPERM and do not kill: libraries
 * probe for some of them (io_uring, keyctl) and go on without. A number that this architecture does
 * not have is negative and left out by libseccomp. */
static const int denied_to_all[] = {
    /* other processes */
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(process_madvise),
    /* the file system's shape */
    SCMP_SYS(mount),
    SCMP_SYS(umount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(acct),
    /* doors into the kernel that no print server needs */
    SCMP_SYS(bpf),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(vmsplice),
    SCMP_SYS(modify_ldt),
    /* the kernel's key ring */
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    /* the machine */
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(reboot),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(syslog),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(vhangup),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(nfsservctl),
    /* another user */
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(setns),
};

/* Makes processes or programs, or looks into them: not for the server. In sanitizer builds they stay:
 * the symbolizer is a program, the leak checker traces its parent. */
#ifndef IMP_SANITIZED
static const int denied_to_server[] = {
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace),
};
#endif

/* Families of sockets that reach past TCP, UDP and local sockets. AF_NETLINK stays: getaddrinfo and
 * getifaddrs ask it for addresses. */
static const int denied_families[] = {AF_PACKET, AF_ALG,  AF_VSOCK,     AF_KEY, AF_XDP,
                                      AF_RDS,    AF_TIPC, AF_BLUETOOTH, AF_CAN};

static const unsigned long namespace_flags[] = {CLONE_NEWUSER,  CLONE_NEWNS,  CLONE_NEWNET,
                                                CLONE_NEWPID,   CLONE_NEWIPC, CLONE_NEWUTS,
                                                CLONE_NEWCGROUP};

int filter_deny(scmp_filter_ctx filter, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
        /* EDOM, EINVAL, EACCES...: only "not on this architecture" may pass. */
        if (outcome != 0 && calls[i] >= 0)
            return outcome;
    }
    return 0;
}

int filter_deny_common(scmp_filter_ctx filter)
{
    return filter_deny(filter, denied_to_all, sizeof denied_to_all / sizeof denied_to_all[0]);
}

int filter_deny_ptrace(scmp_filter_ctx filter)
{
#ifndef IMP_SANITIZED
    static const int calls[] = {SCMP_SYS(ptrace)};
    return filter_deny(filter, calls, sizeof calls / sizeof calls[0]);
#else
    (void)filter;
    return 0;
#endif
}

int filter_deny_capset(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(capset)};
    return filter_deny(filter, calls, sizeof calls / sizeof calls[0]);
}

int filter_deny_namespaces(scmp_filter_ctx filter)
{
    int outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
    for (size_t i = 0; outcome == 0 && i < sizeof namespace_flags / sizeof namespace_flags[0]; i++)
        outcome =
            seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, namespace_flags[i], namespace_flags[i]));
    /* clone3 keeps its flags in memory, where a filter can't look; libc goes on with clone. */
    if (outcome == 0)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return outcome;
}

static int filter_deny_server(scmp_filter_ctx filter)
{
    int outcome = filter_deny_namespaces(filter);
    if (outcome == 0)
        outcome = filter_deny_capset(filter);
    for (size_t i = 0; outcome == 0 && i < sizeof denied_families / sizeof denied_families[0]; i++)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                   SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)denied_families[i], 0));
    /* Typing into somebody's terminal. */
    if (outcome == 0)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                   SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, TIOCSTI));
#ifndef IMP_SANITIZED
    if (outcome == 0)
        outcome = filter_deny(filter, denied_to_server,
                              sizeof denied_to_server / sizeof denied_to_server[0]);
    /* Threads yes, processes no. */
    if (outcome == 0)
        outcome = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                   SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
#endif
    return outcome;
}

imp_status filter_install(int (*fill)(scmp_filter_ctx filter), const char *whose, imp_error *error)
{
    int outcome = -ENOMEM;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        goto done;
    /* All threads at once, or none: a library may have started one already. */
    outcome = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (outcome == 0)
        outcome = filter_deny_common(filter);
    if (outcome == 0)
        outcome = fill(filter);
    if (outcome == 0)
        outcome = seccomp_load(filter);
done:
    if (filter != NULL)
        seccomp_release(filter);
    if (outcome != 0)
        return imp_error_set(error, IMP_UNSUPPORTED, "cannot set the system call filter of %s: %s",
                             whose, strerror(outcome < 0 ? -outcome : outcome));
    return IMP_OK;
}

imp_status sandbox_forbid_dumps(imp_error *error)
{
#ifndef IMP_SANITIZED
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return imp_error_set(error, IMP_IO, "cannot forbid core files: %s", strerror(errno));
#else
    (void)error;
#endif
    return IMP_OK;
}

imp_status sandbox_server_enter(bool is_developer, imp_error *error)
{
    imp_status status = is_developer ? IMP_OK : sandbox_forbid_dumps(error);
    return status == IMP_OK ? filter_install(filter_deny_server, "the server", error) : status;
}

imp_status sandbox_spawner_enter(imp_error *error)
{
    imp_status status = sandbox_forbid_dumps(error);
    return status == IMP_OK ? filter_install(filter_deny_ptrace, "the spawner", error) : status;
}
