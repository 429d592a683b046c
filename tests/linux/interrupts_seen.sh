#!/bin/sh
# In the guest: the interrupts that each processor has taken. All of them have, when each has been asked to run something.
for folder in /sys/devices/system/cpu/cpu[0-9]*; do taskset "$(printf %x $((1 << ${folder##*cpu})))" true; done
sed 's/^/interrupts=/' /proc/interrupts
