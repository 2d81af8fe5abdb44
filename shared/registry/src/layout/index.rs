//! Manifests, tags and referrers of a layout: `index.json` and what it leads to.

use std::{collections::HashMap, fs, io};

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder};
use sign::Digest;

use super::{INDEX_FILE, Layout};
use crate::{
    Error, Manifest, ManifestFacts, Reference, Result, Tag, canonical_json,
    manifest::{MAX_MANIFEST_BYTES, descriptor, digest_of, media_type},
};

/// The largest `index.json` accepted, in bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The most entries of an index looked at for referrers.
const MAX_ENTRIES: usize = 10_000;

/// What a push does to a tag that stands for another manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TagRule {
    /// Moves it.
    #[default]
    Move,
    /// Leaves it and fails.
    Immutable,
}

/// A manifest that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutManifest {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to, among whose referrers it now is.
    pub subject: Option<Digest>,
}

impl Layout {
    /// Puts a manifest whose content is in the layout already, and its tag if it gets one. A
    /// manifest with a subject also enters the list of the subject's referrers, which is the
    /// index tagged `sha256-HEX`; the subject itself need not be there.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`], [`Error::ContentMissing`], [`Error::TagConflict`] where `rule`
    /// is [`TagRule::Immutable`], [`Error::Io`]; nothing has changed then.
    pub fn put_manifest(&self, bytes: &[u8], tag: Option<&Tag>, rule: TagRule) -> Result<PutManifest> {
        let facts = ManifestFacts::parse(bytes)?;
        let digest = Digest::of(bytes);
        let missing = self.missing(&facts)?;
        if !missing.is_empty() {
            let repository = self.folder.display().to_string();
            return Err(Error::ContentMissing { repository, missing });
        }

        let _lock = self.lock()?;
        let mut index = self.index()?;
        if let (Some(tag), TagRule::Immutable) = (tag, rule)
            && let Some(entry) = tagged(&index, tag)
            && digest_of(entry)? != digest
        {
            let (tag, found) = (tag.to_string(), digest_of(entry)?);
            return Err(Error::TagConflict { tag, found, wanted: digest });
        }
        self.put_blob(bytes)?;
        let subject = facts.subject_digest();
        let mut replaced = None;
        if let Some(subject) = subject {
            let referrer = facts.as_referrer(digest, bytes.len() as u64)?;
            replaced = self.change_referrers(&mut index, subject, |list| {
                list.retain(|found| found.digest() != referrer.digest());
                list.push(referrer);
            })?;
        }
        if let Some(tag) = tag {
            set_tag(&mut index, tag, descriptor(&facts.media_type, digest, bytes.len() as u64)?);
        }
        self.write_index(index)?;
        self.forget(replaced)?;
        Ok(PutManifest { digest, subject })
    }

    /// The manifest that a tag or digest stands for, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`], [`Error::NotALayout`]; [`Error::ManifestUnknown`] if a
    /// tag leads to a manifest that is gone.
    pub fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>> {
        match reference {
            Reference::Digest(digest) => {
                // Manifests are kept among the blobs; other blobs are none and are not given out
                // as such.
                match self.blob_size(*digest)? {
                    Some(size) if size <= MAX_MANIFEST_BYTES => {}
                    _ => return Ok(None),
                }
                let Some(bytes) = self.read_blob(*digest, MAX_MANIFEST_BYTES)? else {
                    return Ok(None);
                };
                Ok(Manifest::new(bytes).ok())
            }
            Reference::Tag(tag) => {
                // A list of referrers may be replaced between the two reads.
                const TRIES: usize = 8;
                for _ in 0..TRIES {
                    let index = self.index()?;
                    let Some(entry) = tagged(&index, tag) else { return Ok(None) };
                    if let Some(bytes) = self.read_blob(digest_of(entry)?, MAX_MANIFEST_BYTES)? {
                        return Manifest::new(bytes).map(Some);
                    }
                }
                Err(Error::ManifestUnknown {
                    repository: self.folder.display().to_string(),
                    reference: format!("{tag} (tagged, but its content is gone)"),
                })
            }
        }
    }

