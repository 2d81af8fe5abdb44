"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { template } = require("../support/template");

const { Resources: resources } = template();
const widgets = JSON.parse(resources.Dashboard.Properties.DashboardBody["Fn::Sub"]).widgets;

/** The logical ids that the dashboard's metrics of this name refer to. */
function shown(metric) {
  const rows = widgets.flatMap((widget) => widget.properties.metrics).filter((row) => row[1] === metric);
  return rows.map((row) => row[3].match(/^\$\{(\w+)(?:\.QueueName)?\}$/)[1]);
}

function named(type, suffix) {
  return Object.keys(resources).filter((id) => resources[id].Type === type && id.endsWith(suffix)).sort();
}

test("the dashboard shows every function", () => {
  const functions = named("AWS::Serverless::Function", "");
  for (const metric of ["Errors", "Throttles", "Duration", "Invocations"]) {
    assert.deepEqual(shown(metric).sort(), functions, metric);
  }
});

test("the dashboard shows every function's queue, and what was put aside", () => {
  const queues = named("AWS::Serverless::Function", "").map((id) => id.replace(/Function$/, "Queue"));
  assert.deepEqual(shown("ApproximateAgeOfOldestMessage").sort(), queues);
  const dead = queues.map((id) => id.replace(/Queue$/, "DeadQueue"));
  assert.deepEqual(shown("ApproximateNumberOfMessagesVisible").sort(), [...queues, ...dead].sort());
});

test("widgets lie beside each other, not upon each other", () => {
  const cells = widgets.flatMap(({ x, y, width, height }) =>
    Array.from({ length: width * height }, (_, cell) => `${x + (cell % width)},${y + Math.floor(cell / width)}`),
  );
  assert.equal(new Set(cells).size, cells.length);
});
