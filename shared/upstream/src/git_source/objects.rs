//! Reading the objects of a repository.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::error::{Error, Result};
use crate::git_source::repository::Repository;

/// What an object is, by its number in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Commit = 1,
    Tree = 2,
    Blob = 3,
    Tag = 4,
}

/// Reads objects one after the other, through `git cat-file --batch`. Blocks.
pub(super) struct Objects {
    url: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Objects {
    pub(super) fn open(repository: &Repository) -> Result<Self> {
        let url = repository.address.to_string();
        let mut command = repository.command(&["cat-file", "--batch"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let fail = |reason: String| Error::Git { url: url.clone(), reason };
        let mut child = child.map_err(|error| fail(format!("`git` can't be run: {error}")))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => {
                Ok(Self { url, child, input, output: BufReader::with_capacity(256 * 1024, output) })
            }
            _ => Err(fail("`git cat-file` has no pipes".to_owned())),
        }
    }

    /// Hands kind, size in bytes and content of an object to `take`.
    pub(super) fn read<T>(
        &mut self,
        id: &str,
        take: impl FnOnce(Kind, u64, &mut dyn Read) -> std::io::Result<T>,
    ) -> Result<T> {
        self.answer(id, take)
            .map_err(|error| Error::Git { url: self.url.clone(), reason: format!("object `{id}`: {error}") })
    }

    fn answer<T>(
        &mut self,
        id: &str,
        take: impl FnOnce(Kind, u64, &mut dyn Read) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        writeln!(self.input, "{id}")?;
        self.input.flush()?;
        let mut head = String::new();
        (&mut self.output).take(256).read_line(&mut head)?;
        let mut words = head.trim_end().split(' ').skip(1);
        let kind = match words.next() {
            Some("commit") => Kind::Commit,
            Some("tree") => Kind::Tree,
            Some("blob") => Kind::Blob,
            Some("tag") => Kind::Tag,
            _ => return Err(std::io::Error::other("it was not fetched")),
        };
        let size = words.next().and_then(|size| size.parse().ok());
        let size: u64 = size.ok_or_else(|| std::io::Error::other("git does not tell its size"))?;
        let mut content = (&mut self.output).take(size);
        let result = take(kind, size, &mut content)?;
        std::io::copy(&mut content, &mut std::io::sink())?;
        let mut end = [0];
        self.output.read_exact(&mut end)?;
        Ok(result)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // It only reads, so nothing is lost; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
