// A driver of a vsock device that says anything, mostly about a few ports where it may be right; host programs connect,
// send, read slowly, leave; the device is paused, saved, restored and reset meanwhile. Whatever happens: a packet for
// the guest is well-formed and within its credit, chains come back, and after a reset a good driver and a good program
// talk.
#include <fuzzer/FuzzedDataProvider.h>

#include <signal.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "devices/virtio_vsock.h"
#include "testing/vsock_fixture.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::VsockFixture;

constexpr uint32_t kPort = 52;
constexpr size_t kReceive = VsockFixture::kReceive;
constexpr size_t kTransmit = VsockFixture::kTransmit;
constexpr size_t kEvents = VsockFixture::kEvents;

// Made once: descriptors, files and mappings cost more than a run.
struct World {
  World() {
    set_log_level(LogLevel::Error);
    ::signal(SIGPIPE, SIG_IGN);
  }
  VsockFixture split{{.size = 32}};
  VsockFixture packed{{.size = 32, .packed = true, .event_idx = true}};
};

class Session {
 public:
  Session(VsockFixture& host, FuzzedDataProvider& input) : host_(host), input_(input) {
    for (FakeDriver& driver : host_.drivers) driver.reset();
    host_.buffers.clear();
    std::optional<VsockState> state;
    if (input_.ConsumeBool()) {
      state = VsockState{.driver_running = input_.ConsumeBool(), .next_host_port = input_.ConsumeIntegral<uint32_t>()};
    }
    if (!host_.try_make(state)) host_.make();
    host_.start();
    listener_ = host_.listen_program(kPort, 4);
  }
  ~Session() {
    host_.reset();
    host_.device.reset();
    for (const std::string& path : host_.listener_paths) ::unlink(path.c_str());
    host_.listener_paths.clear();
  }

  void run() {
    for (int step = 0; step < 200 && input_.remaining_bytes() != 0; ++step) act();
    good_pair();
  }

 private:
  // What the guest knows of a connection.
  struct Known {
    uint32_t got_bytes = 0;
    uint32_t buffer_bytes = 0;  // the most that was ever said
  };

  bool rarely() { return input_.ConsumeIntegral<uint8_t>() == 0xff; }

  uint32_t host_port() {
    if (rarely()) return input_.ConsumeIntegral<uint32_t>();
    if (!host_ports_.empty() && input_.ConsumeBool()) {
      return host_ports_[input_.ConsumeIntegralInRange<size_t>(0, host_ports_.size() - 1)];
    }
    return kPort;
  }

