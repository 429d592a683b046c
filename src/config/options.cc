#include "config/options.h"

#include <fmt/format.h>

#include "config/device_tables.h"
#include "config/drive_table.h"
#include "config/net_table.h"
#include "config/option_tables.h"
#include "config/socket_address.h"
#include "config/topology.h"

namespace strato {
namespace {

constexpr uint64_t kMaxNameLength = 255;
// The id of the chardev that -serial describes in place.
constexpr std::string_view kSerialChardevId = "serial0";

Error bad_value(std::string_view value, std::string_view reason) {
  return Error::invalid(fmt::format("'{}': {}", value, reason));
}

// --- options that are one plain value -----------------------------------------------------------------------------

template <auto kMember, uint64_t kMaxLength>
Result<> store_text(Draft& draft, std::string_view value) {
  static constexpr Property kProperty = text<kMember>("", "", kMaxLength);
  const Result<PropertyValue> parsed = parse_value(kProperty, KeyValue{.key = {}, .value = std::string(value)});
  if (!parsed) return std::unexpected(bad_value(value, parsed.error().text()));
  draft.config.*kMember = value;
  return {};
}

template <bool VmConfig::* kMember>
Result<> set_flag(Draft& draft, std::string_view) {
  draft.config.*kMember = true;
  return {};
}

Result<> ignore(Draft&, std::string_view) {
  return {};
}

template <Request kRequest>
Result<> request(Draft& draft, std::string_view) {
  draft.request = kRequest;
  return {};
}

Result<> apply_append(Draft& draft, std::string_view value) {
  std::string& append = draft.config.append;
  if (!append.empty()) append += ' ';
  append += value;
  return {};
}

Result<> apply_log(Draft& draft, std::string_view value) {
  if (value.empty()) return {};
  return store_text<&VmConfig::log_file, kMaxPathLength>(draft, value);
}

bool is_uuid(std::string_view value) {
  if (value.size() != 36) return false;
  for (size_t i = 0; i < value.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = value[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (dash ? c != '-' : !hex) return false;
  }
  return true;
}

Result<> apply_uuid(Draft& draft, std::string_view value) {
  if (!is_uuid(value)) {
    return std::unexpected(bad_value(value, "must look like 12345678-9abc-def0-1234-56789abcdef0"));
  }
  draft.config.uuid = value;
  for (char& c : draft.config.uuid) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  return {};
}

// --- options with a table -----------------------------------------------------------------------------------------

Result<> apply_machine(Draft& draft, std::string_view value) {
  return parse_object(value, kMachineTable, draft.config.machine);
}

Result<> apply_accel(Draft& draft, std::string_view value) {
  return parse_object(value, kAccelTable, draft.config.machine);
}

Result<> apply_cpu(Draft& draft, std::string_view value) {
  return parse_object(value, kCpuTable, draft.config.cpu);
}

Result<> apply_smp(Draft& draft, std::string_view value) {
  SmpConfig smp = unset_topology();
  STRATO_TRY(parse_object(value, kSmpTable, smp));
  STRATO_TRY(complete_topology(smp));
  draft.config.smp = smp;
  return {};
}

Result<> apply_memory(Draft& draft, std::string_view value) {
  MemoryOptions memory;
  STRATO_TRY(parse_object(value, kMemoryTable, memory));
  const uint64_t max = memory.maxmem.value_or(memory.size);
  if (max < memory.size) {
    return std::unexpected(
        Error::invalid(fmt::format("maxmem={}: less than size={}", size_text(max), size_text(memory.size))));
  }
  draft.config.memory_bytes = memory.size;
  draft.config.max_memory_bytes = max;
  return {};
}

Result<> apply_action(Draft& draft, std::string_view value) {
  const ObjectOptions options = STRATO_TRY(split_object_options(value, {}));
  STRATO_TRY(parse_object(options, kActionTable, draft.config.action));
  if (options.find("reboot") != nullptr) draft.reboot_action_given = true;
  return {};
}

Result<> apply_no_reboot(Draft& draft, std::string_view) {
  return apply_action(draft, "reboot=shutdown");
}

Result<> apply_no_shutdown(Draft& draft, std::string_view) {
  return apply_action(draft, "shutdown=pause");
}

// --- sockets: -chardev, -serial, -qmp, -mon, -incoming ------------------------------------------------------------

// Present QEMU writes `wait=off` for `nowait`.
Result<> rename_wait(ObjectOptions& options) {
  for (KeyValue& property : options.properties) {
    if (property.key != "wait") continue;
    if (property.value != "on" && property.value != "off") {
      return std::unexpected(bad_value(property.value, "wait= must be on|off"));
    }
    if (options.find("nowait") != nullptr)
      return std::unexpected(Error::invalid("'nowait' and wait= exclude each other"));
    property = {.key = "nowait", .value = property.value == "off" ? "on" : "off"};
  }
  return {};
}

Result<> check_socket(SocketConfig& socket) {
  if (socket.path.empty() == (socket.port == 0)) {
    return std::unexpected(Error::invalid("socket: needs either path= or port="));
  }
  if (socket.is_unix() && !socket.host.empty())
    return std::unexpected(Error::invalid("socket: host= needs port=, not path="));
  if (!socket.is_unix() && socket.host.empty()) socket.host = "0.0.0.0";
  if (!socket.is_unix() && !is_numeric_address(socket.host)) {
    return std::unexpected(bad_value(socket.host, "host= must be a numeric address such as 127.0.0.1"));
  }
  if (socket.nowait && !socket.server) return std::unexpected(Error::invalid("socket: 'nowait' needs 'server'"));
  return {};
}

Result<> add_chardev(Draft& draft, ObjectOptions options) {
  for (size_t kind = 0; kind < std::size(kChardevTables); ++kind) {
    const ObjectTable& table = kChardevTables[kind];
    if (options.type != table.type) continue;
    ChardevConfig chardev;
    chardev.kind = static_cast<ChardevKind>(kind);
    STRATO_TRY(rename_wait(options));
    Result<> parsed = parse_object(options, table, chardev);
    if (!parsed) return std::unexpected(std::move(parsed).error().context(table.type));
    if (chardev.kind == ChardevKind::Socket) {
      STRATO_TRY(check_socket(chardev.socket));
      if (chardev.socket.server && options.find("reconnect") != nullptr) {
        return std::unexpected(Error::invalid("socket: reconnect= is for clients, not with 'server'"));
      }
    }
    draft.config.chardevs.push_back(std::move(chardev));
    return {};
  }
  return std::unexpected(
      bad_value(options.text, "the first word must be one of null, stdio, pty, socket, file, redirect-to-log"));
}

Result<> apply_chardev(Draft& draft, std::string_view value) {
  ObjectOptions options = STRATO_TRY(split_object_options(value, "backend"));
  return add_chardev(draft, std::move(options));
}

Result<> apply_serial(Draft& draft, std::string_view value) {
  if (value == "none") return {};
  if (value.starts_with("chardev:")) {
    value.remove_prefix(8);
    if (value.empty()) return std::unexpected(bad_value("chardev:", "needs the id of a -chardev"));
    draft.config.serial = std::string(value);
    return {};
  }
  ObjectOptions options = STRATO_TRY(split_object_options(value, "backend"));
  if (options.find("id") != nullptr) return std::unexpected(bad_value(value, "id= belongs to -chardev"));
  options.properties.push_back({.key = "id", .value = std::string(kSerialChardevId)});
  draft.config.serial = std::string(kSerialChardevId);
  return add_chardev(draft, std::move(options));
}

Result<> apply_qmp(Draft& draft, std::string_view value) {
  ObjectOptions options = STRATO_TRY(split_object_options(value, {}, FirstWord::Verbatim));
  STRATO_TRY(rename_wait(options));
  QmpConfig qmp;
  qmp.socket = STRATO_TRY(parse_socket_uri(options.type));
  STRATO_TRY(parse_object(options, kQmpTable, qmp));
  if (!qmp.socket.server || !qmp.socket.nowait) {
    return std::unexpected(bad_value(value, "QMP always listens and never waits: server,nowait"));
  }
  draft.config.qmp.push_back(std::move(qmp));
  return {};
}

Result<> apply_mon(Draft& draft, std::string_view value) {
  QmpConfig monitor;
  STRATO_TRY(parse_object(value, kMonTable, monitor));
  draft.monitors.push_back(std::move(monitor));
  return {};
}

Result<> parse_incoming_uri(std::string_view uri, IncomingConfig& incoming) {
  if (uri.starts_with("file:")) {
    incoming.kind = IncomingKind::File;
    incoming.path = uri.substr(5);
    if (!incoming.path.empty() && incoming.path.size() <= kMaxPathLength) return {};
    return std::unexpected(bad_value(uri, fmt::format("the path must be 1 to {} bytes", kMaxPathLength)));
  }
  if (!uri.starts_with("unix:") && !uri.starts_with("tcp:")) {
    return std::unexpected(bad_value(uri, "must be file:PATH, unix:PATH or tcp:ADDRESS:PORT"));
  }
  SocketConfig socket = STRATO_TRY(parse_socket_uri(uri));
  incoming.kind = socket.is_unix() ? IncomingKind::Unix : IncomingKind::Tcp;
  incoming.path = std::move(socket.path);
  incoming.host = std::move(socket.host);
  incoming.port = socket.port;
  return {};
}

Result<> apply_incoming(Draft& draft, std::string_view value) {
  const ObjectOptions options = STRATO_TRY(split_object_options(value, {}, FirstWord::Verbatim));
  IncomingConfig incoming;
  STRATO_TRY(parse_incoming_uri(options.type, incoming));
  STRATO_TRY(parse_object(options, kIncomingTable, incoming));
  if (incoming.kind != IncomingKind::File && !options.properties.empty()) {
    return std::unexpected(bad_value(value, "mapped= is for file: only"));
  }
  draft.config.incoming = std::move(incoming);
  return {};
}

// --- objects whose tables come later ------------------------------------------------------------------------------

template <std::vector<ObjectOptions> VmConfig::* kMember>
Result<> add_typed(Draft& draft, std::string_view value, std::string_view type_key, std::string_view type_name) {
  ObjectOptions options = STRATO_TRY(split_object_options(value, type_key));
  if (options.type.empty())
    return std::unexpected(bad_value(value, fmt::format("the first word must be {}", type_name)));
  (draft.config.*kMember).push_back(std::move(options));
  return {};
}

Result<> apply_device(Draft& draft, std::string_view value) {
  return add_typed<&VmConfig::devices>(draft, value, "driver", "the driver");
}
Result<> apply_netdev(Draft& draft, std::string_view value) {
  return add_typed<&VmConfig::netdevs>(draft, value, "type", "the backend");
}
Result<> apply_object(Draft& draft, std::string_view value) {
  return add_typed<&VmConfig::objects>(draft, value, "qom-type", "the type");
}
Result<> apply_numa(Draft& draft, std::string_view value) {
  return add_typed<&VmConfig::numa>(draft, value, "type", "node or dist");
}
Result<> apply_smbios(Draft& draft, std::string_view value) {
  return add_typed<&VmConfig::smbios>(draft, value, "type", "type=NUMBER");
}

Result<> apply_drive(Draft& draft, std::string_view value) {
  ObjectOptions options = STRATO_TRY(split_object_options(value, {}));
  if (!options.type.empty()) return std::unexpected(bad_value(options.type, "must be key=value"));
  draft.config.drives.push_back(std::move(options));
  return {};
}

Result<> apply_global(Draft& draft, std::string_view value) {
  ObjectOptions options = STRATO_TRY(split_object_options(value, {}));
  const bool well_formed = options.type.empty() && options.properties.size() == 1 && options.properties[0].has_value &&
                           options.properties[0].key.find('.') != std::string::npos;
  if (!well_formed) return std::unexpected(bad_value(value, "must be DRIVER.PROPERTY=VALUE"));
  const std::string& key = options.properties[0].key;
  for (const ObjectOptions& other : draft.config.globals) {
    if (other.find(key) != nullptr) return std::unexpected(bad_value(key, "is given twice"));
  }
  draft.config.globals.push_back(std::move(options));
  return {};
}

// --- the list -----------------------------------------------------------------------------------------------------

constexpr ValueMode kNone = ValueMode::None;
constexpr ValueMode kRequired = ValueMode::Required;
constexpr ValueMode kOptional = ValueMode::Optional;

// For libvirt and other callers of QEMU: any value or none, any number of times.
constexpr Option ignored(std::string_view name) {
  return {name, {}, kOptional, true, {}, {}, ignore};
}

constexpr Option kOptions[] = {
    {"name", {}, kRequired, false, "NAME", "name of the VM", store_text<&VmConfig::name, kMaxNameLength>},
    {"uuid", {}, kRequired, false, "UUID", "identity of the VM", apply_uuid},
    {"machine", "M", kRequired, false, "[type=]TYPE[,...]", "the machine", apply_machine, {&kMachineTable, 1}},
    {"accel", {}, kRequired, false, "NAME", "the accelerator", apply_accel, {&kAccelTable, 1}},
    {"cpu", {}, kRequired, false, "host[,...]", "the vCPU model", apply_cpu, {&kCpuTable, 1}},
    {"smp", {}, kRequired, false, "[cpus=]N[,...]", "vCPUs and their topology (1)", apply_smp, {&kSmpTable, 1}},
    {"m", {}, kRequired, false, "[size=]N[,...]", "guest RAM", apply_memory, {&kMemoryTable, 1}},
    {"mem-path",
     {},
     kRequired,
     false,
     "PATH",
     "file or directory behind guest RAM",
     store_text<&VmConfig::memory_path, kMaxPathLength>},
    {"mem-prealloc", {}, kNone, false, {}, "allocate guest RAM at start", set_flag<&VmConfig::memory_prealloc>},
    {"numa", {}, kRequired, true, "node|dist,...", "NUMA nodes and distances", apply_numa},

    {"kernel", {}, kRequired, false, "FILE", "kernel image", store_text<&VmConfig::kernel, kMaxPathLength>},
    {"initrd", {}, kRequired, false, "FILE", "initial RAM disk", store_text<&VmConfig::initrd, kMaxPathLength>},
    {"append",
     {},
     ValueMode::Words,
     true,
     "WORD...",
     "kernel command line; words and repeats are joined",
     apply_append},
    {"serial",
     {},
     kRequired,
     false,
     "BACKEND[,...]|chardev:ID|none",
     "the serial port: a -chardev without id=, or one by its id",
     apply_serial},
    {"chardev", {}, kRequired, true, "BACKEND,id=ID[,...]", "a character device", apply_chardev, kChardevTables},

    {"drive", {}, kRequired, true, "id=ID,file=FILE[,...]", "a disk image", apply_drive, {&kDriveTable, 1}},
    {"netdev", {}, kRequired, true, "BACKEND,id=ID[,...]", "a network backend", apply_netdev, kNetdevTables},
    {"device", {}, kRequired, true, "DRIVER,id=ID[,...]", "a device", apply_device, kDeviceTables},
    {"object", {}, kRequired, true, "TYPE,id=ID[,...]", "a backend object", apply_object, kBackendTables},
    {"global", {}, kRequired, true, "DRIVER.PROPERTY=VALUE", "a property of all devices of a driver", apply_global},
    {"smbios", {}, kRequired, true, "type=N[,...]", "an SMBIOS structure", apply_smbios},

    {"qmp",
     {},
     kRequired,
     true,
     "unix:PATH|tcp:ADDRESS:PORT,server,nowait[,...]",
     "a QMP server",
     apply_qmp,
     {&kQmpTable, 1}},
    {"mon", {}, kRequired, true, "chardev=ID,mode=control[,...]", "QMP on a chardev", apply_mon, {&kMonTable, 1}},
    {"incoming",
     {},
     kRequired,
     false,
     "file:PATH|unix:PATH|tcp:ADDRESS:PORT[,...]",
     "start from saved or arriving state",
     apply_incoming,
     {&kIncomingTable, 1}},
    {"S", "freeze", kNone, false, {}, "leave the vCPUs stopped until QMP says cont", set_flag<&VmConfig::freeze>},
    {"action", {}, kRequired, true, "EVENT=ACTION[,...]", "what to do when", apply_action, {&kActionTable, 1}},
    {"no-reboot", {}, kNone, false, {}, "the same as -action reboot=shutdown", apply_no_reboot},
    {"no-shutdown", {}, kOptional, false, {}, "the same as -action shutdown=pause", apply_no_shutdown},

    {"D", {}, kOptional, false, "[FILE]", "log to FILE instead of stderr; level: $STRATOVIRT_LOG_LEVEL", apply_log},
    {"daemonize", {}, kNone, false, {}, "go to the background when the VM is ready", set_flag<&VmConfig::daemonize>},
    {"pidfile",
     {},
     kRequired,
     false,
     "FILE",
     "write the process id; needs -daemonize",
     store_text<&VmConfig::pidfile, kMaxPathLength>},
    {"boot-timeline",
     {},
     kRequired,
     false,
     "FILE",
     "write the stages of the start, as JSON",
     store_text<&VmConfig::boot_timeline, kMaxPathLength>},
    {"disable-seccomp", {}, kNone, false, {}, "no system call filter", set_flag<&VmConfig::disable_seccomp>},
    {"version", "V", kNone, false, {}, "print the version and exit", request<Request::Version>},
    {"help", "h", kNone, false, {}, "print this and exit", request<Request::Help>},

    ignored("overcommit"),
    ignored("no-user-config"),
    ignored("nodefaults"),
    ignored("sandbox"),
    ignored("msg"),
    ignored("rtc"),
    ignored("boot"),
    ignored("nographic"),
    ignored("realtime"),
    ignored("usb"),
    ignored("display"),
};

}  // namespace

std::span<const Option> all_options() {
  return kOptions;
}

const Option* find_option(std::string_view word) {
  word.remove_prefix(word.starts_with("--") ? 2 : 1);
  for (const Option& option : kOptions) {
    if (option.name == word || (!option.alias.empty() && option.alias == word)) return &option;
  }
  return nullptr;
}

}  // namespace strato
