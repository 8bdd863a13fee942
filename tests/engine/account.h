/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What the simulated CUDA machine tells of a device: written by cuda.c, read by probe.cpp. */
#ifndef ACCOUNT_H
#define ACCOUNT_H

#include <stdint.h>

/* Where memory lies; what comes before ON_HOST lies on the device. */
enum place { ALLOCATED, MAPPED, MANAGED, ON_HOST, PLACES };

struct account {
    uint64_t total_bytes, free_bytes; /* of the device, before anything is held */
    uint64_t held_bytes[PLACES];
    /* Since the peaks were reset: most held on the device, kernels started, bytes copied to it from other devices. */
    uint64_t peak_bytes, launches, peer_bytes;
    uint64_t cublas_handles;
};

#endif
