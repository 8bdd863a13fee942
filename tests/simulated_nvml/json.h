/* Copyright (c) 2026 The gpufleet.ollama developers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A small JSON reader: one file becomes one tree. */
#ifndef SIMULATED_NVML_JSON_H
#define SIMULATED_NVML_JSON_H

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    char *key;                 /* the name of an object's member */
    char *text;                /* JSON_STRING */
    double real;               /* JSON_NUMBER */
    unsigned long long number; /* JSON_NUMBER that is a whole one, JSON_BOOL as 0 or 1 */
    unsigned hits;             /* how often a fault at this place was met */
    struct json *first, *next; /* children of JSON_ARRAY and JSON_OBJECT */
};

/* The tree of a file, or NULL with a sentence in `error`. */
struct json *json_read(const char *path, char *error, unsigned error_size);
void json_free(struct json *node);

/* The member at a path of names with dots, or NULL. */
struct json *json_at(const struct json *node, const char *path);
struct json *json_item(const struct json *array, unsigned index);
unsigned json_count(const struct json *array);

#endif