    /// Every tag with the digest that it stands for, sorted by tag.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotALayout`].
    pub fn tags(&self) -> Result<Vec<(Tag, Digest)>> {
        let index = self.index()?;
        let mut tags: Vec<_> = index
            .manifests()
            .iter()
            .filter_map(|entry| Some((ref_name(entry)?.parse().ok()?, digest_of(entry).ok()?)))
            .collect();
        tags.sort();
        Ok(tags)
    }

    /// Every manifest that the index names, with its tag if it has one, in the index's order.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotALayout`].
    pub fn entries(&self) -> Result<Vec<(Option<Tag>, Digest)>> {
        let index = self.index()?;
        let entries = index.manifests().iter();
        entries.map(|entry| Ok((ref_name(entry).and_then(|name| name.parse().ok()), digest_of(entry)?))).collect()
    }

    /// The manifests whose subject is `subject`, of one artifact type if that is given. They stand
    /// in the list under the subject's own tag or, where other tools made the layout, without any
    /// tag in its index.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] or [`Error::NotALayout`].
    pub fn referrers(&self, subject: Digest, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        let mut referrers = match self.manifest(&Tag::of_referrers(subject).into())? {
            Some(list) => list.facts()?.manifests,
            None => Vec::new(),
        };
        for (tag, digest) in self.entries()?.into_iter().take(MAX_ENTRIES) {
            if tag.is_none()
                && !referrers.iter().any(|known| names(known, digest))
                && let Some(manifest) = self.manifest(&digest.into())?
                && let facts = manifest.facts()?
                && facts.subject_digest() == Some(subject)
            {
                referrers.push(facts.as_referrer(digest, manifest.bytes.len() as u64)?);
            }
        }
        if let Some(wanted) = artifact_type {
            referrers.retain(|found| found.artifact_type().as_ref().is_some_and(|found| found.as_ref() == wanted));
        }
        Ok(referrers)
    }

