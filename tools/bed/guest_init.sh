#!/bin/sh
# The guest's /init. It loads the modules of the image, reports what it sees as key=value lines between two markers, and
# obeys words of the kernel's command line:
#   strato.port=PORT,VALUE  first writes a byte to an I/O port, on arm64 to a physical address
#   strato.root=DEVICE,TYPE[,OPTION...] goes on with the /init of that file system, read-write when it can be
#   strato.report=no        no report
#   strato.run=PATH         then runs a program of the initramfs; its exit code is reported
#   strato.end=WORD         then poweroff (the default), reboot, halt, panic, hang or shell
#   quiet                   from init on no kernel message but emergencies mixes with the output; the report has them all
mount -t proc proc /proc
mount -t sysfs sysfs /sys
[ -c /dev/null ] || mount -t devtmpfs dev /dev
read -r cmdline </proc/cmdline
end=poweroff report=yes run= port= root=
for word in $cmdline; do
  case $word in
    strato.end=*) end=${word#*=} ;;
    strato.report=*) report=${word#*=} ;;
    strato.run=*) run=${word#*=} ;;
    strato.port=*) port=${word#*=} ;;
    strato.root=*) root=${word#*=} ;;
    quiet) echo 1 >/proc/sys/kernel/printk ;;
  esac
done
[ -z "$port" ] || mark "$((${port%,*}))" "$((${port#*,}))" || echo "strato.port=$port: not written"

failed=
if [ -f /modules/order ]; then
  while read -r module; do insmod "/modules/$module" || failed="$failed $module"; done </modules/order
  if [ -n "$root" ]; then
    mkdir -p /root
    device=${root%%,*} options=${root#*,},
    type=${options%%,*} options=${options#*,}
    mount -o "rw,${options%,}" -t "$type" "$device" /root || mount -o "${options}ro" -t "$type" "$device" /root || echo "strato.root=$root: no such root"
    umount /sys /proc
    exec switch_root /root /init
  fi
fi

# Prints key=, then the first line of a file.
show() {
  read -r line <"$2" && echo "$1=$line"
}

report_processors() {
  for folder in /sys/devices/system/cpu/cpu[0-9]*; do
    cd "$folder/topology" || continue
    die=0
    [ ! -f die_id ] || read -r die <die_id # arm64 has none
    # cat, because these lists do not bear being read byte by byte
    set -- $(cat physical_package_id cluster_id core_id thread_siblings_list)
    echo "${folder##*/}=package:$1 die:$die cluster:$2 core:$3 siblings:$4"
  done
  cd /
}

report_tables() {
  tables=
  for file in /sys/firmware/acpi/tables/*; do [ -f "$file" ] && tables="$tables ${file##*/}"; done
  echo "acpi=${tables# }"
}

if [ "$report" = yes ]; then
  echo "STRATO-REPORT-BEGIN"
  echo "uname=$(uname -srvm)"
  echo "nproc=$(nproc)"
  while read -r name value _; do [ "$name" = MemTotal: ] && echo "MemTotal=$value" && break; done </proc/meminfo
  echo "cmdline=$cmdline"
  show clocksource /sys/devices/system/clocksource/clocksource0/current_clocksource
  show uptime /proc/uptime
  echo "text=$(sed -n '/ _stext$/{s/ .*//p;q}' /proc/kallsyms)"
  [ ! -e /sys/class/rtc/rtc0 ] || echo "rtc=$(cat /sys/class/rtc/rtc0/name /sys/class/rtc/rtc0/since_epoch | tr '\n' ' ')"
  echo "root=$(sed -n 's|^\(/dev/[^ ]*\) / \([^ ]*\) \([^, ]*\).*|\1 \2 \3|p' /proc/mounts)"
  echo "root_options=$(sed -n 's|^/dev/[^ ]* / [^ ]* \([^ ]*\).*|\1|p' /proc/mounts)"
  report_processors
  report_tables
  echo "modules_failed=${failed# }"
  [ -x /usr/bin/lscpu ] && /usr/bin/lscpu | sed 's/^/lscpu=/'
  dmesg -r | sed -n 's/^<[0-4]>/dmesg=/p'
  echo "STRATO-REPORT-END"
fi

if [ -n "$run" ]; then
  "$run"
  echo "STRATO-RUN-EXIT=$?"
fi

while :; do
  case $end in
    poweroff | reboot | halt) "$end" -f ;;
    panic) echo c >/proc/sysrq-trigger ;;
    hang) sleep 1000000 ;;
    shell) setsid cttyhack sh; end=poweroff ;;
    *) echo "strato.end=$end: unknown"; end=poweroff ;;
  esac
done
