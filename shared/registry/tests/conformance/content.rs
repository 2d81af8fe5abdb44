//! Small images and artifacts.

use registry::Digest;
use serde_json::{Value, json};

use crate::Peer;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// Pushes the blobs of an image; its manifest, not pushed.
pub async fn image(peer: &Peer, text: &str) -> Result<Vec<u8>, String> {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "text": text});
    let config = serde_json::to_vec(&config).unwrap();
    let layer = text.as_bytes();
    peer.push_blob(&config).await?;
    peer.push_blob(layer).await?;
    Ok(manifest(&config, &[layer]))
}

/// The manifest of an image.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<_> =
        layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    });
    serde_json::to_vec(&manifest).unwrap()
}

/// Pushes the empty object; a manifest, not pushed, of an artifact about `subject`.
pub async fn artifact(peer: &Peer, artifact_type: &str, subject: &[u8]) -> Result<Vec<u8>, String> {
    peer.push_blob(b"{}").await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [descriptor(EMPTY, b"{}")],
        "subject": descriptor(MANIFEST, subject),
        "annotations": {"org.example.kind": artifact_type},
    });
    Ok(serde_json::to_vec(&manifest).unwrap())
}

/// An index over manifests, about `subject` if that is given.
pub fn index(manifests: &[&[u8]], subject: Option<&[u8]>) -> Vec<u8> {
    let manifests: Vec<_> = manifests.iter().map(|manifest| descriptor(MANIFEST, manifest)).collect();
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    if let Some(subject) = subject {
        index["subject"] = descriptor(MANIFEST, subject);
        index["artifactType"] = json!("application/vnd.example.list");
    }
    serde_json::to_vec(&index).unwrap()
}
