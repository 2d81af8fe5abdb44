//! Category "push".

use registry::Digest;
use reqwest::{Body, Method};
use serde_json::json;

use crate::{Got, Outcome, Peer, content, ensure};

const CONTENT: &[u8] = b"0123456789";

async fn has(peer: &Peer, content: &[u8]) -> Outcome {
    let got = peer.get(&format!("blobs/{}", Digest::of(content))).await;
    got.expect(&[200])?;
    ensure!(got.body == content, "another content");
    Ok(())
}

/// A blob was put in place, and the answer says where.
async fn created(peer: &Peer, got: &Got, content: &[u8]) -> Outcome {
    let location = got.expect(&[201])?.location()?;
    let found = peer.send(Method::GET, &location, &[], b"").await;
    ensure!(found.status == 200 && found.body == content, "its `Location` does not lead to it");
    has(peer, content).await
}

fn range(got: &Got) -> &str {
    got.header("range").unwrap_or("none")
}

pub async fn a_blob_goes_in_a_stream_of_unknown_length(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    let pieces: Vec<_> = CONTENT.chunks(3).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let url = if location.starts_with("http") { location } else { format!("{}{location}", peer.base) };
    let body = Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = peer.client.patch(url).header("content-type", "application/octet-stream").body(body);
    let response = request.send().await.unwrap();
    ensure!(response.status() == 202, "status {}", response.status());
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let done = peer.finish(&location, Digest::of(CONTENT), b"").await;
    created(&peer, &done, CONTENT).await
}

/// A registry that does not support this begins an upload instead.
pub async fn a_blob_goes_in_one_post_where_that_is_supported(peer: Peer) -> Outcome {
    let path = peer.path(&format!("blobs/uploads/?digest={}", Digest::of(CONTENT)));
    let got = peer.send(Method::POST, &path, &[("content-type", "application/octet-stream")], CONTENT).await;
    got.expect(&[201, 202])?;
    match got.status {
        201 => created(&peer, &got, CONTENT).await,
        _ => {
            let done = peer.finish(&got.location()?, Digest::of(CONTENT), CONTENT).await;
            created(&peer, &done, CONTENT).await
        }
    }
}

pub async fn a_blob_goes_in_post_and_put(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    let done = peer.finish(&location, Digest::of(CONTENT), CONTENT).await;
    created(&peer, &done, CONTENT).await
}

pub async fn an_empty_blob_is_accepted(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    let done = peer.finish(&location, Digest::of(b""), b"").await;
    created(&peer, &done, b"").await
}

pub async fn a_blob_goes_in_pieces(peer: Peer) -> Outcome {
    let first = peer.patch(&peer.begin().await?, "0-3", &CONTENT[..4]).await;
    first.expect(&[202])?;
    ensure!(range(&first) == "0-3", "range {}", range(&first));
    let second = peer.patch(&first.location()?, "4-9", &CONTENT[4..]).await;
    second.expect(&[202])?;
    ensure!(range(&second) == "0-9", "range {}", range(&second));
    let done = peer.finish(&second.location()?, Digest::of(CONTENT), b"").await;
    created(&peer, &done, CONTENT).await
}

pub async fn the_last_piece_may_go_with_the_put(peer: Peer) -> Outcome {
    let first = peer.patch(&peer.begin().await?, "0-3", &CONTENT[..4]).await;
    let done = peer.finish(&first.expect(&[202])?.location()?, Digest::of(CONTENT), &CONTENT[4..]).await;
    created(&peer, &done, CONTENT).await
}

pub async fn pieces_out_of_order_are_refused(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    peer.patch(&location, "4-9", &CONTENT[4..]).await.expect(&[416])?;
    let first = peer.patch(&location, "0-3", &CONTENT[..4]).await;
    let location = first.expect(&[202])?.location()?;
    peer.patch(&location, "6-9", &CONTENT[6..]).await.expect(&[416])?;
    let done = peer.finish(&location, Digest::of(CONTENT), &CONTENT[4..]).await;
    created(&peer, &done, CONTENT).await
}

pub async fn a_piece_that_was_sent_already_is_refused(peer: Peer) -> Outcome {
    let first = peer.patch(&peer.begin().await?, "0-3", &CONTENT[..4]).await;
    let location = first.expect(&[202])?.location()?;
    let again = peer.patch(&location, "0-3", &CONTENT[..4]).await;
    again.expect(&[416])?;
    ensure!(range(&again) == "0-3", "range {}", range(&again));
    Ok(())
}

