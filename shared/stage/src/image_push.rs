//! Brings the content of an image to the registry: what its repository has stays as it is, what the repository of
//! another image has is taken from there, and only the rest is sent.

use std::collections::BTreeSet;

use ports::{Condition, Digest, Key, Transaction, Write};
use registry::{Manifest, Repository, TagRule};
use serde::{Deserialize, Serialize};

use crate::image_build::BuildRecord;
use crate::image_publish::registry_failed;
use crate::{Context, StageError, chain, record};

/// How many other repositories are asked for a layer before it is sent.
const MOST_PLACES: u32 = 3;
/// Writes of one transaction.
const WRITES: usize = 80;

/// That an image's repository was given a layer. It may have gone from there since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlace {
    /// Image name.
    pub image: String,
}

/// Pushes content before the manifests that name it, and records which layers the repository has now.
pub(crate) async fn push(context: &Context, repository: &Repository, build: &BuildRecord) -> Result<(), StageError> {
    let failed = || registry_failed("push the image");
    let registry = context.registry.as_ref();
    let mut seen = BTreeSet::new();
    for (blob, size) in build.platforms.values().flat_map(|platform| &platform.content) {
        let known = !seen.insert(*blob)
            || registry.blob_size(repository, *blob).await.map_err(failed())? == Some(*size)
            || mounted(context, repository, *blob).await?;
        if !known {
            let path = context.blobs.file(*blob).await?;
            let stream = registry::file_stream(&path).map_err(failed())?;
            registry.put_blob(repository, *blob, *size, stream).await.map_err(failed())?;
        }
    }
    for digest in build.platforms.values().map(|platform| platform.manifest).chain([build.index]) {
        let bytes = context.blobs.get(digest, registry::MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::new(bytes).map_err(|error| StageError::Rejected(chain(&error)))?;
        registry.put_manifest(repository, &manifest, None, TagRule::Move).await.map_err(failed())?;
    }
    remember(context, repository, build).await
}

/// Takes a blob from the repository of another image, if one that was given it lets it be taken.
async fn mounted(context: &Context, repository: &Repository, blob: Digest) -> Result<bool, StageError> {
    let places = context.state.list(&record::layer(blob), "", None, MOST_PLACES).await?.documents;
    for place in places {
        let LayerPlace { image } = place.decode()?;
        let from: Repository = image.parse().map_err(|error: registry::Error| StageError::Rejected(chain(&error)))?;
        let taken = from != *repository && {
            let mount = context.registry.mount_blob(repository, blob, &from);
            mount.await.map_err(registry_failed("take a layer from another image's repository"))?
        };
        if taken {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn remember(context: &Context, repository: &Repository, build: &BuildRecord) -> Result<(), StageError> {
    let image = repository.as_str();
    let place = serde_json::to_value(LayerPlace { image: image.to_owned() })
        .map_err(|error| StageError::Rejected(error.to_string()))?;
    // The first of a platform's content is its configuration, which no other image has.
    let layers = build.platforms.values().flat_map(|platform| platform.content.iter().skip(1));
    let layers: BTreeSet<Digest> = layers.map(|(layer, _)| *layer).collect();
    write(context, image, &layers, Some(&place)).await
}

/// Forgets that an image's repository has these layers.
pub(crate) async fn forget(context: &Context, image: &str, layers: &BTreeSet<Digest>) -> Result<(), StageError> {
    write(context, image, layers, None).await
}

async fn write(
    context: &Context,
    image: &str,
    layers: &BTreeSet<Digest>,
    place: Option<&serde_json::Value>,
) -> Result<(), StageError> {
    let layers: Vec<&Digest> = layers.iter().collect();
    for some in layers.chunks(WRITES) {
        let writes = some.iter().map(|layer| {
            let key = Key::new(record::layer(**layer), image);
            Write { key, condition: Condition::Any, value: place.cloned() }
        });
        context.state.commit(Transaction { writes: writes.collect(), ..Transaction::default() }).await?;
    }
    Ok(())
}
