// <linux/kvm.h>, fit for C++. To be included instead of it, everywhere.
#pragma once

#include <linux/stddef.h>

// Debian 12's kernel headers give a flexible array an empty struct as neighbour, which has size 0 in C but 1 in C++:
// kvm_cpuid2 and its like would have 12 bytes in front of their entries instead of 8, and other ioctl numbers.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(T, member) T member[0]  // NOLINT(readability-identifier-naming): the kernel names it

#include <linux/kvm.h>  // IWYU pragma: export
