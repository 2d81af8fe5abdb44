//! Many repositories under one root folder: the embedded registry.

use std::{
    fs, io,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::image::Descriptor;
use sign::Digest;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    Blob, BlobReader, BlobWriter, ByteStream, Error, Layout, Manifest, Reference, Registry, Repository, Result, Tag,
    TagRule, name::is_component,
};

/// How much of a blob is read at once, in bytes.
const PIECE: usize = 256 << 10;
/// How many pieces may wait for a slow receiver.
const PIECES_AHEAD: usize = 2;
/// The most folders looked at to list repositories.
const MAX_FOLDERS: usize = 100_000;

/// The embedded registry: the repository `team/redis` is the [`Layout`] in the folder
/// `ROOT/team/redis`.
#[derive(Debug, Clone)]
pub struct Layouts {
    root: PathBuf,
    single: bool,
}

impl Layouts {
    /// The registry under `root`, which is made when something is pushed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), single: false }
    }

    /// A registry of one repository: whatever its name, it is the layout in `folder`.
    pub fn single(folder: impl Into<PathBuf>) -> Self {
        Self { root: folder.into(), single: true }
    }

    fn folder(&self, repository: &Repository) -> PathBuf {
        if self.single { self.root.clone() } else { self.root.join(repository.as_str()) }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout of a repository, if it exists.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotALayout`].
    pub fn open(&self, repository: &Repository) -> Result<Option<Layout>> {
        Layout::open(self.folder(repository))
    }

    /// The layout of a repository, made where there is none.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotALayout`].
    pub fn create(&self, repository: &Repository) -> Result<Layout> {
        Layout::create(self.folder(repository))
    }

    /// The names of all repositories, sorted. Symbolic links are not followed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::TooLarge`] if there are more than 100,000 folders.
    pub fn list(&self) -> Result<Vec<Repository>> {
        let mut repositories = Vec::new();
        let mut folders = vec![String::new()];
        let mut looked_at = 0;
        while let Some(name) = folders.pop() {
            looked_at += 1;
            if looked_at > MAX_FOLDERS {
                let what = format!("the list of folders in `{}`", self.root.display());
                return Err(Error::TooLarge { what, limit: MAX_FOLDERS as u64 });
            }
            let folder = self.root.join(&name);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io(&folder, "read")(error)),
            };
            for entry in entries {
                let entry = entry.map_err(Error::io(&folder, "read"))?;
                let kind = entry.file_type().map_err(Error::io(entry.path(), "look up"))?;
                let Some(component) = entry.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                if component == "oci-layout" {
                    repositories.extend(name.parse::<Repository>().ok());
                } else if kind.is_dir() && is_component(&component) && component != "blobs" {
                    let inner = if name.is_empty() { component } else { format!("{name}/{component}") };
                    folders.push(inner);
                }
            }
        }
        repositories.sort();
        Ok(repositories)
    }

    /// Removes what uploads that nobody continues have left.
    ///
    /// # Errors
    /// As [`Layouts::list`], or [`Error::Io`].
    pub fn clean(&self, now: SystemTime) -> Result<()> {
        for repository in self.list()? {
            if let Some(layout) = self.open(&repository)? {
                layout.clean(now)?;
            }
        }
        Ok(())
    }

    /// Does `work` with the repository's layout on a thread for blocking work; none if there is
    /// no such repository.
    pub(crate) async fn with<T: Send + 'static>(
        &self,
        repository: &Repository,
        work: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let (layouts, repository) = (self.clone(), repository.clone());
        spawn_blocking(move || layouts.open(&repository)?.map(|layout| work(&layout)).transpose()).await?
    }

    /// The same, making the repository where there is none.
    pub(crate) async fn with_new<T: Send + 'static>(
        &self,
        repository: &Repository,
        work: impl FnOnce(&Layout) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (layouts, repository) = (self.clone(), repository.clone());
        spawn_blocking(move || work(&layouts.create(&repository)?)).await?
    }

    pub(crate) async fn exists(&self, repository: &Repository) -> Result<bool> {
        Ok(self.with(repository, |_| Ok(())).await?.is_some())
    }

    /// Bytes `start` to `end`, exclusive, of a blob: not checked, since the digest is of the whole.
    pub(crate) async fn blob_part(
        &self,
        repository: &Repository,
        digest: Digest,
        start: u64,
        end: u64,
    ) -> Result<Option<ByteStream>> {
        let file = self
            .with(repository, move |layout| {
                let Some(reader) = layout.open_blob(digest)? else { return Ok(None) };
                let mut file = reader.into_file();
                file.seek(SeekFrom::Start(start)).map_err(Error::io(layout.folder(), "read in"))?;
                Ok(Some(file.take(end.saturating_sub(start))))
            })
            .await?
            .flatten();
        Ok(file.map(|file| pieces(file, self.root.clone())))
    }

    /// Puts a manifest with the rules for tags; what [`Layout::put_manifest`] does.
    pub(crate) async fn put(
        &self,
        repository: &Repository,
        bytes: Bytes,
        tag: Option<Tag>,
        rule: TagRule,
    ) -> Result<crate::PutManifest> {
        let name = repository.to_string();
        self.with_new(repository, move |layout| layout.put_manifest(&bytes, tag.as_ref(), rule)).await.map_err(
            |error| match error {
                Error::ContentMissing { missing, .. } => Error::ContentMissing { repository: name, missing },
                other => other,
            },
        )
    }
}

#[async_trait]
impl Registry for Layouts {
    async fn blob_size(&self, repository: &Repository, digest: Digest) -> Result<Option<u64>> {
        Ok(self.with(repository, move |layout| layout.blob_size(digest)).await?.flatten())
    }

