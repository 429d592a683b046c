#include "config/command_line.h"

#include <gtest/gtest.h>

#include <vector>

#include "config/options.h"

namespace strato {
namespace {

using Line = std::vector<std::string_view>;

// What any microVM needs, in front of the words under test.
Line with_kernel(Line words) {
  words.insert(words.begin(), {"-kernel", "/boot/vmlinux"});
  return words;
}

VmConfig accepted(const Line& words) {
  Result<ParsedCommandLine> parsed = parse_command_line(words);
  if (!parsed) {
    ADD_FAILURE() << parsed.error().text();
    return {};
  }
  VmConfig* config = std::get_if<VmConfig>(&*parsed);
  EXPECT_NE(config, nullptr) << "-help or -version instead of a run";
  return config == nullptr ? VmConfig{} : std::move(*config);
}

std::string refused(const Line& words) {
  const Result<ParsedCommandLine> parsed = parse_command_line(words);
  return parsed ? "accepted" : parsed.error().text();
}

// --- the lines of real callers ------------------------------------------------------------------------------------

TEST(CommandLineTest, KataLineIsTakenWordForWord) {
  const VmConfig config = accepted({"-name",
                                    "sandbox-4f1c",
                                    "-uuid",
                                    "2B2F3C9E-6F0C-4C1B-9d5e-0a1b2c3d4e5f",
                                    "-smp",
                                    "1",
                                    "-m",
                                    "2048",
                                    "-kernel",
                                    "/usr/share/kata-containers/vmlinuz.container",
                                    "-append",
                                    "root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 "
                                    "reboot=k panic=1 net.ifnames=0 ramdom.trust_cpu=on pci=off iommu=off acpi=off "
                                    "quiet 8250.nr_uarts=0 agent.log_vport=1025",
                                    "-qmp",
                                    "unix:/run/vc/vm/4f1c/qmp.socket,server,nowait",
                                    "-D",
                                    "-disable-seccomp",
                                    "-machine",
                                    "type=microvm,dump-guest-core=off,mem-share=on",
                                    "-object",
                                    "rng-random,id=objrng0,filename=/dev/urandom",
                                    "-device",
                                    "virtio-rng-device,rng=objrng0,id=virtio-rng0",
                                    "-device",
                                    "virtio-serial-device,id=virtio-serial0",
                                    "-chardev",
                                    "socket,id=charconsole0,path=/run/vc/vm/4f1c/console.socket,server,nowait",
                                    "-device",
                                    "virtconsole,chardev=charconsole0,id=virtio-console0,nr=0",
                                    "-drive",
                                    "id=rootfs,file=/usr/share/kata-containers/image.img,readonly=on,direct=off",
                                    "-device",
                                    "virtio-blk-device,drive=rootfs,id=virtio-blk0",
                                    "-device",
                                    "vhost-vsock-device,id=vsock-id,guest-cid=12345,vhostfd=3",
                                    "-netdev",
                                    "tap,id=eth0,fds=4:5",
                                    "-device",
                                    "virtio-net-device,netdev=eth0,id=eth0,mac=02:00:ca:fe:00:01",
                                    "-chardev",
                                    "socket,id=virtio_fs,path=/run/vc/vm/4f1c/virtiofs_kata.socket,server,nowait",
                                    "-device",
                                    "vhost-user-fs-device,chardev=virtio_fs,tag=kataShared,id=virtio-fs0"});
  EXPECT_EQ(config.name, "sandbox-4f1c");
  EXPECT_EQ(config.uuid, "2b2f3c9e-6f0c-4c1b-9d5e-0a1b2c3d4e5f");
  EXPECT_EQ(config.machine, (MachineConfig{.dump_guest_core = false, .mem_share = true}));
  EXPECT_EQ(config.memory_bytes, 2 * kGiB);
  EXPECT_EQ(config.smp, SmpConfig{});
  EXPECT_TRUE(config.append.starts_with("root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro"));
  EXPECT_TRUE(config.log_file.empty());
  EXPECT_TRUE(config.disable_seccomp);
  EXPECT_EQ(config.action.reboot, RebootAction::Shutdown);
  ASSERT_EQ(config.qmp.size(), 1U);
  EXPECT_EQ(config.qmp[0].socket, (SocketConfig{.path = "/run/vc/vm/4f1c/qmp.socket", .server = true, .nowait = true}));
  ASSERT_EQ(config.chardevs.size(), 2U);
  EXPECT_EQ(config.chardevs[1].id, "virtio_fs");
  EXPECT_EQ(config.devices.size(), 7U);
  ASSERT_EQ(config.netdevs.size(), 1U);
  EXPECT_EQ(config.netdevs[0].type, "tap");
  EXPECT_EQ(config.netdevs[0].value_of("fds"), "4:5");
  EXPECT_EQ(config.objects[0].value_of("filename"), "/dev/urandom");
  EXPECT_EQ(config.drives[0].value_of("direct"), "off");
  EXPECT_FALSE(config.serial.has_value());
}

TEST(CommandLineTest, KuasarLineIsTakenWordForWord) {
  const VmConfig config =
      accepted({"-name",
                "sandbox-77",
                "-uuid",
                "0f9a8b7c-0000-1111-2222-333344445555",
                "-machine",
                "q35,mem-share=on",
                "-qmp",
                "unix:/run/77-qmp.sock,server,nowait",
                "-kernel",
                "/var/lib/kuasar/vmlinux.bin",
                "-append",
                "console=hvc0 console=hvc1 iommu=off panic=1 pcie_ports=native root=/dev/vda ro rootfstype=ext4",
                "-smp",
                "cpus=2",
                "-m",
                "1024M",
                "-pidfile",
                "/run/77.pid",
                "-D",
                "/var/log/77.log",
                "-global",
                "pcie-root-port.fast-unplug=1",
                "-daemonize",
                "-disable-seccomp",
                "-mem-prealloc",
                "-drive",
                "file=/usr/share/OVMF.fd,if=pflash,format=raw,unit=0,readonly=on",
                "-object",
                "rng-random,id=rng0,filename=/dev/urandom",
                "-device",
                "virtio-rng-pci,rng=rng0,id=virtio-rng0,bus=pcie.0,addr=0x1",
                "-chardev",
                "socket,id=charconsole0,path=/run/77/console.sock,server,nowait",
                "-device",
                "pcie-root-port,id=pcie.1,port=0x1,bus=pcie.0,addr=0x5",
                "-netdev",
                "tap,id=net0,fds=3:4",
                "-device",
                "virtio-net-pci,netdev=net0,id=virtio-net-0,vectors=6,bus=pcie.0,addr=0x6,"
                "mac=52:54:00:00:00:01,mq=on"});
  EXPECT_EQ(config.machine.type, MachineType::Q35);
  EXPECT_EQ(config.smp.cpus, 2U);
  EXPECT_EQ(config.memory_bytes, kGiB);
  EXPECT_EQ(config.pidfile, "/run/77.pid");
  EXPECT_EQ(config.log_file, "/var/log/77.log");
  EXPECT_TRUE(config.daemonize);
  EXPECT_TRUE(config.memory_prealloc);
  EXPECT_EQ(config.action.reboot, RebootAction::Reset);
  ASSERT_EQ(config.globals.size(), 1U);
  EXPECT_EQ(config.globals[0].value_of("pcie-root-port.fast-unplug"), "1");
  ASSERT_EQ(config.devices.size(), 3U);
  EXPECT_EQ(config.devices[2].type, "virtio-net-pci");
  EXPECT_EQ(config.devices[2].text.substr(0, 14), "virtio-net-pci");
}

TEST(CommandLineTest, AKernelIsAllThatAMicrovmNeeds) {
  const VmConfig config = accepted({"-kernel", "hello"});
  EXPECT_EQ(config.machine, MachineConfig{});
  EXPECT_EQ(config.smp, SmpConfig{});
  EXPECT_EQ(config.memory_bytes, 256 * kMiB);
  EXPECT_EQ(config.action, ActionConfig{});
  EXPECT_TRUE(config.qmp.empty());
}

// --- grammar ------------------------------------------------------------------------------------------------------

TEST(CommandLineTest, FirstHelpOrVersionEndsTheParse) {
  for (const char* word : {"-help", "-h", "--help"}) {
    const Result<ParsedCommandLine> parsed = parse_command_line(Line{word, "-nonsense"});
    ASSERT_TRUE(parsed.has_value()) << word;
    EXPECT_TRUE(std::holds_alternative<ShowHelp>(*parsed)) << word;
  }
  for (const char* word : {"-version", "-V", "--version"}) {
    const Result<ParsedCommandLine> parsed = parse_command_line(Line{"-S", word});
    ASSERT_TRUE(parsed.has_value()) << word;
    EXPECT_TRUE(std::holds_alternative<ShowVersion>(*parsed)) << word;
  }
}

TEST(CommandLineTest, WhatStandsBehindTwoDashesIsKept) {
  const VmConfig config = accepted(with_kernel({"-append", "a", "--", "-smp", "x", "--"}));
  EXPECT_EQ(config.append, "a");
  EXPECT_EQ(config.extra_arguments, (std::vector<std::string>{"-smp", "x", "--"}));
}

TEST(CommandLineTest, AppendJoinsWordsAndRepeats) {
  const VmConfig config = accepted(with_kernel({"-append", "console=ttyS0", "quiet", "-S", "-append", "panic=-1"}));
  EXPECT_EQ(config.append, "console=ttyS0 quiet panic=-1");
  EXPECT_TRUE(config.freeze);
}

TEST(CommandLineTest, AppendMayBeginWithADashWhenItHoldsASpace) {
  EXPECT_EQ(accepted(with_kernel({"-append", "-- --login"})).append, "-- --login");
}

TEST(CommandLineTest, LongKernelArgumentsAreTaken) {
  const std::string argument = "dm-mod.create=" + std::string(1000, 'x');
  EXPECT_EQ(accepted(with_kernel({"-append", argument})).append, argument);
}

TEST(CommandLineTest, LogFileIsOptional) {
  EXPECT_EQ(accepted(with_kernel({"-D", "/tmp/log", "-S"})).log_file, "/tmp/log");
  EXPECT_EQ(accepted(with_kernel({"-D", "-S"})).log_file, "");
  EXPECT_EQ(accepted(with_kernel({"-D"})).log_file, "");
}

TEST(CommandLineTest, OptionsOfOtherProgramsAreAcceptedAndDropped) {
  const VmConfig config = accepted(with_kernel({"-overcommit", "mem-lock=off", "-no-user-config",
                                                "-nodefaults", "-sandbox",     "on,obsolete=deny",
                                                "-msg",        "timestamp=on", "-rtc",
                                                "base=utc",    "-boot",        "strict=on",
                                                "-nographic",  "-realtime",    "mlock=off",
                                                "-usb",        "-display",     "none",
                                                "-display",    "none"}));
  EXPECT_EQ(config.kernel, "/boot/vmlinux");
}

TEST(CommandLineTest, LettersAreAliases) {
  EXPECT_TRUE(accepted(with_kernel({"-freeze"})).freeze);
  EXPECT_TRUE(accepted(with_kernel({"-S"})).freeze);
  EXPECT_TRUE(accepted(with_kernel({"--daemonize"})).daemonize);
}

// --- single options -----------------------------------------------------------------------------------------------

TEST(CommandLineTest, MachineTakesItsProperties) {
  EXPECT_EQ(
      accepted(with_kernel({"-machine", "MicroVM,accel=kvm:tcg,usb=off,acpi=off,virtio-cmdline=no,pit=on"})).machine,
      (MachineConfig{.acpi = false, .virtio_cmdline = false, .pit = OnOffAuto::On}));
  EXPECT_EQ(accepted({"-machine", "none"}).machine.type, MachineType::None);
  EXPECT_EQ(accepted({"-machine", "type=virt,gic-version=3"}).machine,
            (MachineConfig{.type = MachineType::Virt, .gic_version = 3}));
}

TEST(CommandLineTest, LastAcceleratorCounts) {
  EXPECT_EQ(accepted(with_kernel({"-machine", "microvm,accel=kvm", "-accel", "test"})).machine.accel, Accel::Test);
  EXPECT_EQ(accepted(with_kernel({"-accel", "test", "-machine", "microvm,accel=kvm"})).machine.accel, Accel::Kvm);
  EXPECT_EQ(accepted(with_kernel({"-accel", "test", "-machine", "microvm"})).machine.accel, Accel::Test);
}

TEST(CommandLineTest, CpuTakesItsSwitches) {
  EXPECT_EQ(accepted(with_kernel({"-cpu", "host,pmu=on,sve=off,kvm-steal-time=on"})).cpu,
            (CpuConfig{.pmu = true, .kvm_steal_time = true}));
}

TEST(CommandLineTest, SmpIsCompletedFromWhatIsGiven) {
  const SmpConfig expected = {.cpus = 3, .max_cpus = 8, .sockets = 2, .cores = 2, .threads = 2};
  EXPECT_EQ(accepted(with_kernel({"-smp", "3,maxcpus=8,sockets=2,cores=2"})).smp, expected);
}

TEST(CommandLineTest, MemoryCountsMebibytesWithoutASuffix) {
  EXPECT_EQ(accepted(with_kernel({"-m", "32"})).memory_bytes, 32 * kMiB);
  EXPECT_EQ(accepted(with_kernel({"-m", "size=512G"})).memory_bytes, 512 * kGiB);
  EXPECT_EQ(accepted(with_kernel({"-m", "1028k"})).memory_bytes, 1028 * kKiB);
  const VmConfig config = accepted(with_kernel({"-m", "1G,maxmem=2G"}));
  EXPECT_EQ(config.max_memory_bytes, 2 * kGiB);
  EXPECT_EQ(accepted(with_kernel({"-m", "1G"})).max_memory_bytes, kGiB);
  EXPECT_EQ(accepted(with_kernel({"-m", "1G,slots=2,maxmem=3G"})).max_memory_bytes, 3 * kGiB);
}

TEST(CommandLineTest, SerialBringsItsOwnChardev) {
  const VmConfig config = accepted(with_kernel({"-serial", "file,path=/tmp/out"}));
  ASSERT_TRUE(config.serial.has_value());
  const ChardevConfig* chardev = find_chardev(config, *config.serial);
  ASSERT_NE(chardev, nullptr);
  EXPECT_EQ(chardev->kind, ChardevKind::File);
  EXPECT_EQ(chardev->path, "/tmp/out");
}

TEST(CommandLineTest, SerialMayNameAChardevThatComesLater) {
  const VmConfig config = accepted(with_kernel({"-serial", "chardev:c0", "-chardev", "pty,id=c0"}));
  EXPECT_EQ(config.serial, "c0");
  EXPECT_EQ(config.chardevs.size(), 1U);
}

TEST(CommandLineTest, SerialNoneIsNoPort) {
  EXPECT_FALSE(accepted(with_kernel({"-serial", "none"})).serial.has_value());
}

TEST(CommandLineTest, EachChardevKindIsKnown) {
  const VmConfig config = accepted(
      with_kernel({"-chardev", "null,id=a", "-chardev", "stdio,id=b", "-chardev", "pty,id=c", "-chardev",
                   "socket,id=d,port=4444", "-chardev", "file,id=e,path=f", "-chardev", "redirect-to-log,id=g"}));
  ASSERT_EQ(config.chardevs.size(), 6U);
  for (size_t i = 0; i < config.chardevs.size(); ++i) EXPECT_EQ(config.chardevs[i].kind, static_cast<ChardevKind>(i));
  EXPECT_EQ(config.chardevs[3].socket, (SocketConfig{.host = "0.0.0.0", .port = 4444}));
}

TEST(CommandLineTest, PresentQemuSpellingOfServerAndWaitIsTaken) {
  const VmConfig config = accepted(with_kernel({"-qmp", "tcp:127.0.0.1:4444,server=on,wait=off"}));
  ASSERT_EQ(config.qmp.size(), 1U);
  EXPECT_EQ(config.qmp[0].socket, (SocketConfig{.host = "127.0.0.1", .port = 4444, .server = true, .nowait = true}));
}

TEST(CommandLineTest, QmpTakesIpv6InBracketsAndPathsWithEquals) {
  const VmConfig config =
      accepted(with_kernel({"-qmp", "tcp:[::1]:1,server,nowait", "-qmp", "unix:/a=b,server,nowait"}));
  ASSERT_EQ(config.qmp.size(), 2U);
  EXPECT_EQ(config.qmp[0].socket.host, "::1");
  EXPECT_EQ(config.qmp[1].socket.path, "/a=b");
}

TEST(CommandLineTest, MonitorTakesTheSocketOfItsChardev) {
  const VmConfig config = accepted(with_kernel(
      {"-mon", "chardev=m,id=monitor,mode=control", "-chardev", "socket,id=m,path=/run/m.sock,server,nowait"}));
  ASSERT_EQ(config.qmp.size(), 1U);
  EXPECT_EQ(config.qmp[0].socket.path, "/run/m.sock");
  EXPECT_EQ(config.qmp[0].chardev, "m");
  EXPECT_EQ(config.qmp[0].id, "monitor");
}

TEST(CommandLineTest, IncomingNeedsNoKernel) {
  EXPECT_EQ(accepted({"-incoming", "file:/snap,mapped=false"}).incoming,
            (IncomingConfig{.path = "/snap", .mapped = false}));
  EXPECT_EQ(accepted({"-incoming", "unix:/s"}).incoming, (IncomingConfig{.kind = IncomingKind::Unix, .path = "/s"}));
  EXPECT_EQ(accepted({"-incoming", "tcp:10.0.0.1:99"}).incoming,
            (IncomingConfig{.kind = IncomingKind::Tcp, .host = "10.0.0.1", .port = 99}));
}

TEST(CommandLineTest, LastWordOnAnActionCounts) {
  EXPECT_EQ(
      accepted(with_kernel({"-action", "reboot=reset,panic=none", "-no-shutdown"})).action,
      (ActionConfig{.reboot = RebootAction::Reset, .shutdown = ShutdownAction::Pause, .panic = PanicAction::None}));
  EXPECT_EQ(accepted(with_kernel({"-action", "reboot=reset", "-no-reboot"})).action.reboot, RebootAction::Shutdown);
  EXPECT_EQ(accepted(with_kernel({"-no-reboot", "-action", "reboot=reset"})).action.reboot, RebootAction::Reset);
  EXPECT_EQ(accepted({"-machine", "q35", "-no-reboot"}).action.reboot, RebootAction::Shutdown);
}

TEST(CommandLineTest, NetdevAndItsDeviceMayShareAnId) {
  const VmConfig config =
      accepted(with_kernel({"-netdev", "tap,id=eth0,ifname=tap0", "-device", "virtio-net-device,netdev=eth0,id=eth0"}));
  EXPECT_EQ(config.devices.size(), 1U);
}

TEST(CommandLineTest, DriverMayBeGivenAsAKey) {
  const VmConfig config = accepted(with_kernel({"-device", "id=x,driver=virtio-rng-device"}));
  ASSERT_EQ(config.devices.size(), 1U);
  EXPECT_EQ(config.devices[0].type, "virtio-rng-device");
  EXPECT_EQ(config.devices[0].find("driver"), nullptr);
}

// --- what is refused ----------------------------------------------------------------------------------------------

struct BadRow {
  Line words;
  std::string_view message;  // the whole of it, or a part
};

const std::string kLongName(256, 'n');
const std::string kLongPath(4096, 'p');
const std::string kLongSocket = "unix:" + std::string(108, 's') + ",server,nowait";

TEST(BadCommandLineTest, MessageNamesOptionValueAndRemedy) {
  const BadRow kRows[] = {
      // grammar
      {{"vmlinux"}, "unexpected argument 'vmlinux': options start with '-'"},
      {{"-"}, "unexpected argument '-'"},
      {{""}, "unexpected argument ''"},
      {{"-bogus"}, "unknown option '-bogus' (-help lists all)"},
      {{"---help"}, "unknown option '---help'"},
      {{"-SMP", "1"}, "unknown option '-SMP'"},
      {{"-smp=1"}, "unknown option '-smp=1'"},
      {{"-S", "now"}, "unexpected argument 'now'"},
      {{"-m"}, "-m: needs a value ([size=]N[,...]), found the end of the line"},
      {{"-m", "-S"}, "-m: needs a value ([size=]N[,...]), found '-S'"},
      {{"-append"}, "-append: needs a value"},
      {{"-append", "--", "x"}, "-append: needs a value (WORD...), found '--'"},
      {{"-m", "1", "-m", "2"}, "-m: is given twice"},
      {{"-S", "-freeze"}, "-S: is given twice"},
      {{"-D", "-D"}, "-D: is given twice"},
      {{"-machine", "microvm,"}, "-machine: 'microvm,': an empty word"},
      {{"-machine", ""}, "-machine: '': an empty word"},
      {{"-machine", "microvm,,acpi=on"}, "-machine: 'microvm,,acpi=on': an empty word"},
      {{"-machine", "microvm,=on"}, "-machine: '=on': a key must stand before '='"},
      // -machine, -accel, -cpu
      {{"-machine", "pc"}, "-machine: type=pc: must be none|microvm|q35|virt"},
      {{"-machine", "microvm,type=q35"}, "-machine: type=q35: 'type' is given twice"},
      {{"-machine", "microvm,foo=1"}, "-machine: unknown property 'foo' (known: type, accel,"},
      {{"-machine", "microvm,acpi=maybe"}, "-machine: acpi=maybe: must be on|off"},
      {{"-machine", "microvm,acpi"}, "-machine: acpi: needs a value: on|off"},
      {{"-machine", "microvm,acpi=on,acpi=off"}, "-machine: acpi=off: 'acpi' is given twice"},
      {{"-machine", "microvm,usb=on"}, "-machine: usb=on: must be off"},
      {{"-machine", "microvm,pit=yes"}, "-machine: pit=yes: must be on|off|auto"},
      {{"-machine", "microvm,accel=tcg"}, "-machine: accel=tcg: must be kvm|kvm:tcg|test"},
      {{"-machine", "virt,gic-version=4"}, "-machine: gic-version=4:"},
      {{"-accel", "hvf"}, "-accel: accel=hvf: must be kvm|kvm:tcg|test"},
      {{"-cpu", "max"}, "-cpu: model=max: must be host"},
      {{"-cpu", "pmu=on"}, "-cpu: needs model="},
      {{"-cpu", "host,pmu=1"}, "-cpu: pmu=1: must be on|off"},
      {{"-cpu", "host,+avx"}, "-cpu: unknown property '+avx' (known: model, pmu, sve, kvm-steal-time)"},
      // -smp
      {{"-smp", "0"}, "-smp: cpus=0: must be 1..254"},
      {{"-smp", "255"}, "-smp: cpus=255: must be 1..254"},
      {{"-smp", "cpus=300"}, "-smp: cpus=300: must be 1..254"},
      {{"-smp", "-1"}, "-smp: needs a value"},
      {{"-smp", "two"}, "-smp: cpus=two: must be 1..254"},
      {{"-smp", "sockets=2"}, "-smp: needs cpus= (vCPUs at start)"},
      {{"-smp", "4,maxcpus=2"}, "-smp: cpus=4: more than the 2"},
      {{"-smp", "1,maxcpus=255"}, "-smp: maxcpus=255: must be 1..254"},
      {{"-smp", "4,dies=0"}, "-smp: dies=0: must be 1..254"},
      {{"-smp", "3,sockets=2"},
       "-smp: sockets * dies * clusters * cores * threads must be equal to max_cpus: 2 * 1 * 1 * 1 * 1 is not 3"},
      {{"-smp", "2,sockets=254,cores=254,threads=254"},
       "-smp: sockets * dies * clusters * cores * threads is 16387064: must be 1..254"},
      // -m
      {{"-m", "0"}, "-m: size=0: must be 1M..512G in steps of 4K (a number with K, M or G)"},
      {{"-m", "513G"}, "-m: size=513G: must be 1M..512G"},
      {{"-m", "1025K"}, "-m: size=1025K: must be 1M..512G in steps of 4K"},
      {{"-m", "1T"}, "-m: size=1T: must be 1M..512G"},
      {{"-m", "18446744073709551616"}, "-m: size=18446744073709551616: must be"},
      {{"-m", "1.5G"}, "-m: size=1.5G: must be"},
      {{"-m", "2G,maxmem=1G"}, "-m: maxmem=1G: less than size=2G"},
      {{"-m", "2G,slot=2"}, "-m: unknown property 'slot' (known: size, maxmem, slots)"},
      {{"-m", "2G,slots=257"}, "-m: slots=257: must be 0..256"},
      // plain values
      {{"-name", kLongName}, ": must be 1 to 255 bytes"},
      {{"-kernel", ""}, "-kernel: '': must be 1 to 4095 bytes"},
      {{"-initrd", kLongPath}, ": must be 1 to 4095 bytes"},
      {{"-uuid", "1234"}, "-uuid: '1234': must look like 12345678-"},
      {{"-uuid", "2b2f3c9e-6f0c-4c1b-9d5e-0a1b2c3d4e5g"},
       "-uuid: '2b2f3c9e-6f0c-4c1b-9d5e-0a1b2c3d4e5g': must look like"},
      {{"-uuid", "2b2f3c9e06f0c-4c1b-9d5e-0a1b2c3d4e5f"}, "-uuid: "},
      // -qmp, -mon, -incoming
      {{"-qmp", "/run/q"}, "-qmp: '/run/q': must be unix:PATH or tcp:ADDRESS:PORT"},
      {{"-qmp", "unix:,server,nowait"}, "-qmp: 'unix:': the path must be 1 to 107 bytes"},
      {{"-qmp", kLongSocket}, ": the path must be 1 to 107 bytes"},
      {{"-qmp", "unix:/q"}, "-qmp: needs server= (mandatory: QMP listens)"},
      {{"-qmp", "unix:/q,server"}, "-qmp: needs nowait="},
      {{"-qmp", "unix:/q,server=off,nowait"}, "-qmp: 'unix:/q,server=off,nowait': QMP always listens"},
      {{"-qmp", "unix:/q,server,wait=on"},
       "-qmp: 'unix:/q,server,wait=on': QMP always listens and never waits: server,nowait"},
      {{"-qmp", "unix:/q,server,wait=maybe"}, "-qmp: 'maybe': wait= must be on|off"},
      {{"-qmp", "unix:/q,server,nowait,wait=off"}, "-qmp: 'nowait' and wait= exclude each other"},
      {{"-qmp", "tcp:localhost:1,server,nowait"}, "-qmp: 'tcp:localhost:1': 'localhost' must be a numeric address"},
      {{"-qmp", "tcp:127.0.0.1,server,nowait"}, "-qmp: 'tcp:127.0.0.1': must be tcp:ADDRESS:PORT"},
      {{"-qmp", "tcp:127.0.0.1:0,server,nowait"}, "-qmp: 'tcp:127.0.0.1:0': the port must be 1..65535"},
      {{"-qmp", "tcp:127.0.0.1:65536,server,nowait"}, "the port must be 1..65535"},
      {{"-qmp", "tcp::1,server,nowait"}, "'' must be a numeric address"},
      {{"-qmp", "unix:/q,server,nowait,telnet"}, "-qmp: unknown property 'telnet' (known: server, nowait, iothread)"},
      {{"-mon", "chardev=x"}, "-mon: needs mode="},
      {{"-mon", "chardev=x,mode=readline"}, "-mon: mode=readline: must be control"},
      {{"-mon", "chardev=x,mode=control"}, "-mon: chardev=x: no -chardev has id=x"},
      {{"-mon", "x,mode=control", "-chardev", "pty,id=x"}, "-mon: chardev=x: must be a socket with server,nowait"},
      {{"-mon", "x,mode=control", "-chardev", "socket,id=x,path=/x"},
       "-mon: chardev=x: must be a socket with server,nowait"},
      {{"-mon", "x,mode=control", "-mon", "x,mode=control", "-chardev", "socket,id=x,path=/x,server,nowait"},
       "-mon: chardev=x: already has a user"},
      {{"-mon", "x,mode=control", "-serial", "chardev:x", "-chardev", "socket,id=x,path=/x,server,nowait"},
       "-mon: chardev=x: already has a user"},
      {{"-incoming", "defer"}, "-incoming: 'defer': must be file:PATH, unix:PATH or tcp:ADDRESS:PORT"},
      {{"-incoming", "file:"}, "-incoming: 'file:': the path must be 1 to 4095 bytes"},
      {{"-incoming", "file:/s,mapped=on"}, "-incoming: mapped=on: must be true|false"},
      {{"-incoming", "unix:/s,mapped=true"}, "-incoming: 'unix:/s,mapped=true': mapped= is for file: only"},
      {{"-incoming", "tcp:host:1"}, "-incoming: 'tcp:host:1': 'host' must be a numeric address"},
      // -action
      {{"-action", "reboot"}, "-action: 'reboot': must be key=value"},
      {{"-action", "reboot=none"}, "-action: reboot=none: must be reset|shutdown"},
      {{"-action", "panic=run"}, "-action: panic=run: must be pause|shutdown|exit-failure|none"},
      {{"-action", "sleep=pause"}, "-action: unknown property 'sleep' (known: reboot, shutdown, panic, watchdog)"},
      // -chardev, -serial
      {{"-chardev", "id=x"}, "-chardev: 'id=x': the first word must be one of null, stdio, pty, socket, file"},
      {{"-chardev", "vc,id=x"}, "-chardev: 'vc,id=x': the first word must be one of"},
      {{"-chardev", "stdio"}, "-chardev: stdio: needs id= (name that devices refer to)"},
      {{"-chardev", "stdio,id="}, "-chardev: stdio: id=: must be 1 to 255 bytes"},
      {{"-chardev", "file,id=x"}, "-chardev: file: needs path="},
      {{"-chardev", "pty,id=x,path=/x"}, "-chardev: pty: unknown property 'path' (known: id)"},
      {{"-chardev", "socket,id=x"}, "-chardev: socket: needs either path= or port="},
      {{"-chardev", "socket,id=x,path=/x,port=1"}, "-chardev: socket: needs either path= or port="},
      {{"-chardev", "socket,id=x,path=/x,host=::1"}, "-chardev: socket: host= needs port=, not path="},
      {{"-chardev", "socket,id=x,port=0"}, "-chardev: socket: port=0: must be 1..65535"},
      {{"-chardev", "socket,id=x,host=a.b,port=1"}, "-chardev: 'a.b': host= must be a numeric address"},
      {{"-chardev", "socket,id=x,path=/x,nowait"}, "-chardev: socket: 'nowait' needs 'server'"},
      {{"-chardev", "pty,id=x", "-chardev", "pty,id=x"}, "-chardev: id=x: is used twice"},
      {{"-serial", "pty", "-serial", "pty"}, "-serial: is given twice"},
      {{"-serial", "pty,id=x"}, "-serial: 'pty,id=x': id= belongs to -chardev"},
      {{"-serial", "pty", "-chardev", "pty,id=serial0"}, "-chardev: id=serial0: is used twice"},
      {{"-serial", "chardev:"}, "-serial: 'chardev:': needs the id of a -chardev"},
      {{"-serial", "chardev:x"}, "-serial: chardev:x: no -chardev has id=x"},
      {{"-serial", "mon:stdio"}, "-serial: 'mon:stdio': the first word must be one of"},
      {{"-serial", "stdio", "-chardev", "stdio,id=x"}, "-chardev: stdio has two users: 'serial0' and 'x'"},
      {{"-serial", "stdio", "-daemonize"}, "-daemonize: chardev 'serial0' is on stdio: use pty, socket or file"},
      // raw objects
      {{"-device", "id=x"}, "-device: 'id=x': the first word must be the driver"},
      {{"-device", "virtio-rng-device"}, "-device: 'virtio-rng-device': needs an id= of 1 to 255 bytes"},
      {{"-device", "virtio-rng-device,id="}, "-device: 'virtio-rng-device,id=': needs an id="},
      {{"-device", "a,id=x", "-device", "b,id=x"}, "-device: 'b,id=x': the id 'x' is taken by 'a,id=x'"},
      {{"-device", "a,id=x,id=y"}, "-device: id=y: 'id' is given twice"},
      {{"-device", "a,driver=b,id=x"}, "-device: driver=b: 'driver' is given twice"},
      {{"-netdev", "tap"}, "-netdev: 'tap': needs an id="},
      {{"-object", "id=x"}, "-object: 'id=x': the first word must be the type"},
      {{"-object", "a,id=x", "-object", "a,id=x"}, "-object: 'a,id=x': the id 'x' is taken by 'a,id=x'"},
      {{"-object", "iothread,id=1", "-object", "iothread,id=2", "-object", "iothread,id=3", "-object", "iothread,id=4",
        "-object", "iothread,id=5", "-object", "iothread,id=6", "-object", "iothread,id=7", "-object", "iothread,id=8",
        "-object", "iothread,id=9"},
       "-object: 'iothread,id=9': there can be at most 8 iothreads"},
      {{"-drive", "disk.img"}, "-drive: 'disk.img': must be key=value"},
      {{"-drive", "id=x,file=a", "-drive", "id=x,file=b"},
       "-drive: 'id=x,file=b': the id 'x' is taken by 'id=x,file=a'"},
      {{"-drive", "id=,file=a"}, "-drive: 'id=,file=a': needs an id="},
      {{"-numa", "nodeid=0"}, "-numa: 'nodeid=0': the first word must be node or dist"},
      {{"-smbios", "vendor=x"}, "-smbios: 'vendor=x': the first word must be type=NUMBER"},
      {{"-smbios", "type="}, "-smbios: type=: needs a value"},
      {{"-global", "fast-unplug=1"}, "-global: 'fast-unplug=1': must be DRIVER.PROPERTY=VALUE"},
      {{"-global", "a.b"}, "-global: 'a.b': must be DRIVER.PROPERTY=VALUE"},
      {{"-global", "a.b=1", "-global", "a.b=2"}, "-global: 'a.b': is given twice"},
      // the whole line
      {{"-S"}, "-kernel: is required for -machine microvm without -incoming"},
      {{"-machine", "q35", "-initrd", "i"}, "-initrd: needs -kernel"},
      {{"-machine", "none", "-append", "x"}, "-append: needs -kernel"},
      {{"-kernel", "k", "-pidfile", "/p"}, "-pidfile: '/p': needs -daemonize"},
      {{}, "-kernel: is required"},
  };
  for (const BadRow& row : kRows) {
    const std::string message = refused(row.words);
    std::string line;
    for (const std::string_view word : row.words) line += std::string(word) + ' ';
    EXPECT_NE(message.find(row.message), std::string::npos) << line << "\n  said: " << message;
  }
}

// --- texts --------------------------------------------------------------------------------------------------------

// A line that begins with this option, not with a longer one.
bool shows(const std::string& help, std::string_view name) {
  const std::string start = "\n  -" + std::string(name);
  for (const char end : {' ', ',', '\n'}) {
    if (help.find(start + end) != std::string::npos) return true;
  }
  return false;
}

TEST(HelpTest, ShowsEachOptionThatIsNotHiddenAndEachProperty) {
  const std::string help = help_text();
  for (const Option& option : all_options()) {
    const bool shown = shows(help, option.name);
    EXPECT_EQ(shown, !option.help.empty()) << option.name;
    for (const ObjectTable& table : option.tables) {
      for (const Property& property : table.properties) {
        EXPECT_NE(help.find(' ' + std::string(property.name)), std::string::npos) << property.name;
      }
    }
  }
  EXPECT_NE(help.find("pit=on|off|auto"), std::string::npos);
  EXPECT_NE(help.find("(default 256M)"), std::string::npos);
}

TEST(OptionListTest, NoNameStandsTwice) {
  for (const Option& option : all_options()) {
    EXPECT_EQ(find_option("-" + std::string(option.name)), &option);
    if (option.alias.empty()) continue;
    EXPECT_EQ(find_option("-" + std::string(option.alias)), &option);
  }
}

TEST(VersionTest, NamesTheProgramAndItsVersion) {
  EXPECT_TRUE(version_text().starts_with("StratoVirt "));
  EXPECT_EQ(version_text().back(), '\n');
}

}  // namespace
}  // namespace strato
