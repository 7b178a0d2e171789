/* SPDX-License-Identifier: Apache-2.0 */
/*
 * time.h - the two clocks (imp_now, imp_ticks in <imprimatur/base.h>), and their text forms.
 */
#ifndef CORE_TIME_H
#define CORE_TIME_H

#include <imprimatur/base.h>

#define TIME_TEXT_SIZE 28 /* "2026-11-22T12:34:56.789012Z" and a NUL */

/* RFC 3339 in UTC with microseconds, into `text`, which is returned. */
char *time_format(int64_t time_us, char text[TIME_TEXT_SIZE]);

/* Tests: from here on both clocks stand still at these values until they are moved. Any thread may
 * read them meanwhile. */
void time_freeze_for_test(int64_t now_us, int64_t ticks_us);
void time_advance_for_test(int64_t by_us); /* both clocks */
void time_step_for_test(int64_t by_us);    /* the wall clock alone */
void time_thaw_for_test(void);

#endif
