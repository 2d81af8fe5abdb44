import { CfnInclude } from "aws-cdk-lib/cloudformation-include";
import { Construct } from "constructs";

export interface MinimillProps {
  /** The template to deploy. Default: template.yaml of this checkout. */
  readonly templateFile?: string;
  /** What `sam build` made: a folder per logical id. Default: `.aws-sam/build` beside the template. */
  readonly build?: string;
  /** Values for the template's parameters; those left out become parameters of the stack. */
  readonly parameters?: { [name: string]: unknown };
}

/** Everything that template.yaml deploys, under its own logical ids. */
export class Minimill extends Construct {
  constructor(scope: Construct, id: string, props?: MinimillProps);
  /** The included template: every resource by its logical id. */
  readonly template: CfnInclude;
  /** The name of the table. */
  readonly table: string;
  /** The name of the bucket of blobs. */
  readonly bucket: string;
  /** Where the images are. */
  readonly registry: string;
  /** The bucket of the apk repository. */
  readonly packageRepository: string;
  /** The ARN of the key that signs packages. */
  readonly packageKeyArn: string;
  /** The ARN of the key that signs images. */
  readonly imageKeyArn: string;
}
