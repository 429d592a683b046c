#!/bin/sh
# The bed's start: the host's files read-only at their own paths, with what commands expect to be writable on top.
fail() { echo "bed: $*" >/dev/console; poweroff -f; }
mkdir -p /proc /sys
mount -t proc proc /proc
mount -t sysfs sysfs /sys
[ -c /dev/null ] || mount -t devtmpfs dev /dev
. /settings
load() { while read -r module; do insmod "$1/$module" || echo "bed: no $module" >/dev/console; done <"$1/order"; }
load /modules
load /modules/later &  # KVM takes seconds and nothing here waits for it

root=/host
mkdir "$root"
plan9=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "ro,$plan9,cache=loose" host "$root" || fail "cannot mount the host's files"
if [ -n "$USERLAND" ]; then
  # The host's programs are of another architecture. Debian has them all below /usr, but somebody's files may be in /usr/src.
  mkdir /sources
  mount -o bind "$root/usr/src" /sources
  mount -o bind "$root$USERLAND/usr" "$root/usr" || fail "cannot see $USERLAND"
  mount -o bind /sources "$root/usr/src"
fi
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t devtmpfs dev "$root/dev"
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/net"
mount -t devpts -o ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -sf /proc/self/fd "$root/dev/fd"
ln -sf fd/0 "$root/dev/stdin"
ln -sf fd/1 "$root/dev/stdout"
ln -sf fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755 run "$root/run"

# /tmp and /var/tmp show the host's files and take new ones.
for folder in tmp var/tmp; do
  layers="$root/run/strato/$folder"
  mkdir -p "$layers/upper" "$layers/work"
  chmod 1777 "$layers/upper"
  mount -t overlay -o "lowerdir=$root/$folder,upperdir=$layers/upper,workdir=$layers/work" overlay "$root/$folder" ||
    mount -t tmpfs -o mode=1777 tmp "$root/$folder"
done
mkdir -p "$root$SCRATCH" 2>/dev/null
mount -t 9p -o "$plan9,cache=mmap" scratch "$root$SCRATCH" || fail "cannot mount the scratch folder"
mkdir "$root/run/strato/disk"
mount -t ext4 /dev/vda "$root/run/strato/disk" || fail "cannot mount the scratch disk"

# Modules load themselves when they are needed: the kernel asks this program, device nodes made here ask by number.
mkdir "$root/run/strato/bin"
printf '#!/bin/sh\nexec "%s" -d "%s" "$@"\n' "$MODPROBE" "$MODULES" >"$root/run/strato/bin/modprobe"
chmod 755 "$root/run/strato/bin/modprobe"
echo /run/strato/bin/modprobe >/proc/sys/kernel/modprobe

ip link set lo up
ip addr add 192.0.2.1/24 dev dummy0
ip link set dummy0 up
ip route add default via 192.0.2.254
hostname bed
umask 022
wait
umount /proc /sys
exec switch_root "$root" /usr/bin/python3 -E -s -S -B "$AGENT" "$MODULES/lib/modules/$(uname -r)/modules.devname"
