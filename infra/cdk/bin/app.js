"use strict";

const { App, Stack } = require("aws-cdk-lib");
const { Minimill } = require("../lib/minimill");

const app = new App();
const stack = new Stack(app, app.node.tryGetContext("stack") ?? "minimill", {
  description: "Minimill, a factory for minimal, hardened container images",
});
new Minimill(stack, "Minimill", { build: app.node.tryGetContext("build") });
