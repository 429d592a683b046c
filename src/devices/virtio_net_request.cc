#include "devices/virtio_net_request.h"

#include <array>
#include <utility>

namespace strato::virtio {
namespace {

NetChecked refuse(std::string_view reason) {
  return std::unexpected(reason);
}

uint64_t feature_of_gso(uint8_t type) {
  switch (type) {
    case kNetGsoTcp4:
      return kNetFeatureHostTso4;
    case kNetGsoTcp6:
      return kNetFeatureHostTso6;
    case kNetGsoUdp:
      return kNetFeatureHostUso;
    default:
      return 0;
  }
}

NetChecked check_gso(const NetHeader& header, uint64_t features) {
  const bool ecn = (header.gso_type & kNetGsoEcn) != 0;
  const uint64_t feature = feature_of_gso(static_cast<uint8_t>(header.gso_type & ~kNetGsoEcn));
  if (feature == 0 || (features & feature) == 0) return refuse("a frame of segments of a kind that was not negotiated");
  if (ecn && (features & kNetFeatureHostEcn) == 0) return refuse("segments with ECN, which was not negotiated");
  if (header.gso_size.get() == 0) return refuse("a frame of segments of no size");
  if ((header.flags & kNetHeaderNeedsChecksum) == 0) return refuse("a frame of segments without a checksum to make");
  return {};
}

}  // namespace

NetChecked check_transmit_header(NetHeader& header, uint64_t frame_bytes, uint64_t features) {
  if (frame_bytes < kEthernetHeaderBytes) return refuse("a frame shorter than an Ethernet header");
  if (frame_bytes > kMaxFrameBytes) return refuse("a frame longer than the limit");
  header.flags &= kNetHeaderNeedsChecksum;
  header.num_buffers = 0;
  if (header.flags != 0) {
    if ((features & kNetFeatureChecksum) == 0) return refuse("a checksum to make, which was not negotiated");
    const uint64_t start = header.csum_start.get();
    const uint64_t offset = header.csum_offset.get();
    if (start > frame_bytes || offset > frame_bytes - start || frame_bytes - start - offset < sizeof(le16)) {
      return refuse("a checksum past the end of the frame");
    }
  } else {
    header.csum_start = header.csum_offset = 0;
  }
  if (header.gso_type != kNetGsoNone) return check_gso(header, features);
  header.gso_size = header.hdr_len = 0;
  return {};
}

uint32_t to_backend_offloads(uint64_t guest_offloads) {
  const auto has = [guest_offloads](uint64_t feature) { return (guest_offloads & feature) == feature; };
  // Nobody can take segments without making checksums.
  if (!has(kNetFeatureGuestChecksum)) return 0;
  uint32_t offloads = kNetChecksum;
  if (has(kNetFeatureGuestTso4)) offloads |= kNetTso4;
  if (has(kNetFeatureGuestTso6)) offloads |= kNetTso6;
  if (has(kNetFeatureGuestEcn) && (offloads & (kNetTso4 | kNetTso6)) != 0) offloads |= kNetTsoEcn;
  if (has(kNetFeatureGuestUso4 | kNetFeatureGuestUso6)) offloads |= kNetUso;
  return offloads;
}

// --- the control queue

namespace {

using Read = std::expected<std::vector<MacAddress>, std::string_view>;

// §5.1.6.5.2: le32 entries, then the addresses. More than we keep are read over.
Read read_addresses(ChainReader& reader, bool& overflow) {
  const GuestResult<le32> entries = reader.read<le32>();
  if (!entries) return std::unexpected("a MAC table without its length");
  if (entries->get() > reader.remaining() / sizeof(MacAddress)) {
    return std::unexpected("a MAC table longer than its command");
  }
  std::vector<MacAddress> addresses;
  overflow = entries->get() > NetFilter::kMaxAddresses;
  if (overflow) {
    const GuestResult<> skipped = reader.skip(uint64_t{entries->get()} * sizeof(MacAddress));
    if (!skipped) return std::unexpected("a MAC table longer than its command");
    return addresses;
  }
  addresses.resize(entries->get());
  for (MacAddress& address : addresses) {
    const GuestResult<> read = reader.read_all(std::as_writable_bytes(std::span(address)));
    if (!read) return std::unexpected("a MAC table longer than its command");
  }
  return addresses;
}

NetChecked set_mode(uint8_t mode, ChainReader& reader, uint64_t features, NetFilter& filter) {
  const uint64_t feature =
      mode <= NetFilter::kAllMulticast ? kNetFeatureControlReceive : kNetFeatureControlReceiveExtra;
  if (mode >= NetFilter::kModes || (features & feature) == 0) return refuse("an unknown command");
  const GuestResult<uint8_t> on = reader.read<uint8_t>();
  if (!on) return refuse("a command that is too short");
  filter.modes[mode] = *on != 0;
  return {};
}

NetChecked set_mac(uint8_t command, ChainReader& reader, uint64_t features, NetFilter& filter) {
  if (command == kNetControlMacTable && (features & kNetFeatureControlReceive) != 0) {
    bool unicast_overflow = false;
    bool multicast_overflow = false;
    Read unicast = read_addresses(reader, unicast_overflow);
    if (!unicast) return refuse(unicast.error());
    Read multicast = read_addresses(reader, multicast_overflow);
    if (!multicast) return refuse(multicast.error());
    filter.unicast = *std::move(unicast);
    filter.multicast = *std::move(multicast);
    filter.unicast_overflow = unicast_overflow;
    filter.multicast_overflow = multicast_overflow;
    return {};
  }
  if (command != kNetControlMacAddress || (features & kNetFeatureControlMac) == 0) return refuse("an unknown command");
  MacAddress mac;
  if (!reader.read_all(std::as_writable_bytes(std::span(mac)))) return refuse("a command that is too short");
  if (!is_station_address(mac)) return refuse("a MAC address that no station can have");
  filter.mac = mac;
  return {};
}

NetChecked set_vlan(uint8_t command, ChainReader& reader, uint64_t features, NetFilter& filter) {
  if (command > kNetControlVlanDelete || (features & kNetFeatureControlVlan) == 0) return refuse("an unknown command");
  const GuestResult<le16> vlan = reader.read<le16>();
  if (!vlan) return refuse("a command that is too short");
  if (vlan->get() >= NetFilter::kVlans) return refuse("a VLAN beyond the last one");
  filter.vlans[vlan->get()] = command == kNetControlVlanAdd;
  return {};
}

NetChecked set_pairs(uint8_t command, ChainReader& reader, const NetControlRules& rules, NetChoices& choices) {
  if (command != kNetControlPairsSet || (rules.features & kNetFeatureMultiQueue) == 0) {
    return refuse("an unknown command");
  }
  const GuestResult<le16> pairs = reader.read<le16>();
  if (!pairs) return refuse("a command that is too short");
  if (pairs->get() < 1 || pairs->get() > rules.max_pairs) return refuse("queue pairs that there are not");
  choices.pairs = pairs->get();
  return {};
}

NetChecked set_offloads(uint8_t command, ChainReader& reader, uint64_t features, NetChoices& choices) {
  if (command != kNetControlGuestOffloadsSet || (features & kNetFeatureControlGuestOffloads) == 0) {
    return refuse("an unknown command");
  }
  const GuestResult<le64> offloads = reader.read<le64>();
  if (!offloads) return refuse("a command that is too short");
  if ((offloads->get() & ~(features & kNetGuestOffloads)) != 0) return refuse("offloads that were not negotiated");
  choices.guest_offloads = offloads->get();
  return {};
}

}  // namespace

NetChecked apply_control_command(ChainReader& reader, const NetControlRules& rules, NetChoices& choices) {
  const GuestResult<NetControlHeader> header = reader.read<NetControlHeader>();
  if (!header) return refuse("a command that is too short");
  switch (header->group) {
    case kNetControlReceive:
      return set_mode(header->command, reader, rules.features, choices.filter);
    case kNetControlMac:
      return set_mac(header->command, reader, rules.features, choices.filter);
    case kNetControlVlan:
      return set_vlan(header->command, reader, rules.features, choices.filter);
    case kNetControlAnnounce:
      if (header->command != kNetControlAnnounceAck || (rules.features & kNetFeatureAnnounce) == 0) break;
      choices.announce_due = false;
      return {};
    case kNetControlMultiQueue:
      return set_pairs(header->command, reader, rules, choices);
    case kNetControlGuestOffloads:
      return set_offloads(header->command, reader, rules.features, choices);
    default:
      break;
  }
  return refuse("an unknown command");
}

}  // namespace strato::virtio
