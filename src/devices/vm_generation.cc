#include "devices/vm_generation.h"

#include <sys/random.h>

#include <span>
#include <utility>

#include "base/assert.h"
#include "state/format.h"

namespace strato {

Result<std::unique_ptr<VmGeneration>> VmGeneration::create(Args args, const std::optional<VmGenerationState>& state) {
  Id id{};
  if (args.id) {
    id = *args.id;
  } else if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return std::unexpected(Error::from_errno("a number for vmgenid: getrandom"));
  }
  const bool changed = state && state->id != id;
  std::unique_ptr<VmGeneration> generation(new VmGeneration(std::move(args), id, changed));
  generation->write();
  return generation;
}

void VmGeneration::write() const {
  const GuestResult<> written = args_.memory.snapshot()->write_bytes(args_.address, std::as_bytes(std::span(id_)));
  STRATO_ASSERT(written.has_value());  // the machine has put memory there
}

void VmGeneration::reset(Done done) {
  write();
  done();
}

void VmGeneration::resume() {
  if (std::exchange(changed_, false)) args_.notify();
}

Result<std::vector<std::byte>> VmGeneration::save() const {
  return state::to_bytes(VmGenerationState{.id = id_});
}

}  // namespace strato
