/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream-rate.c - the least that a peer has to send while it is expected to.
 *
 * Time is counted in windows, and only time in which we wait for the peer: not before the connection
 * stands (with STARTTLS: stands again), while reading is paused, while the input is full, or while the module expects nothing. At the end of a window the bytes that
 * came are counted, with those that the system has and we were too slow to take. The next window begins
 * anew, so a peer is cut at the latest when two windows have gone by since it became too slow.
 */
#include "build-config.h"

#include "core/stream-private.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

static bool is_counting(const imp_stream *stream)
{
    return stream->is_expecting && stream->rate_min > 0 && !stream->is_paused &&
           !stream->has_ended && !stream->is_close_wanted && stream->phase == STREAM_OPEN;
}

static void window_begin(imp_stream *stream, int64_t now)
{
    stream->rate_bytes = 0;
    stream->rate_left = stream->rate_window;
    stream->rate_since = now;
}

int64_t stream_rate_due(const imp_stream *stream)
{
    return is_counting(stream) ? stream->rate_since + stream->rate_left : INT64_MAX;
}

bool stream_rate_is_kept(imp_stream *stream, int64_t now)
{
    int queued = 0;
    if (stream->input.length < stream->input_max) {
        if (ioctl(stream->fd, SIOCINQ, &queued) != 0 || queued < 0)
            queued = 0;
        uint64_t needed = (uint64_t)stream->rate_min * (uint64_t)stream->rate_window / IMP_SECOND;
        if (stream->rate_bytes + (uint64_t)queued < needed)
            return false;
    }
    window_begin(stream, now);
    return true;
}

void stream_rate_pause(imp_stream *stream, int64_t now)
{
    if (is_counting(stream))
        stream->rate_left -= now - stream->rate_since;
}

void stream_rate_resume(imp_stream *stream, int64_t now)
{
    stream->rate_since = now;
}

void stream_rate_restart(imp_stream *stream, int64_t now)
{
    if (is_counting(stream))
        window_begin(stream, now);
}

/* ---- what a module may ask ---- */

void imp_stream_expect(imp_stream *stream, bool is_expected)
{
    if (stream->is_expecting == is_expected)
        return;
    stream->is_expecting = is_expected;
    window_begin(stream, imp_ticks());
    if (stream->phase < STREAM_LINGER)
        stream_timer_set(stream);
}

void imp_stream_set_min_rate(imp_stream *stream, uint32_t bytes_per_second, int64_t window_us)
{
    stream->rate_min = window_us > 0 ? bytes_per_second : 0;
    stream->rate_window = window_us < STREAM_RATE_WINDOW_MAX ? window_us : STREAM_RATE_WINDOW_MAX;
    window_begin(stream, imp_ticks());
    if (stream->phase < STREAM_LINGER)
        stream_timer_set(stream);
}