    async fn blob(&self, repository: &Repository, digest: Digest) -> Result<Option<Blob>> {
        let reader = self.with(repository, move |layout| layout.open_blob(digest)).await?.flatten();
        Ok(reader.map(|reader: BlobReader| Blob { size: reader.size(), stream: pieces(reader, self.root.clone()) }))
    }

    async fn put_blob(&self, repository: &Repository, digest: Digest, size: u64, mut stream: ByteStream) -> Result<()> {
        let writer = self
            .with_new(repository, move |layout| {
                Ok(match layout.blob_size(digest)? {
                    Some(found) if found == size => None,
                    _ => Some(layout.begin_blob()?),
                })
            })
            .await?;
        let Some(writer) = writer else { return Ok(()) };
        let upload = Upload::new(writer);
        while let Some(bytes) = stream.try_next().await? {
            if upload.write(bytes).await? > size {
                return Err(Error::TooLarge { what: format!("blob {digest}"), limit: size });
            }
        }
        let found = upload.finish(digest).await?;
        if found != size {
            return Err(Error::Size { what: format!("blob {digest}"), expected: size, found });
        }
        Ok(())
    }

    async fn mount_blob(&self, repository: &Repository, digest: Digest, from: &Repository) -> Result<bool> {
        let (layouts, repository, from) = (self.clone(), repository.clone(), from.clone());
        spawn_blocking(move || {
            let Some(from) = layouts.open(&from)? else { return Ok(false) };
            if from.blob_size(digest)?.is_none() {
                return Ok(false);
            }
            layouts.create(&repository)?.mount_blob(&from, digest)
        })
        .await?
    }

    async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>> {
        Ok(self.manifest(repository, reference).await?.map(|manifest| manifest.digest))
    }

    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<Manifest>> {
        let reference = reference.clone();
        Ok(self.with(repository, move |layout| layout.manifest(&reference)).await?.flatten())
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tag: Option<&Tag>,
        rule: TagRule,
    ) -> Result<()> {
        self.put(repository, manifest.bytes.clone(), tag.cloned(), rule).await.map(drop)
    }

    async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let tags = self.with(repository, Layout::tags).await?.unwrap_or_default();
        Ok(tags.into_iter().map(|(tag, _)| tag).collect())
    }

    async fn repositories(&self) -> Result<Vec<Repository>> {
        let layouts = self.clone();
        spawn_blocking(move || layouts.list()).await?
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let artifact_type = artifact_type.map(str::to_owned);
        let referrers =
            self.with(repository, move |layout| layout.referrers(subject, artifact_type.as_deref())).await?;
        Ok(referrers.unwrap_or_default())
    }

    async fn delete_manifest(&self, repository: &Repository, reference: &Reference) -> Result<bool> {
        let reference = reference.clone();
        let deleted = self.with(repository, move |layout| layout.delete_manifest(&reference)).await?;
        Ok(deleted.unwrap_or(false))
    }

    async fn delete_blob(&self, repository: &Repository, digest: Digest) -> Result<bool> {
        let deleted = self.with(repository, move |layout| layout.delete_blob(digest)).await?;
        Ok(deleted.unwrap_or(false))
    }
}

/// The bytes of a file in pieces, so that it need not be in memory.
///
/// # Errors
/// [`Error::Io`] if it can't be opened; the stream's if it can't be read.
pub fn file_stream(path: &Path) -> Result<ByteStream> {
    let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
    Ok(pieces(file, path.to_owned()))
}

/// Reads on a thread for blocking work, one piece ahead, so that the last piece is given out only
/// once the reader has said that all is well.
fn pieces(mut reader: impl Read + Send + 'static, path: PathBuf) -> ByteStream {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(PIECES_AHEAD);
    spawn_blocking(move || {
        let mut held: Option<Bytes> = None;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match reader.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    // Nobody may be listening any more, and that is all right.
                    let _ = sender.blocking_send(Err(Error::io(&path, "read in")(error)));
                    return;
                }
            }
            if let Some(before) = held.replace(piece.into())
                && sender.blocking_send(Ok(before)).is_err()
            {
                return;
            }
        }
        if let Some(last) = held {
            let _ = sender.blocking_send(Ok(last));
        }
    });
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) })
        .fuse()
        .boxed()
}

/// A blob being written from async code. A write that is waited for no longer still happens
/// whole, so that size and content agree.
#[derive(Clone)]
pub(crate) struct Upload(Arc<Mutex<Option<BlobWriter>>>);

impl Upload {
    pub(crate) fn new(writer: BlobWriter) -> Self {
        Self(Arc::new(Mutex::new(Some(writer))))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<BlobWriter>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let writer = Arc::clone(&self.0);
        spawn_blocking(move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }

    /// The size after writing `bytes`.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<u64> {
        self.with(move |writer| {
            let writer = writer.as_mut().ok_or_else(ended)?;
            writer.write_all(&bytes).map_err(Error::io("upload", "write"))?;
            Ok(writer.size())
        })
        .await
    }

    pub(crate) async fn size(&self) -> Result<u64> {
        self.with(|writer| writer.as_ref().map(BlobWriter::size).ok_or_else(ended)).await
    }

    /// Gives the upload up and removes what it has written.
    pub(crate) async fn discard(&self) -> Result<()> {
        self.with(|writer| {
            if let Some(writer) = writer.take() {
                writer.discard();
            }
            Ok(())
        })
        .await
    }

    /// The same, at once.
    pub(crate) fn discard_now(&self) {
        if let Some(writer) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            writer.discard();
        }
    }

    pub(crate) async fn finish(&self, digest: Digest) -> Result<u64> {
        self.with(move |writer| writer.take().ok_or_else(ended)?.finish_as(digest)).await
    }
}

fn ended() -> Error {
    Error::io("upload", "write")(io::Error::other("the upload has ended"))
}
