#!/bin/sh
# Writes files to /dev/vda (ext4) one after the other, and says of each that it is durable once fsync has returned.
mkdir -p /mnt
mount -t ext4 /dev/vda /mnt || exit 1
n=1
while [ $n -le 200 ]; do
  dd if=/dev/urandom of=/mnt/f$n bs=4096 count=$((1 + n % 7)) conv=fsync 2>/dev/null || exit 1
  set -- $(md5sum /mnt/f$n)
  echo "durable=$n md5=$1"
  n=$((n + 1))
done
