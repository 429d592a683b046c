#include "devices/cmos_rtc.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "state/format.h"

namespace strato {
namespace {

enum class Reg : uint8_t {
  Seconds = 0x00,
  Minutes = 0x02,
  Hours = 0x04,
  Weekday = 0x06,
  Day = 0x07,
  Month = 0x08,
  Year = 0x09,
  A = 0x0a,
  B = 0x0b,
  C = 0x0c,
  D = 0x0d,
  Century = 0x32,
};

constexpr uint8_t kA = 0x26;               // 32 kHz; update in progress (bit 7) never
constexpr uint8_t kB24Hours = 0x02;        // and BCD, since bit 2 is clear
constexpr uint8_t kBInterruptMask = 0x70;  // stored, never acted upon
constexpr uint8_t kDValid = 0x80;
constexpr uint8_t kIndexMask = 0x7f;  // bit 7 masks NMI

uint8_t bcd(int value) {
  return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10);
}

std::optional<uint8_t> time_register(Reg reg, int64_t unix_seconds) {
  const time_t seconds = unix_seconds;
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  switch (reg) {
    case Reg::Seconds:
      return bcd(utc.tm_sec);
    case Reg::Minutes:
      return bcd(utc.tm_min);
    case Reg::Hours:
      return bcd(utc.tm_hour);
    case Reg::Weekday:
      return bcd(utc.tm_wday + 1);
    case Reg::Day:
      return bcd(utc.tm_mday);
    case Reg::Month:
      return bcd(utc.tm_mon + 1);
    case Reg::Year:
      return bcd(utc.tm_year % 100);
    case Reg::Century:
      return bcd((utc.tm_year + 1900) / 100);
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::unique_ptr<CmosRtc>> CmosRtc::create(WallClock unix_seconds, std::optional<CmosRtcState> state) {
  CmosRtcState regs = state.value_or(CmosRtcState{});
  if (regs.index > kIndexMask) return std::unexpected(Error::invalid("saved RTC: index out of range"));
  return std::unique_ptr<CmosRtc>(new CmosRtc(std::move(unix_seconds), regs));
}

void CmosRtc::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0xff});
  if (out.size() != 1 || offset != 1) return;  // the index port can't be read
  const int64_t now = unix_seconds_();
  MutexLock lock(mutex_);
  const auto reg = static_cast<Reg>(regs_.index);
  uint8_t value = 0;
  switch (reg) {
    case Reg::A:
      value = kA;
      break;
    case Reg::B:
      value = kB24Hours | (regs_.ram[regs_.index] & kBInterruptMask);
      break;
    case Reg::C:
      value = 0;
      break;
    case Reg::D:
      value = kDValid;
      break;
    default:
      value = time_register(reg, now).value_or(regs_.ram[regs_.index]);
      break;
  }
  out[0] = std::byte{value};
}

void CmosRtc::write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 1) return;
  const auto value = std::to_integer<uint8_t>(data[0]);
  MutexLock lock(mutex_);
  if (offset == 0) {
    regs_.index = value & kIndexMask;  // so it always lies within the RAM
  } else {
    regs_.ram[regs_.index] = value;
  }
}

CmosRtcState CmosRtc::state() const {
  MutexLock lock(mutex_);
  return regs_;
}

Result<std::vector<std::byte>> CmosRtc::save() const {
  return state::to_bytes(state());
}

}  // namespace strato
