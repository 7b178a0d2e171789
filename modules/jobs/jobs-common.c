/* SPDX-License-Identifier: Apache-2.0 */
/* What all files of the module share: patient writes, numbers in keys, posting. */
#include "modules/jobs/jobs-module.h"

static void write_again(void *arg)
{
    jobs_write_submit(arg);
}

static void write_refused(void *arg)
{
    struct jobs_write *write = arg;
    imp_error error;
    imp_error_set(&error, write->refusal, "the store takes no changes: %s",
                  imp_status_name(write->refusal));
    write->done(write->refusal, &error, write->arg);
}

void jobs_write_submit(struct jobs_write *write)
{
    imp_status status =
        imp_store_write(write->jobs->self, write->queue, write->fn, write->done, write->arg);
    if (status == IMP_OK)
        return;
    if (status == IMP_BUSY) {
        imp_store_wait(write->jobs->self, write->queue, write_again, write);
        return;
    }
    write->refusal = status;
    if (imp_post(write->jobs->self, imp_loop_current(), write_refused, write) != IMP_OK)
        write_refused(write);
}

void jobs_put_u64(uint8_t *target, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        target[i] = (uint8_t)value;
}

uint64_t jobs_get_u64(const uint8_t *source)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | source[i];
    return value;
}

void jobs_put_u32(uint8_t *target, uint32_t value)
{
    for (int i = 3; i >= 0; i--, value >>= 8)
        target[i] = (uint8_t)value;
}

uint32_t jobs_get_u32(const uint8_t *source)
{
    return (uint32_t)source[0] << 24 | (uint32_t)source[1] << 16 | (uint32_t)source[2] << 8 |
           source[3];
}

void jobs_refuse(struct jobs *jobs, enum jobs_refusal reason)
{
    imp_metric_add(jobs->metrics.refused[reason], 1);
}

imp_status jobs_post(struct jobs *jobs, imp_loop *loop, void (*fn)(void *arg), void *arg)
{
    return imp_post(jobs->self, loop, fn, arg);
}
