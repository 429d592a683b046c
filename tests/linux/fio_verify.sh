#!/bin/sh
# Writes and reads back each disk but the first, which has fio, with a random mix of sizes; then what the kernel says of each.
mkdir -p /mnt
mount -t ext4 -o ro /dev/vda /mnt || exit 1
for folder in dev proc sys; do mount --bind /$folder /mnt/$folder; done
mount -t tmpfs tmp /mnt/tmp
# Of the feature bits, the lowest first, number 34 is RING_PACKED.
for path in /sys/block/vd[b-z]; do
  disk=${path##*/}
  echo "disk=$disk serial=$(cat $path/serial) queues=$(ls $path/mq | wc -l) packed=$(cut -c35 $path/device/features) sectors=$(cat $path/size)"
  chroot /mnt fio --name=job --filename=/dev/$disk --direct=1 --ioengine=libaio --iodepth=16 --numjobs=1 --size=6m --rw=randrw \
    --bsrange=512-64k --fsync=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --minimal >/dev/null 2>/tmp/errors
  echo "verified=$disk code=$?"
  cat /tmp/errors
done
