#!/bin/sh
# What the kernel makes of a virtio-rng device.
echo "rng_available=$(cat /sys/class/misc/hw_random/rng_available)"
for n in 1 2; do echo "hwrng.$n=$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | od -An -v -tx1 | tr -d ' \n')"; done
grep virtio /proc/interrupts | sed 's/^/interrupts=/'
