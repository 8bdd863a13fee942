# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module `ollama_benchmark`: how fast an Ollama server is with so many requests at once, as it is set now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_benchmark
short_description: Measure how fast an Ollama server answers, with one and more requests at once
version_added: 1.0.0
description:
  - Sends requests to the server from its own host and measures rates and delays, with one request in flight and with
    more of them, for one model after the other.
  - It measures the server as it is set. Role P(gpufleet.ollama.ollama_benchmark#role) sets one parallel value after
    the other and calls this module for each.
  - Prompts, seed and the length of the answers are the same in every run, and no two prompts begin alike, so that
    nothing is answered from the cache of an earlier one. The first requests of a model do not count.
  - Watches where the model lies, and tells the GPU memory that its runner was measured to hold.
  - It ends by itself, within O(max_requests) and O(max_seconds), and ends all its requests then, also when it is
    interrupted.
  - It refuses a server that others are connected to, unless O(may_disturb=true).
author:
  - The gpufleet.ollama developers (@gpufleet)
extends_documentation_fragment:
  - gpufleet.ollama._attributes
  - gpufleet.ollama._attributes.systemd
  - gpufleet.ollama._service
attributes:
  check_mode:
    support: full
    details:
      - In check mode nothing is sent to the server, and nothing is measured.
  diff_mode:
    support: N/A
    details:
      - It changes no setting; the models that it loads stay as long as the service's settings say.
options:
  models:
    description: The models to measure, in this order. Embedding models generate nothing and cannot be measured.
    type: list
    elements: str
    required: true
  parallel:
    description:
      - The number of slots that the server is set to, E(OLLAMA_NUM_PARALLEL).
      - A runner that has another number is a problem.
    type: int
    required: true
  progress:
    description: A line that is printed on the control node before it is measured. The host does not get it.
    type: str
    default: ""
  concurrency:
    description:
      - Numbers of requests in flight to measure with.
      - By default all from 1 to O(parallel).
    type: list
    elements: int
    default: []
  prompt_lengths:
    description: Lengths of the prompts, nearly in tokens; the requests take them in turn.
    type: list
    elements: int
    default: [128]
  output_lengths:
    description: Lengths of the answers in tokens; the requests take them in turn.
    type: list
    elements: int
    default: [64]
  requests_per_client:
    description: How many requests each client sends one after the other; there are as many clients as requests in flight.
    type: int
    default: 4
  rounds:
    description: How often each number of requests in flight is measured. The median counts.
    type: int
    default: 3
  warm_up_requests:
    description: Requests to each model that do not count.
    type: int
    default: 1
  seed:
    description: What prompts and sampling depend on.
    type: int
    default: 1
  placement:
    description: V(gpu) where a model that lies partly on the CPU is a problem.
    type: str
    choices: [gpu, cpu]
    default: gpu
  request_timeout_seconds:
    description: How long one request may take.
    type: float
    default: 120
  load_timeout_seconds:
    description: How long the loading of a model may take.
    type: float
    default: 600
  max_seconds:
    description: How long the whole measurement may take. Then its requests are ended, and it fails.
    type: float
    default: 1800
  max_requests:
    description: How many requests may be sent in all. A measurement that would need more is refused.
    type: int
    default: 5000
  may_disturb:
    description: Whether a server may be measured that others are connected to; figures and requests disturb each other then.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Measure a model with one to four requests at once
  gpufleet.ollama.ollama_benchmark:
    models: ["llama3.1:8b"]
    parallel: 4
  register: measured

- name: Measure with short and long prompts in turn
  gpufleet.ollama.ollama_benchmark:
    models: ["llama3.1:8b"]
    parallel: 2
    prompt_lengths: [64, 2048]
    output_lengths: [128]
    max_seconds: 600
  register: measured
"""

RETURN = r"""
parallel:
  description: The number of slots.
  returned: success
  type: int
requests:
  description: How many requests were sent at most, warm-up included.
  returned: success
  type: int
problems:
  description: What went wrong besides what is told of the models, one sentence each.
  returned: success
  type: list
  elements: str
models:
  description: What was measured of each model. Empty in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The model.
      type: str
    on_gpu:
      description: Whether it lay wholly in GPU memory before, during and after its requests. Null when the server did not tell.
      type: bool
    problems:
      description: Why its figures do not count, one sentence each. Empty where they do.
      type: list
      elements: str
    memory:
      description: The GPU memory that its runner held, in bytes; null where a source does not tell.
      type: dict
      contains:
        reported_bytes:
          description: By C(/api/ps).
          type: int
        logged:
          description:
            - By the buffers that the runner logged.
          type: dict
          contains:
            weights_bytes:
              description: Weights.
              type: int
            kv_cache_bytes:
              description: KV cache.
              type: int
            compute_bytes:
              description: Compute buffers.
              type: int
            total_bytes:
              description: All of them.
              type: int
        measured_bytes:
          description: By the GPU's driver.
          type: int
        num_parallel:
          description: Its slots, by its command line.
          type: int
    levels:
      description: The figures for each number of requests in flight.
      type: list
      elements: dict
      contains:
        concurrency:
          description: Requests in flight.
          type: int
        requests:
          description: Requests sent.
          type: int
        answered:
          description: Requests answered.
          type: int
        busy:
          description: Requests that the server refused because its queue was full (HTTP 503).
          type: int
        cut_short:
          description:
            - Answers that the server ended early, as Ollama does after 30 equal tokens. They count with the tokens that came,
              and not in what is by the server's own counts.
          type: int
        failed:
          description: Requests that failed in another way.
          type: int
        errors:
          description: How, the first five ways.
          type: list
          elements: str
        seconds:
          description: From the first request to the last answer, all rounds together.
          type: float
        prompt_tokens:
          description: Tokens of all prompts.
          type: int
        output_tokens:
          description: Tokens of all answers.
          type: int
        tokens_per_second:
          description: Tokens generated per second, all requests together, by the clock on the wall; the median of the rounds.
          type: float
        spread:
          description: How far the rounds lie apart, as a share of the median.
          type: float
        tokens_per_second_by_server:
          description: The same by the server's own counts and durations, without the time for the prompts.
          type: float
        prompt_tokens_per_second:
          description: Tokens of prompts per second, all requests together, by the clock on the wall.
          type: float
        prompt_tokens_per_second_by_server:
          description: The same by the server's own counts and durations, without the time for the answers.
          type: float
        request_tokens_per_second:
          description: Tokens generated per second of one request by the clock on the wall, C(p50), C(p95) and C(p99).
          type: dict
          contains:
            p50:
              description: Half of the requests.
              type: float
            p95:
              description: Of a hundred requests 95.
              type: float
            p99:
              description: Of a hundred requests 99.
              type: float
        request_tokens_per_second_by_server:
          description: The same by the server's own counts and durations.
          type: dict
          contains:
            p50:
              description: Half of the requests.
              type: float
            p95:
              description: Of a hundred requests 95.
              type: float
            p99:
              description: Of a hundred requests 99.
              type: float
        request_prompt_tokens_per_second_by_server:
          description: Tokens of its prompt per second, by the server's own counts and durations.
          type: dict
          contains:
            p50:
              description: Half of the requests.
              type: float
            p95:
              description: Of a hundred requests 95.
              type: float
            p99:
              description: Of a hundred requests 99.
              type: float
        time_to_first_token_seconds:
          description: From sending a request to its first token, C(p50), C(p95) and C(p99).
          type: dict
          contains:
            p50:
              description: Half of the requests.
              type: float
            p95:
              description: Of a hundred requests 95.
              type: float
            p99:
              description: Of a hundred requests 99.
              type: float
        latency_seconds:
          description: From sending a request to the end of its answer, C(p50), C(p95) and C(p99).
          type: dict
          contains:
            p50:
              description: Half of the requests.
              type: float
            p95:
              description: Of a hundred requests 95.
              type: float
            p99:
              description: Of a hundred requests 99.
              type: float
"""

import signal
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._archive import compile_once

# Before all else of ours is imported.
compile_once()

from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._driver import (
    Control,
    Stopped,
    Workload,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._session import ServesOthers, Session
from ansible_collections.gpufleet.ollama.plugins.module_utils.benchmark._surroundings import Surroundings
from ansible_collections.gpufleet.ollama.plugins.module_utils.bounds._watch import (
    MARGIN_SECONDS,
    has_reader,
    watched,
)
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._api import DEFAULT_TIMEOUT_S
from ansible_collections.gpufleet.ollama.plugins.module_utils.ollama._service import server_api, server_url
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._arguments import SERVICE_ARGUMENTS
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._command import runner
from ansible_collections.gpufleet.ollama.plugins.module_utils.systemd._show import (
    SystemdError,
    manager,
    unit_state,
)

_COUNTS = ("parallel", "requests_per_client", "rounds", "max_requests")
_TIMES = ("request_timeout_seconds", "load_timeout_seconds", "max_seconds")
_LISTS = ("concurrency", "prompt_lengths", "output_lengths")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **SERVICE_ARGUMENTS,
            "models": {"type": "list", "elements": "str", "required": True},
            "parallel": {"type": "int", "required": True},
            "progress": {"type": "str", "default": ""},
            "concurrency": {"type": "list", "elements": "int", "default": []},
            "prompt_lengths": {"type": "list", "elements": "int", "default": [128]},
            "output_lengths": {"type": "list", "elements": "int", "default": [64]},
            "requests_per_client": {"type": "int", "default": 4},
            "rounds": {"type": "int", "default": 3},
            "warm_up_requests": {"type": "int", "default": 1},
            "seed": {"type": "int", "default": 1},
            "placement": {"type": "str", "choices": ["gpu", "cpu"], "default": "gpu"},
            "request_timeout_seconds": {"type": "float", "default": 120},
            "load_timeout_seconds": {"type": "float", "default": 600},
            "max_seconds": {"type": "float", "default": 1800},
            "max_requests": {"type": "int", "default": 5000},
            "may_disturb": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    _check(module)
    concurrency = options["concurrency"] or list(range(1, options["parallel"] + 1))
    workload = Workload(
        prompt_lengths=tuple(options["prompt_lengths"]),
        output_lengths=tuple(options["output_lengths"]),
        requests_per_client=options["requests_per_client"],
        rounds=options["rounds"],
        seed=options["seed"],
        request_timeout_s=options["request_timeout_seconds"],
    )
    requests = len(options["models"]) * (
        options["warm_up_requests"] + sum(workload.requests_at(clients) for clients in concurrency)
    )
    if requests > options["max_requests"]:
        module.fail_json(
            msg=f"the measurement needs {requests} requests, above max_requests {options['max_requests']}: "
            "measure fewer rounds, models or requests in flight, or allow more"
        )
    result = {"parallel": options["parallel"], "requests": requests, "problems": []}
    if module.check_mode:
        module.exit_json(changed=False, models=[], **result)
    control = Control(time.monotonic() + options["max_seconds"], has_reader)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: control.stop("the measurement was interrupted"))
    run = runner(module)
    try:
        # The control ends the measurement in time and says what ended it; this one ends what does not listen to it.
        limit = options["max_seconds"] + 2 * MARGIN_SECONDS
        with watched(module.fail_json, limit, "ollama_benchmark", lambda: True):
            manager(run, options["scope"])
            state = unit_state(run, options["scope"], options["unit"])
            api = server_api(options["unit"], state.main_pid, server_url(state), DEFAULT_TIMEOUT_S)
            surroundings = Surroundings(run, options["scope"], options["unit"], api)
            models = Session(
                api=api,
                workload=workload,
                control=control,
                see_others=surroundings.others,
                see_memory=surroundings.memory,
                parallel=options["parallel"],
                concurrency=concurrency,
                placement=options["placement"],
                warm_up_requests=options["warm_up_requests"],
                load_timeout_s=options["load_timeout_seconds"],
                may_disturb=options["may_disturb"],
            ).measure(options["models"])
    except SystemdError as error:
        module.fail_json(msg=str(error))
    except Stopped as error:
        module.fail_json(msg=f"nothing was measured to the end: {error}")
    except ServesOthers as error:
        module.fail_json(
            msg=f"{options['unit']} serves others: {error}; measure while nobody uses it, or set may_disturb"
        )
    module.exit_json(changed=False, models=models, **result)


def _check(module: AnsibleModule) -> None:
    options: dict[str, Any] = module.params
    for name in _COUNTS:
        if options[name] < 1:
            module.fail_json(msg=f"{name} is {options[name]}, expected at least 1")
    for name in _TIMES:
        if options[name] <= 0:
            module.fail_json(msg=f"{name} is {options[name]:g}, expected seconds above 0")
    for name in _LISTS:
        if any(value < 1 for value in options[name]) or (name != "concurrency" and not options[name]):
            module.fail_json(msg=f"{name} is {options[name]}, expected whole numbers above 0")
    if options["warm_up_requests"] < 0:
        module.fail_json(msg=f"warm_up_requests is {options['warm_up_requests']}, expected at least 0")
    if not options["models"]:
        module.fail_json(msg="models is empty, expected at least one model to measure")


if __name__ == "__main__":
    main()
