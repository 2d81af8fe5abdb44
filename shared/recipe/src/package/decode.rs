//! From a YAML tree to a [`PackageDefinition`].

use super::duration::duration;
use super::pipeline::{StepKeys, decode_capabilities, decode_steps};
use super::update::decode_update;
use super::{
    BuildOption, Capability, Copyright, Cpe, Dependencies, LicenceOperator, Package, PackageDefinition, PackageOptions,
    RangeData, Resources, Scriptlets, Subpackage, Test, VariableTransform,
};
use crate::decode::Fields;
use crate::error::Error;
use crate::image::ImageConfiguration;
use crate::text::Text;
use crate::yaml::Node;

const TOP: &[&str] = &[
    "package",
    "environment",
    "pipeline",
    "subpackages",
    "data",
    "update",
    "vars",
    "var-transforms",
    "options",
    "test",
    "capabilities",
];

const PACKAGE: &[&str] = &[
    "name",
    "version",
    "epoch",
    "description",
    "url",
    "commit",
    "annotations",
    "target-architecture",
    "copyright",
    "dependencies",
    "options",
    "scriptlets",
    "checks",
    "cpe",
    "setcap",
    "timeout",
    "resources",
    "test-resources",
];

const SUBPACKAGE: &[&str] = &[
    "if",
    "range",
    "name",
    "pipeline",
    "dependencies",
    "options",
    "scriptlets",
    "description",
    "url",
    "commit",
    "annotations",
    "checks",
    "setcap",
    "test",
];

pub(super) fn definition(node: &Node, text: &str, file: &str) -> Result<PackageDefinition, Error> {
    let fields = Fields::open(node, file, "", TOP)?;
    let Some(package_node) = fields.node("package") else {
        return Err(fields.missing("package"));
    };
    Ok(PackageDefinition {
        file: file.to_owned(),
        source: text.to_owned(),
        package: package(package_node, file)?,
        environment: environment(&fields, file)?,
        pipeline: decode_steps(&fields, "pipeline", file, StepKeys::Definition)?,
        subpackages: fields.list("subpackages", |node, path| subpackage(node, file, path))?,
        data: fields.list("data", |node, path| {
            let data = Fields::open(node, file, path, &["name", "items"])?;
            Ok(RangeData { name: data.required_text("name")?, items: data.texts_by_name("items")? })
        })?,
        update: fields.node("update").map(|node| decode_update(node, file)).transpose()?.unwrap_or_default(),
        variables: fields.texts_by_name("vars")?,
        variable_transforms: fields.list("var-transforms", |node, path| {
            let transform = Fields::open(node, file, path, &["from", "match", "replace", "to"])?;
            Ok(VariableTransform {
                from: transform.required_text("from")?,
                pattern: transform.required_text("match")?,
                replace: transform.text("replace")?.unwrap_or_default(),
                to: transform.required_text("to")?,
            })
        })?,
        options: options(&fields, file)?,
        test: test(&fields, file)?,
        capabilities: decode_capabilities(&fields, file)?,
        other_document: None,
    })
}

fn environment(fields: &Fields<'_>, file: &str) -> Result<ImageConfiguration, Error> {
    let path = fields.path("environment");
    let node = fields.node("environment");
    Ok(node.map(|node| ImageConfiguration::decode(node, file, &path)).transpose()?.unwrap_or_default())
}

fn test(fields: &Fields<'_>, file: &str) -> Result<Option<Test>, Error> {
    let Some(node) = fields.node("test") else {
        return Ok(None);
    };
    let test = Fields::open(node, file, &fields.path("test"), &["environment", "pipeline"])?;
    Ok(Some(Test {
        environment: environment(&test, file)?,
        pipeline: decode_steps(&test, "pipeline", file, StepKeys::Definition)?,
    }))
}

