#!/bin/sh
# In the guest: prints all the time, with the clock, and says at the end what the kernel complained about.
count=0
while [ "$count" -lt 80 ]; do
  count=$((count + 1))
  read -r uptime _ </proc/uptime
  echo "beat=$count uptime=$uptime the quick brown fox jumps over the lazy dog"
  sleep 0.1
done
/complaints.sh
echo "beat=end"
