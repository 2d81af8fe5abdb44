//! Whether index, manifest and configuration are what the OCI image specification (1.1) wants, and
//! say of the image what the factory's images say.

use std::collections::BTreeSet;

use oci_spec::image::{Config, ImageIndex, MediaType};

use crate::Image;
use crate::files::Kind;
use crate::report::Finding;

const PREFIX: &str = "org.opencontainers.image.";
/// Annotations that every image has, without their prefix.
const ANNOTATIONS: [&str; 4] = ["title", "description", "version", "created"];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The manifest: media types and layers.
pub(super) fn manifest(image: &Image) -> Finding {
    let manifest = image.manifest();
    let mut complaints = Vec::new();
    if manifest.schema_version() != 2 {
        complaints.push(format!("`schemaVersion` is {}, it has to be 2", manifest.schema_version()));
    }
    if manifest.media_type().as_ref() != Some(&MediaType::ImageManifest) {
        complaints.push(format!("`mediaType` is not `{}`", MediaType::ImageManifest));
    }
    if *manifest.config().media_type() != MediaType::ImageConfig {
        let found = manifest.config().media_type();
        complaints.push(format!("`config.mediaType` is `{found}`, it has to be `{}`", MediaType::ImageConfig));
    }
    if manifest.artifact_type().is_some() || manifest.subject().is_some() {
        complaints.push("`artifactType` and `subject` are for what is no image".to_owned());
    }
    if manifest.layers().is_empty() {
        complaints.push("it has no layer".to_owned());
    }
    for layer in manifest.layers() {
        let known = [MediaType::ImageLayer, MediaType::ImageLayerGzip, MediaType::ImageLayerZstd];
        if !known.contains(layer.media_type()) {
            complaints.push(format!("the layer `{}` has the media type `{}`", layer.digest(), layer.media_type()));
        }
        if layer.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
            complaints.push(format!("the layer `{}` is to be had elsewhere (`urls`)", layer.digest()));
        }
    }
    let complaints = complaints.into_iter().map(|complaint| format!("the manifest: {complaint}")).collect();
    Finding::of(complaints, format!("an OCI manifest of {} layers", manifest.layers().len()))
}

/// The configuration: every field has a value that engines understand.
pub(super) fn configuration(image: &Image) -> Finding {
    let configuration = image.configuration();
    let config = configuration.config().clone().unwrap_or_default();
    let mut complaints = Vec::new();
    if configuration.os().to_string() != "linux" {
        complaints.push(format!("`os` is `{}`, it has to be `linux`", configuration.os()));
    }
    match configuration.created() {
        None => complaints.push("`created` is missing".to_owned()),
        Some(time) if time.parse::<jiff::Timestamp>().is_err() => {
            complaints.push(format!("`created` is `{time}`, it has to be a time of RFC 3339"));
        }
        Some(_) => {}
    }
    if configuration.rootfs().typ() != "layers" {
        complaints.push(format!("`rootfs.type` is `{}`, it has to be `layers`", configuration.rootfs().typ()));
    }
    if let Some(history) = configuration.history().as_ref().filter(|history| !history.is_empty()) {
        let layers = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
        let expected = image.manifest().layers().len();
        if layers != expected {
            complaints.push(format!("`history` tells of {layers} layers, the manifest has {expected}"));
        }
    }
    complaints.extend(environment(&config));
    for port in config.exposed_ports().iter().flatten() {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let is_port = number.parse::<u16>().is_ok_and(|number| number > 0);
        if !is_port || !["tcp", "udp", "sctp"].contains(&protocol) {
            complaints.push(format!("`ExposedPorts` has `{port}`, which is no port"));
        }
    }
    for volume in config.volumes().iter().flatten().filter(|volume| !volume.starts_with('/')) {
        complaints.push(format!("`Volumes` has `{volume}`, which is no absolute path"));
    }
    if let Some(folder) = config.working_dir().as_deref().filter(|folder| !folder.is_empty()) {
        let place = image.files().follow(folder);
        let is_folder = |place: &str| {
            place.is_empty() || image.files().get(place).is_some_and(|entry| entry.kind == Kind::Directory)
        };
        if !folder.starts_with('/') || !place.is_some_and(|place| is_folder(&place)) {
            complaints
                .push(format!("`WorkingDir` is `{folder}`, which is no folder of the image; make it under `paths`"));
        }
    }
    if let Some(signal) = config.stop_signal().as_deref().filter(|signal| !is_signal(signal)) {
        complaints.push(format!("`StopSignal` is `{signal}`, which is no signal such as `SIGTERM`"));
    }
    let complaints = complaints.into_iter().map(|complaint| format!("the configuration: {complaint}")).collect();
    Finding::of(complaints, "an OCI configuration")
}

fn is_signal(text: &str) -> bool {
    let number = |text: &str| text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let named = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '+' || c == '-')
    };
    number(text) || text.strip_prefix("SIG").is_some_and(named)
}

fn environment(config: &Config) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut complaints = Vec::new();
    for line in config.env().iter().flatten() {
        match line.split_once('=') {
            Some((name, _)) if !name.is_empty() => {
                if !names.insert(name) {
                    complaints.push(format!("`Env` sets `{name}` twice"));
                }
            }
            _ => complaints.push(format!("`Env` has `{line}`, which is not `NAME=VALUE`")),
        }
    }
    complaints
}

