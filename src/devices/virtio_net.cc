#include "devices/virtio_net.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::virtio {
namespace {

// What the host can make of the guest's frames, and the guest of the host's.
struct OffloadFeatures {
  uint32_t offload;
  uint64_t features;
};
constexpr OffloadFeatures kOffloadFeatures[] = {
    {kNetChecksum, kNetFeatureChecksum | kNetFeatureGuestChecksum},
    {kNetTso4, kNetFeatureHostTso4 | kNetFeatureGuestTso4},
    {kNetTso6, kNetFeatureHostTso6 | kNetFeatureGuestTso6},
    {kNetTsoEcn, kNetFeatureHostEcn | kNetFeatureGuestEcn},
    {kNetUso, kNetFeatureHostUso | kNetFeatureGuestUso4 | kNetFeatureGuestUso6},
};

// §5.1.2: receiving and transmitting queue of each pair, then the control queue.
std::vector<uint16_t> sizes_of(uint16_t pairs, uint16_t queue_size) {
  std::vector<uint16_t> sizes(2 * size_t{pairs}, queue_size);
  sizes.push_back(Net::kControlQueueSize);
  return sizes;
}

std::vector<uint8_t> flatten(const std::vector<MacAddress>& addresses) {
  std::vector<uint8_t> bytes;
  for (const MacAddress& mac : addresses) bytes.insert(bytes.end(), mac.begin(), mac.end());
  return bytes;
}

// None: not a list that we can have written.
std::optional<std::vector<MacAddress>> unflatten(const std::vector<uint8_t>& bytes) {
  constexpr size_t kBytes = sizeof(MacAddress);
  if (bytes.size() % kBytes != 0 || bytes.size() / kBytes > NetFilter::kMaxAddresses) return std::nullopt;
  std::vector<MacAddress> addresses(bytes.size() / kBytes);
  for (size_t i = 0; i < bytes.size(); ++i) addresses[i / kBytes][i % kBytes] = bytes[i];
  return addresses;
}

}  // namespace

Result<std::unique_ptr<Net>> Net::create(Args args, const std::optional<NetState>& state) {
  const uint16_t pairs =
      args.multi_queue ? static_cast<uint16_t>(std::min<size_t>(args.backend->pairs(), kMaxPairs)) : 1;
  std::unique_ptr<Net> net(new Net(std::move(args), pairs));
  if (state) STRATO_TRY(net->restore(*state));
  return net;
}

Net::Net(Args args, uint16_t pairs)
    : backend_(args.backend),
      vhost_(std::move(args.vhost)),
      mac_(args.mac),
      max_pairs_(pairs),
      queue_sizes_(sizes_of(pairs, args.queue_size)),
      features_(offered_features(args)),
      shared_{.name = std::move(args.name),
              .backend = *backend_,
              .receive_limiter = std::move(args.receive_limiter),
              .transmit_limiter = std::move(args.transmit_limiter)},
      receivers_(pairs),
      transmitters_(pairs) {
  shared_.receivers.resize(pairs);
  shared_.choices.filter.mac = mac_;
  config_.store(offsetof(NetConfigSpace, max_virtqueue_pairs), le16(max_pairs_));
  config_.store(offsetof(NetConfigSpace, mtu), le16(args.mtu));
  show_mac();
  backend_->on_link([this] { update_status(); });
  update_status();
}

Net::~Net() {
  backend_->on_link({});
}

uint64_t Net::offered_features(const Args& args) const {
  uint64_t features = kRingFeatures | kNetFeatureMac | kNetFeatureMergeBuffers | kNetFeatureStatus |
                      kNetFeatureControl | kNetFeatureControlReceive | kNetFeatureControlReceiveExtra |
                      kNetFeatureControlVlan | kNetFeatureControlMac | kNetFeatureAnnounce;
  if (max_pairs_ > 1) features |= kNetFeatureMultiQueue;
  if (args.mtu != 0) features |= kNetFeatureMtu;
  if (backend_->offloads() != 0) features |= kNetFeatureControlGuestOffloads;
  for (const OffloadFeatures& offload : kOffloadFeatures) {
    if ((backend_->offloads() & offload.offload) != 0) features |= offload.features;
  }
  return vhost_ == nullptr ? features : vhost_->restrict(features);
}

// --- what the driver is told

