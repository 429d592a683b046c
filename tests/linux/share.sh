#!/bin/sh
# The guest's side of shares.py: mounts the directory of tag "share", and then what strato.do= says.
read -r cmdline </proc/cmdline
for word in $cmdline; do case $word in strato.do=*) what=${word#*=} ;; esac; done
mkdir -p /share
mount -t virtiofs share /share || exit 1
echo "share: mounted"
case $what in
  files)
    cat /share/greeting
    echo "from the guest" >/share/answer
    umount /share && echo "share: unmounted"
    ;;
esac