/// Annotations that every image has, and labels that say the same.
pub(super) fn annotations(image: &Image) -> Finding {
    let annotations = image.manifest().annotations().clone().unwrap_or_default();
    let labels = image.configuration().labels_of_config().cloned().unwrap_or_default();
    let mut complaints = Vec::new();
    for name in ANNOTATIONS {
        let key = format!("{PREFIX}{name}");
        if annotations.get(&key).is_none_or(|value| value.trim().is_empty()) {
            complaints.push(format!("the manifest has no annotation `{key}`; state `{name}` in `image.yaml`"));
        }
    }
    let created = format!("{PREFIX}created");
    if let Some(time) = annotations.get(&created)
        && time.parse::<jiff::Timestamp>().is_err()
    {
        complaints.push(format!("the annotation `{created}` is `{time}`, which is no time of RFC 3339"));
    }
    let mut keys: Vec<&String> =
        annotations.keys().chain(labels.keys()).filter(|key| key.starts_with(PREFIX)).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        match (annotations.get(key), labels.get(key)) {
            (Some(annotation), Some(label)) if annotation == label => {}
            (Some(annotation), Some(label)) => {
                complaints.push(format!("`{key}` is `{annotation}` as an annotation and `{label}` as a label"));
            }
            (Some(_), None) => complaints.push(format!("the annotation `{key}` is not among the labels")),
            _ => complaints.push(format!("the label `{key}` is not among the annotations")),
        }
    }
    for key in annotations.keys().chain(labels.keys()).filter(|key| key.is_empty()) {
        complaints.push(format!("the key `{key}` is empty"));
    }
    Finding::of(complaints, format!("{} annotations, which the labels repeat", annotations.len()))
}

/// Whether what the image starts is in it, and its user may start it.
pub(super) fn entrypoint(image: &Image) -> Finding {
    let config = image.configuration().config().clone().unwrap_or_default();
    let entrypoint = config.entrypoint().iter().flatten();
    let Some(program) = entrypoint.chain(config.cmd().iter().flatten()).next() else {
        return Finding::not_applicable("the image starts nothing by itself");
    };
    let files = image.files();
    let lines = config.env().clone().unwrap_or_default();
    let path = lines.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let candidates: Vec<String> = if program.contains('/') {
        vec![match (program.starts_with('/'), config.working_dir().as_deref()) {
            (false, Some(folder)) => format!("{folder}/{program}"),
            _ => program.clone(),
        }]
    } else {
        path.split(':').map(|folder| format!("{folder}/{program}")).collect()
    };
    let Some(place) = candidates.iter().find_map(|path| files.follow(path)) else {
        let place = if program.contains('/') { "not in the image" } else { "in no folder of `PATH`" };
        return Finding::failed(format!("the image starts `{program}`, which is {place}; add its package"), Vec::new());
    };
    let runnable = files
        .get(&place)
        .is_some_and(|entry| matches!(entry.kind, Kind::Regular(_)) && may_run(entry, config.user().as_deref()));
    if runnable {
        return Finding::passed(format!("the image starts `/{place}`"));
    }
    let user = config.user().clone().unwrap_or_default();
    Finding::failed(
        format!("the image starts `/{place}`, which its user `{user}` may not run; `chmod +x` it"),
        Vec::new(),
    )
}

/// By the numbers of user and group where the configuration has them; a name is taken for others.
fn may_run(entry: &crate::Entry, user: Option<&str>) -> bool {
    let (user, group) = user.unwrap_or_default().split_once(':').unwrap_or((user.unwrap_or("0"), ""));
    let same = |text: &str, id: u32| text.parse::<u32>().is_ok_and(|number| number == id);
    if user.is_empty() || user == "root" || same(user, 0) {
        return entry.mode & 0o111 != 0;
    }
    let bit = match () {
        () if same(user, entry.uid) => 0o100,
        () if same(group, entry.gid) => 0o010,
        () => 0o001,
    };
    entry.mode & bit != 0
}

/// Whether the index lists the image as what it is.
pub(super) fn index(image: &Image, bytes: &[u8]) -> Finding {
    let index = match ImageIndex::from_reader(bytes) {
        Ok(index) => index,
        Err(error) => return Finding::failed(format!("the image's index is none: {error}"), Vec::new()),
    };
    let mut complaints = Vec::new();
    if index.schema_version() != 2 {
        complaints.push(format!("`schemaVersion` is {}, it has to be 2", index.schema_version()));
    }
    if index.media_type().as_ref() != Some(&MediaType::ImageIndex) {
        complaints.push(format!("`mediaType` is not `{}`", MediaType::ImageIndex));
    }
    let mut platforms = BTreeSet::new();
    for manifest in index.manifests() {
        if *manifest.media_type() != MediaType::ImageManifest {
            complaints.push(format!("`{}` has the media type `{}`", manifest.digest(), manifest.media_type()));
        }
        match manifest.platform() {
            None => complaints.push(format!("`{}` has no platform", manifest.digest())),
            Some(platform) => {
                let platform = format!("{}/{}", platform.os(), platform.architecture());
                if !platforms.insert(platform.clone()) {
                    complaints.push(format!("it lists two images for {platform}"));
                }
                if manifest.digest().to_string() == image.digest() && platform != image.platform() {
                    complaints.push(format!("it lists the image for {platform}, it is for {}", image.platform()));
                }
            }
        }
    }
    match index.manifests().iter().find(|manifest| manifest.digest().to_string() == image.digest()) {
        None => complaints.push(format!("it does not list `{}`", image.digest())),
        Some(listed) if listed.size() != image.size() => {
            complaints.push(format!(
                "it says that `{}` has {} bytes, it has {}",
                image.digest(),
                listed.size(),
                image.size()
            ));
        }
        Some(_) => {}
    }
    let complaints = complaints.into_iter().map(|complaint| format!("the index: {complaint}")).collect();
    Finding::of(complaints, format!("an OCI index of {} platforms", index.manifests().len()))
}