void Net::show_mac() {
  const MacAddress& mac = shared_.choices.filter.mac;
  config_.store_bytes(offsetof(NetConfigSpace, mac), std::as_bytes(std::span(mac)));
}

void Net::set_link(bool up) {
  {
    MutexLock lock(link_mutex_);
    link_wanted_ = up;
  }
  update_status();
}

void Net::update_status() {
  constexpr size_t kOffset = offsetof(NetConfigSpace, status);
  bool changed = false;
  {
    MutexLock lock(link_mutex_);
    shared_.link_up = link_wanted_ && backend_->link_up();
    if (vhost_ != nullptr) vhost_->set_link(shared_.link_up);
    if (paused_) return;
    uint16_t status = shared_.link_up ? kNetStatusLinkUp : 0;
    if (announce_due_ && shared_.link_up) status |= kNetStatusAnnounce;
    changed = config_.load<le16>(kOffset).get() != status;
    if (changed) config_.store(kOffset, le16(status));
  }
  if (changed) config_.notify_driver();
}

// --- life cycle

void Net::start(uint64_t features) {
  shared_.features = features;
  NetChoices& choices = shared_.choices;
  if (restored_) {
    // Its neighbours are to learn where it is now (§5.1.6.5.4).
    choices.announce_due = has(kNetFeatureAnnounce) && has(kNetFeatureStatus);
  } else {
    choices.guest_offloads = features & kNetGuestOffloads;
  }
  choices.filter.by_vlan = has(kNetFeatureControlVlan);
  backend_->set_offloads(to_backend_offloads(choices.guest_offloads & features) & backend_->offloads());
  backend_->use_pairs(choices.pairs);
  if (vhost_ != nullptr) {
    vhost_->start(features);
    vhost_->use_pairs(choices.pairs);
  }
  {
    MutexLock lock(link_mutex_);
    announce_due_ = choices.announce_due;
  }
  update_status();
}

// §5.1.2: without MQ the control queue is behind the first pair.
bool Net::is_control(size_t index) const {
  return index == (has(kNetFeatureMultiQueue) ? 2 * size_t{max_pairs_} : 2);
}

Result<> Net::start_queue(size_t index, QueueWiring wiring) {
  if (is_control(index)) {
    control_loop_ = &wiring.loop;
    control_loop_->post(alive_.token(), [this, wiring = std::move(wiring)]() mutable {
      control_ = std::make_unique<QueueWorker>(shared_.name, std::move(wiring), [this] { serve_control(); });
      serve_control();
    });
    return {};
  }
  const size_t pair = index / 2;
  if (pair >= max_pairs_) {
    return std::unexpected(Error::invalid(fmt::format("{}: queue {} has no use", shared_.name, index)));
  }
  if (vhost_ != nullptr) return start_vhost_queue(index, std::move(wiring));
  if (index % 2 == 0) {
    receivers_[pair] = std::make_unique<NetReceiveQueue>(shared_, pair, std::move(wiring));
    receivers_[pair]->start();
  } else {
    transmitters_[pair] = std::make_unique<NetTransmitQueue>(shared_, pair, std::move(wiring));
    transmitters_[pair]->start();
  }
  return {};
}

Result<> Net::start_vhost_queue(size_t index, QueueWiring wiring) {
  EventLoop& loop = wiring.loop;
  STRATO_TRY(vhost_->start_queue(index, std::move(wiring)));
  if (index != 0) return {};
  loop.post(alive_.token(), [this, &loop] {
    Result<std::unique_ptr<NetReceiver>> watcher = backend_->attach_receiver(0, loop, [] {});
    if (watcher) {
      watcher_ = *std::move(watcher);
      watcher_->listen(false);  // to frames; but what becomes of the interface is told from now on
    } else {
      log_guest(LogLevel::Warn, "{}: {}", shared_.name, watcher.error().text());
    }
  });
  return {};
}

void Net::stop_queue(size_t index, ReturnQueue done) {
  const size_t pair = index / 2;
  if (is_control(index)) {
    control_loop_->post(alive_.token(), [this, done = std::move(done)]() mutable {
      Queue queue = control_->take();
      control_.reset();
      done(std::move(queue));
    });
  } else if (vhost_ != nullptr) {
    vhost_->stop_queue(index, [this, index, done = std::move(done)](Queue queue) mutable {
      if (index == 0) watcher_.reset();
      done(std::move(queue));
    });
  } else if (index % 2 == 0) {
    receivers_[pair]->end([this, pair, done = std::move(done)](Queue queue) mutable {
      receivers_[pair].reset();
      done(std::move(queue));
    });
  } else {
    transmitters_[pair]->end([this, pair, done = std::move(done)](Queue queue) mutable {
      transmitters_[pair].reset();
      done(std::move(queue));
    });
  }
}

