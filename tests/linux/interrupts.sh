#!/bin/sh
# Verified random I/O on the last disk while its interrupt goes from one CPU to the other and back. strato.seconds= says how long.
read -r cmdline </proc/cmdline
for word in $cmdline; do case $word in strato.seconds=*) seconds=${word#*=} ;; esac; done
echo 30 >/proc/sys/kernel/hung_task_timeout_secs
echo 0 >/proc/sys/kernel/watchdog # what a busy host causes is no lost interrupt
mkdir -p /mnt
mount -t ext4 -o ro /dev/vda /mnt || exit 1
for folder in dev proc sys; do mount --bind /$folder /mnt/$folder; done
mount -t tmpfs tmp /mnt/tmp
echo "devices=$(ls /sys/bus/virtio/devices | wc -l) with a driver=$(ls -d /sys/bus/virtio/devices/*/driver | wc -l)"
device=$(basename "$(readlink -f /sys/block/vdb/device)")

# The disk's line of /proc/interrupts.
interrupts() {
  echo "$1 $(grep "$device\$" /proc/interrupts)"
}

interrupts before
irq=$(sed -n "s/^ *\([0-9]*\):.* $device\$/\1/p" /proc/interrupts)
while [ ! -e /tmp/over ]; do
  echo 1 >/proc/irq/$irq/smp_affinity
  usleep 5000
  echo 2 >/proc/irq/$irq/smp_affinity
  usleep 5000
  echo x >>/tmp/moves
done &
end=$(($(date +%s) + seconds)) passes=0
while [ "$(date +%s)" -lt "$end" ]; do
  # One request at a time: any interrupt that is lost is missed.
  chroot /mnt fio --name=job --filename=/dev/vdb --direct=1 --ioengine=psync --size=512k --rw=randrw --bsrange=512-8k --fsync=16 \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 --minimal >/dev/null 2>/tmp/errors || { echo "fio failed: $(cat /tmp/errors)"; break; }
  passes=$((passes + 1))
done
: >/tmp/over
wait
interrupts after
echo "passes=$passes moves=$(wc -l </tmp/moves)"
/complaints.sh