fn package(node: &Node, file: &str) -> Result<Package, Error> {
    let fields = Fields::open(node, file, "package", PACKAGE)?;
    Ok(Package {
        name: fields.required_text("name")?,
        version: fields.required_text("version")?,
        epoch: fields.integer("epoch")?.unwrap_or(0),
        epoch_position: fields.node("epoch").map(|node| node.position),
        description: fields.text("description")?.unwrap_or_default(),
        url: fields.text("url")?.unwrap_or_default(),
        commit: fields.text("commit")?.unwrap_or_default(),
        annotations: fields.texts_by_name("annotations")?,
        target_architectures: fields.texts("target-architecture")?,
        copyright: fields.list("copyright", |node, path| copyright(node, file, path))?,
        dependencies: dependencies(&fields, file)?,
        options: package_options(&fields, file)?,
        scriptlets: scriptlets(&fields, file)?,
        disabled_checks: disabled_checks(&fields, file)?,
        cpe: fields.node("cpe").map(|node| cpe(node, file)).transpose()?,
        setcap: setcap(&fields, file)?,
        timeout_seconds: timeout(&fields)?,
        resources: resources(&fields, "resources", file)?,
        test_resources: resources(&fields, "test-resources", file)?,
    })
}

fn subpackage(node: &Node, file: &str, section: &str) -> Result<Subpackage, Error> {
    let fields = Fields::open(node, file, section, SUBPACKAGE)?;
    Ok(Subpackage {
        position: fields.position(),
        condition: fields.text("if")?,
        range: fields.text("range")?,
        name: fields.required_text("name")?,
        pipeline: decode_steps(&fields, "pipeline", file, StepKeys::Definition)?,
        dependencies: dependencies(&fields, file)?,
        options: package_options(&fields, file)?,
        scriptlets: scriptlets(&fields, file)?,
        description: fields.text("description")?,
        url: fields.text("url")?,
        commit: fields.text("commit")?,
        annotations: fields.texts_by_name("annotations")?,
        disabled_checks: disabled_checks(&fields, file)?,
        setcap: setcap(&fields, file)?,
        test: test(&fields, file)?,
    })
}

fn copyright(node: &Node, file: &str, section: &str) -> Result<Copyright, Error> {
    let known = &["paths", "attestation", "license", "license-path", "detection-override", "operator", "licenses"];
    let fields = Fields::open(node, file, section, known)?;
    let license = fields.text("license")?.filter(|text| !text.is_empty());
    let licenses = fields.list("licenses", |node, path| copyright(node, file, path))?;
    let operator = match fields.text("operator")? {
        Some(text) if text == "OR" => LicenceOperator::Or,
        Some(text) if !text.is_empty() && text != "AND" => {
            return Err(fields.invalid("operator", &text, "must be `AND` or `OR`"));
        }
        _ => LicenceOperator::And,
    };
    match &license {
        Some(license) if !licenses.is_empty() => {
            return Err(fields.invalid("license", license, "an entry has `license` or `licenses`, not both"));
        }
        None if licenses.is_empty() => return Err(fields.missing("license")),
        _ => {}
    }
    Ok(Copyright {
        position: fields.position(),
        paths: fields.text_or_texts("paths")?,
        attestation: fields.text("attestation")?,
        license,
        license_path: fields.text("license-path")?,
        detection_override: fields.text("detection-override")?,
        operator,
        licenses,
    })
}

fn dependencies(fields: &Fields<'_>, file: &str) -> Result<Dependencies, Error> {
    let Some(node) = fields.node("dependencies") else {
        return Ok(Dependencies::default());
    };
    let known = &["runtime", "provides", "replaces", "provider-priority", "replaces-priority"];
    let fields = Fields::open(node, file, &fields.path("dependencies"), known)?;
    Ok(Dependencies {
        runtime: fields.texts("runtime")?,
        provides: fields.texts("provides")?,
        replaces: fields.texts("replaces")?,
        provider_priority: fields.text("provider-priority")?,
        replaces_priority: fields.text("replaces-priority")?,
    })
}

fn package_options(fields: &Fields<'_>, file: &str) -> Result<PackageOptions, Error> {
    let Some(node) = fields.node("options") else {
        return Ok(PackageOptions::default());
    };
    let known = &["no-provides", "no-depends", "no-commands", "no-versioned-shlib-deps"];
    let fields = Fields::open(node, file, &fields.path("options"), known)?;
    Ok(PackageOptions {
        no_provides: fields.flag("no-provides")?,
        no_depends: fields.flag("no-depends")?,
        no_commands: fields.flag("no-commands")?,
        no_versioned_shared_library_dependencies: fields.flag("no-versioned-shlib-deps")?,
    })
}

