#!/bin/sh
# Writes /dev/vda from end to end; nothing of it may be lost though the host runs out of space on the way.
letters="a b c d e f g h i j k l m n o p"
n=0
for letter in $letters; do
  tr '\0' $letter </dev/zero | dd of=/dev/vda bs=64k seek=$((n * 16)) count=16 iflag=fullblock conv=fsync 2>/dev/null || echo "write $n failed"
  echo "written=$n"
  n=$((n + 1))
done
echo 3 >/proc/sys/vm/drop_caches
n=0 wrong=0
for letter in $letters; do
  wrong=$((wrong + $(dd if=/dev/vda bs=64k skip=$((n * 16)) count=16 2>/dev/null | tr -d $letter | wc -c)))
  n=$((n + 1))
done
echo "wrong bytes=$wrong"
