//! Category "content discovery".

use registry::Digest;
use serde_json::{Value, json};

use crate::{Got, Outcome, Peer, content, ensure};

const ONE: &str = "application/vnd.example.one";
const TWO: &str = "application/vnd.example.two";

async fn push_tags(peer: &Peer, tags: &[&str]) -> Outcome {
    let manifest = content::image(peer, "x").await?;
    for tag in tags {
        peer.put_manifest(tag, &manifest).await.expect(&[201])?;
    }
    Ok(())
}

fn tags(got: &Got) -> Result<Value, String> {
    Ok(got.expect(&[200])?.json()?["tags"].clone())
}

pub async fn tags_are_listed(peer: Peer) -> Outcome {
    push_tags(&peer, &["b", "a"]).await?;
    let got = peer.get("tags/list").await;
    let mut found: Vec<String> = serde_json::from_value(tags(&got)?).map_err(|error| error.to_string())?;
    found.sort();
    ensure!(found == ["a", "b"], "{found:?}");
    ensure!(got.json()?["name"] == peer.name, "name {}", got.json()?["name"]);
    Ok(())
}

pub async fn tags_are_in_lexical_order(peer: Peer) -> Outcome {
    push_tags(&peer, &["b", "B", "a", "10", "9"]).await?;
    let found = tags(&peer.get("tags/list").await)?;
    ensure!(found == json!(["10", "9", "B", "a", "b"]), "{found}");
    Ok(())
}

pub async fn tags_are_given_in_pages(peer: Peer) -> Outcome {
    push_tags(&peer, &["a", "b", "c", "d", "e"]).await?;
    let mut found = Vec::new();
    let mut next = Some(peer.path("tags/list?n=2"));
    while let Some(path) = next.take() {
        let got = peer.send(reqwest::Method::GET, &path, &[], b"").await;
        let page = tags(&got)?;
        let page = page.as_array().cloned().unwrap_or_default();
        ensure!(page.len() <= 2, "{} tags in a page of 2", page.len());
        found.extend(page);
        let link = got.header("link").and_then(|link| link.strip_prefix('<')?.split_once(">; rel=\"next\""));
        next = link.map(|(target, _)| target.to_owned());
        ensure!(found.len() <= 5, "the pages do not end");
    }
    ensure!(Value::from(found.clone()) == json!(["a", "b", "c", "d", "e"]), "{found:?}");
    ensure!(tags(&peer.get("tags/list?n=0").await)? == json!([]), "`n=0` gives tags");
    Ok(())
}

pub async fn tags_go_on_after_the_last_one(peer: Peer) -> Outcome {
    push_tags(&peer, &["a", "b", "c"]).await?;
    for (query, expected) in [("last=b", json!(["c"])), ("n=1&last=a", json!(["b"])), ("n=5&last=bb", json!(["c"]))] {
        let found = tags(&peer.get(&format!("tags/list?{query}")).await)?;
        ensure!(found == expected, "{query}: {found}");
    }
    Ok(())
}

pub async fn tags_of_an_unknown_repository_are_not_found(peer: Peer) -> Outcome {
    peer.get("tags/list").await.expect_code(&[404], &["NAME_UNKNOWN"])
}

async fn referrers(peer: &Peer, subject: &[u8], query: &str) -> Result<(Got, Vec<Value>), String> {
    let got = peer.get(&format!("referrers/{}{query}", Digest::of(subject))).await;
    got.expect(&[200])?;
    let media_type = got.header("content-type");
    ensure!(media_type == Some(content::INDEX), "media type {media_type:?}");
    let index = got.json()?;
    ensure!(index["schemaVersion"] == 2 && index["mediaType"] == content::INDEX, "not an index: {index}");
    let list = index["manifests"].as_array().cloned().ok_or("no `manifests`")?;
    Ok((got, list))
}

async fn push_artifacts(peer: &Peer, subject: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut pushed = Vec::new();
    for artifact_type in [ONE, TWO] {
        let manifest = content::artifact(peer, artifact_type, subject).await?;
        peer.put_manifest(&Digest::of(&manifest).to_string(), &manifest).await.expect(&[201])?;
        pushed.push(manifest);
    }
    Ok(pushed)
}

pub async fn an_unknown_subject_has_an_empty_list(peer: Peer) -> Outcome {
    peer.push_image("1", "x").await?;
    let (_, list) = referrers(&peer, b"unknown", "").await?;
    ensure!(list.is_empty(), "{list:?}");
    peer.get("referrers/sha256:00").await.expect(&[400])?;
    Ok(())
}

pub async fn referrers_are_listed_with_type_and_annotations(peer: Peer) -> Outcome {
    let subject = peer.push_image("1", "x").await?;
    let pushed = push_artifacts(&peer, &subject).await?;
    let (_, list) = referrers(&peer, &subject, "").await?;
    ensure!(list.len() == 2, "{list:?}");
    for (manifest, artifact_type) in pushed.iter().zip([ONE, TWO]) {
        let mut expected = content::descriptor(content::MANIFEST, manifest);
        expected["artifactType"] = json!(artifact_type);
        expected["annotations"] = json!({"org.example.kind": artifact_type});
        ensure!(list.contains(&expected), "{expected} is not in {list:?}");
    }
    Ok(())
}

pub async fn referrers_are_filtered_and_the_answer_says_so(peer: Peer) -> Outcome {
    let subject = peer.push_image("1", "x").await?;
    push_artifacts(&peer, &subject).await?;
    let (got, list) = referrers(&peer, &subject, &format!("?artifactType={TWO}")).await?;
    let applied = got.header("oci-filters-applied");
    ensure!(applied == Some("artifactType"), "`OCI-Filters-Applied` is {applied:?}");
    ensure!(list.len() == 1 && list[0]["artifactType"] == TWO, "{list:?}");
    let (_, list) = referrers(&peer, &subject, "?artifactType=application/vnd.example.none").await?;
    ensure!(list.is_empty(), "{list:?}");
    Ok(())
}

pub async fn an_index_may_be_a_referrer(peer: Peer) -> Outcome {
    let subject = b"subject";
    let index = content::index(&[], Some(subject));
    peer.put_manifest(&Digest::of(&index).to_string(), &index).await.expect(&[201])?;
    let (_, list) = referrers(&peer, subject, "").await?;
    ensure!(list.len() == 1, "{list:?}");
    ensure!(list[0]["mediaType"] == content::INDEX, "{list:?}");
    ensure!(list[0]["artifactType"] == "application/vnd.example.list", "{list:?}");
    Ok(())
}

pub async fn a_deleted_referrer_leaves_the_list(peer: Peer) -> Outcome {
    let subject = peer.push_image("1", "x").await?;
    let pushed = push_artifacts(&peer, &subject).await?;
    peer.delete(&format!("manifests/{}", Digest::of(&pushed[0]))).await.expect(&[202])?;
    let (_, list) = referrers(&peer, &subject, "").await?;
    ensure!(list.len() == 1 && list[0]["artifactType"] == TWO, "{list:?}");
    Ok(())
}
