#include "common/obs/leaks.h"

#ifdef __SANITIZE_ADDRESS__
#define HAS_LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_LEAK_CHECK 1
#endif
#endif

#ifdef HAS_LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

void leaks_report(void)
{
#ifdef HAS_LEAK_CHECK
    __lsan_do_recoverable_leak_check();
#endif
}
