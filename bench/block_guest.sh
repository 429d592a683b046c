#!/bin/sh
# The guest's side of bench/block: each workload on one disk by the fio that lies on the other, its IOPS on the console.
mkdir -p /mnt
# Which is called vda depends on the monitor. The one to measure has no file system.
if mount -t ext4 -o ro /dev/vda /mnt 2>/dev/null; then
  disk=/dev/vdb
else
  mount -t ext4 -o ro /dev/vdb /mnt || exit 1
  disk=/dev/vda
fi
for folder in dev proc sys; do mount --bind /$folder /mnt/$folder; done
mount -t tmpfs tmp /mnt/tmp
read -r cmdline </proc/cmdline
for word in $cmdline; do case $word in strato.seconds=*) seconds=${word#*=} ;; esac; done
while read -r name options; do
  [ -n "$name" ] || continue
  echo "BENCH-BEGIN $name"
  # shellcheck disable=SC2086  # a list of options
  chroot /mnt fio --name=job --filename="$disk" --direct=1 --ioengine=libaio --thread --group_reporting --time_based --ramp_time=1 \
    --runtime="${seconds:-5}" --minimal --terse-version=3 $options >/tmp/result 2>/tmp/errors || cat /tmp/errors
  echo "BENCH-END $name $(awk -F';' 'NF > 50 { print $8 + $49, ($7 + $48) }' /tmp/result)"
done </workloads
echo BENCH-COMPLETE
