// One connection of virtio-vsock, as a driver's packets and a host program's socket change it: what is due to the
// guest, who may still send, and how much. Pure: it knows no socket, queue or loop. Spec:   virtio 1.2 §5.10.6.3
// (credit) to §5.10.6.5. Limits: kBufferBytes are on their way from the guest to a host program that does not read.
#pragma once

#include <cstdint>
#include <optional>

#include "devices/virtio_vsock_packet.h"

namespace strato::virtio {

class VsockConnection {
 public:
  // What the guest is told as our buf_alloc.
  static constexpr uint32_t kBufferBytes = 256 * 1024;
  // The guest hears of space when it knows of so much less than there is.
  static constexpr uint32_t kCreditStep = kBufferBytes / 4;

  // Asks the guest.
  VsockConnection();
  // Accepts what the guest asked for.
  explicit VsockConnection(const VsockPacket& request);

  // What a packet asks the owner to do.
  enum class Verdict : uint8_t {
    Nothing,
    Opened,     // the guest has accepted: the host program is to be told
    Data,       // the payload is for the host program
    Discard,    // the payload is for nobody: the program does not read any more
    Ended,      // guest_ended() has changed
    Gone,       // the guest has reset the connection, which nobody needs any more
    Violation,  // of the protocol or of the credit: fail()
  };
  Verdict take(const VsockPacket& packet);

  // --- the host program's side
  // `bytes` of the payload have reached the host program, or nobody.
  void forwarded(uint32_t bytes);
  // What the program will not do any more: kVsockNoReceive, kVsockNoSend.
  void end_host(uint32_t flags);
  // To be reset, whatever comes.
  void fail();

  // --- towards the guest
  // The operation to be told next, other than data; none: there is no such.
  std::optional<VsockOp> due() const;
  // Whether it is open for bytes to the guest.
  bool takes_data() const;
  // How many of them may go in one packet: none without credit.
  uint32_t sendable_bytes() const;
  // There are bytes for the guest and it has no room: it is asked for its credit, once.
  void want_credit();
  // A packet goes to the guest. Fills in what is the connection's in its header.
  void send(VsockOp op, uint32_t payload_bytes, VsockHeader& header);

  bool open() const { return phase_ == Phase::Open; }
  bool failed() const { return phase_ == Phase::Failed; }
  uint32_t guest_ended() const { return guest_ended_; }
  uint32_t host_ended() const { return host_ended_; }

 private:
  enum class Phase : uint8_t { Requested, Open, Failed };

  void note_credit(const VsockPacket& packet);
  Verdict take_payload(const VsockPacket& packet);
  void set_due(VsockOp op) { due_ |= bit(op); }
  bool is_due(VsockOp op) const { return (due_ & bit(op)) != 0; }
  static uint32_t bit(VsockOp op) { return 1U << static_cast<unsigned>(op); }
  uint32_t credit() const;

  Phase phase_ = Phase::Requested;
  uint32_t due_ = 0;  // bits by VsockOp
  uint32_t guest_ended_ = 0;
  uint32_t host_ended_ = 0;
  bool asked_credit_ = false;
  // All modulo 2^32. From the guest:
  uint32_t received_bytes_ = 0;
  uint32_t forwarded_bytes_ = 0;
  uint32_t told_forwarded_bytes_ = 0;
  // To the guest:
  uint32_t sent_bytes_ = 0;
  uint32_t guest_forwarded_bytes_ = 0;
  uint32_t guest_buffer_bytes_ = 0;
};

}  // namespace strato::virtio
