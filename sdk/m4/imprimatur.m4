# SPDX-License-Identifier: Apache-2.0
# imprimatur.m4 - finds the SDK of the Imprimatur print server, for configure.ac of a module.

# IMP_CHECK_SDK(MAJOR, MINOR)
# ---------------------------
# Finds the SDK by pkg-config and ends configure unless it has ABI MAJOR and at least ABI MINOR.
# Sets and substitutes
#   IMPRIMATUR_CFLAGS   where the headers are, and the recommended flags of a module
#   IMPRIMATUR_LDFLAGS  the recommended flags of its link
#   IMPRIMATUR_LIBS     libimprimatur
#   imp_moduledir       where imprimd looks for modules; --with-moduledir=DIR changes it
AC_DEFUN([IMP_CHECK_SDK], [
  AC_REQUIRE([PKG_PROG_PKG_CONFIG])dnl
  PKG_CHECK_MODULES([IMPRIMATUR], [imprimatur])
  AC_MSG_CHECKING([for the ABI of the Imprimatur SDK])
  imp_abi_major=`$PKG_CONFIG --variable=abi_major imprimatur`
  imp_abi_minor=`$PKG_CONFIG --variable=abi_minor imprimatur`
  AC_MSG_RESULT([$imp_abi_major.$imp_abi_minor])
  AS_IF([test "x$imp_abi_major" != "x$1" || test "$imp_abi_minor" -lt "$2"],
    [AC_MSG_ERROR([ABI $1.$2 or a newer $1.x is needed, the SDK has $imp_abi_major.$imp_abi_minor])])
  IMPRIMATUR_CFLAGS="$IMPRIMATUR_CFLAGS `$PKG_CONFIG --variable=module_compile imprimatur`"
  IMPRIMATUR_LDFLAGS=`$PKG_CONFIG --variable=module_link imprimatur`
  AC_SUBST([IMPRIMATUR_LDFLAGS])
  AC_ARG_WITH([moduledir], [AS_HELP_STRING([--with-moduledir=DIR],
    [where the module goes (default: the folder of imprimatur.pc)])],
    [imp_moduledir=$withval], [imp_moduledir=`$PKG_CONFIG --variable=moduledir imprimatur`])
  AC_SUBST([imp_moduledir])
])
