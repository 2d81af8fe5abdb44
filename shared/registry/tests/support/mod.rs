//! A small two-platform image, and servers on loopback.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use registry::{
    Digest, Layouts, Manifest, Registry, Remote, RemoteOptions, Repository, Retry, RouterOptions, Tag, TagRule,
    bytes_stream, router,
};
use serde_json::{Value, json};

pub fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

pub fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// A tar archive with one file.
pub fn layer(content: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, "hello", content.as_bytes()).unwrap();
    archive.into_inner().unwrap()
}

pub async fn push_blob(registry: &dyn Registry, name: &Repository, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let stream = bytes_stream(bytes.to_vec());
    registry.put_blob(name, digest, bytes.len() as u64, stream).await.unwrap();
    digest
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// What a small image consists of.
pub struct Image {
    pub index: Digest,
    pub platforms: Vec<Digest>,
    pub layers: Vec<Digest>,
}

/// One platform's manifest, without tag.
pub async fn push_platform(
    registry: &dyn Registry,
    name: &Repository,
    architecture: &str,
    text: &str,
) -> (Manifest, Digest) {
    let layer = layer(&format!("{text} {architecture}"));
    let layer_digest = push_blob(registry, name, &layer).await;
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        "history": [{"created_by": "test"}],
    });
    let config = serde_json::to_vec(&config).unwrap();
    push_blob(registry, name, &config).await;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = Manifest::new(serde_json::to_vec(&manifest).unwrap()).unwrap();
    registry.put_manifest(name, &manifest, None, TagRule::Move).await.unwrap();
    (manifest, layer_digest)
}

/// An index of two platforms, tagged.
pub async fn push_image(registry: &dyn Registry, name: &Repository, tag: &Tag, text: &str) -> Image {
    let mut entries = Vec::new();
    let mut image = Image { index: Digest::of(b""), platforms: vec![], layers: vec![] };
    for architecture in ["amd64", "arm64"] {
        let (manifest, layer) = push_platform(registry, name, architecture, text).await;
        let mut entry = descriptor(&manifest.media_type, &manifest.bytes);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
        image.platforms.push(manifest.digest);
        image.layers.push(layer);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    let index = Manifest::new(serde_json::to_vec(&index).unwrap()).unwrap();
    registry.put_manifest(name, &index, Some(tag), TagRule::Move).await.unwrap();
    image.index = index.digest;
    image
}

/// Serves the registry on a loopback port; its address without scheme.
pub async fn serve(layouts: Layouts, options: RouterOptions) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router(layouts, options)).await.unwrap() });
    address
}

pub fn open_to_all() -> RouterOptions {
    RouterOptions { push: true, delete: true, ..RouterOptions::default() }
}

pub fn remote(address: &str, piece: usize) -> Remote {
    let retry = Retry { tries: 3, wait: Duration::from_millis(20), longest: Duration::from_millis(200) };
    let options = RemoteOptions { piece, retry, ..RemoteOptions::default() };
    Remote::new(&format!("http://{address}"), options).unwrap()
}

/// A process that ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's docker-registry over `folder`; none where it is not installed.
pub async fn docker_registry(folder: &Path) -> Option<(Running, String)> {
    docker_registry_with(folder, "", "").await
}

/// The same with further settings: of its `http` section, and sections of their own.
pub async fn docker_registry_with(folder: &Path, http: &str, sections: &str) -> Option<(Running, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"{address}\"{http}}}\n{sections}",
        folder.join("storage").display()
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["serve", config.to_str().unwrap()];
    start("docker-registry", &arguments, &[], &address).await.map(|running| (running, address))
}

/// Starts a server and waits until it listens; none where it is not installed.
pub async fn start(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
    address: &str,
) -> Option<Running> {
    let started = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let running = match started {
        Ok(child) => Running(child),
        Err(error) => {
            println!("not run: {program}: {error}");
            return None;
        }
    };
    for _ in 0..1200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Some(running);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{program} does not listen on {address}");
}

/// Runs a tool; its output, or none where it is not installed.
pub async fn tool(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match tokio::process::Command::new(program).args(arguments).output().await {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(error) => {
            println!("not run: {program}: {error}");
            None
        }
    }
}
