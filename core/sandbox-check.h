/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-check.h - `imprimd --check-sandbox`. */
#ifndef CORE_SANDBOX_CHECK_H
#define CORE_SANDBOX_CHECK_H

/* Starts a spawner as the supervisor would, has it run the self-test program, and prints a line for
 * each layer. `config_path` (may be NULL) says as which user; without it root becomes the project's
 * user, or nobody. 0 when the minimum for document workers is reached, else 1. */
int sandbox_check_main(const char *config_path);

#endif
