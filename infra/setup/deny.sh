#!/bin/sh
# Checks licences, bans and sources of the dependencies with cargo-deny, installed when missing.
# The advisory database is fetched from outside; where it can't be reached, this says so.
set -eu

if ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked --quiet cargo-deny
fi
cargo deny --offline check licenses bans sources
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --offline check advisories
else
    echo "not run: cargo-deny advisories: the advisory database can't be reached from here"
fi
