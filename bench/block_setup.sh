# What bench/block's guest does first: finds the disk to measure, and fio, which lies on the other.
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

# job SECONDS OPTION...; before that a second in which nothing is counted, but served at about the same rate
job() {
  seconds=$1
  shift
  chroot /mnt fio --name=job --filename="$disk" --direct=1 --ioengine=libaio --thread --group_reporting --time_based --ramp_time=1 \
    --runtime="$seconds" --minimal --terse-version=3 "$@" | awk -F';' -v seconds="$seconds" 'NF > 50 { n = $8 + $49; print n, n * (seconds + 1) }'
}
