use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::str::FromStr;

use apk::Architecture;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
};
use recipe::rules;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::base::BaseImage;
use crate::compose::{Composed, ComposedLayer, time};
use crate::compress::{Compressed, Compression};
use crate::digest::sha256_text;
use crate::settings::{Entrypoint, Settings};
use crate::sink::BlobSink;

/// The environment that every image has unless its settings say otherwise, as apko sets it.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"),
    ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
];
const CREATED: &str = "org.opencontainers.image.created";
const CREATED_BY: &str = "minimill";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Writes the configuration and the manifest of an image of these layers, lowest first.
pub(crate) fn write_image(
    settings: &Settings,
    architecture: Architecture,
    created: i64,
    user: Option<String>,
    layers: Vec<Compressed>,
    sink: &mut dyn BlobSink,
) -> Result<(Descriptor, Descriptor, Vec<ComposedLayer>), Error> {
    let created = time(created)?;
    let mut annotations: HashMap<String, String> = settings.annotations.iter().cloned().collect();
    annotations.entry(CREATED.to_owned()).or_insert_with(|| created.clone());

    let mut config = ConfigBuilder::default().env(environment(settings)?).labels(annotations.clone());
    match &settings.entrypoint {
        Entrypoint::None => {}
        Entrypoint::Command(line) => config = config.entrypoint(split("entrypoint.command", line)?),
        Entrypoint::ShellFragment(fragment) => {
            config = config.entrypoint(vec!["/bin/sh".to_owned(), "-c".to_owned(), fragment.clone()]);
        }
    }
    if let Some(line) = &settings.command {
        config = config.cmd(split("cmd", line)?);
    }
    if let Some(user) = user {
        config = config.user(user);
    }
    if let Some(directory) = &settings.working_directory {
        config = config.working_dir(absolute("work-dir", directory)?);
    }
    if let Some(signal) = &settings.stop_signal {
        config = config.stop_signal(signal.clone());
    }
    if !settings.volumes.is_empty() {
        let volumes: Result<Vec<String>, Error> =
            settings.volumes.iter().map(|volume| absolute("volumes", volume)).collect();
        config = config.volumes(volumes?);
    }
    let wrong =
        |error: oci_spec::OciSpecError| Error::Document { document: "configuration", reason: error.to_string() };
    let history = HistoryBuilder::default().created(created.clone()).created_by(CREATED_BY).build().map_err(wrong)?;
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let configuration = ImageConfigurationBuilder::default()
        .created(created)
        .architecture(Arch::from(architecture.oci()))
        .os(Os::Linux)
        .config(config.build().map_err(wrong)?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().map_err(wrong)?)
        .history(vec![history; layers.len()])
        .build()
        .map_err(wrong)?;
    let layers = composed(settings.compression, layers)?;
    write(&canonical("configuration", &configuration)?, layers, annotations, architecture, sink)
}