pub async fn an_upload_tells_its_status(peer: Peer) -> Outcome {
    let first = peer.patch(&peer.begin().await?, "0-3", &CONTENT[..4]).await;
    let location = first.expect(&[202])?.location()?;
    let status = peer.send(Method::GET, &location, &[], b"").await;
    status.expect(&[204])?;
    ensure!(range(&status) == "0-3", "range {}", range(&status));
    status.location()?;
    Ok(())
}

pub async fn an_upload_is_cancelled(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    peer.send(Method::DELETE, &location, &[], b"").await.expect(&[204])?;
    peer.send(Method::GET, &location, &[], b"").await.expect_code(&[404], &["BLOB_UPLOAD_UNKNOWN"])
}

pub async fn an_unknown_upload_is_not_found(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    let query = location.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let path = peer.path(&format!("blobs/uploads/00000000-0000-4000-8000-000000000000{query}"));
    peer.send(Method::GET, &path, &[], b"").await.expect(&[400, 404])?;
    peer.patch(&path, "0-9", CONTENT).await.expect(&[400, 404])?;
    Ok(())
}

pub async fn a_blob_of_another_digest_is_refused(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    let other = Digest::of(b"other");
    peer.finish(&location, other, CONTENT).await.expect_code(&[400], &["DIGEST_INVALID"])?;
    for digest in [other, Digest::of(CONTENT)] {
        peer.get(&format!("blobs/{digest}")).await.expect(&[404])?;
    }
    Ok(())
}

pub async fn an_upload_without_digest_is_refused(peer: Peer) -> Outcome {
    let location = peer.begin().await?;
    peer.send(Method::PUT, &location, &[], CONTENT).await.expect_code(&[400], &["DIGEST_INVALID"])
}

pub async fn a_blob_is_mounted_from_another_repository(peer: Peer) -> Outcome {
    let other = Peer { name: format!("{}-other", peer.name), ..peer.clone() };
    let digest = other.push_blob(CONTENT).await?;
    peer.get(&format!("blobs/{digest}")).await.expect(&[404])?;
    let path = peer.path(&format!("blobs/uploads/?mount={digest}&from={}", other.name));
    let got = peer.send(Method::POST, &path, &[], b"").await;
    created(&peer, &got, CONTENT).await
}

pub async fn what_is_not_there_can_not_be_mounted(peer: Peer) -> Outcome {
    let path = peer.path(&format!("blobs/uploads/?mount={}&from={}-other", Digest::of(CONTENT), peer.name));
    let got = peer.send(Method::POST, &path, &[], b"").await;
    let done = peer.finish(&got.expect(&[202])?.location()?, Digest::of(CONTENT), CONTENT).await;
    created(&peer, &done, CONTENT).await
}

pub async fn a_mount_without_source_begins_an_upload(peer: Peer) -> Outcome {
    let path = peer.path(&format!("blobs/uploads/?mount={}", Digest::of(b"nowhere")));
    let got = peer.send(Method::POST, &path, &[], b"").await;
    let done = peer.finish(&got.expect(&[202])?.location()?, Digest::of(CONTENT), CONTENT).await;
    created(&peer, &done, CONTENT).await
}

pub async fn a_manifest_is_pushed_by_tag_and_by_digest(peer: Peer) -> Outcome {
    let manifest = content::image(&peer, "x").await?;
    let digest = Digest::of(&manifest).to_string();
    for reference in [digest.as_str(), "1", "1"] {
        let got = peer.put_manifest(reference, &manifest).await;
        let location = got.expect(&[201])?.location()?;
        let found = got.header("docker-content-digest");
        ensure!(found.is_none_or(|found| found == digest), "digest {found:?}");
        let found = peer.send(Method::GET, &location, &[("accept", content::MANIFEST)], b"").await;
        ensure!(found.status == 200 && found.body == manifest, "its `Location` does not lead to it");
    }
    Ok(())
}

pub async fn a_manifest_without_layers_is_accepted(peer: Peer) -> Outcome {
    peer.push_blob(b"{}").await?;
    peer.put_manifest("1", &content::manifest(b"{}", &[])).await.expect(&[201])?;
    Ok(())
}

