// Functions that Python calls.
#pragma once

#define ASIF_EXPORT extern "C" __attribute__((visibility("default")))
