// libfmt's out-of-line part, compiled here once: Debian ships it as a shared library only, and our programs are static.
// Without locales (FMT_STATIC_THOUSANDS_SEPARATOR in cmake/flags.cmake), which would cost start-up time and size for
// nothing.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;

}  // namespace detail
FMT_END_NAMESPACE