/// As [`write_image`], with the base's layers below and its configuration but for environment, labels, times and
/// volumes where the settings state some.
pub(crate) fn write_image_on(
    base: &BaseImage,
    settings: &Settings,
    architecture: Architecture,
    created: i64,
    layers: Vec<Compressed>,
    sink: &mut dyn BlobSink,
) -> Result<(Descriptor, Descriptor, Vec<ComposedLayer>), Error> {
    let created = time(created)?;
    let mut labels: BTreeMap<String, String> = settings.annotations.iter().cloned().collect();
    labels.entry(CREATED.to_owned()).or_insert_with(|| created.clone());
    let mut annotations: HashMap<String, String> = base.annotations().clone().into_iter().collect();
    annotations.extend(labels.clone());
    annotations.insert(BASE_DIGEST.to_owned(), base.digest());

    let mut configuration = base.configuration().clone();
    configuration.insert("created".to_owned(), json!(created));
    let mut config = object(configuration.remove("config"));
    config.insert("Env".to_owned(), json!(environment(settings)?));
    config.insert("Labels".to_owned(), json!(labels));
    if !settings.volumes.is_empty() {
        let volumes: Result<Map<String, Value>, Error> =
            settings.volumes.iter().map(|volume| Ok((absolute("volumes", volume)?, json!({})))).collect();
        config.insert("Volumes".to_owned(), Value::Object(volumes?));
    }
    configuration.insert("config".to_owned(), Value::Object(config));

    let added = composed(settings.compression, layers)?;
    let mut history = match configuration.remove("history") {
        Some(Value::Array(history)) if !history.is_empty() => history,
        // Readers that count it expect an entry for each layer.
        _ => vec![json!({ "created_by": "base image" }); base.layers().len()],
    };
    history.extend(added.iter().map(|_| json!({ "created": created, "created_by": CREATED_BY })));
    configuration.insert("history".to_owned(), Value::Array(history));
    let mut layers = base.layers().to_vec();
    layers.extend(added);
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    configuration.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    write(&canonical("configuration", &configuration)?, layers, annotations, architecture, sink)
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn composed(compression: Compression, layers: Vec<Compressed>) -> Result<Vec<ComposedLayer>, Error> {
    let media_type = match compression {
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    };
    let layers = layers.into_iter().map(|layer| {
        let descriptor = descriptor(media_type.clone(), &layer.digest, layer.size)?;
        Ok(ComposedLayer { descriptor, diff_id: layer.diff_id })
    });
    layers.collect()
}

/// Writes a configuration and the manifest of it and these layers.
fn write(
    configuration: &[u8],
    layers: Vec<ComposedLayer>,
    annotations: HashMap<String, String>,
    architecture: Architecture,
    sink: &mut dyn BlobSink,
) -> Result<(Descriptor, Descriptor, Vec<ComposedLayer>), Error> {
    let configuration = blob("configuration", MediaType::ImageConfig, configuration, sink)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(configuration.clone())
        .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
        .annotations(annotations)
        .build()
        .map_err(|error| Error::Document { document: "manifest", reason: error.to_string() })?;
    let manifest = canonical("manifest", &manifest)?;
    let mut manifest = blob("manifest", MediaType::ImageManifest, &manifest, sink)?;
    let platform = PlatformBuilder::default()
        .architecture(Arch::from(architecture.oci()))
        .os(Os::Linux)
        .build()
        .map_err(|error| Error::Document { document: "descriptor", reason: error.to_string() })?;
    manifest.set_platform(Some(platform));
    Ok((manifest, configuration, layers))
}

/// Writes the index over the images of several architectures and returns its descriptor and its
/// bytes. The images are listed by the OCI name of their architecture. Its annotations are the
/// settings' and the newest of the images' times.
///
/// # Errors
/// When two images are of one architecture, or the sink fails.
pub fn compose_index(
    images: &[Composed],
    settings: &Settings,
    sink: &mut dyn BlobSink,
) -> Result<(Descriptor, Vec<u8>), Error> {
    let wrong = |reason: String| Error::Document { document: "index", reason };
    let mut images: Vec<&Composed> = images.iter().collect();
    images.sort_by_key(|image| image.architecture.oci());
    for pair in images.windows(2) {
        if let [first, second] = pair
            && first.architecture == second.architecture
        {
            return Err(wrong(format!("two images are for {}", first.architecture.oci())));
        }
    }
    let newest = images.iter().map(|image| image.created).max().ok_or_else(|| wrong("it has no image".to_owned()))?;
    let mut annotations: HashMap<String, String> = settings.annotations.iter().cloned().collect();
    annotations.entry(CREATED.to_owned()).or_insert(time(newest)?);
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(images.iter().map(|image| image.manifest.clone()).collect::<Vec<_>>())
        .annotations(annotations)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let bytes = canonical("index", &index)?;
    let descriptor = blob("index", MediaType::ImageIndex, &bytes, sink)?;
    Ok((descriptor, bytes))
}

/// The descriptor of these bytes, without writing them.
///
/// # Errors
/// When a descriptor can't be made of the media type.
pub fn descriptor_of(media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, Error> {
    descriptor(media_type, &sha256_text(Sha256::new_with_prefix(bytes)), bytes.len() as u64)
}

/// JSON without spaces, its keys sorted, so that one value has one digest.
pub(crate) fn canonical(document: &'static str, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let wrong = |error: serde_json::Error| Error::Document { document, reason: error.to_string() };
    let mut value = serde_json::to_value(value).map_err(wrong)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(wrong)
}

fn blob(what: &'static str, media_type: MediaType, bytes: &[u8], sink: &mut dyn BlobSink) -> Result<Descriptor, Error> {
    let mut writer = sink.begin().map_err(Error::write(what))?;
    writer.write_all(bytes).map_err(Error::write(what))?;
    let descriptor = descriptor_of(media_type, bytes)?;
    writer.commit(descriptor.digest().as_ref(), descriptor.size()).map_err(Error::write(what))?;
    Ok(descriptor)
}

fn descriptor(media_type: MediaType, digest: &str, size: u64) -> Result<Descriptor, Error> {
    let wrong = |error: oci_spec::OciSpecError| Error::Document { document: "descriptor", reason: error.to_string() };
    DescriptorBuilder::default()
        .media_type(media_type)
        .digest(Digest::from_str(digest).map_err(wrong)?)
        .size(size)
        .build()
        .map_err(wrong)
}

fn environment(settings: &Settings) -> Result<Vec<String>, Error> {
    let mut variables: Vec<(&str, &str)> = Vec::new();
    for (name, value) in &settings.environment {
        let verdict =
            if value.contains('\0') { Err("its value has a zero byte") } else { rules::environment_name(name) };
        verdict.map_err(|problem| refused("environment", name, problem))?;
        variables.retain(|(known, _)| known != name);
        variables.push((name, value));
    }
    for (name, value) in ENVIRONMENT {
        if !variables.iter().any(|(known, _)| *known == name) {
            variables.push((name, value));
        }
    }
    variables.sort_unstable();
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn split(setting: &'static str, line: &str) -> Result<Vec<String>, Error> {
    rules::command_line(line).map_err(|problem| refused(setting, line, problem))
}

fn absolute(setting: &'static str, path: &str) -> Result<String, Error> {
    rules::absolute_path(path).map_err(|problem| refused(setting, path, problem))?;
    Ok(path.to_owned())
}

fn refused(setting: &'static str, value: &str, problem: &str) -> Error {
    Error::Setting { setting, value: value.to_owned(), problem: problem.to_owned() }
}
