#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Does what Ollama's install.sh does once the program lies in /usr/local/bin: user, unit, start.
# Run again, it is an upgrade: the unit file is written anew.
set -eu

if ! id ollama >/dev/null 2>&1; then
    # The fixed number lets test hosts share one model store.
    useradd -r -s /bin/false -U -m ${OLLAMA_UID:+-u "$OLLAMA_UID"} -d /usr/share/ollama ollama 2>/dev/null
    mkdir -p /usr/share/ollama/.ollama
    chown ollama:ollama /usr/share/ollama /usr/share/ollama/.ollama
fi

cat >/etc/systemd/system/ollama.service <<EOF
[Unit]
Description=Ollama Service
After=network-online.target

[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Restart=always
RestartSec=3
Environment="PATH=$PATH"

[Install]
WantedBy=default.target
EOF
systemctl daemon-reload
systemctl enable ollama 2>/dev/null
systemctl restart ollama
