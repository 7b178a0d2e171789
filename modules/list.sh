#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes modules/modules.am, which includes the fragment of each module folder that is there.
# Run by configure.ac (each time that autoconf runs) and by the Makefile when a folder is new.
# Leaves the file alone when nothing changed, so that a read-only source tree builds.
set -eu
cd "$(dirname "$0")"
wanted="# Made by modules/list.sh: each folder here with a module.am.
$(# shellcheck disable=SC2016
for fragment in */module.am; do
    if [ -f "$fragment" ]; then printf 'include $(top_srcdir)/modules/%s\n' "$fragment"; fi
done)"
if [ ! -f modules.am ] || [ "$(cat modules.am)" != "$wanted" ]; then
    printf '%s\n' "$wanted" > modules.am
fi