fn scriptlets(fields: &Fields<'_>, file: &str) -> Result<Scriptlets, Error> {
    let Some(node) = fields.node("scriptlets") else {
        return Ok(Scriptlets::default());
    };
    let known =
        &["trigger", "pre-install", "post-install", "pre-deinstall", "post-deinstall", "pre-upgrade", "post-upgrade"];
    let fields = Fields::open(node, file, &fields.path("scriptlets"), known)?;
    let trigger = match fields.node("trigger") {
        None => None,
        Some(node) => {
            let trigger = Fields::open(node, file, &fields.path("trigger"), &["paths", "script"])?;
            let script = trigger.text("script")?.filter(|script| !script.is_empty());
            script.map(|script| Ok::<_, Error>((trigger.texts("paths")?, script))).transpose()?
        }
    };
    Ok(Scriptlets {
        trigger,
        pre_install: fields.text("pre-install")?,
        post_install: fields.text("post-install")?,
        pre_deinstall: fields.text("pre-deinstall")?,
        post_deinstall: fields.text("post-deinstall")?,
        pre_upgrade: fields.text("pre-upgrade")?,
        post_upgrade: fields.text("post-upgrade")?,
    })
}

fn disabled_checks(fields: &Fields<'_>, file: &str) -> Result<Vec<Text>, Error> {
    let Some(node) = fields.node("checks") else {
        return Ok(Vec::new());
    };
    Fields::open(node, file, &fields.path("checks"), &["disabled"])?.texts("disabled")
}

fn cpe(node: &Node, file: &str) -> Result<Cpe, Error> {
    let known = &["part", "vendor", "product", "edition", "language", "sw_edition", "target_sw", "target_hw", "other"];
    let fields = Fields::open(node, file, "package.cpe", known)?;
    Ok(Cpe {
        part: fields.text("part")?,
        vendor: fields.text("vendor")?,
        product: fields.text("product")?,
        edition: fields.text("edition")?,
        language: fields.text("language")?,
        software_edition: fields.text("sw_edition")?,
        target_software: fields.text("target_sw")?,
        target_hardware: fields.text("target_hw")?,
        other: fields.text("other")?,
    })
}

fn setcap(fields: &Fields<'_>, file: &str) -> Result<Vec<Capability>, Error> {
    fields.list("setcap", |node, path| {
        let fields = Fields::open(node, file, path, &["path", "add", "reason"])?;
        Ok(Capability {
            path: fields.required_text("path")?,
            add: fields.texts_by_name("add")?,
            reason: fields.text("reason")?,
        })
    })
}

fn resources(fields: &Fields<'_>, key: &str, file: &str) -> Result<Resources, Error> {
    let Some(node) = fields.node(key) else {
        return Ok(Resources::default());
    };
    let fields = Fields::open(node, file, &fields.path(key), &["cpu", "cpumodel", "memory", "disk"])?;
    Ok(Resources {
        cpu: fields.text("cpu")?,
        cpu_model: fields.text("cpumodel")?,
        memory: fields.text("memory")?,
        disk: fields.text("disk")?,
    })
}

fn timeout(fields: &Fields<'_>) -> Result<Option<u64>, Error> {
    let Some(text) = fields.text("timeout")? else {
        return Ok(None);
    };
    match duration(&text) {
        Some(duration) => Ok(Some(duration.as_nanos().div_ceil(1_000_000_000) as u64)),
        None => Err(fields.invalid("timeout", &text, "a duration such as `45m` or `1h30m` is expected")),
    }
}

fn options(fields: &Fields<'_>, file: &str) -> Result<Vec<(Text, BuildOption)>, Error> {
    let Some(node) = fields.node("options") else {
        return Ok(Vec::new());
    };
    let outer = Fields::open_any(node, file, "options")?;
    let mut options = Vec::new();
    for (name, node) in outer.entries() {
        let option = Fields::open(node, file, &format!("options.{name}"), &["vars", "environment"])?;
        let mut read = BuildOption { variables: option.texts_by_name("vars")?, ..BuildOption::default() };
        if let Some(node) = option.node("environment") {
            let environment = Fields::open(node, file, &option.path("environment"), &["contents"])?;
            if let Some(node) = environment.node("contents") {
                let contents = Fields::open(node, file, &environment.path("contents"), &["packages"])?;
                if let Some(node) = contents.node("packages") {
                    let packages = Fields::open(node, file, &contents.path("packages"), &["add", "remove"])?;
                    read.add_packages = packages.texts("add")?;
                    read.remove_packages = packages.texts("remove")?;
                }
            }
        }
        options.push((name.clone(), read));
    }
    Ok(options)
}