pub async fn a_tag_moves_to_another_manifest(peer: Peer) -> Outcome {
    let one = peer.push_image("1", "one").await?;
    let two = peer.push_image("1", "two").await?;
    let got = peer.get("manifests/1").await;
    ensure!(got.body == two, "the tag still is the first one");
    peer.get(&format!("manifests/{}", Digest::of(&one))).await.expect(&[200])?;
    Ok(())
}

pub async fn an_index_is_pushed(peer: Peer) -> Outcome {
    let manifest = content::image(&peer, "x").await?;
    let digest = Digest::of(&manifest).to_string();
    peer.put_manifest(&digest, &manifest).await.expect(&[201])?;
    let index = content::index(&[&manifest], None);
    peer.put_manifest("1", &index).await.expect(&[201])?;
    let got = peer.send(Method::GET, &peer.path("manifests/1"), &[("accept", content::INDEX)], b"").await;
    ensure!(got.body == index, "another content");
    Ok(())
}

pub async fn a_manifest_with_a_subject_is_acknowledged(peer: Peer) -> Outcome {
    let subject = b"a manifest that need not be there";
    let manifest = content::artifact(&peer, "application/vnd.example.one", subject).await?;
    let got = peer.put_manifest(&Digest::of(&manifest).to_string(), &manifest).await;
    let acknowledged = got.expect(&[201])?.header("oci-subject");
    ensure!(acknowledged == Some(&Digest::of(subject).to_string()), "`OCI-Subject` is {acknowledged:?}");
    Ok(())
}

pub async fn an_index_with_a_subject_is_acknowledged(peer: Peer) -> Outcome {
    let index = content::index(&[], Some(b"subject"));
    let got = peer.put_manifest("list", &index).await;
    let acknowledged = got.expect(&[201])?.header("oci-subject");
    ensure!(acknowledged == Some(&Digest::of(b"subject").to_string()), "`OCI-Subject` is {acknowledged:?}");
    Ok(())
}

pub async fn a_manifest_whose_blobs_are_absent_is_refused(peer: Peer) -> Outcome {
    peer.push_blob(b"{}").await?;
    let manifest = content::manifest(b"{}", &[b"absent"]);
    peer.put_manifest("1", &manifest).await.expect_code(&[400, 404], &["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"])?;
    peer.get("manifests/1").await.expect(&[404])?;
    Ok(())
}

pub async fn what_is_no_manifest_is_refused(peer: Peer) -> Outcome {
    peer.push_blob(b"{}").await?;
    for bad in [&b"{"[..], b"[]", &serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": "text/x"})).unwrap()] {
        peer.put_manifest("1", bad).await.expect_code(&[400], &["MANIFEST_INVALID"])?;
    }
    Ok(())
}

pub async fn a_manifest_over_the_limit_is_refused(peer: Peer) -> Outcome {
    let large = vec![b' '; (4 << 20) + 1];
    peer.put_manifest("1", &large).await.expect(&[413])?;
    Ok(())
}

pub async fn a_manifest_under_another_digest_is_refused(peer: Peer) -> Outcome {
    let manifest = content::image(&peer, "x").await?;
    let other = Digest::of(b"other").to_string();
    peer.put_manifest(&other, &manifest).await.expect_code(&[400], &["DIGEST_INVALID", "MANIFEST_INVALID"])
}

/// Beyond the specification: what ECR answers where a tag may not move.
pub async fn an_immutable_tag_is_not_moved(peer: Peer) -> Outcome {
    let one = peer.push_image("8.2.1-202607010000", "one").await?;
    peer.put_manifest("8.2.1-202607010000", &one).await.expect(&[201])?;
    let two = content::image(&peer, "two").await?;
    let refused = peer.put_manifest("8.2.1-202607010000", &two).await;
    refused.expect_code(&[409], &["TAG_INVALID"])?;
    ensure!(peer.get("manifests/8.2.1-202607010000").await.body == one, "the tag was moved");
    Ok(())
}

pub async fn one_blob_is_pushed_by_many_at_once(peer: Peer) -> Outcome {
    let content = vec![9_u8; 300_000];
    let pushes = (0..8).map(|_| peer.push_blob(&content));
    for pushed in futures_util::future::join_all(pushes).await {
        pushed?;
    }
    has(&peer, &content).await
}