bool Net::is_served(size_t index) const {
  if (vhost_ != nullptr) return vhost_->queue_started(index);
  return index % 2 == 0 ? receivers_[index / 2] != nullptr : transmitters_[index / 2] != nullptr;
}

void Net::reset(Done done) {
  struct Waiting {
    explicit Waiting(Done done_to_call) : done(std::move(done_to_call)) {}
    std::atomic<size_t> left{1};
    Done done;
  };
  auto waiting = std::make_shared<Waiting>([this, done = std::move(done)]() mutable {
    restored_ = false;
    control_loop_ = nullptr;
    shared_.features = 0;
    shared_.choices = {};
    shared_.choices.filter.mac = mac_;
    show_mac();
    backend_->set_offloads(0);
    backend_->use_pairs(1);
    if (vhost_ != nullptr) vhost_->use_pairs(1);
    {
      MutexLock lock(link_mutex_);
      announce_due_ = false;
    }
    update_status();
    done();
  });
  const auto count_down = [waiting] {
    if (waiting->left.fetch_sub(1) == 1) waiting->done();
  };
  const auto forget = [&waiting, count_down] {
    ++waiting->left;
    return [count_down](const Queue& /*queue*/) { count_down(); };
  };
  for (size_t pair = 0; pair < max_pairs_; ++pair) {
    if (is_served(2 * pair)) stop_queue(2 * pair, forget());
    if (is_served(2 * pair + 1)) stop_queue(2 * pair + 1, forget());
  }
  if (control_loop_ != nullptr) {
    ++waiting->left;
    control_loop_->post(alive_.token(), [this, count_down] {
      control_.reset();
      count_down();
    });
  }
  count_down();
}

void Net::pause(Done done) {
  {
    MutexLock lock(link_mutex_);
    paused_ = true;
  }
  done();
}

// What has changed on the host meanwhile is told now.
void Net::resume() {
  {
    MutexLock lock(link_mutex_);
    paused_ = false;
  }
  update_status();
}

// --- the control queue

void Net::serve_control() {
  control_->serve_chains(kRoundCommands, [this, &queue = control_->queue()](Chain chain) {
    GuestResult<ChainWriter> answer = chain.writer.split_tail(1);
    if (!answer) {
      ++shared_.refused_requests;
      log_guest(LogLevel::Warn, "{}: refused: a command without room for its answer", shared_.name);
      return queue.push_used(std::move(chain), 0);
    }
    const NetChoices before = shared_.choices;
    const NetControlRules rules{.features = shared_.features, .max_pairs = max_pairs_};
    const NetChecked obeyed = apply_control_command(chain.reader, rules, shared_.choices);
    if (obeyed) {
      carry_out(before);
    } else {
      ++shared_.refused_requests;
      log_guest(LogLevel::Warn, "{}: refused: {}", shared_.name, obeyed.error());
    }
    STRATO_ASSERT(answer->write(obeyed ? kNetControlOk : kNetControlError).has_value());
    const bool alone = chain.writable_bytes() == 1;
    queue.push_used(std::move(chain), alone ? 1 : 0);
  });
}

// What a command has changed besides the filter, which is looked at for each frame.
void Net::carry_out(const NetChoices& before) {
  const NetChoices& now = shared_.choices;
  if (now.pairs != before.pairs) use_pairs(before.pairs);
  if (now.guest_offloads != before.guest_offloads) {
    backend_->set_offloads(to_backend_offloads(now.guest_offloads) & backend_->offloads());
  }
  if (now.filter.mac != before.filter.mac) show_mac();
  if (now.announce_due == before.announce_due) return;
  {
    MutexLock lock(link_mutex_);
    announce_due_ = now.announce_due;
  }
  update_status();
}

// A queue that the host does not know of any more must not be watched, or served.
void Net::use_pairs(size_t before) {
  const size_t count = shared_.choices.pairs;
  for (size_t pair = count; pair < max_pairs_; ++pair) {
    if (shared_.receivers[pair] != nullptr) shared_.receivers[pair]->set_used(false);
  }
  if (vhost_ != nullptr) vhost_->use_pairs(std::min(count, before));
  backend_->use_pairs(count);
  if (vhost_ != nullptr) vhost_->use_pairs(count);
  for (size_t pair = 0; pair < count; ++pair) {
    if (shared_.receivers[pair] != nullptr) shared_.receivers[pair]->set_used(true);
  }
}

