#!/bin/sh
# The guest's part of pmem.py: a file system on /dev/pmem0, without the page cache if the kernel can do that. It does one step for each line of the
# console and answers `pmem: did STEP`.
mkdir -p /mnt
mount -t ext4 -o dax=always /dev/pmem0 /mnt || mount -t ext4 /dev/pmem0 /mnt || echo "pmem: not mounted"
grep ' /mnt ' /proc/mounts
echo "pmem: did mount"
while read -r step; do
  case $step in
    write) # 8 MiB of bytes that are the same each time
      i=0
      while [ $i -lt 65536 ]; do echo $i; i=$((i + 1)); done | head -c 262144 >/piece
      i=0
      while [ $i -lt 32 ]; do cat /piece; i=$((i + 1)); done >/mnt/data
      sync -f /mnt/data || sync
      md5sum /mnt/data
      ;;
    read) md5sum /mnt/data ;;
    append)
      cat /piece >>/mnt/data
      sync
      md5sum /mnt/data
      ;;
    end)
      umount /mnt
      echo "pmem: did end"
      exit 0
      ;;
  esac
  echo "pmem: did $step"
done