    /// Removes a tag, or a manifest with all its tags and its place among referrers; tells
    /// whether it was there. Content that only it named stays.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] or [`Error::NotALayout`].
    pub fn delete_manifest(&self, reference: &Reference) -> Result<bool> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let digest = match reference {
            Reference::Tag(tag) => {
                let before = index.manifests().len();
                let mut entries = index.manifests().clone();
                entries.retain(|entry| ref_name(entry) != Some(tag.as_str()));
                let found = entries.len() < before;
                index.set_manifests(entries);
                if found {
                    self.write_index(index)?;
                }
                return Ok(found);
            }
            Reference::Digest(digest) => *digest,
        };
        let Some(manifest) = self.manifest(reference)? else { return Ok(false) };
        let mut entries = index.manifests().clone();
        entries.retain(|entry| !names(entry, digest));
        index.set_manifests(entries);
        let mut replaced = None;
        if let Some(subject) = manifest.facts()?.subject_digest() {
            replaced = self.change_referrers(&mut index, subject, |list| {
                list.retain(|found| !names(found, digest));
            })?;
        }
        self.write_index(index)?;
        self.delete_blob(digest)?;
        self.forget(replaced)?;
        Ok(true)
    }

    /// What `facts` names and the layout lacks. Layers that may not be distributed are had
    /// elsewhere.
    fn missing(&self, facts: &ManifestFacts) -> Result<Vec<Digest>> {
        let mut missing = Vec::new();
        for wanted in facts.blobs().chain(&facts.manifests) {
            let digest = digest_of(wanted)?;
            let elsewhere = wanted.urls().as_ref().is_some_and(|urls| !urls.is_empty());
            if !elsewhere && self.blob_size(digest)?.is_none() && !missing.contains(&digest) {
                missing.push(digest);
            }
        }
        Ok(missing)
    }

    /// Changes the list of referrers of `subject`; the digest of the list that it replaces.
    fn change_referrers(
        &self,
        index: &mut ImageIndex,
        subject: Digest,
        change: impl FnOnce(&mut Vec<Descriptor>),
    ) -> Result<Option<Digest>> {
        let tag = Tag::of_referrers(subject);
        let old = tagged(index, &tag).map(digest_of).transpose()?;
        let mut list = match old {
            Some(digest) => match self.manifest(&digest.into())? {
                Some(manifest) => manifest.facts()?.manifests,
                None => Vec::new(),
            },
            None => Vec::new(),
        };
        change(&mut list);
        // Sorted, so that the order of pushes leaves no trace.
        list.sort_by(|one, other| one.digest().as_ref().cmp(other.digest().as_ref()));
        if list.is_empty() {
            let mut entries = index.manifests().clone();
            entries.retain(|entry| ref_name(entry) != Some(tag.as_str()));
            index.set_manifests(entries);
            return Ok(old);
        }
        let bytes = canonical_json(&new_index(list)?)?;
        let digest = self.put_blob(&bytes)?;
        set_tag(index, &tag, descriptor(media_type::IMAGE_INDEX, digest, bytes.len() as u64)?);
        Ok(old.filter(|old| *old != digest))
    }

    /// Removes a list of referrers that was replaced, unless something else stands for it.
    fn forget(&self, replaced: Option<Digest>) -> Result<()> {
        if let Some(digest) = replaced
            && !self.index()?.manifests().iter().any(|entry| names(entry, digest))
        {
            self.delete_blob(digest)?;
        }
        Ok(())
    }

    fn index(&self) -> Result<ImageIndex> {
        let path = self.folder.join(INDEX_FILE);
        let size = fs::metadata(&path).map_err(Error::io(&path, "look up"))?.len();
        if size > MAX_INDEX_BYTES {
            let what = format!("`{}`", path.display());
            return Err(Error::TooLarge { what, limit: MAX_INDEX_BYTES });
        }
        let bytes = fs::read(&path).map_err(Error::io(&path, "read"))?;
        serde_json::from_slice(&bytes).map_err(|error| Error::NotALayout { path, reason: error.to_string() })
    }

    fn write_index(&self, mut index: ImageIndex) -> Result<()> {
        let mut entries = index.manifests().clone();
        entries.sort_by(|one, other| {
            (ref_name(one), one.digest().as_ref()).cmp(&(ref_name(other), other.digest().as_ref()))
        });
        index.set_manifests(entries);
        let bytes = canonical_json(&index)?;
        let path = self.folder.join(INDEX_FILE);
        match fs::read(&path) {
            Ok(found) if found == bytes => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(&path, "read")(error));
            }
            _ => {}
        }
        self.replace(INDEX_FILE, &bytes)
    }
}

pub(crate) fn new_index(manifests: Vec<Descriptor>) -> Result<ImageIndex> {
    ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(media_type::IMAGE_INDEX)
        .manifests(manifests)
        .build()
        .map_err(Error::manifest)
}

fn ref_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(ANNOTATION_REF_NAME).map(String::as_str)
}

fn names(entry: &Descriptor, digest: Digest) -> bool {
    digest_of(entry).is_ok_and(|found| found == digest)
}

fn tagged<'a>(index: &'a ImageIndex, tag: &Tag) -> Option<&'a Descriptor> {
    index.manifests().iter().find(|entry| ref_name(entry) == Some(tag.as_str()))
}

fn set_tag(index: &mut ImageIndex, tag: &Tag, mut entry: Descriptor) {
    let name = (ANNOTATION_REF_NAME.to_owned(), tag.to_string());
    entry.set_annotations(Some(HashMap::from([name])));
    let mut entries = index.manifests().clone();
    entries.retain(|found| ref_name(found) != Some(tag.as_str()));
    entries.push(entry);
    index.set_manifests(entries);
}

#[cfg(test)]
mod tests {
    use super::{super::EMPTY_INDEX, *};

    #[test]
    fn a_new_layout_has_the_index_that_would_be_written() {
        assert_eq!(canonical_json(&new_index(Vec::new()).unwrap()).unwrap(), EMPTY_INDEX);
    }
}
