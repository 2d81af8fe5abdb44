"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { after, test } = require("node:test");
const { App, Stack } = require("aws-cdk-lib");
const { Minimill } = require("../lib/minimill");
const { template } = require("../support/template");

const folders = [];
after(() => folders.forEach((folder) => fs.rmSync(folder, { recursive: true })));

/** What `sam build` leaves: a folder with a program for each function. */
function build(of, without) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minimill-cdk-"));
  folders.push(folder);
  for (const [logicalId, resource] of Object.entries(of.Resources)) {
    if (resource.Type === "AWS::Serverless::Function" && logicalId !== without) {
      fs.mkdirSync(path.join(folder, logicalId));
      fs.writeFileSync(path.join(folder, logicalId, "bootstrap"), logicalId);
    }
  }
  return folder;
}

function synthesised(props) {
  const outdir = fs.mkdtempSync(path.join(os.tmpdir(), "minimill-cdk-"));
  folders.push(outdir);
  const app = new App({ outdir });
  const minimill = new Minimill(new Stack(app, "Stack"), "Minimill", props);
  return { minimill, template: app.synth().getStackByName("Stack").template };
}

/** The same without what a deployment by the CDK takes from elsewhere: code, and how to build it. */
function withoutCode(resource) {
  const { Properties, Metadata, ...rest } = structuredClone(resource);
  delete Properties?.CodeUri;
  delete Properties?.ContentUri;
  delete Metadata?.BuildMethod;
  delete Metadata?.BuildProperties;
  return { ...rest, Properties, Metadata: Metadata && Object.keys(Metadata).length > 0 ? Metadata : undefined };
}

const wanted = template();

test("the construct deploys what template.yaml does, resource for resource", () => {
  const { template: found } = synthesised({ build: build(wanted) });
  assert.deepEqual(Object.keys(found.Resources).sort(), Object.keys(wanted.Resources).sort());
  for (const [logicalId, resource] of Object.entries(wanted.Resources)) {
    assert.deepEqual(withoutCode(found.Resources[logicalId]), withoutCode(resource), logicalId);
  }
  for (const section of ["Globals", "Conditions", "Outputs", "Transform"]) {
    assert.deepEqual(found[section], wanted[section], section);
  }
  const { BootstrapVersion, ...parameters } = found.Parameters;
  assert.ok(BootstrapVersion, "a stack of the CDK states the version of its bootstrap");
  assert.deepEqual(parameters, wanted.Parameters);
});

test("each function gets its own code, as an asset", () => {
  const { template: found } = synthesised({ build: build(wanted) });
  const functions = Object.values(found.Resources).filter((resource) => resource.Type === "AWS::Serverless::Function");
  const keys = functions.map((resource) => resource.Properties.CodeUri.Key);
  assert.ok(functions.length >= 8);
  assert.equal(new Set(keys).size, functions.length);
  keys.forEach((key) => assert.match(key, /^[0-9a-f]{64}\.zip$/));
  assert.match(found.Resources.CatalogLayer.Properties.ContentUri.Key, /^[0-9a-f]{64}\.zip$/);
});

test("parameters that are given are no longer asked for", () => {
  const { template: found } = synthesised({ build: build(wanted), parameters: { Prefix: "mill" } });
  assert.equal(found.Parameters.Prefix, undefined);
  assert.deepEqual(found.Resources.UpstreamCheckFunction.Properties.FunctionName, { "Fn::Sub": "mill-upstream-check" });
});

test("outputs are there for other constructs", () => {
  const app = new App();
  const stack = new Stack(app, "Stack");
  const minimill = new Minimill(stack, "Minimill", { build: build(wanted) });
  assert.deepEqual(stack.resolve(minimill.table), { Ref: "Table" });
  assert.deepEqual(stack.resolve(minimill.imageKeyArn), { "Fn::GetAtt": "ImageKey.Arn" });
});

test("a function that was not built is named, with what to do", () => {
  assert.throws(
    () => synthesised({ build: build(wanted, "ImagePlanFunction") }),
    /ImagePlanFunction is missing: run `sam build --build-dir .*` before `cdk synth`/,
  );
});

test("a parameter that the template does not have is refused", () => {
  assert.throws(() => synthesised({ build: build(wanted), parameters: { Prefx: "mill" } }), /Prefx/);
});
