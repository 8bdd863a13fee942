# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# libllama's some 150 files mostly read the same headers: compile those once.
cmake_language(DEFER CALL target_precompile_headers llama PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/src/models/models.h")
