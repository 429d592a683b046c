// <linux/vhost.h>, fit for C++. To be included instead of it, everywhere.
#pragma once

// Without the functions for rings, which are C only.
#define VIRTIO_RING_NO_LEGACY  // NOLINT(readability-identifier-naming): the kernel names it

#include <linux/vhost.h>  // IWYU pragma: export
