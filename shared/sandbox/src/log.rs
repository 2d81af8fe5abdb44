//! The log of a job: everything to a file up to a size, the last lines kept for messages.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use crate::Error;

const TAIL_LINES: usize = 40;
const LINE_BYTES: usize = 1000;

/// Whether a log takes more output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Left,
    Full,
}

/// A log file being written.
pub(crate) struct Log {
    file: tokio::fs::File,
    path: PathBuf,
    left: u64,
    lines: Lines,
}

impl Log {
    pub(crate) async fn create(path: &Path, limit: u64) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|source| Error::io("create the folder", folder, source))?;
        }
        let file = tokio::fs::File::create(path).await.map_err(|source| Error::io("create the log", path, source))?;
        Ok(Log { file, path: path.to_path_buf(), left: limit, lines: Lines::default() })
    }

    /// Writes as much of `bytes` as the size limit allows.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<Room, Error> {
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let kept = bytes.get(..fits).unwrap_or(bytes);
        self.file.write_all(kept).await.map_err(|source| Error::io("write the log", &self.path, source))?;
        self.lines.push(kept);
        self.left -= kept.len() as u64;
        Ok(if kept.len() < bytes.len() { Room::Full } else { Room::Left })
    }

    /// Ends the log; answers its last lines and its last step.
    pub(crate) async fn finish(mut self) -> Result<(Vec<String>, Option<String>), Error> {
        self.file.flush().await.map_err(|source| Error::io("write the log", &self.path, source))?;
        Ok(self.lines.finish())
    }
}

#[derive(Default)]
struct Lines {
    tail: VecDeque<String>,
    step: Option<String>,
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_BYTES.saturating_sub(self.partial.len()).min(text.len());
            self.partial.extend_from_slice(text.get(..room).unwrap_or(text));
            if text.len() < piece.len() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        if let Some(step) = line.strip_prefix("::step ") {
            self.step = Some(format!("step {step}"));
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn finish(mut self) -> (Vec<String>, Option<String>) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        (self.tail.into(), self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_forty_lines_and_the_last_step_are_kept() {
        let mut lines = Lines::default();
        lines.push(b"::step 1 config");
        lines.push(b"ure\n");
        for number in 0..50 {
            lines.push(format!("line {number}\n").as_bytes());
        }
        lines.push(b"::step 2 make\nlast words");
        let (tail, step) = lines.finish();
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!(tail.first().unwrap(), "line 12");
        assert_eq!(tail.last().unwrap(), "last words");
        assert_eq!(step.as_deref(), Some("step 2 make"));
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'x'; 4096]);
        }
        assert_eq!(lines.finish().0, vec!["x".repeat(LINE_BYTES)]);
    }
}