  void say() {
    if (host_.drivers[kTransmit].free_slots() < 4) {
      host_.drivers[kTransmit].take_used();
      if (host_.drivers[kTransmit].free_slots() < 4) return;
    }
    VsockFixture::Say what{.op = static_cast<VsockOp>(input_.ConsumeIntegralInRange<uint16_t>(0, 8)),
                           .host = host_port(),
                           .guest = input_.ConsumeIntegralInRange<uint32_t>(1, 3)};
    if (what.op == VsockOp::Shutdown) what.flags = input_.ConsumeIntegralInRange<uint32_t>(0, 4);
    Known& known = known_[VsockPorts{.host = what.host, .guest = what.guest}.key()];
    what.buf_alloc = rarely() ? input_.ConsumeIntegral<uint32_t>() : input_.ConsumeIntegralInRange<uint32_t>(0, 9000);
    what.fwd_cnt = rarely() ? input_.ConsumeIntegral<uint32_t>() : known.got_bytes;
    const std::string payload(
        what.op == VsockOp::ReadWrite ? input_.ConsumeIntegralInRange<size_t>(0, rarely() ? 70'000 : 5000) : 0, 'g');
    what.payload = payload;
    VsockHeader header = VsockFixture::header(what);
    if (rarely()) header.src_cid = input_.ConsumeIntegral<uint64_t>();
    if (rarely()) header.dst_cid = input_.ConsumeIntegral<uint64_t>();
    if (rarely()) header.len = input_.ConsumeIntegral<uint32_t>();
    if (rarely()) header.type = input_.ConsumeIntegral<uint16_t>();
    if (rarely()) header.op = input_.ConsumeIntegral<uint16_t>();
    const auto parsed = parse_vsock_packet(header, payload.size(), VsockFixture::kCid);
    if (parsed) {
      STRATO_ASSERT(parsed->payload_bytes <= payload.size() && parsed->payload_bytes <= kMaxVsockPayload);
      known.buffer_bytes = std::max(known.buffer_bytes, what.buf_alloc);
    } else {
      STRATO_ASSERT(!to_string(parsed.error().fault).empty());
    }
    host_.say_raw(header, payload);
  }

  // Whatever shape.
  void submit(size_t queue) {
    FakeDriver::Request request = host_.drivers[queue].chain();
    const int pieces = input_.ConsumeIntegralInRange<int>(1, 3);
    if (host_.drivers[queue].free_slots() < static_cast<uint32_t>(pieces)) return;
    for (int i = 0; i < pieces; ++i) {
      if (rarely()) {
        request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(),
                    input_.ConsumeBool() ? kDescWrite : uint16_t{0});
      } else if (input_.ConsumeBool()) {
        request.writable(input_.ConsumeIntegralInRange<uint32_t>(0, 100));
      } else {
        request.readable(std::vector<std::byte>(input_.ConsumeIntegralInRange<size_t>(0, 100)));
      }
    }
    const auto sent = request.submit();
    if (queue == kReceive) odd_.push_back(sent.id);
    host_.ring(queue);
  }

  void hear() {
    // Buffers of odd shapes are not looked into.
    for (const uint16_t id : std::exchange(odd_, {})) host_.buffers.erase(id);
    for (const FakeDriver::Used& used : host_.drivers[kReceive].take_used()) {
      const auto found = host_.buffers.find(static_cast<uint16_t>(used.id));
      if (found == host_.buffers.end() || used.len == 0) continue;
      STRATO_ASSERT(used.len >= sizeof(VsockHeader));
      const auto header = host_.drivers[kReceive].load<VsockHeader>(found->second[0]);
      hear(header, used.len - sizeof(VsockHeader));
    }
  }
  void hear(const VsockHeader& header, uint64_t payload_bytes) {
    STRATO_ASSERT(header.src_cid.get() == kVsockHostCid && header.dst_cid.get() == VsockFixture::kCid);
    STRATO_ASSERT(header.len.get() == payload_bytes);
    const auto op = static_cast<VsockOp>(header.op.get());
    STRATO_ASSERT(op != VsockOp::Invalid && op <= VsockOp::CreditRequest);
    STRATO_ASSERT(payload_bytes == 0 || op == VsockOp::ReadWrite);
    const VsockPorts ports{.host = header.src_port.get(), .guest = header.dst_port.get()};
    Known& known = known_[ports.key()];
    known.got_bytes += static_cast<uint32_t>(payload_bytes);
    if (op == VsockOp::Request) {
      host_ports_.push_back(ports.host);
      known.got_bytes = 0;
    }
    if (op == VsockOp::Reset) known.got_bytes = 0;
    if (op == VsockOp::ReadWrite) {
      STRATO_ASSERT(payload_bytes != 0 && payload_bytes <= known.buffer_bytes);
    }
  }

  void program() {
    switch (input_.ConsumeIntegralInRange<int>(0, 5)) {
      case 0:
        if (programs_.size() < 16) programs_.push_back(host_.connect_program());
        return host_.turn();
      case 1: {
        UniqueFd accepted = VsockFixture::accept_program(listener_);
        if (accepted.valid()) programs_.push_back(std::move(accepted));
        return;
      }
      default:
        break;
    }
    if (programs_.empty()) return;
    const size_t which = input_.ConsumeIntegralInRange<size_t>(0, programs_.size() - 1);
    UniqueFd& socket = programs_[which];
    switch (input_.ConsumeIntegralInRange<int>(0, 5)) {
      case 0:
        host_.program_sends(socket, "CONNECT " + std::to_string(input_.ConsumeIntegralInRange<uint32_t>(1, 3)) + "\n");
        return;
      case 1:
        host_.program_sends(socket, input_.ConsumeRandomLengthString(40));
        return;
      case 2:
        host_.program_sends(socket, std::string(input_.ConsumeIntegralInRange<size_t>(1, 20'000), 'h'));
        return;
      case 3:
        host_.program_reads(socket, input_.ConsumeIntegralInRange<size_t>(1, 20'000));
        return host_.turn();
      case 4:
        ::shutdown(socket.get(), input_.ConsumeBool() ? SHUT_WR : SHUT_RD);
        return host_.turn();
      default:
        programs_.erase(programs_.begin() + static_cast<ptrdiff_t>(which));
        return host_.turn();
    }
  }

  // A guest sends to a program that does not read, may close, and the program does something about it.
  void stall() {
    const uint32_t guest = input_.ConsumeIntegralInRange<uint32_t>(1, 3);
    if (host_.drivers[kTransmit].free_slots() < 4) host_.drivers[kTransmit].take_used();
    if (host_.drivers[kTransmit].free_slots() < 4) return;
    known_[VsockPorts{.host = kPort, .guest = guest}.key()].buffer_bytes = 256 * 1024;
    host_.say({.op = VsockOp::Request, .host = kPort, .guest = guest});
    const std::string piece(input_.ConsumeIntegralInRange<size_t>(50'000, 65'536), 's');
    for (int i = input_.ConsumeIntegralInRange<int>(3, 9); i > 0; --i) {
      if (host_.drivers[kTransmit].free_slots() < 4) break;
      host_.say({.op = VsockOp::ReadWrite, .host = kPort, .guest = guest, .payload = piece});
    }
    const auto ends = input_.ConsumeIntegralInRange<uint32_t>(0, 3);
    if (ends != 0) host_.say({.op = VsockOp::Shutdown, .host = kPort, .guest = guest, .flags = ends});
    UniqueFd program = VsockFixture::accept_program(listener_);
    if (!program.valid()) return;
    if (input_.ConsumeBool()) host_.program_reads(program, input_.ConsumeIntegralInRange<size_t>(1, 600'000));
    host_.turn();
    if (input_.ConsumeBool()) programs_.push_back(std::move(program));
    program.reset();
    host_.turn();
  }

  // Host programs that say nothing.
  void crowd() {
    std::vector<UniqueFd> silent;
    for (size_t i = 0; i < VsockListener::kMaxGreeters + 2; ++i) silent.push_back(host_.connect_program());
    host_.turn();
  }

  void restart() {
    host_.reset();
    for (FakeDriver& driver : host_.drivers) driver.reset();
    forget();
    host_.start();
  }
  void forget() {
    host_.buffers.clear();
    odd_.clear();
    known_.clear();
    host_ports_.clear();
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return say();
      case 4:
      case 5:
      case 6:
        return program();
      case 7:
        return host_.give_buffers(input_.ConsumeIntegralInRange<size_t>(1, 8));
      case 8:
        return hear();
      case 9:
        if (host_.drivers[kEvents].free_slots() != 0) host_.give_event_buffers(1, rarely() ? 3 : 4);
        host_.drivers[kEvents].take_used();
        return;
      case 10:
        return submit(input_.ConsumeIntegralInRange<size_t>(0, 2));
      case 11:
        return host_.pause_and_resume();
      case 12:
        hear();
        known_.clear();
        return host_.save_and_restore();
      case 13:
        return rarely() ? crowd() : stall();
      default:
        return restart();
    }
  }

  void good_pair() {
    programs_.clear();
    restart();
    // Programs that had knocked before, and are gone.
    do {
      host_.give_buffers(16);
    } while (!host_.heard().empty());
    UniqueFd program = host_.connect_program();
    host_.program_sends(program, "CONNECT 9\nhello");
    auto packets = host_.heard();
    STRATO_ASSERT(packets.size() == 1 && packets[0].op == VsockOp::Request && packets[0].guest == 9);
    const uint32_t port = packets[0].host;
    host_.say({.op = VsockOp::Response, .host = port, .guest = 9, .buf_alloc = 3});
    host_.say({.op = VsockOp::ReadWrite, .host = port, .guest = 9, .buf_alloc = 3, .payload = "back"});
    STRATO_ASSERT(host_.program_reads(program) == "OK " + std::to_string(port) + "\nback");
    // No more than it has room for.
    packets = host_.heard();
    STRATO_ASSERT(packets.size() == 2 && packets[0].payload == "hel" && packets[1].op == VsockOp::CreditRequest);
    host_.say({.op = VsockOp::CreditUpdate, .host = port, .guest = 9, .buf_alloc = 3, .fwd_cnt = 2});
    packets = host_.heard();
    STRATO_ASSERT(packets.size() == 2 && packets[0].payload == "lo");
  }

  VsockFixture& host_;
  FuzzedDataProvider& input_;
  UniqueFd listener_;
  std::vector<UniqueFd> programs_;
  std::vector<uint16_t> odd_;  // receive buffers that are no header and payload
  std::map<uint64_t, Known> known_;
  std::vector<uint32_t> host_ports_;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static strato::virtio::World world;
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(input.ConsumeBool() ? world.packed : world.split, input).run();
  return 0;
}
