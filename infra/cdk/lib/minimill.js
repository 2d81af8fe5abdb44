"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { Asset } = require("aws-cdk-lib/aws-s3-assets");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");
const { Construct } = require("constructs");

/** The folder that holds template.yaml. */
const ROOT = path.resolve(__dirname, "..", "..", "..");

/**
 * Where `sam build` has put what a template's resource is made of: `.aws-sam/build/LOGICAL-ID`.
 */
function built(folder, logicalId) {
  const from = path.join(folder, logicalId);
  if (!fs.existsSync(from)) {
    throw new Error(`${from} is missing: run \`sam build --build-dir ${folder}\` before \`cdk synth\``);
  }
  return from;
}

/**
 * Everything that template.yaml deploys. The template stays the one place where resources are
 * written; this construct includes it, keeps its logical ids, and uploads the code as CDK assets.
 */
class Minimill extends Construct {
  constructor(scope, id, props = {}) {
    super(scope, id);
    const templateFile = props.templateFile ?? path.join(ROOT, "template.yaml");
    const build = props.build ?? path.join(path.dirname(templateFile), ".aws-sam", "build");
    this.template = new CfnInclude(this, "Template", {
      templateFile,
      parameters: props.parameters ?? {},
      preserveLogicalIds: true,
      // A function and the role of its schedule name each other; SAM makes the schedule a resource of its own.
      allowCyclicalReferences: true,
    });
    for (const child of this.template.node.findAll()) {
      const logicalId = child.node.id;
      if (child.cfnResourceType === "AWS::Serverless::Function") {
        child.codeUri = this.#code(logicalId, built(build, logicalId));
        // Read by `sam build` only, which has done its work here.
        child.addDeletionOverride("Metadata.BuildMethod");
        child.addDeletionOverride("Metadata.BuildProperties");
      } else if (child.cfnResourceType === "AWS::Serverless::LayerVersion") {
        child.contentUri = this.#code(logicalId, this.#layer(templateFile, build, logicalId, child.contentUri));
      }
    }
    this.table = this.#output("Table");
    this.bucket = this.#output("Bucket");
    this.registry = this.#output("Registry");
    this.packageRepository = this.#output("PackageRepository");
    this.packageKeyArn = this.#output("PackageKey");
    this.imageKeyArn = this.#output("ImageKey");
  }

  /** A layer that nothing compiles is taken from where the template says when `sam build` made no copy. */
  #layer(templateFile, build, logicalId, contentUri) {
    const copy = path.join(build, logicalId);
    return fs.existsSync(copy) ? copy : path.resolve(path.dirname(templateFile), contentUri);
  }

  #code(logicalId, folder) {
    const asset = new Asset(this, `${logicalId}Code`, { path: folder });
    return { bucket: asset.s3BucketName, key: asset.s3ObjectKey };
  }

  #output(name) {
    return this.template.getOutput(name).value;
  }
}

module.exports = { Minimill };
