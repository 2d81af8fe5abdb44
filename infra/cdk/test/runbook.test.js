"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const { template } = require("../support/template");

const { Resources: resources } = template();
const operations = fs.readFileSync(path.resolve(__dirname, "..", "..", "..", "docs", "operations.md"), "utf8");
const headings = [...operations.matchAll(/^### (\w+):/gm)].map(([, name]) => name);

test("the runbook has an entry for every alarm, and none for others", () => {
  const alarms = Object.keys(resources).filter((id) => resources[id].Type === "AWS::CloudWatch::Alarm");
  const used = new Set(alarms.map((id) => headings.find((heading) => id.endsWith(heading)) ?? `nothing about ${id}`));
  assert.deepEqual([...used].sort(), [...headings].sort());
});
