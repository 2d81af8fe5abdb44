"use strict";

const fs = require("node:fs");
const path = require("node:path");
const yaml = require("yaml");

const TEMPLATE = path.resolve(__dirname, "..", "..", "..", "template.yaml");

/** CloudFormation's short forms, as their long ones; `!GetAtt` keeps its text, as the CDK does. */
function tag(name) {
  const key = name === "Ref" || name === "Condition" ? name : `Fn::${name}`;
  const resolve = (value) => ({ [key]: value.toJSON?.() ?? value });
  return [
    { tag: `!${name}`, resolve },
    { tag: `!${name}`, collection: "seq", resolve },
    { tag: `!${name}`, collection: "map", resolve },
  ];
}

/** The template, with all functions in their long form. */
function template(file = TEMPLATE) {
  const names = ["And", "Condition", "Equals", "FindInMap", "GetAtt", "If", "Join", "Not", "Or", "Ref", "Select", "Split", "Sub"];
  return yaml.parse(fs.readFileSync(file, "utf8"), { customTags: names.flatMap(tag) });
}

module.exports = { TEMPLATE, template };
