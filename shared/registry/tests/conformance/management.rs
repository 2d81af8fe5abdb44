//! Category "content management".

use registry::Digest;

use crate::{Outcome, Peer, ensure};

pub async fn a_tag_is_deleted_alone(peer: Peer) -> Outcome {
    let manifest = peer.push_image("1", "x").await?;
    peer.put_manifest("2", &manifest).await.expect(&[201])?;
    peer.delete("manifests/1").await.expect(&[202])?;
    peer.get("manifests/1").await.expect_code(&[404], &["MANIFEST_UNKNOWN"])?;
    for reference in ["2".to_owned(), Digest::of(&manifest).to_string()] {
        peer.get(&format!("manifests/{reference}")).await.expect(&[200])?;
    }
    peer.delete("manifests/1").await.expect(&[404])?;
    Ok(())
}

pub async fn a_manifest_is_deleted_with_its_tags(peer: Peer) -> Outcome {
    let manifest = peer.push_image("1", "x").await?;
    let digest = Digest::of(&manifest).to_string();
    peer.delete(&format!("manifests/{digest}")).await.expect(&[202])?;
    for reference in ["1", &digest] {
        peer.get(&format!("manifests/{reference}")).await.expect(&[404])?;
    }
    let list = peer.get("tags/list").await;
    if list.status == 200 {
        let tags = list.json()?["tags"].as_array().cloned().unwrap_or_default();
        ensure!(tags.is_empty(), "{tags:?}");
    }
    Ok(())
}

pub async fn an_absent_manifest_is_not_deleted(peer: Peer) -> Outcome {
    peer.push_image("1", "x").await?;
    let rest = format!("manifests/{}", Digest::of(b"absent"));
    peer.delete(&rest).await.expect_code(&[404], &["MANIFEST_UNKNOWN"])
}

pub async fn a_blob_is_deleted(peer: Peer) -> Outcome {
    let rest = format!("blobs/{}", peer.push_blob(b"x").await?);
    peer.delete(&rest).await.expect(&[202])?;
    peer.get(&rest).await.expect(&[404])?;
    peer.head(&rest).await.expect(&[404])?;
    Ok(())
}

pub async fn an_absent_blob_is_not_deleted(peer: Peer) -> Outcome {
    peer.push_blob(b"x").await?;
    let rest = format!("blobs/{}", Digest::of(b"absent"));
    peer.delete(&rest).await.expect_code(&[404], &["BLOB_UNKNOWN"])
}
