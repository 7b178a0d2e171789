/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - the registry behind <imprimatur/service.h>.
 *
 * The loader registers what a descriptor provides before it starts the module, and makes it visible
 * with registry_publish (snapshot.h) when start has succeeded. An offer belongs to its generation.
 */
#ifndef CORE_SERVICE_H
#define CORE_SERVICE_H

#include <imprimatur/service.h>

#include "core/self.h"

/* Registers one offer, not yet visible. IMP_INVALID for a bad name or table, IMP_EXISTS when another
 * module offers it. Control thread. */
imp_status service_offer(struct imp_self *self, const imp_service_offer *offer, imp_error *error);
/* For unit tests: registers and publishes at once. */
imp_status service_offer_for_test(struct imp_self *self, const char *name, uint32_t major,
                                  const void *vtable);
/* Makes all offers of this generation visible from the next snapshot on. Control thread. */
void service_show(struct imp_self *self);
/* The module that offers it now, or NULL. Control thread. */
struct imp_self *service_provider(const char *name, uint32_t major);

#endif
