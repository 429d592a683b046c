#!/bin/sh
# What happens to /dev/vda while somebody outside looks: discard, then a new size.
blkdev=/dev/vda
dd if=/dev/urandom of=$blkdev bs=1M count=8 conv=fsync 2>/dev/null
echo "written"
read -r _ </dev/ttyS0
blkdiscard $blkdev || echo "blkdiscard failed"
before=$(cat /sys/block/vda/size)
echo "discarded"
while [ "$(cat /sys/block/vda/size)" = "$before" ]; do sleep 0.2; done
echo "resized from $before to $(cat /sys/block/vda/size)"
