# SPDX-License-Identifier: Apache-2.0
# imp-flags.m4 - probes compiler and linker flags, each by compiling and linking a program with it.

# IMP_FLAG(VARIABLE, FLAG, [NEEDED])
# ----------------------------------
# Appends FLAG to VARIABLE when a program compiles and links with it. With NEEDED the lack of it
# ends configure.
AC_DEFUN([IMP_FLAG], [
  AS_VAR_PUSHDEF([imp_cache], [imp_cv_flag_$2])dnl
  AC_CACHE_CHECK([whether $CC takes $2], [imp_cache], [
    imp_save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -Werror $2"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]], [[char b[9]; memset(b, 0, 9); return b[0];]])],
      [AS_VAR_SET([imp_cache], [yes])], [AS_VAR_SET([imp_cache], [no])])
    CFLAGS=$imp_save_CFLAGS])
  AS_VAR_IF([imp_cache], [yes], [$1="$$1 $2"],
    [m4_ifval([$3], [AC_MSG_ERROR([$CC does not take $2, which is needed for $3])], [:])])
  AS_VAR_POPDEF([imp_cache])dnl
])
