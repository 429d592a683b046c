#!/bin/sh
# What the kernel complained about, of which nothing belongs to a guest that runs well.
dmesg | grep -E 'stall|lockup|rcu.*detected|clocksource.*unstable|hung|blocked for|nobody cared|BUG:|WARNING:|I/O error' | sed 's/^/complaint=/'
