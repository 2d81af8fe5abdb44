//! Category "pull".

use registry::Digest;
use reqwest::Method;

use crate::{Outcome, Peer, content, ensure};

pub async fn the_base_says_that_this_is_a_registry(peer: Peer) -> Outcome {
    peer.send(Method::GET, "/v2/", &[], b"").await.expect(&[200])?;
    Ok(())
}

pub async fn an_absent_blob_is_not_found(peer: Peer) -> Outcome {
    peer.push_blob(b"other").await?;
    let rest = format!("blobs/{}", Digest::of(b"absent"));
    let head = peer.head(&rest).await;
    head.expect(&[404])?;
    ensure!(head.body.is_empty(), "HEAD has a body");
    peer.get(&rest).await.expect_code(&[404], &["BLOB_UNKNOWN", "NAME_UNKNOWN"])
}

pub async fn a_blob_is_given_with_its_size(peer: Peer) -> Outcome {
    let body = vec![7; 70_000];
    let digest = peer.push_blob(&body).await?;
    let head = peer.head(&format!("blobs/{digest}")).await;
    head.expect(&[200])?;
    ensure!(head.header("content-length") == Some("70000"), "length {:?}", head.header("content-length"));
    let get = peer.get(&format!("blobs/{digest}")).await;
    get.expect(&[200])?;
    for got in [&head, &get] {
        let found = got.header("docker-content-digest");
        ensure!(found.is_none_or(|found| found == digest.to_string()), "digest {found:?}");
    }
    ensure!(get.body == body, "another content");
    Ok(())
}

pub async fn parts_of_a_blob_are_given(peer: Peer) -> Outcome {
    let digest = peer.push_blob(b"0123456789").await?;
    let path = peer.path(&format!("blobs/{digest}"));
    for (range, content_range, expected) in [
        ("bytes=0-3", "bytes 0-3/10", "0123"),
        ("bytes=4-", "bytes 4-9/10", "456789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
    ] {
        let got = peer.send(Method::GET, &path, &[("range", range)], b"").await;
        got.expect(&[206])?;
        ensure!(got.body == expected.as_bytes(), "{range}: another content");
        ensure!(got.header("content-range") == Some(content_range), "{range}: {:?}", got.header("content-range"));
    }
    peer.send(Method::GET, &path, &[("range", "bytes=10-")], b"").await.expect(&[416])?;
    Ok(())
}

pub async fn an_absent_manifest_is_not_found(peer: Peer) -> Outcome {
    peer.push_image("1", "x").await?;
    for reference in ["2".to_owned(), Digest::of(b"absent").to_string()] {
        let rest = format!("manifests/{reference}");
        let head = peer.head(&rest).await;
        head.expect(&[404])?;
        ensure!(head.body.is_empty(), "HEAD has a body");
        peer.get(&rest).await.expect_code(&[404], &["MANIFEST_UNKNOWN"])?;
    }
    Ok(())
}

pub async fn a_manifest_is_given_by_tag_and_digest(peer: Peer) -> Outcome {
    let manifest = peer.push_image("1", "x").await?;
    let digest = Digest::of(&manifest).to_string();
    for reference in ["1", &digest] {
        let accept = [("accept", content::MANIFEST)];
        let path = peer.path(&format!("manifests/{reference}"));
        let head = peer.send(Method::HEAD, &path, &accept, b"").await;
        head.expect(&[200])?;
        let length = manifest.len().to_string();
        ensure!(head.header("content-length") == Some(&length), "length {:?}", head.header("content-length"));
        let get = peer.send(Method::GET, &path, &accept, b"").await;
        get.expect(&[200])?;
        ensure!(get.body == manifest, "another content");
        for got in [&head, &get] {
            let found = got.header("docker-content-digest");
            ensure!(found == Some(&digest), "digest {found:?}");
        }
    }
    Ok(())
}

pub async fn a_manifest_is_given_with_its_media_type(peer: Peer) -> Outcome {
    let manifest = peer.push_image("1", "x").await?;
    let index = content::index(&[&manifest], None);
    peer.put_manifest("all", &index).await.expect(&[201])?;
    for (tag, media_type) in [("1", content::MANIFEST), ("all", content::INDEX)] {
        let accept =
            [("accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")];
        let got = peer.send(Method::GET, &peer.path(&format!("manifests/{tag}")), &accept, b"").await;
        got.expect(&[200])?;
        ensure!(got.header("content-type") == Some(media_type), "{tag}: {:?}", got.header("content-type"));
    }
    Ok(())
}

pub async fn an_unknown_repository_is_not_found(peer: Peer) -> Outcome {
    peer.get("manifests/1").await.expect_code(&[404], &["NAME_UNKNOWN", "MANIFEST_UNKNOWN"])?;
    let rest = format!("blobs/{}", Digest::of(b"absent"));
    peer.get(&rest).await.expect_code(&[404], &["NAME_UNKNOWN", "BLOB_UNKNOWN"])
}

pub async fn an_invalid_name_is_refused(peer: Peer) -> Outcome {
    let got = peer.send(Method::GET, "/v2/UPPER/manifests/1", &[], b"").await;
    got.expect_code(&[400], &["NAME_INVALID"])
}

pub async fn an_invalid_digest_is_refused(peer: Peer) -> Outcome {
    peer.push_blob(b"other").await?;
    peer.get("blobs/sha256:00").await.expect_code(&[400], &["DIGEST_INVALID"])?;
    peer.get("manifests/sha256:00").await.expect_code(&[400], &["DIGEST_INVALID", "MANIFEST_INVALID"])
}

pub async fn an_invalid_tag_is_refused(peer: Peer) -> Outcome {
    let manifest = content::image(&peer, "x").await?;
    peer.put_manifest(".x", &manifest).await.expect(&[400, 404])?;
    peer.put_manifest(&"a".repeat(129), &manifest).await.expect(&[400, 404])?;
    Ok(())
}