// --- state

Result<std::vector<std::byte>> Net::save() const {
  const NetChoices& choices = shared_.choices;
  const NetFilter& filter = choices.filter;
  NetState state{.mac = filter.mac,
                 .status = config_.load<le16>(offsetof(NetConfigSpace, status)).get(),
                 .modes = static_cast<uint8_t>(filter.modes.to_ulong()),
                 .unicast = flatten(filter.unicast),
                 .multicast = flatten(filter.multicast),
                 .unicast_overflow = filter.unicast_overflow,
                 .multicast_overflow = filter.multicast_overflow,
                 .pairs = choices.pairs,
                 .guest_offloads = choices.guest_offloads};
  {
    MutexLock lock(link_mutex_);
    state.link_wanted = link_wanted_;
  }
  if (filter.vlans.any()) {
    state.vlans.resize(NetFilter::kVlans / 8);
    for (size_t vlan = 0; vlan < NetFilter::kVlans; ++vlan) {
      if (filter.vlans[vlan]) state.vlans[vlan / 8] |= static_cast<uint8_t>(1U << vlan % 8);
    }
  }
  if (shared_.receive_limiter != nullptr) {
    const IoLimiter::Tokens tokens = shared_.receive_limiter->tokens();
    state.receive_bytes = tokens.bytes;
    state.receive_frames = tokens.operations;
  }
  if (shared_.transmit_limiter != nullptr) {
    const IoLimiter::Tokens tokens = shared_.transmit_limiter->tokens();
    state.transmit_bytes = tokens.bytes;
    state.transmit_frames = tokens.operations;
  }
  return state::to_bytes(state);
}

Result<> Net::restore(const NetState& state) {
  const auto refuse = [this](std::string_view what) {
    return std::unexpected(Error::invalid(fmt::format("{}: saved with {}", shared_.name, what)));
  };
  if (state.pairs < 1 || state.pairs > max_pairs_) return refuse("more queue pairs than there are here");
  if (!is_station_address(state.mac)) return refuse("a MAC address that no station can have");
  if ((state.guest_offloads & ~(features_ & kNetGuestOffloads)) != 0) return refuse("offloads that are not here");
  if ((state.status & ~(kNetStatusLinkUp | kNetStatusAnnounce)) != 0) return refuse("an unknown status");
  if (!state.vlans.empty() && state.vlans.size() != NetFilter::kVlans / 8) return refuse("a wrong list of VLANs");
  std::optional<std::vector<MacAddress>> unicast = unflatten(state.unicast);
  std::optional<std::vector<MacAddress>> multicast = unflatten(state.multicast);
  if (!unicast || !multicast) return refuse("a wrong list of addresses");
  if (state.modes >> NetFilter::kModes != 0) return refuse("unknown receive modes");

  NetFilter& filter = shared_.choices.filter;
  filter.mac = state.mac;
  filter.modes = state.modes;
  filter.unicast = *std::move(unicast);
  filter.multicast = *std::move(multicast);
  filter.unicast_overflow = state.unicast_overflow;
  filter.multicast_overflow = state.multicast_overflow;
  for (size_t i = 0; i < state.vlans.size() * 8; ++i) filter.vlans[i] = (state.vlans[i / 8] >> i % 8 & 1) != 0;
  shared_.choices.pairs = state.pairs;
  shared_.choices.guest_offloads = state.guest_offloads;
  restored_ = true;
  show_mac();
  config_.store(offsetof(NetConfigSpace, status), le16(state.status));
  {
    MutexLock lock(link_mutex_);
    link_wanted_ = state.link_wanted;
    paused_ = true;  // the driver hears of what is different here when it runs
  }
  update_status();
  if (shared_.receive_limiter != nullptr) {
    shared_.receive_limiter->set_tokens({.bytes = state.receive_bytes, .operations = state.receive_frames});
  }
  if (shared_.transmit_limiter != nullptr) {
    shared_.transmit_limiter->set_tokens({.bytes = state.transmit_bytes, .operations = state.transmit_frames});
  }
  return {};
}

}  // namespace strato::virtio
