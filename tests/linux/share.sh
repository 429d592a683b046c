#!/bin/sh
# The guest's side of shares.py: mounts the directory of tag "share", and then what strato.do= says.
read -r cmdline </proc/cmdline
for word in $cmdline; do case $word in strato.do=*) what=${word#*=} ;; esac; done
mkdir -p /share
mount -t virtiofs share /share || exit 1
echo "share: mounted"

# Writes, reads and looks, until that fails.
load() {
  while dd if=/dev/zero "of=/share/load$1" bs=64k count=16 conv=fsync 2>/dev/null && cat "/share/load$1" >/dev/null && ls -l /share >/dev/null; do
    echo "share: load $1 goes on"
  done
  echo "share: load $1 has ended"
}

case $what in
  posix)
    cat /share/greeting
    mkdir /share/guest
    /posix /share/guest
    umount /share && echo "share: unmounted"
    ;;
  death)
    for number in 1 2 3 4; do load $number & done
    wait
    ls /share
    umount /share && echo "share: unmounted without a back end"
    until mount -t virtiofs share /share && [ -f /share/greeting ]; do
      umount /share
      sleep 1
    done
    cat /share/greeting
    echo "from the guest" >/share/answer
    echo "share: mounted again"
    for number in 5 6; do load $number & done
    wait
    echo "share: powers off"
    ;;
esac
